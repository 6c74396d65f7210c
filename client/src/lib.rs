//! The client library of the Holdfast lock service.
