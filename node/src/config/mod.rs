//! The configuration of a replica: flag over environment over file over default.
//!
//! [`setting`] is the table of what can be set, [`layers`] finds who said what, [`serve`] gives the
//! texts their meaning, [`peers`] and [`quantity`] read the forms that need more than a line.

pub mod layers;
pub mod peers;
pub mod quantity;
pub mod serve;
pub mod setting;
#[cfg(test)]
mod tests;

pub use layers::{Layers, Origin};
pub use peers::Peer;
pub use serve::{LogFormat, ServeConfig, Shown};

/// Something the user wrote cannot be meant. The text says what, where, and what was expected.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct UsageError(pub String);
