//! Everything that has happened and has not been handled: one queue into the reactor.
//!
//! ```text
//! client connections ┐
//! log thread         ├──► inbox ──► reactor takes all of it, handles each, then acts once
//! blocking jobs      │
//! HTTP pages         ┘
//! ```
//!
//! Its bound is that of its writers: a client connection puts in at most [`super::clients`]'s share
//! before the reactor runs, the log one wake, each job one result, the pages as many questions as
//! there may be HTTP connections. Peers have a bounded channel of their own.

use std::sync::{Mutex, PoisonError};

use tokio::sync::{Notify, oneshot};

use crate::failure::Failure;
use crate::server::desk::Report;
use replica::Done;
use replica::engine::{self, ConnId};

/// One thing that happened.
#[derive(Debug)]
pub(crate) enum Event {
    /// For the engine, as it is.
    Engine(engine::Input),
    /// A client's request.
    Request {
        /// Its connection.
        conn: ConnId,
        /// The request.
        request: net::Request,
    },
    /// A client's connection has ended.
    ConnectionEnded(ConnId),
    /// The log wrote more, or failed; it says itself which.
    LogMoved,
    /// A job of the replica was done.
    Done(Done),
    /// Bytes of log and snapshots that two more snapshots would let go of.
    Reclaimable(u64),
    /// Somebody asks how the replica stands.
    Ask {
        /// Whether the state's hash is wanted too.
        hash: bool,
        /// Where the answer goes.
        reply: oneshot::Sender<Report>,
    },
    /// Something went wrong after which the replica cannot go on.
    Failed(Failure),
    /// The process was asked to end.
    Stop,
}

/// The queue. Any thread may put something in; only the reactor takes.
#[derive(Debug, Default)]
pub(crate) struct Inbox {
    events: Mutex<Vec<Event>>,
    wake: Notify,
}

impl Inbox {
    /// Adds one event and wakes the reactor.
    pub(crate) fn push(&self, event: Event) {
        let mut events = self.events.lock().unwrap_or_else(PoisonError::into_inner);
        events.push(event);
        let first = events.len() == 1;
        drop(events);
        if first {
            self.wake.notify_one();
        }
    }

    /// Moves all events, oldest first, into `taken`, which must be empty: its room is kept for the
    /// next ones.
    pub(crate) fn take(&self, taken: &mut Vec<Event>) {
        debug_assert!(taken.is_empty(), "events would be lost");
        let mut events = self.events.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::swap(&mut *events, taken);
    }

    /// Whether nothing waits.
    pub(crate) fn is_empty(&self) -> bool {
        self.events
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .is_empty()
    }

    /// Returns once there may be something. Cancelling loses nothing.
    pub(crate) async fn changed(&self) {
        self.wake.notified().await;
    }
}
