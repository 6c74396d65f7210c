//! The client library of the Holdfast lock service.
//!
//! ```no_run
//! use std::time::Duration;
//!
//! # async fn example() -> Result<(), client::Error> {
//! let client = client::Client::connect(["127.0.0.1:7401"]).await?;
//! let guard = client.lock("default").lease(Duration::from_secs(10)).acquire().await?;
//! guard.append("file_0", b"one line\n").await?;
//! let receipt = guard.release().await?;
//! println!("applied in slot {}, lengths {:?}", receipt.slot, receipt.lengths);
//! # Ok(())
//! # }
//! ```
//!
//! - [`Client`] finds the leader, keeps a session alive and retries; [`Client::lock`] acquires.
//! - [`Guard`] is a held lock: append, renew, release; [`Guard::lost`] tells when it is over.
//! - [`Reader`] reads locks, sessions and files.
//! - [`blocking`] is the same without a runtime; [`coursework`] has the five `RPC_` calls.
//! - [`raw`] is the layer below, for shells, load drivers and tests.
//!
//! Each call ends with success, with a refusal for good, as unavailable (certainly not done), or as
//! unknown (perhaps done; [`UnknownCall::settle`] asks again), see [`Error`]. A call is numbered in
//! its session, so that however often it is sent it is done at most once.

pub mod blocking;
mod client;
pub mod clock;
pub mod coursework;
pub mod deadline;
mod done_set;
mod endpoint;
mod error;
mod guard;
mod lines;
mod lock;
mod options;
mod pool;
pub mod raw;
mod read;

pub use client::Client;
pub use endpoint::{Endpoint, Endpoints};
pub use error::{Error, UnknownCall};
pub use guard::{Append, Guard, Receipt};
pub use lock::{Acquire, LockRequest};
pub use net::{Leader, MemberInfo, Status};
pub use options::Options;
pub use raw::LostWhy;
pub use read::{AsOf, Reader};
pub use statemachine::{
    FileFact, HolderFact, LockLine, LockStatus, NotHeldWhy, Refusal, SessionFact, Slot, Token,
    WaiterFact,
};
