//! What an engine is told at its start.

use paxos::{Recovered, Slot};
use statemachine::{Machine, Settings};

/// How an engine behaves.
#[derive(Clone, Debug)]
pub struct EngineOptions {
    /// Identity, members and timing of agreement.
    pub core: paxos::Config,
    /// What this replica has agreed if it is the cluster's first leader.
    pub settings: Settings,
    /// How much it takes on.
    pub limits: Limits,
    /// When it makes a snapshot.
    pub snapshots: SnapshotPolicy,
    /// Size of the log's segments, of which some are kept in reserve.
    pub segment_bytes: u64,
    /// Keep-alives are gathered for this long at most, in microseconds.
    pub gather_us: u64,
    /// The program's version, for `Status`.
    pub version: String,
    /// The cluster's name, for `Status`.
    pub cluster_name: String,
}

/// How much an engine takes on. What is beyond is refused as `Unavailable`.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Requests open on one connection.
    pub per_connection: usize,
    /// Requests open in all. Acquires that wait for a lock are no work and not among them.
    pub in_all: usize,
    /// Bytes of commands in one batch that add work.
    pub batch_bytes: usize,
    /// Bytes of chosen entries kept in memory while applying waits; the rest is read back.
    pub backlog_bytes: usize,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            per_connection: 20_000,
            in_all: 400_000,
            batch_bytes: 16 << 20,
            backlog_bytes: 64 << 20,
        }
    }
}

/// When a snapshot is made.
#[derive(Clone, Copy, Debug)]
pub struct SnapshotPolicy {
    /// Once the log has grown by this many bytes since the last one.
    pub log_bytes: u64,
    /// Then at the next slot that is a multiple of this, so that replicas make comparable ones; at any slot once the
    /// log has grown by an eighth more.
    pub slot_multiple: u64,
}

impl SnapshotPolicy {
    /// Growth of the log from which on any slot will do.
    pub(super) fn overdue_bytes(&self) -> u64 {
        let grace = (self.log_bytes / 8).max(OVERDUE_BYTES_MIN);
        self.log_bytes.saturating_add(grace)
    }

    /// What `segments` begun segments and `bytes` in them count for. Each start begins a segment, however little is
    /// written to it, and the next start has to read it: after nine starts a snapshot is taken.
    pub(crate) fn growth(&self, bytes: u64, segments: u64) -> u64 {
        let each = (self.log_bytes / 8).max(OVERDUE_BYTES_MIN);
        bytes.max(segments.saturating_mul(each))
    }
}

/// The least growth beyond [`SnapshotPolicy::log_bytes`] that makes a snapshot overdue.
const OVERDUE_BYTES_MIN: u64 = 1 << 20;

impl Default for SnapshotPolicy {
    fn default() -> SnapshotPolicy {
        SnapshotPolicy {
            log_bytes: 128 << 20,
            slot_multiple: 64,
        }
    }
}

/// What the boot found on the disk.
#[derive(Debug)]
pub struct Restored {
    /// For the core.
    pub recovered: Recovered,
    /// The state as of `recovered.applied`.
    pub machine: Machine,
    /// The newest snapshot's slot, 0 = none.
    pub snapshot: Slot,
    /// Bytes that the log has grown by since that snapshot.
    pub log_bytes: u64,
}
