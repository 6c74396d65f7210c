//! Looking at a data folder without touching it: for tools, on live, cold and damaged folders.
//!
//! Takes no lock and changes nothing. [`survey`] reads everything and verifies every checksum; [`decide`]
//! runs the decision of recovery on it; [`records`] lists what the segments hold with a verdict each;
//! [`Follow`] reads a log that another process writes, up to what is proven durable.
//!
//! On a live folder a survey is a moment that may be torn between files: the newest segment can show a write
//! under way as a torn tail. That is what a crash at that moment would leave.

use bytes::Bytes;

use crate::batch::{FoundRecord, stored_bytes};
use crate::error::Error;
use crate::record::Lsn;
use crate::storage::Disk;

pub use crate::batch::{BatchFlags, BatchHeader, Body, RecordHeader};
pub use crate::recovery::{
    Decision, Facts, Finding, FoundBatch, Gap, GapKind, Item, LiveSegment, Outcome, Place, Report,
    SegmentFacts, SnapshotFacts, Source, Surveyed, decide, survey, survey_watched,
};
pub use crate::segment::{HeaderFault, SegmentHeader};
pub use crate::snapshot::inspect as inspect_snapshot;
pub use crate::super_store::Copies;
pub use crate::superblock::{SuperFault, Superblock};

mod follow;
#[doc(hidden)]
pub mod fuzz;

pub use follow::{Follow, Followed};

/// What a record counts for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Part of the log.
    Live,
    /// Part of the log, but nothing proves it durable: the next open carries it forward.
    Unproven,
    /// Void: a later segment says that the log ended before it, or it was torn, or its segment was removed.
    Void,
    /// Its checksum does not match.
    Damaged,
}

impl Verdict {
    /// One word for programs.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Verdict::Live => "live",
            Verdict::Unproven => "unproven",
            Verdict::Void => "void",
            Verdict::Damaged => "damaged",
        }
    }
}

/// One record where it stands.
#[derive(Clone, Debug)]
pub struct RecordView<'a> {
    /// The segment.
    pub segment: &'a SegmentFacts,
    /// The batch.
    pub batch: &'a FoundBatch,
    /// The record.
    pub record: &'a FoundRecord,
    /// Where its head stands in the file, in bytes.
    pub offset: u64,
    /// What it counts for.
    pub verdict: Verdict,
}

/// Every record of every readable batch, in the order of files and positions.
pub fn records<'a>(
    facts: &'a Facts,
    decision: &'a Decision,
) -> impl Iterator<Item = RecordView<'a>> {
    let of_batch = move |at: Place, batch: &'a FoundBatch| {
        let segment = &facts.segments[at.segment];
        let verdict = verdict_of(decision, at);
        let base = segment.header().map_or(Lsn(0), |header| header.base);
        batch.records.iter().map(move |record| RecordView {
            segment,
            batch,
            record,
            offset: record.lsn.0 - base.0,
            verdict: if record.good {
                verdict
            } else {
                Verdict::Damaged
            },
        })
    };
    facts
        .segments
        .iter()
        .enumerate()
        .flat_map(move |(segment, found)| {
            found
                .items
                .iter()
                .enumerate()
                .flat_map(move |(item, what)| {
                    let batch = match what {
                        Item::Batch(batch) => Some(batch),
                        Item::Gap(_) => None,
                    };
                    batch
                        .into_iter()
                        .flat_map(move |batch| of_batch(Place { segment, item }, batch))
                })
        })
}

/// What the batch at a place counts for.
#[must_use]
pub fn verdict_of(decision: &Decision, at: Place) -> Verdict {
    let key = |place: &Place| (place.segment, place.item);
    if decision
        .batches
        .binary_search_by_key(&key(&at), key)
        .is_err()
    {
        Verdict::Void
    } else if decision.carry.contains(&at) {
        Verdict::Unproven
    } else {
        Verdict::Live
    }
}

/// Reads the payload of a record again; `None` if it is damaged (by now).
///
/// # Errors
///
/// [`Error::Io`] if the file cannot be read.
pub fn payload(
    disk: &dyn Disk,
    segment: &SegmentFacts,
    record: &FoundRecord,
) -> Result<Option<Bytes>, Error> {
    let Some(header) = segment.header() else {
        return Ok(None);
    };
    let head = &record.header;
    let file = disk
        .open_read(&segment.path)
        .map_err(Error::io("open", &segment.path))?;
    let mut bytes = vec![0; stored_bytes(head.length as usize)];
    file.read_exact_at(&mut bytes, record.lsn.0 - header.base.0)
        .map_err(Error::io("read", &segment.path))?;
    let wanted = (head.kind, head.slot, head.ballot);
    Ok(crate::batch::open_record(
        bytes.into(),
        header.salt,
        record.lsn,
        wanted,
    ))
}
