//! Whether the disk has room for what new work will write.
//!
//! ```text
//! free on the disk, as measured last
//! |- spent -|- pending --------------------------------|- reserve ----------------|- room for new work -|
//!  written   data of sections that are not released,    2 segments of the log,
//!  since     entries on their way, room promised        2 snapshots
//! ```
//!
//! A release writes to the files all that its section appended. So an append is taken only if the disk has room for
//! everything that was taken before it, and the reserve stays: then releases, expiries and the log always go on, however
//! full the cluster's own work makes the disk. Somebody else who fills it can still stop them; then applying waits.
//!
//! The reserve holds two segments, because the log may prepare one at any time before the space is measured again, and
//! two snapshots, because it takes two to let go of the log before them.
//!
//! Disks differ a little, if only in when their logs were cut. So a leader with room takes no new work either while
//! most replicas say that they have none: a follower whose disk is full to the end cannot apply the removal that would
//! empty it, because the writes before it wait for room.
//!
//! What frees space goes on from the reserve: removing a file, and opening the session that this takes. A session writes
//! a block of the log at most when it is opened, which the next two snapshots give back, and some hundred bytes of state
//! while it lives. So that no flood of them uses up what releases and expiries live on, a leader whose disk has no room
//! for new work takes [`SESSIONS_AT_ONCE`] at once and [`SESSIONS_PER_SECOND`] after that.
//!
//! While space is low the snapshots that free some need slots to be taken at, and nobody proposes any: all new work is
//! refused. So the leader adds a few entries that move nothing but time.

use bytes::Bytes;
use paxos::{EntryKind, MonoTime, Role};

use super::requests::Carried;
use super::{Engine, Now, Output};

/// Segments of the log for which space is kept.
const SEGMENTS: u64 = 2;
/// Snapshots for which space is kept.
const SNAPSHOTS: u64 = 2;
/// The disk is nearly full while less than this is left for new work: the longest command fits in.
const TIGHT_BYTES: u64 = 4 << 20;

/// Sessions that may be opened at once without room for new work.
const SESSIONS_AT_ONCE: u64 = 64;
/// Sessions that may be opened each second after that.
const SESSIONS_PER_SECOND: u64 = 16;
/// Time that one session takes of the bucket, in microseconds.
const SESSION_US: u64 = 1_000_000 / SESSIONS_PER_SECOND;

/// A snapshot that takes less than this is not worth another one that takes less still.
const SNAPSHOT_BYTES_MIN: u64 = 64 << 10;

/// Entries that a leader adds after the last one that somebody asked for, while space is low: each replica needs two.
const ENTRIES_ADDED: u32 = 6;
/// How long nothing was applied before such an entry, unless a snapshot of the leader itself waits for it.
const QUIET_US: u64 = 1_000_000;

/// What is known of the disk.
#[derive(Debug, Default)]
pub(super) struct DiskRoom {
    /// As measured last; `None` if the file system does not tell.
    free: Option<u64>,
    /// Bytes written since then, to the log and to files.
    spent: u64,
    tight: bool,
    /// When the bucket of sessions will be full again: each session taken from it moves that on.
    sessions_full_at: MonoTime,
    /// When the last entry was applied.
    applied_at: MonoTime,
    /// Entries added since the last one that somebody asked for.
    added: u32,
}

impl DiskRoom {
    /// So much was handed out to be written.
    pub(super) fn on_written(&mut self, bytes: u64) {
        self.spent += bytes;
    }

    /// Whether new work found next to no room when the space was measured last.
    pub(super) fn is_tight(&self) -> bool {
        self.tight
    }

    /// An entry was applied; whether it is of a client.
    pub(super) fn on_applied(&mut self, now: MonoTime, asked_for: bool) {
        self.applied_at = now;
        if asked_for {
            self.added = 0;
        }
    }

    /// Space has become low, or no longer is: entries for the snapshots are counted from here.
    pub(super) fn on_low_changed(&mut self) {
        self.added = 0;
    }

