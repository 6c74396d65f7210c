//! From a data folder to an engine.
