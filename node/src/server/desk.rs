//! Where others ask how the replica stands: in which phase its life is, and what it reports.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::timeout;

use crate::server::inbox::{Event, Inbox};

/// Beyond this an answer is as good as none.
const PATIENCE: Duration = Duration::from_secs(2);

/// The parts of a replica's life.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Its cluster is not founded yet; what it waits for.
    Unborn {
        /// In words.
        waits_for: String,
    },
    /// It reads its log.
    Booting,
    /// It takes part and answers clients.
    Serving,
    /// It was asked to end.
    Stopping,
}

/// How a replica stands.
#[derive(Clone, Debug)]
pub struct Report {
    /// What clients are told too. `state_hash` is 0 unless it was asked for.
    pub status: net::Status,
    /// Why the replica cannot serve, if it cannot.
    pub not_ready: Option<String>,
    /// What agreement knows.
    pub core: paxos::Status,
    /// What the log has done.
    pub log: LogReport,
    /// Peers whose missing entries this replica no longer keeps: they need what this version does
    /// not have, a snapshot by network.
    pub fell_behind: Vec<FellBehind>,
    /// How much it has to do.
    pub load: Load,
    /// Why it would refuse new work if it leads.
    pub refuses_work: Option<String>,
}

/// A peer that lags further than the log reaches back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FellBehind {
    /// The peer, or this replica itself.
    pub node: u16,
    /// The slot that it needs.
    pub needs: u64,
    /// The first slot kept.
    pub first: u64,
}

/// What the log has done since the start.
#[derive(Clone, Debug, Default)]
pub struct LogReport {
    /// Writes with their syncs, bytes.
    pub stats: wal::LogStats,
    /// Age of the oldest record that is not durable, in microseconds.
    pub oldest_unsynced_us: u64,
    /// Whether its disk is nearly full.
    pub low_space: bool,
}

/// How much the replica has to do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Load {
    /// Client connections.
    pub connections: u64,
    /// Effects that wait for space on the disk.
    pub effects_waiting: u64,
    /// Bytes of the state, by the agreed accounting.
    pub state_bytes: u64,
    /// Bytes beyond which new work is refused as `full`.
    pub state_bytes_max: u64,
}

/// The desk. Clones are the same desk.
#[derive(Clone, Debug)]
pub struct Desk {
    phase: Arc<Mutex<Phase>>,
    inbox: Arc<Inbox>,
}

impl Desk {
    /// A desk whose questions go to `inbox`.
    pub(crate) fn new(inbox: Arc<Inbox>) -> Desk {
        Desk {
            phase: Arc::new(Mutex::new(Phase::Booting)),
            inbox,
        }
    }

    /// The present phase.
    pub fn phase(&self) -> Phase {
        self.phase
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    pub(crate) fn enter(&self, phase: Phase) {
        *self.phase.lock().unwrap_or_else(PoisonError::into_inner) = phase;
    }

    /// Asks the reactor, which takes part in nothing while it does not answer: `None` after two
    /// seconds.
    pub async fn report(&self, hash: bool) -> Option<Report> {
        let (reply, answer) = oneshot::channel();
        self.inbox.push(Event::Ask { hash, reply });
        timeout(PATIENCE, answer).await.ok()?.ok()
    }
}