    /// Whether one more session may be opened though there is no room for new work. If so, it counts.
    pub(super) fn take_session(&mut self, now: MonoTime) -> bool {
        let full_at = self.sessions_full_at.max(now).after(SESSION_US);
        let fits = full_at.since(now) <= SESSIONS_AT_ONCE * SESSION_US;
        if fits {
            self.sessions_full_at = full_at;
        }
        fits
    }
}

impl Engine {
    /// Whether the log's disk is nearly full, or has next to no room for new work. Meanwhile
    /// [`super::Input::Reclaimable`] is to be told.
    pub fn is_low_on_space(&self) -> bool {
        self.disk_low || self.disk.is_tight()
    }

    /// What the next snapshots would be like, for the driver to find out what they would free. They are taken to be
    /// twice as large as the state: were they underestimated, snapshots would be taken for ever.
    pub fn next_snapshots(&self, cap_bytes: u64) -> wal::NextSnapshots {
        let (state_bytes, _) = self.machine.weight();
        wal::NextSnapshots {
            slot: self.applied.0,
            each_bytes: 2 * state_bytes + SNAPSHOT_BYTES_MIN,
            needed: self.core.needed().0,
            cap_bytes,
        }
    }

    /// The driver looked at what snapshots would free.
    pub(super) fn on_reclaimable(&mut self, now: Now, bytes: u64, out: &mut Output) {
        let some = bytes > 0 && self.is_low_on_space();
        let state = (self.applied, &self.machine, &self.clock);
        self.snapshots.on_reclaimable(now.mono, some, state);
        self.absorb(now, out);
    }

    /// Adds an entry that gives snapshots a slot, at once if the next one here waits for nothing else, or if nothing was
    /// applied for a while, for the snapshots of the others.
    pub(super) fn add_entry_while_low(&mut self, now: MonoTime) {
        let wanted = self.snapshots.wants_slot(now, self.applied)
            || now.since(self.disk.applied_at) >= QUIET_US;
        let idle = self.batch.is_empty() && self.requests.in_flight() == 0;
        let leads = self.role == Role::Leader && self.shutting_down.is_none();
        let low = self.is_low_on_space() || self.core.is_majority_unfit();
        if leads && low && wanted && idle && self.disk.added < ENTRIES_ADDED {
            self.disk.added += 1;
            self.enqueue(Carried::Own, EntryKind::Time, Bytes::new());
        }
    }

    /// The space was measured.
    pub(super) fn on_disk_free(&mut self, now: Now, bytes: Option<u64>, out: &mut Output) {
        self.disk.free = bytes;
        self.disk.spent = 0;
        // Some more room must be found than was missed: each change of mind costs snapshots, perhaps a change of leader.
        let least = if self.disk.tight { 2 } else { 1 } * TIGHT_BYTES;
        let tight = self.room_on_disk().is_some_and(|room| room < least);
        if tight != self.disk.tight {
            self.disk.tight = tight;
            self.disk.on_low_changed();
            self.tell_condition(now, out);
        }
        self.add_entry_while_low(now.mono);
    }

    /// Whether the disk has no room for a command of so many bytes.
    pub(super) fn lacks_disk(&self, bytes: usize) -> bool {
        self.disk.tight || self.room_on_disk().is_some_and(|room| room < bytes as u64)
    }

    /// Bytes that new work may take of the disk; `None` if the file system does not tell.
    fn room_on_disk(&self) -> Option<u64> {
        let (state_bytes, _) = self.machine.weight();
        let reserve = SEGMENTS * self.options.segment_bytes + SNAPSHOTS * state_bytes;
        let unchosen = self.options.core.unchosen_bytes_max - self.core.room_bytes();
        let on_the_way =
            unchosen + self.backlog.bytes() + self.batch.added_bytes() + self.room.granted_bytes();
        let pending = self.machine.pending_bytes() + on_the_way as u64;
        let free = self.disk.free?;
        Some(free.saturating_sub(self.disk.spent + pending + reserve))
    }
}
