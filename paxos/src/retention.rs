//! When the log's prefix may go: behind a durable snapshot with a durable mark, and, up to the
//! driver's cap, not while a known member still lacks it.

use bytes::Bytes;

use crate::core::{Core, Part};
use crate::durable::Waiting;
use crate::ident::Slot;
use crate::outbox::{Outbox, ReleaseLog, WalRecord};

impl Core {
    /// A snapshot is durable: its mark goes to the log (P8).
    pub(crate) fn on_snapshot_saved(&mut self, slot: Slot, meta: Bytes, out: &mut Outbox) {
        assert!(
            slot <= self.published,
            "a snapshot at {slot}, above what was handed out"
        );
        self.submit(vec![WalRecord::SnapshotMark { slot, meta }], out);
        self.durable.hold(Waiting::Snapshot { slot });
    }

    /// The mark is durable.
    pub(crate) fn on_snapshot_marked(&mut self, slot: Slot, out: &mut Outbox) {
        self.snapshot = self.snapshot.max(slot);
        self.release_log(out);
    }

    /// The lowest slot that a known member lacks, anew, once per heartbeat of a leader. A member
    /// that was never heard of lacks everything. The leader counts as well: followers alone may
    /// choose what its own disk has not finished, and a crash then leaves it behind their logs.
    ///
    /// To hold an entry is not enough: whoever starts anew must also find it said that the entry is
    /// chosen, or it asks for it again.
    pub(crate) fn update_needed(&mut self, out: &mut Outbox) {
        if !matches!(self.part, Part::Leader(_)) {
            return;
        }
        let peers = self.peers.values().map(|peer| peer.holds).min();
        let lowest = peers.map_or(self.recorded, |holds| holds.min(self.recorded));
        self.needed = self.needed.max(lowest.next());
        self.release_if_grown(out);
    }

    /// Asks for a release if more may go than at the last one.
    pub(crate) fn release_if_grown(&mut self, out: &mut Outbox) {
        if self.snapshot.min(self.needed.prev()) > self.released {
            self.release_log(out);
        }
    }

    fn release_log(&mut self, out: &mut Outbox) {
        self.released = self.released.max(self.snapshot.min(self.needed.prev()));
        out.release_log = Some(ReleaseLog {
            snapshot: self.snapshot,
            needed: self.needed,
        });
    }
}
