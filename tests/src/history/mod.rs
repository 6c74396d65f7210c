//! What clients saw from outside, and whether it can be.
//!
//! - [`record`]: calls with their times, as the shells of [`crate::harness`] note them;
//! - [`order`]: tokens grow, one holder at a time, nothing acknowledged under an old token;
//! - [`sections`]: each acknowledged section once, others at most once, each whole, in one order.
//!
//! All checks are O(n log n) and need no clock but that of the test, which is one for all clients.

pub mod order;
pub mod record;
pub mod sections;

pub use record::{Answer, Call, Event, History};
