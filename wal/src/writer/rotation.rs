//! From one segment to the next.

use std::sync::Arc;

use super::{BLOCK, SegmentMeta, Writer};
use crate::batch::BatchFlags;
use crate::error::Error;
use crate::reader::Segment;
use crate::record::Lsn;
use crate::segment::{FORMAT_MAJOR, FORMAT_MINOR, SegmentHeader};
use crate::spare::Ready;

impl Writer {
    /// Seals the active segment and begins the next: two flushes, no rename, no folder sync.
    pub(super) fn rotate(&mut self) -> Result<(), Error> {
        // At most one segment is ahead of the superblock.
        let named = self.supers.finish(self.place.naming);
        self.poison_on(named)?;
        let seq = self.next_seq();
        // Before the seal, because this may fail for want of room, and then nothing has happened.
        let ready = match self.spare.take(seq) {
            Err(error @ Error::NoSpace { .. }) => return Err(error),
            other => self.poison_on(other)?,
        };
        if self.room() >= BLOCK {
            self.write(&[], BatchFlags::SEAL)?;
        }
        let prev_end = self.place.next;
        self.enter_segment(ready);
        self.write_segment_header(prev_end)?;
        // A segment that nothing names could go, with all its records, without anyone missing it.
        let begun = self.supers.begin(&self.advance());
        self.place.naming = self.poison_on(begun)?;
        self.place.awaits = self.place.naming;
        Ok(())
    }

    /// Makes a prepared file the active segment, in memory.
    pub(crate) fn enter_segment(&mut self, ready: Ready) {
        let Ready {
            seq,
            file,
            capacity,
        } = ready;
        let base = self
            .segments
            .back()
            .map_or(Lsn(0), |last| Lsn(last.base.0 + last.capacity));
        let path = crate::layout::segment_path(seq);
        let salt = (self.environment.entropy)();
        let segment = Arc::new(Segment {
            seq,
            base,
            capacity,
            salt,
            path: path.clone(),
            file,
        });
        self.shared.add_segment(segment.clone());
        self.segments.push_back(SegmentMeta {
            seq,
            path,
            base,
            capacity,
            max_slot: 0,
            held_bytes: capacity,
        });
        self.place.active = Some(segment);
        self.place.next = Lsn(base.0 + BLOCK);
    }

    /// Writes both header copies of the active segment and flushes them. From then on what stands at or
    /// after `prev_end` in the previous segment is void.
    pub(crate) fn write_segment_header(&mut self, prev_end: Lsn) -> Result<(), Error> {
        let active = self.place.active.clone().ok_or(Error::Closed)?;
        let block = self.supers.current();
        let header = SegmentHeader {
            major: FORMAT_MAJOR,
            minor: FORMAT_MINOR,
            cluster: block.cluster,
            node: block.node,
            disk: block.disk,
            seq: active.seq,
            base: active.base,
            capacity: active.capacity,
            salt: active.salt,
            created_ns: (self.environment.wall_ns)(),
            prev_end,
            prev_header_crc: self.place.last.crc,
            prev_batch_seq: self.place.last.batch_seq,
            promised: block.promised.max(self.place.promised),
            commit_slot: self.place.commit_slot,
            snapshot_slot: block.snapshot.map_or(0, |snapshot| snapshot.slot),
            incarnation: block.incarnation,
            boot_id: block.boot_id,
            max_slot_ever: self.place.max_slot_ever,
            max_ballot_ever: self.place.max_ballot_ever,
        }
        .encode();
        let written = active
            .file
            .write_at(&header, 0)
            .and_then(|()| active.file.write_at(&header, active.capacity - BLOCK))
            .and_then(|()| active.file.sync())
            .map_err(Error::io("write", &active.path));
        self.poison_on(written)
    }
}
