//! Simulator, checkers, crash and process tests of Holdfast.
