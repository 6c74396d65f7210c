//! Snapshots make old segments superfluous: naming snapshots, removing the prefix of the log.

use super::Writer;
use crate::error::Error;
use crate::snapshot::{self, SnapshotRef};
use crate::storage::Disk;
use crate::supers::Ticket;

/// What a removal freed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Removed {
    /// Segments removed.
    pub segments: u64,
    /// Bytes given back.
    pub bytes: u64,
    /// The first slot that the log still holds.
    pub first_slot: u64,
    /// More could go, but a known member still needs it and the cap is not reached.
    pub held_back: bool,
    /// Something went that a known member still needed, because the cap was reached.
    pub left_behind: bool,
}

impl Writer {
    /// Names a saved and verified snapshot in the superblock, then removes those older than the two newest good ones.
    /// Durable on return. The record that marks it comes next, by [`Writer::commit`].
    ///
    /// One that recovery found damaged never becomes the previous one: it would be kept in place of a good one.
    ///
    /// # Errors
    ///
    /// As [`Writer::commit`].
    pub fn snapshot_saved(&mut self, snapshot: SnapshotRef) -> Result<(), Error> {
        let naming = self.begin_naming(snapshot)?;
        let named = self.supers.finish(naming.ticket);
        self.poison_on(named)?;
        naming.prune(&*self.disk);
        Ok(())
    }

    /// Begins to name a snapshot. Once the superblock's copies hold the ticket, the older ones may be pruned.
    pub(crate) fn begin_naming(&mut self, snapshot: SnapshotRef) -> Result<Naming, Error> {
        self.check(&[])?;
        self.trusted.retain(|other| other.slot != snapshot.slot);
        self.trusted.insert(snapshot);
        let newest = self.trusted.last().copied();
        let previous = newest.and_then(|newest| {
            let older = |other: &&SnapshotRef| other.slot < newest.slot;
            self.trusted.iter().rev().find(older).copied()
        });
        let advance = self.advance();
        let begun = self.supers.desk().begin(|block| {
            block.snapshot = newest;
            block.previous_snapshot = previous;
            advance.apply(block);
        });
        let ticket = self.poison_on(begun)?;
        let kept: Vec<SnapshotRef> = newest.into_iter().chain(previous).collect();
        self.trusted.retain(|trusted| kept.contains(trusted));
        Ok(Naming { ticket, kept })
    }

    /// Takes the snapshots above `slot` for damaged from now on: the replica could not start from them. The next
    /// [`Writer::snapshot_saved`] keeps an older one in their place.
    pub fn distrust_snapshots_above(&mut self, slot: u64) {
        self.trusted.retain(|snapshot| snapshot.slot <= slot);
    }

    /// Removes the oldest segments that hold nothing above the older of the two kept snapshots.
    ///
    /// `snapshot` is the newest snapshot's slot, whose mark must be in the log; `needed` the lowest slot
    /// that a known member still lacks: it is kept while the log has at most `cap_bytes`.
    ///
    /// # Errors
    ///
    /// As [`Writer::commit`].
    pub fn remove_prefix(
        &mut self,
        snapshot: u64,
        needed: u64,
        cap_bytes: u64,
    ) -> Result<Removed, Error> {
        let removal = self.begin_removal(snapshot, needed, cap_bytes)?;
        let forgotten = self.supers.finish(removal.ticket);
        self.poison_on(forgotten)?;
        self.litter.add(removal.paths);
        self.litter.clear();
        Ok(removal.removed)
    }

