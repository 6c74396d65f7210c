//! The layer below [`Client`](crate::Client): explicit sessions, numbered calls, single replicas.
//!
//! For shells, load drivers and tests, which want to decide themselves what the client decides for
//! everybody else. Nothing is refused locally here: the service is always asked.
//!
//! ```text
//! Call ──► Session: numbers, places, deadlines, beats
//!   └────► Exchange: attempts of one request until it is answered
//!            └─────► Link: connections, who leads
//! ```
//!
//! A [`Link`] is a set of connections that any number of [`Session`]s share. A session's calls are
//! numbered in the order in which they are started, and sent at once if a connection is up.

mod background;
mod beat;
mod call;
mod connection;
mod exchange;
mod finish;
mod hold;
mod link;
mod pace;
mod query;
mod scout;
mod section;
mod session;
mod unreached;

pub use call::{Call, Reply};
pub(crate) use finish::Finish;
pub(crate) use hold::Place;
pub use hold::{Hold, HoldState, LostWhy};
pub use link::Link;
pub use session::{Notice, Session};
