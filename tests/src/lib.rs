//! Simulator, checkers, crash and process tests of Holdfast.

pub mod harness;
pub mod history;
pub mod proxy;
pub mod sim;
