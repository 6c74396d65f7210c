//! Follows a log that another process writes.

use std::io;

use bytes::Bytes;

use crate::batch::{self, BatchHeader, HEADER_BYTES};
use crate::error::Error;
use crate::layout::segment_path;
use crate::record::{Lsn, Record};
use crate::segment::SegmentHeader;
use crate::storage::{BLOCK_BYTES, Disk, SharedDisk, SharedFile};

/// A batch that was read whole and proven durable.
#[derive(Clone, Debug)]
pub struct Followed {
    /// Its header.
    pub header: BatchHeader,
    /// Number of its segment.
    pub segment: u64,
    /// Position of the segment's first byte.
    pub base: Lsn,
    /// Its records.
    pub records: Vec<Record>,
    /// Where the head of each stands.
    pub places: Vec<Lsn>,
}

/// Reads batches as they become durable: a batch is shown once a later header proves it. The marker of an idle log
/// does so after [`crate::LogOptions::idle_delay`].
#[derive(Debug)]
pub struct Follow {
    disk: SharedDisk,
    seq: u64,
    open: Option<(SharedFile, SegmentHeader)>,
    next: Lsn,
    waiting: Vec<Followed>,
}

impl Follow {
    /// Follows from the start of segment `seq`.
    #[must_use]
    pub fn from_segment(disk: SharedDisk, seq: u64) -> Follow {
        Follow {
            disk,
            seq,
            open: None,
            next: Lsn(0),
            waiting: Vec::new(),
        }
    }

    /// Follows from the newest segment on.
    ///
    /// # Errors
    ///
    /// [`Error::Io`] if the folder cannot be listed or a segment cannot be opened.
    pub fn newest(disk: SharedDisk) -> Result<Follow, Error> {
        let wal = crate::layout::WAL;
        let entries = disk.list(wal).map_err(Error::io("list", wal))?;
        let seqs = entries
            .iter()
            .filter_map(|entry| crate::layout::segment_seq(&entry.name));
        let mut newest = 1;
        for seq in seqs {
            if seq > newest && header_of(&*disk, seq)?.is_some() {
                newest = seq;
            }
        }
        Ok(Follow::from_segment(disk, newest))
    }

    /// The batches proven durable since the last call. Never waits.
    ///
    /// # Errors
    ///
    /// [`Error::Io`].
    pub fn poll(&mut self) -> Result<Vec<Followed>, Error> {
        let mut proven = Vec::new();
        loop {
            if self.open.is_none() {
                let Some((file, header)) = header_of(&*self.disk, self.seq)? else {
                    break;
                };
                self.next = Lsn(header.base.0 + BLOCK_BYTES as u64);
                self.open = Some((file, header));
            }
            if let Some(batch) = self.read_next()? {
                let durable = batch.header.durable;
                self.next = batch.header.end();
                self.waiting.push(batch);
                self.release(durable, &mut proven);
                continue;
            }
            // A successor's header says where this segment ends, and proves it up to there.
            let Some((_, successor)) = header_of(&*self.disk, self.seq + 1)? else {
                break;
            };
            self.waiting
                .retain(|batch| batch.header.lsn < successor.prev_end);
            self.release(successor.prev_end, &mut proven);
            self.seq += 1;
            self.open = None;
        }
        Ok(proven)
    }

    fn release(&mut self, durable: Lsn, proven: &mut Vec<Followed>) {
        let count = self
            .waiting
            .iter()
            .take_while(|batch| batch.header.end() <= durable)
            .count();
        proven.extend(self.waiting.drain(..count));
    }

    fn read_next(&self) -> Result<Option<Followed>, Error> {
        let Some((file, segment)) = &self.open else {
            return Ok(None);
        };
        if self.next >= segment.batches_end() {
            return Ok(None);
        }
        let offset = self.next.0 - segment.base.0;
        let mut head = [0; HEADER_BYTES];
        let read = |buf: &mut [u8]| {
            file.read_at(buf, offset)
                .map_err(Error::io("read", segment_path(segment.seq)))
        };
        if read(&mut head)? < HEADER_BYTES {
            return Ok(None);
        }
        let limit = segment.batches_end();
        let Ok(header) = BatchHeader::decode(&head, segment.seed(), self.next, limit) else {
            return Ok(None);
        };
        let mut bytes = vec![0; header.padded() as usize];
        if read(&mut bytes)? < bytes.len() {
            return Ok(None);
        }
        let (body, found) = batch::verify(&bytes, &header, segment.salt);
        if !body.is_whole() {
            return Ok(None);
        }
        let bytes = Bytes::from(bytes);
        let read = found.iter().filter_map(|record| {
            let at = (record.lsn.0 - header.lsn.0) as usize;
            let head = &record.header;
            let stored = bytes.slice(at..at + batch::stored_bytes(head.length as usize));
            let (kind, slot, ballot) = (head.kind, head.slot, head.ballot);
            let wanted = (kind, slot, ballot);
            let payload = batch::open_record(stored, segment.salt, record.lsn, wanted)?;
            let opened = Record {
                kind,
                slot,
                ballot,
                payload,
            };
            Some((opened, record.lsn))
        });
        let (records, places) = read.unzip();
        Ok(Some(Followed {
            header,
            segment: segment.seq,
            base: segment.base,
            records,
            places,
        }))
    }
}

/// The segment and its header, if there is one.
fn header_of(disk: &dyn Disk, seq: u64) -> Result<Option<(SharedFile, SegmentHeader)>, Error> {
    let path = segment_path(seq);
    let file = match disk.open_read(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        other => other.map_err(Error::io("open", &path))?,
    };
    let mut block = [0; BLOCK_BYTES];
    match file.read_exact_at(&mut block, 0) {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        other => other.map_err(Error::io("read", &path))?,
    }
    let header = SegmentHeader::decode(&block);
    let header = header.ok().filter(|header| header.seq == seq);
    Ok(header.map(|header| (file, header)))
}
