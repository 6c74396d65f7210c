//! The write path: groups of records, one durable write each; single-threaded.
//!
//! The simulator drives this directly; the server wraps it in [`crate::Log`]. After the first failed
//! write or sync nothing is retried and every later call fails: nobody knows what the disk holds.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

use bytes::Bytes;

use crate::batch::{
    self, BatchFlags, BatchHeader, HEADER_BYTES, Position, RECORDS_MAX, record_bytes,
};
use crate::environment::Environment;
use crate::error::{Error, ReadError};
use crate::index::{Entry, SLOT_JUMP_MAX};
use crate::litter::Litter;
use crate::reader::{Reader, Segment, Shared};
use crate::record::{Lsn, PAYLOAD_BYTES_MAX, Record, RecordKind, StoredEntry};
use crate::segment::{CAPACITY_MAX, CAPACITY_MIN};
use crate::snapshot::SnapshotRef;
use crate::spare::Spare;
use crate::storage::{BLOCK_BYTES, LockGuard, SharedDisk};
use crate::superblock::PEERS_BYTES_MAX;
use crate::supers::{Advance, Supers, Ticket};

mod removal;
mod rotation;

pub use removal::{NextSnapshots, Removed};

/// A group holds at most so many bytes, or one record if that is larger.
pub(crate) const GROUP_BYTES_MAX: usize = 1 << 20;
const BLOCK: u64 = BLOCK_BYTES as u64;

/// How a log is laid out.
#[derive(Clone, Debug)]
pub struct Options {
    /// Bytes of a new segment; default 64 MiB, rounded up to whole blocks, between 32 KiB and 1 GiB.
    pub segment_bytes: u64,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            segment_bytes: 64 << 20,
        }
    }
}

impl Options {
    pub(crate) fn capacity(&self) -> u64 {
        self.segment_bytes
            .clamp(CAPACITY_MIN, CAPACITY_MAX)
            .next_multiple_of(BLOCK)
    }
}

/// The log, open for appending.
#[derive(Debug)]
pub struct Writer {
    pub(crate) disk: SharedDisk,
    pub(crate) environment: Environment,
    pub(crate) supers: Supers,
    pub(crate) shared: Arc<Shared>,
    pub(crate) spare: Arc<Spare>,
    pub(crate) segments: VecDeque<SegmentMeta>,
    pub(crate) state: State,
    pub(crate) place: WritePlace,
    pub(crate) arena: Vec<u8>,
    pub(crate) litter: Arc<Litter>,
    /// The snapshots that were verified whole by this process: only they may make older ones superfluous.
    pub(crate) trusted: BTreeSet<SnapshotRef>,
    /// Held until the writer goes.
    pub(crate) lock: Box<dyn LockGuard>,
}

/// Whether appends are possible.
#[derive(Clone, Debug)]
pub(crate) enum State {
    Open,
    ReadOnly(String),
    Poisoned,
}

/// What the writer remembers of each segment.
#[derive(Clone, Debug)]
pub(crate) struct SegmentMeta {
    pub(crate) seq: u64,
    pub(crate) path: String,
    pub(crate) base: Lsn,
    pub(crate) capacity: u64,
    /// Highest slot of an entry in it.
    pub(crate) max_slot: u64,
    /// Bytes of the disk that it takes: all of its capacity, unless its unused end was given back.
    pub(crate) held_bytes: u64,
}

/// Where the next batch goes and what it follows.
#[derive(Clone, Debug, Default)]
pub(crate) struct WritePlace {
    /// `None` if the log is open for reading only.
    pub(crate) active: Option<Arc<Segment>>,
    pub(crate) next: Lsn,
    /// What the headers claim as durable; the next position, but for carried batches.
    pub(crate) durable_claim: Option<Lsn>,
    pub(crate) last: BatchHeader,
    pub(crate) max_slot_ever: u64,
    pub(crate) max_ballot_ever: u64,
    pub(crate) commit_slot: u64,
    pub(crate) marked_slot: u64,
    pub(crate) promised: u64,
    /// Whether records were written since the last marker.
    pub(crate) unmarked: bool,
    /// The end of the last batch with records, which is what the superblock notes as durable. A marker behind it is
    /// left out: if it is damaged alone, nothing is lost.
    pub(crate) records_end: Lsn,
    pub(crate) hinted: Lsn,
    /// Once both copies of the superblock hold this, they name the active segment.
    pub(crate) naming: Ticket,
    /// What was written counts as durable only once both copies hold this: the last promise, the active segment.
    pub(crate) awaits: Ticket,
}

