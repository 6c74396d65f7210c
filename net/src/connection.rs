//! One TCP connection with its handshake done, as a sender and a receiver of frames.
//!
//! ```text
//! dial:   connect ─► our Hello ─► their Hello ─► agree ┐
//! accept: their Hello ─► our Hello ─► agree ───────────┴─► (FrameSender, FrameReceiver)
//! ```
//!
//! The sender is cheap to clone. It queues; a task of the connection writes what has gathered with
//! one system call. Who cannot wait for that task, because the thread is about to block on a disk,
//! calls [`FrameSender::flush`].
//!
//! Dead hosts are found by TCP keep-alive and the TCP user timeout, so that a connection whose
//! other end vanished without a word ends within seconds.

mod handshake;
mod receiver;
mod sender;
mod socket;

pub use handshake::{ConnectError, Greeted, accept, dial};
pub use receiver::{Closed, FrameReceiver};
pub use sender::{FrameSender, SendError};

use std::time::Duration;

pub use crate::queue::Queued;

/// Bounds of one connection.
#[derive(Clone, Debug)]
pub struct Options {
    /// How long connecting and the handshake may take together. Default 3 s.
    pub handshake: Duration,
    /// Bytes that may wait to be written. Default 64 MiB.
    pub queue_bytes: usize,
    /// Counts the bytes that wait on all connections with this same gauge. Default: one of its own.
    pub queued: Queued,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            handshake: Duration::from_secs(3),
            queue_bytes: 64 << 20,
            queued: Queued::default(),
        }
    }
}

#[cfg(test)]
mod tests;