    /// Forgets the oldest segments. Their files may go once the superblock's copies hold the ticket.
    pub(crate) fn begin_removal(
        &mut self,
        snapshot: u64,
        needed: u64,
        cap_bytes: u64,
    ) -> Result<Removal, Error> {
        self.check(&[])?;
        let mut removed = Removed {
            first_slot: self.first_slot(),
            ..Removed::default()
        };
        let nothing = |removed| Removal {
            removed,
            paths: Vec::new(),
            ticket: 0,
        };
        let block = self.supers.current();
        let marked = block.snapshot.is_some_and(|newest| newest.slot >= snapshot)
            && self.place.marked_slot >= snapshot;
        let Some(older) = block.previous_snapshot.filter(|_| marked) else {
            return Ok(nothing(removed));
        };
        let limit = older.slot.min(snapshot);
        let prefix = self.prefix(limit, needed, cap_bytes);
        let first_slot = removed.first_slot;
        removed = Removed {
            first_slot,
            ..prefix
        };
        let gone = self.segments.iter().take(prefix.segments as usize);
        let paths: Vec<String> = gone.clone().map(|segment| segment.path.clone()).collect();
        let highest = gone.map(|segment| segment.max_slot).max();
        let removed_slot = block.removed_slot.max(highest.unwrap_or(0));
        if paths.is_empty() {
            return Ok(nothing(removed));
        }
        let first_segment = self.segments[paths.len()].seq;
        let begun = self.supers.desk().begin(|block| {
            block.first_segment = first_segment;
            block.removed_slot = removed_slot;
        });
        let ticket = self.poison_on(begun)?;
        self.segments.drain(..paths.len());
        self.shared.index_mut().cut(removed_slot + 1);
        self.shared.drop_segments_before(first_segment);
        removed.first_slot = removed_slot + 1;
        Ok(Removal {
            removed,
            paths,
            ticket,
        })
    }

    /// Bytes that two more snapshots would give back: segments that the kept ones do not let go of, and what the kept
    /// ones take themselves beyond the new ones.
    #[must_use]
    pub fn reclaimable_bytes(&self, next: &NextSnapshots) -> u64 {
        let block = self.supers.current();
        let kept = block.previous_snapshot.map_or(0, |older| older.slot);
        let prefix = |limit| self.prefix(limit, next.needed, next.cap_bytes).bytes;
        let segments = prefix(next.slot.max(kept)) - prefix(kept);
        let snapshots = block.snapshot.into_iter().chain(block.previous_snapshot);
        let beyond = snapshots.map(|kept| kept.length.saturating_sub(next.each_bytes));
        segments + beyond.sum::<u64>()
    }

    /// The oldest segments that hold nothing above `limit` and may go.
    fn prefix(&self, limit: u64, needed: u64, cap_bytes: u64) -> Removed {
        let mut prefix = Removed::default();
        let mut kept_bytes = self.log_bytes();
        let closed = self.segments.len().saturating_sub(1);
        for segment in self.segments.iter().take(closed) {
            if segment.max_slot > limit {
                break;
            }
            if segment.max_slot >= needed {
                if kept_bytes <= cap_bytes {
                    prefix.held_back = true;
                    break;
                }
                prefix.left_behind = true;
            }
            kept_bytes = kept_bytes.saturating_sub(segment.held_bytes);
            prefix.bytes += segment.held_bytes;
            prefix.segments += 1;
        }
        prefix
    }
}

/// What two more snapshots would be like, to [`Writer::reclaimable_bytes`].
#[derive(Clone, Copy, Debug)]
pub struct NextSnapshots {
    /// They are of this slot or later ones.
    pub slot: u64,
    /// Each has at most so many bytes.
    pub each_bytes: u64,
    /// As for [`Writer::remove_prefix`].
    pub needed: u64,
    /// As for [`Writer::remove_prefix`].
    pub cap_bytes: u64,
}

/// A snapshot that is being named.
#[derive(Debug)]
pub(crate) struct Naming {
    /// Both copies of the superblock hold it from here on.
    pub(crate) ticket: Ticket,
    kept: Vec<SnapshotRef>,
}

impl Naming {
    /// Removes the snapshots that nobody needs any more, once the kept ones are named.
    pub(crate) fn prune(&self, disk: &dyn Disk) {
        // The two newest are safe; what is left over is tried again next time.
        if self.kept.len() == 2 {
            let _ = snapshot::prune(disk, &self.kept);
        }
    }
}

/// Segments that are being removed.
#[derive(Debug)]
pub(crate) struct Removal {
    pub(crate) removed: Removed,
    /// Their files.
    pub(crate) paths: Vec<String>,
    /// Both copies of the superblock count them no longer from here on.
    pub(crate) ticket: Ticket,
}