impl Writer {
    /// Appends the records, in order, as one or more groups; durable on return, promises in both
    /// superblock copies too.
    ///
    /// # Errors
    ///
    /// [`Error::TooLarge`] and [`Error::SlotOutOfRange`]: nothing was written. [`Error::NoSpace`]: a prefix may have been
    /// written (which is harmless to repeat), ask again later. Anything else: the log is poisoned.
    pub fn commit(&mut self, records: &[Record], commit_slot: u64) -> Result<(), Error> {
        self.check(records)?;
        let mut rest = records;
        while !rest.is_empty() {
            let written = self.commit_group(rest, commit_slot)?;
            rest = &rest[written..];
        }
        let noted = self.supers.finish(self.place.awaits);
        self.poison_on(noted)
    }

    /// Refuses records that the format or this log cannot hold. Writes nothing.
    pub(crate) fn check(&self, records: &[Record]) -> Result<(), Error> {
        match &self.state {
            State::Open => {}
            State::ReadOnly(why) => return Err(Error::Damaged(why.clone())),
            State::Poisoned => return Err(Error::Poisoned),
        }
        let limit = self.spare.payload_bytes_max().min(PAYLOAD_BYTES_MAX as u64);
        for record in records {
            let size = record.payload.len();
            if size as u64 > limit {
                return Err(Error::TooLarge {
                    what: "record",
                    size: size as u64,
                    limit,
                });
            }
            let last = self.shared.index().last();
            if record.kind.is_entry() && record.slot > last + SLOT_JUMP_MAX {
                return Err(Error::SlotOutOfRange {
                    slot: record.slot,
                    last,
                    limit: SLOT_JUMP_MAX,
                });
            }
        }
        Ok(())
    }

    /// Writes the first group of `records`, which must have passed [`Writer::check`]; how many it took. They may be told
    /// to be durable once both copies of the superblock hold `WritePlace::awaits`.
    ///
    /// The commit slot speaks of all of them, so only the last group bears it, and the end of the old
    /// segment does not: else a crash in between leaves a slot that counts as chosen with an older value.
    pub(crate) fn commit_group(
        &mut self,
        records: &[Record],
        commit_slot: u64,
    ) -> Result<usize, Error> {
        let count = group_len(records, self.group_bytes_max());
        let group = &records[..count];
        let repair = group.iter().any(|record| record.kind == RecordKind::Repair);
        let flags = if repair {
            BatchFlags::REPAIR
        } else {
            BatchFlags::default()
        };
        let promise = group
            .iter()
            .filter(|record| record.kind == RecordKind::Promise)
            .map(|record| record.ballot)
            .max()
            .filter(|ballot| *ballot > self.place.promised);
        if let Some(promised) = promise {
            // Begun before the log's flushes: with a thread they run at once. If the group finds no room, a promise that
            // nobody was told of does no harm.
            self.place.promised = promised;
            let begun = self.supers.begin(&self.advance());
            self.place.awaits = self.poison_on(begun)?;
        }
        self.make_room(group)?;
        if count == records.len() {
            self.place.commit_slot = self.place.commit_slot.max(commit_slot);
        }
        self.write(group, flags)?;
        Ok(count)
    }

    /// Writes a marker if records were written since the last one: it proves, once read back, that they
    /// were durable. Durable on return. For the idle moments; never needed before an answer.
    ///
    /// # Errors
    ///
    /// As [`Writer::commit`].
    pub fn idle_marker(&mut self) -> Result<(), Error> {
        self.check(&[])?;
        if !self.place.unmarked {
            return Ok(());
        }
        if self.room() >= 2 * BLOCK {
            self.write(&[], BatchFlags::MARKER)
        } else {
            // `make_room` leaves room for a marker and a seal, but an earlier version did not.
            self.durable_hint()
        }
    }

    /// Notes in one copy of the superblock how far the log is durable, if that moved. At most once a second is plenty.
    ///
    /// # Errors
    ///
    /// As [`Writer::commit`].
    pub fn durable_hint(&mut self) -> Result<(), Error> {
        self.check(&[])?;
        if self.place.hinted < self.place.records_end {
            self.place.hinted = self.place.records_end;
            let begun = self.supers.hint(&self.advance());
            self.poison_on(begun)?;
        }
        Ok(())
    }

    /// Records what the replica knows of its peers, in place of what was recorded before; durable in both
    /// superblock copies on return. The log gives the bytes back at the next open and reads nothing into them.
    ///
    /// # Errors
    ///
    /// [`Error::TooLarge`]: more than [`PEERS_BYTES_MAX`] bytes, nothing was written. Else as [`Writer::commit`].
    pub fn note_peers(&mut self, peers: Bytes) -> Result<(), Error> {
        self.check(&[])?;
        check_peers(&peers)?;
        let written = self.supers.update(|block| block.peers = peers);
        self.poison_on(written)
    }

