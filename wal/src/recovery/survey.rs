//! Reads a data folder into [`Facts`]: every checksum verified with `pread`, nothing changed.

use std::io;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use crate::batch::{self, BatchFault, BatchHeader, HEADER_BYTES};
use crate::error::Error;
use crate::field;
use crate::layout::{self, SNAPSHOTS, SUPERBLOCKS, WAL};
use crate::record::Lsn;
use crate::segment::{CAPACITY_MAX, HeaderFault, SegmentHeader};
use crate::snapshot::{self, SnapshotRef};
use crate::storage::{BLOCK_BYTES, Disk, DiskFile, is_bad_medium};
use crate::super_store;

use super::facts::{Facts, FoundBatch, Gap, GapKind, Item, SegmentFacts, SnapshotFacts};

/// Bytes read ahead at once while probing.
const WINDOW_BYTES: usize = 1 << 20;

/// Reads everything there is to know about a data folder; takes no lock and changes nothing.
///
/// Segments are read by several threads where the disk allows it.
///
/// # Errors
///
/// [`Error::Io`] if a folder cannot be listed, or a file cannot be read for a reason that says nothing about what it
/// holds, such as its permissions. What the medium lost is a fact, not an error.
pub fn survey(disk: &dyn Disk) -> Result<Facts, Error> {
    survey_watched(disk, &|_| {})
}

/// How far a survey is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Surveyed {
    /// Bytes of segments and snapshots read.
    pub bytes: u64,
    /// Bytes of all of them.
    pub of: u64,
}

/// Like [`survey`], and calls `watch` after each file, from whatever thread read it.
///
/// # Errors
///
/// As [`survey`].
pub fn survey_watched(disk: &dyn Disk, watch: &(dyn Fn(Surveyed) + Sync)) -> Result<Facts, Error> {
    let mut facts = Facts {
        supers: super_store::read_copies(disk)?,
        ..Facts::default()
    };
    let snapshots = list(disk, SNAPSHOTS)?;
    let logs = list(disk, WAL)?;
    let files = logs
        .iter()
        .filter(|entry| layout::segment_seq(&entry.name).is_some());
    let kept = snapshots
        .iter()
        .filter(|entry| layout::snapshot_slot(&entry.name).is_some());
    let of = files.chain(kept).map(|entry| entry.len).sum();
    let read = AtomicU64::new(0);
    let done = |len| {
        let bytes = read.fetch_add(len, Ordering::Relaxed) + len;
        watch(Surveyed { bytes, of });
    };
    let mut names = Vec::new();
    for entry in logs {
        let path = format!("{WAL}/{}", entry.name);
        match layout::segment_seq(&entry.name) {
            Some(seq) => names.push((seq, path)),
            None if SUPERBLOCKS.contains(&path.as_str()) => {}
            None => facts.unknown.push(path),
        }
    }
    facts.segments = survey_segments(disk, &names, &done)?;
    for entry in snapshots {
        let path = format!("{SNAPSHOTS}/{}", entry.name);
        match layout::snapshot_slot(&entry.name) {
            Some(slot) => {
                let found = snapshot_verdict(snapshot::inspect(disk, slot))?;
                done(entry.len);
                facts.snapshots.extend(found.map(|verdict| SnapshotFacts {
                    slot,
                    path,
                    verdict,
                }));
            }
            None => facts.unknown.push(path),
        }
    }
    Ok(facts)
}

/// What there is to say about a snapshot; `None` if it was removed after the folder was listed.
fn snapshot_verdict(
    found: Result<SnapshotRef, Error>,
) -> Result<Option<Result<SnapshotRef, String>>, Error> {
    match found {
        Ok(reference) => Ok(Some(Ok(reference))),
        Err(Error::BadSnapshot { what, .. }) => Ok(Some(Err(what))),
        Err(Error::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(Error::Io { source, .. })
            if is_bad_medium(&source) || source.kind() == io::ErrorKind::UnexpectedEof =>
        {
            Ok(Some(Err(source.to_string())))
        }
        Err(other) => Err(other),
    }
}

fn list(disk: &dyn Disk, dir: &str) -> Result<Vec<crate::storage::DirEntry>, Error> {
    match disk.list(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        other => other.map_err(Error::io("list", dir)),
    }
}

/// Reads the segments, one thread each, at most [`Disk::read_threads`] at a time.
fn survey_segments(
    disk: &dyn Disk,
    names: &[(u64, String)],
    done: &(dyn Fn(u64) + Sync),
) -> Result<Vec<SegmentFacts>, Error> {
    let read = |seq: u64, path: &str| {
        let facts = survey_segment(disk, seq, path)?;
        done(facts.as_ref().map_or(0, |facts| facts.len));
        Ok(facts)
    };
    let threads = disk.read_threads().min(names.len());
    if threads <= 1 {
        let read = names.iter().map(|(seq, path)| read(*seq, path));
        return read.filter_map(Result::transpose).collect();
    }
    let next = AtomicUsize::new(0);
    let found = Mutex::new(Vec::with_capacity(names.len()));
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while let Some((seq, path)) = names.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let facts = read(*seq, path);
                    found
                        .lock()
                        .expect("no thread panics with the lock")
                        .push(facts);
                }
            });
        }
    });
    let found = found.into_inner().expect("no thread panics with the lock");
    let found = found.into_iter().filter_map(Result::transpose);
    let mut segments = found.collect::<Result<Vec<_>, Error>>()?;
    segments.sort_by_key(|segment| segment.seq);
    Ok(segments)
}

