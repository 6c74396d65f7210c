//! Snapshots: when one is due, what is in it, and its bytes.
//!
//! ```text
//! | version u32 | 0 u32 | clock: time_ms u64, leader u64, chain u64 | the machine's own encoding |
//! ```
//!
//! Integers are little-endian. The clock is the fold over all entries up to the slot; with it the
//! replay that starts there moves time, and links the chain hash, exactly as a replay from the first slot
//! would. Version 1 has no chain: no log that it was made of had begun one.
//!
//! A snapshot is due once the log has grown enough, at the next slot that is a multiple of a fixed
//! number: so two replicas' snapshots of one slot can be compared, byte by byte. If that slot is long in coming, because
//! commands are large or the replica is restarted again and again, any slot will do: what bounds the log is bytes.
//!
//! While the disk is nearly full, snapshots are taken for as long as they give something back: the log and the removed
//! files are kept back to the older of two snapshots, so two more let go of what there is. The driver looks at its disk
//! again and again and says how much that would be ([`super::Input::Reclaimable`]), so nothing is forgotten when a
//! snapshot fails, when the log grows on, or when a file is removed later. Such snapshots rest between each other for
//! four times as long as the last one took, a minute at most, so that a large state does not keep the disk busy.
//!
//! A snapshot is handed out only when the log is durable through its slot (P13 of the replication design): one beyond
//! the durable log would leave a hole between the two.

use std::io::{self, Write};

use paxos::{Ballot, Chain, ClusterClock, MonoTime, Slot, WalAppend, WalRecord};
use statemachine::Machine;

use super::options::SnapshotPolicy;

const VERSION: u32 = 2;
const HEAD_BYTES: usize = 24;
const CHAIN_BYTES: usize = 8;

/// A snapshot to be made. The log is durable through `slot` already. Whoever makes it syncs the data
/// files first, then writes [`SnapshotJob::encode`] by `wal::snapshot::save`, has the superblock name
/// it, and tells the engine `SnapshotSaved`. The state in here is frozen; file lengths are taken from
/// it and never from the disk, which is ahead of it by then.
#[derive(Clone, Debug)]
pub struct SnapshotJob {
    /// The last slot in it.
    pub slot: Slot,
    /// The state as of `slot`.
    pub machine: Machine,
    /// Cluster time as of `slot`.
    pub clock: ClusterClock,
}

/// Why a snapshot's bytes make no sense.
#[derive(Debug, thiserror::Error)]
pub enum PayloadError {
    /// Too short for its own head.
    #[error("{found} bytes are too few for a snapshot, {HEAD_BYTES} is the least")]
    Short {
        /// Bytes found.
        found: usize,
    },
    /// Of a newer program.
    #[error("snapshot version {found}, this program reads 1 to {VERSION}")]
    Version {
        /// The version found.
        found: u32,
    },
    /// The machine's part does not decode.
    #[error("the state in the snapshot does not decode")]
    Machine(#[source] statemachine::DecodeError),
}

impl SnapshotJob {
    /// Writes the payload: the same bytes on every replica.
    ///
    /// # Errors
    ///
    /// What `out` returns.
    pub fn encode(&self, out: &mut impl Write) -> io::Result<()> {
        out.write_all(&VERSION.to_le_bytes())?;
        out.write_all(&0u32.to_le_bytes())?;
        out.write_all(&self.clock.time_ms.to_le_bytes())?;
        out.write_all(&self.clock.leader.raw().to_le_bytes())?;
        out.write_all(&self.clock.chain.0.to_le_bytes())?;
        self.machine.encode_snapshot(out)
    }

    /// Reads a payload, the snapshot of `slot`.
    ///
    /// # Errors
    ///
    /// [`PayloadError`]. Never panics, whatever `bytes` holds.
    pub fn decode(slot: Slot, bytes: &[u8]) -> Result<SnapshotJob, PayloadError> {
        let (head, rest) = bytes
            .split_at_checked(HEAD_BYTES)
            .ok_or(PayloadError::Short { found: bytes.len() })?;
        let word = |at: usize| u64::from_le_bytes(std::array::from_fn(|i| head[at + i]));
        let version = word(0) as u32;
        let (chain, rest) = match version {
            1 => (0, rest),
            VERSION => rest
                .split_first_chunk::<CHAIN_BYTES>()
                .map(|(chain, rest)| (u64::from_le_bytes(*chain), rest))
                .ok_or(PayloadError::Short { found: bytes.len() })?,
            found => return Err(PayloadError::Version { found }),
        };
        let clock = ClusterClock {
            time_ms: word(8),
            leader: Ballot::from_raw(word(16)),
            chain: Chain(chain),
        };
        let machine = Machine::decode_snapshot(rest).map_err(PayloadError::Machine)?;
        Ok(SnapshotJob {
            slot,
            machine,
            clock,
        })
    }
}

/// When the next snapshot is due.
#[derive(Debug)]
pub(super) struct Snapshots {
    policy: SnapshotPolicy,
    /// Bytes that the log has grown by since the last snapshot was taken.
    grown: u64,
    /// Taken, but the log is not durable through its slot.
    held: Option<SnapshotJob>,
    /// Handed out and neither saved nor failed.
    running: bool,
    /// Slot of the newest one that was saved.
    saved: Slot,
    /// When the last one was begun.
    begun: MonoTime,
    /// Snapshots that low space still asks for.
    wanted: u32,
    /// They are not taken before this moment.
    rest_until: MonoTime,
    /// How long the rest after the next failure is, in microseconds.
    failure_rest_us: u64,
}

/// The log is kept from the older of two snapshots on, so it takes two to let go of what there is.
const WANTED_WHEN_LOW: u32 = 2;
/// Rest after a snapshot before low space may ask for another, as a multiple of the time that it took.
const REST: u64 = 4;
/// The longest rest, after a failure too.
const REST_US_MAX: u64 = 64_000_000;
/// Rest after the first snapshot that fails; it doubles from one failure to the next.
const FAILURE_REST_US: u64 = 1_000_000;

impl Snapshots {
    /// After a start: the slot of the newest snapshot, and the bytes that the log has grown by since.
    pub(super) fn new(policy: SnapshotPolicy, saved: Slot, grown: u64) -> Snapshots {
        Snapshots {
            policy,
            grown,
            held: None,
            running: false,
            saved,
            begun: MonoTime(0),
            wanted: 0,
            rest_until: MonoTime(0),
            failure_rest_us: FAILURE_REST_US,
        }
    }