    /// As [`Writer::note_peers`], but only with the next write of the superblock, which has another reason:
    /// a promise, a new segment, the hint. Lost if the process ends before.
    ///
    /// # Errors
    ///
    /// [`Error::TooLarge`].
    pub fn note_peers_later(&self, peers: Bytes) -> Result<(), Error> {
        check_peers(&peers)?;
        self.supers.note_peers_later(peers);
        Ok(())
    }

    /// Number of the segment that comes after the active one.
    pub(crate) fn next_seq(&self) -> u64 {
        self.segments.back().map_or(1, |segment| segment.seq + 1)
    }

    /// Prepares the next segment now. Without this it is prepared when it is needed.
    ///
    /// # Errors
    ///
    /// [`Error::NoSpace`]: the disk is getting full, see [`Writer::low_space`]; [`Error::Io`].
    pub fn prepare_ahead(&mut self) -> Result<(), Error> {
        self.check(&[])?;
        self.spare.prepare(self.next_seq())
    }

    /// Whether the last segment could not be prepared for want of room.
    #[must_use]
    pub fn low_space(&self) -> bool {
        self.spare.is_low()
    }

    /// The value of a slot; see [`Reader::read`].
    ///
    /// # Errors
    ///
    /// See [`Reader::read`].
    pub fn read(&self, slot: u64) -> Result<Option<StoredEntry>, ReadError> {
        self.reader().read(slot)
    }

    /// A reader of what is durable.
    #[must_use]
    pub fn reader(&self) -> Reader {
        Reader::new(self.shared.clone())
    }

    /// The first slot that the log holds or would hold.
    #[must_use]
    pub fn first_slot(&self) -> u64 {
        self.shared.index().first()
    }

    /// The last slot that it holds; `first_slot - 1` if none.
    #[must_use]
    pub fn last_slot(&self) -> u64 {
        self.shared.index().last()
    }

    /// Bytes of log from the record of `slot` to the end, as they lie on the disk; all of it if the slot is gone.
    #[must_use]
    pub fn bytes_since(&self, slot: u64) -> u64 {
        match self.shared.index().get(slot) {
            Some(entry) => self.bytes_from(entry.lsn),
            None if slot > self.last_slot() => 0,
            None => self.log_bytes(),
        }
    }

    /// Number of segments that were begun after the one that holds `slot`; all of them if the slot is gone.
    #[must_use]
    pub fn segments_since(&self, slot: u64) -> u64 {
        let from = match self.shared.index().get(slot) {
            Some(entry) => entry.lsn,
            None if slot > self.last_slot() => return 0,
            None => Lsn(0),
        };
        let later = self.segments.iter().filter(|segment| segment.base > from);
        later.count() as u64
    }

    /// Bytes of log from the first segment kept to the end, as they lie on the disk.
    #[must_use]
    pub fn log_bytes(&self) -> u64 {
        self.bytes_from(Lsn(0))
    }

    fn bytes_from(&self, from: Lsn) -> u64 {
        let in_use = |segment: &SegmentMeta| {
            let end = (segment.base.0 + segment.held_bytes).min(self.place.next.0);
            end.saturating_sub(from.max(segment.base).0)
        };
        self.segments.iter().map(in_use).sum()
    }

    /// Where the next batch goes: everything below is durable.
    #[must_use]
    pub fn end(&self) -> Lsn {
        self.place.next
    }

    /// Closes the log in order: a last marker, the clean flag, the lock.
    ///
    /// # Errors
    ///
    /// As [`Writer::commit`].
    pub fn close(mut self) -> Result<(), Error> {
        self.check(&[])?;
        let end = self.place.next;
        if self.room() >= BLOCK {
            self.write(&[], BatchFlags::MARKER.with(BatchFlags::CLEAN_CLOSE))?;
        }
        let advance = Advance {
            durable: end,
            ..self.advance()
        };
        self.supers.update(|block| {
            block.clean = true;
            // Up to the marker, not past it: a damaged marker alone loses nothing.
            advance.apply(block);
        })?;
        drop(self.lock);
        Ok(())
    }

    pub(crate) fn advance(&self) -> Advance {
        Advance {
            promised: self.place.promised,
            newest_segment: self.segments.back().map_or(0, |segment| segment.seq),
            durable: self.place.records_end,
            max_slot_ever: self.place.max_slot_ever,
            max_ballot_ever: self.place.max_ballot_ever,
        }
    }