/// Reads one segment file; `None` if it was removed after the folder was listed.
fn survey_segment(disk: &dyn Disk, seq: u64, path: &str) -> Result<Option<SegmentFacts>, Error> {
    let missing = || Err(HeaderFault::Unreadable("not read".to_owned()));
    let mut facts = SegmentFacts {
        seq,
        path: path.to_owned(),
        len: 0,
        headers: [missing(), missing()],
        zero: false,
        items: Vec::new(),
    };
    let opened = disk
        .open_read(path)
        .and_then(|file| Ok((file.len()?, file)));
    let (len, file) = match opened {
        Ok(opened) => opened,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) if is_bad_medium(&error) => {
            let fault = HeaderFault::Unreadable(error.to_string());
            facts.headers = [Err(fault.clone()), Err(fault)];
            return Ok(Some(facts));
        }
        Err(error) => return Err(Error::io("open", path)(error)),
    };
    let unreadable = Error::io("read", path);
    match survey_blocks(&*file, len, &mut facts) {
        Ok(()) => Ok(Some(facts)),
        Err(error) => Err(unreadable(error)),
    }
}

fn survey_blocks(file: &dyn DiskFile, len: u64, facts: &mut SegmentFacts) -> io::Result<()> {
    facts.len = len;
    let first = read_header(file, 0)?;
    // The copy stands where the first header says; without one, where the file ends (a hint: the copy
    // names its own place, so a false one is seen).
    let capacity = first.as_ref().map_or(len, |header| header.capacity);
    let copy_at = capacity.saturating_sub(BLOCK_BYTES as u64);
    let second = read_header(file, copy_at)?.and_then(|header| {
        if header.capacity == capacity {
            Ok(header)
        } else {
            Err(HeaderFault::Nonsense("place of the copy"))
        }
    });
    facts.headers = [first, second];
    match facts.header().cloned() {
        Some(header) => {
            facts.items = Scan::new(file, &header).run()?;
        }
        None => facts.zero = is_zero(file, len)?,
    }
    Ok(())
}

fn read_header(file: &dyn DiskFile, at: u64) -> io::Result<Result<SegmentHeader, HeaderFault>> {
    let mut block = [0; BLOCK_BYTES];
    match file
        .read_at(&mut block, at)
        .or_else(|_| file.read_at(&mut block, at))
    {
        Ok(BLOCK_BYTES) => Ok(SegmentHeader::decode(&block)),
        Ok(_) => Ok(Err(HeaderFault::Unreadable(
            "the file ends before it".to_owned(),
        ))),
        Err(error) if is_bad_medium(&error) => Ok(Err(HeaderFault::Unreadable(error.to_string()))),
        Err(error) => Err(error),
    }
}

fn is_zero(file: &dyn DiskFile, len: u64) -> io::Result<bool> {
    let len = len.min(CAPACITY_MAX);
    let mut buf = vec![0; WINDOW_BYTES.min(len as usize)];
    let mut at = 0;
    while at < len {
        match file.read_at(&mut buf, at) {
            Ok(0) => return Ok(true),
            Ok(count) if field::is_zero(&buf[..count]) => at += count as u64,
            Ok(_) => return Ok(false),
            Err(error) if is_bad_medium(&error) => return Ok(false),
            Err(error) => return Err(error),
        }
    }
    Ok(true)
}

