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
        let mut paths = Vec::new();
        let mut kept_bytes = self.log_bytes();
        let mut removed_slot = block.removed_slot;
        for segment in self
            .segments
            .iter()
            .take(self.segments.len().saturating_sub(1))
        {
            if segment.max_slot > limit {
                break;
            }
            if segment.max_slot >= needed {
                if kept_bytes <= cap_bytes {
                    removed.held_back = true;
                    break;
                }
                removed.left_behind = true;
            }
            kept_bytes = kept_bytes.saturating_sub(segment.held_bytes);
            removed.bytes += segment.held_bytes;
            removed_slot = removed_slot.max(segment.max_slot);
            paths.push(segment.path.clone());
        }
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
        removed.segments = paths.len() as u64;
        removed.first_slot = removed_slot + 1;
        Ok(Removal {
            removed,
            paths,
            ticket,
        })
    }
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
