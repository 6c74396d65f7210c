//! What each entry of the log does to the state: one file for each family of commands.

pub(crate) mod acquire;
pub(crate) mod expiry;
pub(crate) mod file;
pub(crate) mod hold;
pub(crate) mod numbered;
pub(crate) mod presence;
pub(crate) mod section;
pub(crate) mod start;
mod step;

pub(crate) use step::Step;