/// Reads a whole padded batch whose header is known.
pub(crate) fn read_body(
    file: &dyn DiskFile,
    segment: &SegmentHeader,
    header: &BatchHeader,
) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; header.padded() as usize];
    file.read_exact_at(&mut bytes, header.lsn.0 - segment.base.0)?;
    Ok(bytes)
}

/// Walks a segment from block to block.
struct Scan<'a> {
    header: &'a SegmentHeader,
    window: Window<'a>,
    items: Vec<Item>,
}

impl<'a> Scan<'a> {
    fn new(file: &'a dyn DiskFile, header: &'a SegmentHeader) -> Scan<'a> {
        let (end, bytes) = (header.capacity, Vec::new());
        let window = Window {
            file,
            end,
            start: 0,
            bytes,
        };
        Scan {
            header,
            window,
            items: Vec::new(),
        }
    }

    fn run(mut self) -> io::Result<Vec<Item>> {
        let block = BLOCK_BYTES as u64;
        let end = self.header.batches_end().0 - self.header.base.0;
        let mut at = block;
        while at < end {
            at += match self.look(at)? {
                Ok(batch) => {
                    let padded = batch.header.padded();
                    self.items.push(Item::Batch(batch));
                    padded
                }
                Err(kind) => {
                    self.extend_gap(at, kind);
                    block
                }
            };
        }
        Ok(self.items)
    }

    /// The batch at this block, or what else is there.
    fn look(&mut self, at: u64) -> io::Result<Result<FoundBatch, GapKind>> {
        let place = Lsn(self.header.base.0 + at);
        let limit = self.header.batches_end();
        let block = match self.window.get(at, BLOCK_BYTES) {
            Ok(block) => block,
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                return Ok(Err(GapKind::CutOff));
            }
            Err(error) if is_bad_medium(&error) => return Ok(Err(GapKind::Unreadable)),
            Err(error) => return Err(error),
        };
        let head = &block[..HEADER_BYTES];
        let header = match BatchHeader::decode(head, self.header.seed(), place, limit) {
            Ok(header) => header,
            Err(BatchFault::Zero) if field::is_zero(block) => return Ok(Err(GapKind::Zero)),
            Err(BatchFault::Misplaced(_)) => return Ok(Err(GapKind::Misplaced)),
            Err(_) => return Ok(Err(GapKind::Damaged)),
        };
        let (body, records) = match self.window.get(at, header.padded() as usize) {
            Ok(bytes) => batch::verify(bytes, &header, self.header.salt),
            Err(error) if is_bad_medium(&error) || error.kind() == io::ErrorKind::UnexpectedEof => {
                (batch::Body::BadDirectory, Vec::new())
            }
            Err(error) => return Err(error),
        };
        Ok(Ok(FoundBatch {
            header,
            body,
            records,
        }))
    }

    fn extend_gap(&mut self, at: u64, kind: GapKind) {
        let start = Lsn(self.header.base.0 + at);
        let end = Lsn(start.0 + BLOCK_BYTES as u64);
        match self.items.last_mut() {
            Some(Item::Gap(gap)) if gap.kind == kind => gap.end = end,
            _ => self.items.push(Item::Gap(Gap { start, end, kind })),
        }
    }
}

/// A piece of the file in memory. What lies beyond the file's end reads as an error.
struct Window<'a> {
    file: &'a dyn DiskFile,
    end: u64,
    start: u64,
    bytes: Vec<u8>,
}

impl Window<'_> {
    fn get(&mut self, at: u64, len: usize) -> io::Result<&[u8]> {
        let inside = at >= self.start && at + len as u64 <= self.start + self.bytes.len() as u64;
        if !inside {
            self.fill(at, len)?;
        }
        let from = (at - self.start) as usize;
        Ok(&self.bytes[from..from + len])
    }

    fn fill(&mut self, at: u64, len: usize) -> io::Result<()> {
        self.start = at;
        // Ahead first; where that fails, exactly what is needed; and once again, as errors may pass.
        let ahead = (self.end.saturating_sub(at) as usize).min(WINDOW_BYTES);
        let mut failed = io::Error::from(io::ErrorKind::UnexpectedEof);
        for want in [len.max(ahead), len, len] {
            self.bytes.resize(want, 0);
            match self.file.read_at(&mut self.bytes, at) {
                Ok(count) if count >= len => {
                    self.bytes.truncate(count);
                    return Ok(());
                }
                Ok(_) => {
                    self.bytes.clear();
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
                Err(error) => failed = error,
            }
        }
        self.bytes.clear();
        Err(failed)
    }
}
