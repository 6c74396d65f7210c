//! Reads values: from the newest batches in memory, else from the segments.
//!
//! Either way the record is compared with the index and its checksum verified. A mismatch or an error is read once more,
//! past the page cache; only then it is damage. Segments are read by calls and not mapped into memory: a sector that the
//! disk cannot read is an error of one call, and not a signal that ends the process.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use bytes::Bytes;

use crate::batch::{open_record, stored_bytes};
use crate::error::ReadError;
use crate::index::{Entry, Index};
use crate::record::{Lsn, RecordKind, SlotRange, StoredEntry};
use crate::storage::SharedFile;

/// Bytes of the newest batches kept in memory.
const TAIL_BYTES: usize = 8 << 20;
/// Bytes read at once for a caller who reads slot after slot.
const AHEAD_BYTES: u64 = 256 << 10;
/// A record that begins this close behind the end of the last one read follows it: a batch header and padding may lie between.
const FOLLOWS_BYTES: u64 = 8 << 10;

/// Reads what is durable; cheap to clone, usable from any thread.
#[derive(Clone, Debug)]
pub struct Reader {
    shared: Arc<Shared>,
}

/// What the writer and its readers share.
#[derive(Debug)]
pub(crate) struct Shared {
    index: RwLock<Index>,
    /// In order of their base.
    segments: RwLock<Vec<Arc<Segment>>>,
    tail: RwLock<Tail>,
    ahead: Mutex<Ahead>,
    durable: AtomicU64,
    /// What recovery found lost.
    faulty: Vec<SlotRange>,
}

/// A segment file as readers need it.
#[derive(Debug)]
pub(crate) struct Segment {
    pub(crate) seq: u64,
    pub(crate) base: Lsn,
    pub(crate) capacity: u64,
    pub(crate) salt: u64,
    pub(crate) path: String,
    pub(crate) file: SharedFile,
}

impl Reader {
    pub(crate) fn new(shared: Arc<Shared>) -> Reader {
        Reader { shared }
    }

    /// The value of a slot; `None` if the log holds none. A chosen value outranks, else the latest counts.
    ///
    /// # Errors
    ///
    /// [`ReadError::Corrupt`] if the record is damaged, [`ReadError::Faulty`] if recovery found that a
    /// version of the slot, perhaps a newer one, is lost, [`ReadError::Io`] if the disk cannot read it.
    pub fn read(&self, slot: u64) -> Result<Option<StoredEntry>, ReadError> {
        let (entry, segment) = self.shared.place(slot);
        self.shared.refuse_faulty(slot, entry.as_ref())?;
        let Some(entry) = entry else { return Ok(None) };
        let payload = self.shared.payload(slot, &entry, segment)?;
        Ok(Some(StoredEntry {
            kind: entry.kind,
            ballot: entry.ballot,
            payload,
        }))
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

    /// Everything below this position is durable.
    #[must_use]
    pub fn durable(&self) -> Lsn {
        self.shared.durable()
    }
}

impl Shared {
    pub(crate) fn new(index: Index, segments: Vec<Arc<Segment>>, faulty: Vec<SlotRange>) -> Shared {
        Shared {
            index: RwLock::new(index),
            segments: RwLock::new(segments),
            tail: RwLock::default(),
            ahead: Mutex::default(),
            durable: AtomicU64::new(0),
            faulty,
        }
    }

    pub(crate) fn index(&self) -> RwLockReadGuard<'_, Index> {
        self.index.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn index_mut(&self) -> RwLockWriteGuard<'_, Index> {
        self.index.write().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn add_segment(&self, segment: Arc<Segment>) {
        self.segments
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .push(segment);
    }

    pub(crate) fn drop_segments_before(&self, seq: u64) {
        let mut segments = self
            .segments
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        segments.retain(|segment| segment.seq >= seq);
    }

    pub(crate) fn durable(&self) -> Lsn {
        Lsn(self.durable.load(Ordering::Acquire))
    }

    /// Makes a batch readable: it is durable now.
    pub(crate) fn publish(&self, lsn: Lsn, batch: &[u8], end: Lsn) {
        let mut tail = self.tail.write().unwrap_or_else(PoisonError::into_inner);
        tail.push(lsn, batch);
        self.durable.store(end.0, Ordering::Release);
    }

    pub(crate) fn set_durable(&self, end: Lsn) {
        self.durable.store(end.0, Ordering::Release);
    }

    fn refuse_faulty(&self, slot: u64, entry: Option<&Entry>) -> Result<(), ReadError> {
        let lost = self.faulty.iter().find(|range| {
            range.contains(slot)
                && !entry.is_some_and(|entry| {
                    entry.kind == RecordKind::Chosen || entry.ballot >= range.ballot_max
                })
        });
        lost.map_or(Ok(()), |range| Err(ReadError::Faulty { range: *range }))
    }

    /// Where the value of a slot stands. Both are looked up under the index' lock: a removal forgets
    /// the slots before their segments, so whoever saw the slot still gets the segment, and its file.
    fn place(&self, slot: u64) -> (Option<Entry>, Option<Arc<Segment>>) {
        let index = self.index();
        let entry = index.get(slot);
        let segment = entry.as_ref().and_then(|entry| self.segment(entry.lsn));
        (entry, segment)
    }