    /// Counts what the log grows by. Appends that share a commit group are counted as if each had
    /// its own blocks, so this is an upper bound, and so is the log's size. Returns these bytes.
    pub(super) fn on_append(&mut self, append: &WalAppend) -> u64 {
        let records: u64 = append
            .records
            .iter()
            .map(|record| 64 + payload_bytes(record))
            .sum();
        let bytes = (128 + records).next_multiple_of(4_096);
        self.grown += bytes;
        bytes
    }

    /// `slot` was just applied: freezes the state if a snapshot is due.
    pub(super) fn on_applied(
        &mut self,
        now: MonoTime,
        slot: Slot,
        machine: &Machine,
        clock: &ClusterClock,
    ) {
        let due = self.grown >= self.policy.log_bytes
            && slot.0.is_multiple_of(self.policy.slot_multiple.max(1));
        if due || self.grown >= self.policy.overdue_bytes() {
            self.freeze(now, slot, machine, clock);
        } else {
            self.take_wanted(now, slot, machine, clock);
        }
    }

    /// Space is low, and two more snapshots would give some back, or would not. The first one is taken at `slot`, the
    /// last one applied, if it can be.
    pub(super) fn on_reclaimable(
        &mut self,
        now: MonoTime,
        some: bool,
        (slot, machine, clock): (Slot, &Machine, &ClusterClock),
    ) {
        if self.is_busy() {
            return;
        }
        if !some {
            self.wanted = 0;
        } else if self.wanted == 0 {
            self.wanted = WANTED_WHEN_LOW;
        }
        self.take_wanted(now, slot, machine, clock);
    }

    /// There is space again.
    pub(super) fn want_none(&mut self) {
        self.wanted = 0;
    }

    /// Whether only a slot above `applied` is missing for a snapshot that low space asks for.
    pub(super) fn wants_slot(&self, now: MonoTime, applied: Slot) -> bool {
        !self.is_busy() && self.wanted > 0 && now >= self.rest_until && applied <= self.saved
    }

    fn take_wanted(&mut self, now: MonoTime, slot: Slot, machine: &Machine, clock: &ClusterClock) {
        if self.wanted > 0 && slot > self.saved && now >= self.rest_until {
            self.freeze(now, slot, machine, clock);
        }
    }

    fn is_busy(&self) -> bool {
        self.running || self.held.is_some()
    }

    fn freeze(&mut self, now: MonoTime, slot: Slot, machine: &Machine, clock: &ClusterClock) {
        if self.is_busy() {
            return;
        }
        self.grown = 0;
        self.wanted = self.wanted.saturating_sub(1);
        self.begun = now;
        self.held = Some(SnapshotJob {
            slot,
            machine: machine.clone(),
            clock: clock.clone(),
        });
    }

    /// The frozen state, once the log is durable through its slot: up to `settled`.
    pub(super) fn take_job(&mut self, settled: Slot) -> Option<SnapshotJob> {
        let job = self.held.take_if(|job| job.slot <= settled)?;
        self.running = true;
        Some(job)
    }

    pub(super) fn on_saved(&mut self, now: MonoTime, slot: Slot) {
        self.running = false;
        self.saved = self.saved.max(slot);
        let rest_us = REST.saturating_mul(now.since(self.begun));
        self.rest_until = now.after(rest_us.min(REST_US_MAX));
        self.failure_rest_us = FAILURE_REST_US;
    }

    /// Tries again when the log has grown by another quarter, or after a rest while space is low.
    pub(super) fn on_failed(&mut self, now: MonoTime) {
        self.running = false;
        // What the disk has to give back is looked at again.
        self.wanted = 0;
        self.rest_until = now.after(self.failure_rest_us);
        self.failure_rest_us = (2 * self.failure_rest_us).min(REST_US_MAX);
        self.grown = self.grown.max(self.policy.log_bytes / 4 * 3);
    }
}

fn payload_bytes(record: &WalRecord) -> u64 {
    match record {
        WalRecord::Promise { .. } => 0,
        WalRecord::Accept { entry, .. } | WalRecord::Chosen { entry, .. } => {
            entry.bytes().len() as u64
        }
        WalRecord::SnapshotMark { meta, .. } => meta.len() as u64,
    }
}
