//! The links to the other replicas: one connection for each, kept alive.
//!
//! ```text
//!          node 3 ──dials──► node 2 ──dials──► node 1
//!            └──────────────dials──────────────► │
//! ```
//!
//! - Of two replicas the one with the higher id dials, and dials again with backoff and jitter
//!   whenever the link is down. Both send and receive on that one connection.
//! - Each connection has a number, growing over the life of the process. A new connection of the
//!   same peer replaces the old one; events of the old one end before those of the new one begin.
//! - A message to a peer that is down, or whose queue is full, is lost. Peers ask again.
//! - What the peers say is opaque here.

mod dialer;
mod links;
mod listener;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::connection::Options;
use crate::frame::Sealed;
use crate::hello::{Hello, PeerHello};
use crate::mesh::links::Links;

/// Gives our greeting for a peer as of now: it is asked for each connection anew.
pub type Greeting = Arc<dyn Fn(u16) -> Hello + Send + Sync>;

/// Who takes part, and the bounds.
#[derive(Clone, Debug)]
pub struct MeshOptions {
    /// Our own id.
    pub me: u16,
    /// Every other replica's id and the address at which we reach it.
    pub peers: BTreeMap<u16, String>,
    /// Bounds of each connection.
    pub connection: Options,
    /// The first wait before dialling again. Default 20 ms.
    pub redial_floor: Duration,
    /// The longest one. Default 500 ms.
    pub redial_ceiling: Duration,
}

impl MeshOptions {
    /// Default bounds: handshake 1 s, 16 MiB of frames waiting for each peer.
    pub fn new(me: u16, peers: BTreeMap<u16, String>) -> MeshOptions {
        MeshOptions {
            me,
            peers,
            connection: Options {
                handshake: Duration::from_secs(1),
                queue_bytes: 16 << 20,
                ..Options::default()
            },
            redial_floor: Duration::from_millis(20),
            redial_ceiling: Duration::from_millis(500),
        }
    }
}

/// What happened on the links, in order for each peer.
#[derive(Debug)]
pub enum PeerEvent {
    /// A connection is there. Always followed by its `Down` before the next `Up` of that peer.
    Up {
        /// The peer's id.
        peer: u16,
        /// The connection's number.
        link: u64,
        /// The peer's cluster id; 0 = not known to it yet.
        cluster: u128,
        /// What the peer said of itself.
        hello: PeerHello,
    },
    /// A message came.
    Message {
        /// The peer's id.
        peer: u16,
        /// The connection's number.
        link: u64,
        /// The message.
        body: Bytes,
    },
    /// The connection is gone.
    Down {
        /// The peer's id.
        peer: u16,
        /// The connection's number.
        link: u64,
        /// Whether the peer went without a goodbye: it crashed, or the way to it broke.
        reset: bool,
    },
    /// A connection was not made because the two sides do not fit (cluster, version, id).
    Refused {
        /// The peer's id, as far as known.
        peer: Option<u16>,
        /// Why, for the log.
        reason: String,
    },
}

/// The links to all peers. Dropping it ends them.
#[derive(Debug)]
pub struct Mesh {
    links: Arc<Links>,
    tasks: Vec<JoinHandle<()>>,
}

impl Mesh {
    /// Starts to dial the peers with lower ids and to accept those with higher ones, on the current
    /// runtime. `events` bounds what has been received and not been handled: when it is full, the
    /// links are not read.
    pub fn start(
        options: MeshOptions,
        listener: TcpListener,
        greeting: Greeting,
        events: mpsc::Sender<PeerEvent>,
    ) -> Mesh {
        let links = Arc::new(Links::new(events));
        let mut tasks = vec![tokio::spawn(listener::run(
            listener,
            options.clone(),
            greeting.clone(),
            links.clone(),
        ))];
        for (&peer, address) in options.peers.range(..options.me) {
            let dialer = dialer::run(
                peer,
                address.clone(),
                options.clone(),
                greeting.clone(),
                links.clone(),
            );
            tasks.push(tokio::spawn(dialer));
        }
        Mesh { links, tasks }
    }

    /// Queues one frame for each of `to` that is connected; true if all took it.
    pub fn send(&self, to: &[u16], frame: &Sealed) -> bool {
        let mut all = true;
        for &peer in to {
            all &= self.links.send(peer, frame);
        }
        all
    }

    /// Writes what is queued from this very thread, as far as the sockets take it now. For a
    /// driver that is about to block on its disk.
    pub fn flush(&self) {
        self.links.flush();
    }

    /// Ends the link to `peer`, so that a new handshake tells what has changed here.
    pub fn renew(&self, peer: u16) {
        self.links.close(peer);
    }

    /// Says goodbye to all peers and stops. What is queued is still written by the runtime.
    pub fn close(self) {
        self.links.close_all();
    }
}

impl Drop for Mesh {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
        self.links.close_all();
    }
}

#[cfg(test)]
mod tests;