    /// Bytes left for batches in the active segment.
    fn room(&self) -> u64 {
        let Some(active) = &self.place.active else {
            return 0;
        };
        active.base.0 + active.capacity - BLOCK - self.place.next.0
    }

    /// Bytes of one group: it must fit an empty segment, with headers, a marker and a seal.
    fn group_bytes_max(&self) -> usize {
        GROUP_BYTES_MAX.min((self.spare.segment_bytes() - 4 * BLOCK) as usize)
    }

    /// Rotates if the group and, after it, a marker and a seal do not fit.
    fn make_room(&mut self, group: &[Record]) -> Result<(), Error> {
        let bytes = HEADER_BYTES as u64
            + group
                .iter()
                .map(|record| record_bytes(record.payload.len()) as u64)
                .sum::<u64>();
        if self.room() < bytes.next_multiple_of(BLOCK) + 2 * BLOCK {
            self.rotate()
        } else {
            Ok(())
        }
    }

    /// Builds one batch and writes it; durable and readable on return.
    pub(crate) fn write(&mut self, records: &[Record], flags: BatchFlags) -> Result<(), Error> {
        let active = self.place.active.clone().ok_or(Error::Closed)?;
        let place = &mut self.place;
        let at = Position {
            salt: active.salt,
            lsn: place.next,
        };
        let mut header = BatchHeader {
            batch_seq: place.last.batch_seq + 1,
            durable: place.durable_claim.unwrap_or(place.next),
            flags,
            prev_crc: place.last.crc,
            commit_slot: place.commit_slot,
            wall_ns: (self.environment.wall_ns)(),
            prev_min_slot: place.last.min_slot,
            prev_max_slot: place.last.max_slot,
            max_slot_ever: place.max_slot_ever,
            max_ballot_ever: place.max_ballot_ever,
            ..BatchHeader::default()
        };
        batch::encode(&mut self.arena, &at, &mut header, records);
        let offset = at.lsn.0 - active.base.0;
        let written = active.file.write_at_durable(&self.arena, offset);
        self.poison_on(written.map_err(Error::io("write", &active.path)))?;
        self.note(records, header);
        Ok(())
    }

    /// After the write: moves on and makes the batch readable.
    fn note(&mut self, records: &[Record], header: BatchHeader) {
        let place = &mut self.place;
        place.next = header.end();
        place.max_slot_ever = header.max_slot_ever;
        place.max_ballot_ever = header.max_ballot_ever;
        place.unmarked = !records.is_empty();
        if place.unmarked {
            place.records_end = header.end();
        }
        if let Some(segment) = self.segments.back_mut() {
            segment.max_slot = segment.max_slot.max(header.max_slot);
        }
        self.shared.publish(header.lsn, &self.arena, header.end());
        let mut lsn = header.lsn.0 + HEADER_BYTES as u64;
        if !records.is_empty() {
            let mut index = self.shared.index_mut();
            for record in records {
                let payload_bytes = record.payload.len();
                if record.kind.is_entry() {
                    let (kind, ballot) = (record.kind, record.ballot);
                    let payload_bytes = payload_bytes as u32;
                    index.put(
                        record.slot,
                        Entry {
                            lsn: Lsn(lsn),
                            kind,
                            ballot,
                            payload_bytes,
                        },
                    );
                } else if record.kind == RecordKind::SnapshotMark {
                    self.place.marked_slot = self.place.marked_slot.max(record.slot);
                }
                lsn += record_bytes(payload_bytes) as u64;
            }
        }
        self.place.last = header;
    }

    pub(crate) fn poison_on<T>(&mut self, result: Result<T, Error>) -> Result<T, Error> {
        if result.is_err() {
            self.state = State::Poisoned;
        }
        result
    }
}

/// Refuses more than the superblock has room for.
pub(crate) fn check_peers(peers: &Bytes) -> Result<(), Error> {
    if peers.len() > PEERS_BYTES_MAX {
        return Err(Error::TooLarge {
            what: "record of the peers",
            size: peers.len() as u64,
            limit: PEERS_BYTES_MAX as u64,
        });
    }
    Ok(())
}

/// How many of the records go into one group of at most so many bytes; at least one.
fn group_len(records: &[Record], bytes_max: usize) -> usize {
    let mut bytes = HEADER_BYTES;
    let mut count = 0;
    for record in records.iter().take(RECORDS_MAX) {
        bytes += record_bytes(record.payload.len());
        if count > 0 && bytes > bytes_max {
            break;
        }
        count += 1;
    }
    count
}
