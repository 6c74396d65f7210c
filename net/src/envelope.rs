//! What clients ask and replicas answer, after the handshake.
//!
//! A request bears an id that its connection never repeats; each response names the id of the
//! request it belongs to. Responses come in any order. An acquire that has to wait gets
//! [`ResponseBody::Waiting`] first and its outcome later, under the same id.
//!
//! Commands, queries, outcomes and answers are opaque here; the state machine encodes them.

mod request;
mod response;
mod status;

pub use request::{Request, RequestBody};
pub use response::{Leader, Response, ResponseBody};
pub use status::{MemberInfo, Refused, Status};

#[cfg(test)]
mod tests;