    fn payload(
        &self,
        slot: u64,
        entry: &Entry,
        segment: Option<Arc<Segment>>,
    ) -> Result<Bytes, ReadError> {
        let len = stored_bytes(entry.payload_bytes as usize);
        let wanted = (entry.kind, slot, entry.ballot);
        let Some(segment) = segment else {
            return Err(self.corrupt(slot, entry, None));
        };
        let cached = self
            .tail
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .get(entry.lsn, len);
        let open = |bytes: Bytes| open_record(bytes, segment.salt, entry.lsn, wanted);
        let near = cached.or_else(|| self.read_ahead(&segment, entry.lsn, len));
        if let Some(payload) = near.and_then(open) {
            return Ok(payload);
        }
        let offset = entry.lsn.0 - segment.base.0;
        let read = || {
            let mut bytes = vec![0; len];
            let read = segment.file.read_exact_at(&mut bytes, offset);
            read.map(|()| Bytes::from(bytes))
        };
        if let Some(payload) = read().ok().and_then(open) {
            return Ok(payload);
        }
        segment.file.drop_cache(offset, len as u64);
        let bytes = read().map_err(|source| ReadError::Io {
            slot,
            file: segment.path.clone(),
            source: Arc::new(source),
        })?;
        open(bytes).ok_or_else(|| self.corrupt(slot, entry, Some(&segment)))
    }

    /// The bytes from what was read ahead; reads on if they follow the last ones. `None` if the caller is to read them alone.
    fn read_ahead(&self, segment: &Segment, lsn: Lsn, len: usize) -> Option<Bytes> {
        // Another reader that is in the middle of this is not waited for.
        let mut ahead = self.ahead.try_lock().ok()?;
        let follows = lsn
            .0
            .checked_sub(ahead.next.0)
            .is_some_and(|gap| gap <= FOLLOWS_BYTES);
        ahead.next = Lsn(lsn.0 + len as u64);
        if let Some(bytes) = ahead.get(lsn, len) {
            return Some(bytes);
        }
        // What is not durable yet may still change, so nothing of it is kept.
        let end = self.durable().0.min(segment.base.0 + segment.capacity);
        let want = end.saturating_sub(lsn.0).min(AHEAD_BYTES);
        if !follows || want < len as u64 {
            return None;
        }
        let mut bytes = vec![0; want as usize];
        let read = segment
            .file
            .read_exact_at(&mut bytes, lsn.0 - segment.base.0);
        // A place that cannot be read may lie behind the record.
        read.ok()?;
        (ahead.start, ahead.bytes) = (lsn, bytes);
        ahead.get(lsn, len)
    }

    fn corrupt(&self, slot: u64, entry: &Entry, segment: Option<&Segment>) -> ReadError {
        ReadError::Corrupt {
            slot,
            ballot: entry.ballot,
            lsn: entry.lsn,
            file: segment.map_or_else(|| "wal".to_owned(), |segment| segment.path.clone()),
            offset: segment.map_or(0, |segment| entry.lsn.0 - segment.base.0),
        }
    }

    fn segment(&self, lsn: Lsn) -> Option<Arc<Segment>> {
        let segments = self.segments.read().unwrap_or_else(PoisonError::into_inner);
        let after = segments.partition_point(|segment| segment.base <= lsn);
        let segment = segments.get(after.checked_sub(1)?)?;
        (lsn.0 < segment.base.0 + segment.capacity).then(|| segment.clone())
    }
}

/// A piece of a segment, read for whoever reads slot after slot.
#[derive(Debug, Default)]
struct Ahead {
    start: Lsn,
    bytes: Vec<u8>,
    /// Where the last record that was asked for ends.
    next: Lsn,
}

impl Ahead {
    fn get(&self, lsn: Lsn, len: usize) -> Option<Bytes> {
        let at = usize::try_from(lsn.0.checked_sub(self.start.0)?).ok()?;
        let end = at.checked_add(len)?;
        // Copied: a slice that somebody keeps would keep all of the piece.
        self.bytes.get(at..end).map(Bytes::copy_from_slice)
    }
}

/// The newest batches.
#[derive(Debug, Default)]
struct Tail {
    batches: VecDeque<(Lsn, Bytes)>,
    bytes: usize,
}

impl Tail {
    fn push(&mut self, lsn: Lsn, batch: &[u8]) {
        if batch.len() > TAIL_BYTES {
            return;
        }
        self.batches.push_back((lsn, Bytes::copy_from_slice(batch)));
        self.bytes += batch.len();
        while self.bytes > TAIL_BYTES {
            let Some((_, old)) = self.batches.pop_front() else {
                break;
            };
            self.bytes -= old.len();
        }
    }

    fn get(&self, lsn: Lsn, len: usize) -> Option<Bytes> {
        let after = self.batches.partition_point(|(start, _)| *start <= lsn);
        let (start, batch) = self.batches.get(after.checked_sub(1)?)?;
        let at = usize::try_from(lsn.0 - start.0).ok()?;
        (at + len <= batch.len()).then(|| batch.slice(at..at + len))
    }
}
