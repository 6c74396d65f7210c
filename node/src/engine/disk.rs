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

use super::{Engine, Now, Output};

/// Segments of the log for which space is kept.
const SEGMENTS: u64 = 2;
/// Snapshots for which space is kept.
const SNAPSHOTS: u64 = 2;
/// The disk is nearly full while less than this is left for new work: the longest command fits in.
const TIGHT_BYTES: u64 = 4 << 20;

/// What is known of the disk.
#[derive(Debug, Default)]
pub(super) struct DiskRoom {
    /// As measured last; `None` if the file system does not tell.
    free: Option<u64>,
    /// Bytes written since then, to the log and to files.
    spent: u64,
    tight: bool,
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
}

impl Engine {
    /// The space was measured.
    pub(super) fn on_disk_free(&mut self, now: Now, bytes: Option<u64>, out: &mut Output) {
        self.disk.free = bytes;
        self.disk.spent = 0;
        // Some more room must be found than was missed: each change of mind costs snapshots, perhaps a change of leader.
        let least = if self.disk.tight { 2 } else { 1 } * TIGHT_BYTES;
        let tight = self.room_on_disk().is_some_and(|room| room < least);
        if tight != self.disk.tight {
            self.disk.tight = tight;
            self.tell_condition(now, out);
        }
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
