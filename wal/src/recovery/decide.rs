//! The decision: what the facts mean. Pure; the table of rows is in `FORMAT.md`.

use crate::error::Error;
use crate::record::{Lsn, SlotRange};
use crate::snapshot::SnapshotRef;
use crate::storage::Disk;
use crate::super_store::{self, Copies};
use crate::superblock::{SuperFault, Superblock};

use super::facts::{Facts, FoundBatch, Item, SegmentFacts};
use super::fold::Fold;
use super::identity;
use super::live::live_segments;
use super::report::{Finding, Outcome, Report, Source};
use super::snapshots::snapshots;
use super::survey::survey;

/// A batch among the facts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// Index into [`Facts::segments`].
    pub segment: usize,
    /// Index into its items.
    pub item: usize,
}

/// A segment that belongs to the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LiveSegment {
    /// Index into [`Facts::segments`].
    pub segment: usize,
    /// What stands at or after this is void: a successor says the segment ends here.
    pub void_from: Lsn,
}

/// What the facts mean.
#[derive(Clone, Debug)]
pub struct Decision {
    /// What the log may be used for.
    pub outcome: Outcome,
    /// Why.
    pub report: Report,
    /// The segments of the log, in order.
    pub live: Vec<LiveSegment>,
    /// The batches to believe, in order. Records in them that are not good are to be skipped.
    pub batches: Vec<Place>,
    /// Those among them that nothing proves durable: to be appended again.
    pub carry: Vec<Place>,
    /// Where the log found ends for good; what stands there or later is void or carried.
    pub prev_end: Lsn,
    /// Whether the newest segment holds no record and can be used on.
    pub reuse: bool,
    /// Highest ballot promised.
    pub promised: u64,
    /// Highest slot in anything believed.
    pub max_slot_ever: u64,
    /// Highest ballot in anything believed.
    pub max_ballot_ever: u64,
    /// Highest slot once known chosen.
    pub commit_slot: u64,
    /// First slot that the log holds or would hold.
    pub first_slot: u64,
    /// Highest slot of a snapshot mark.
    pub marked_slot: u64,
    /// Usable snapshots, newest first.
    pub snapshots: Vec<SnapshotRef>,
}

/// Decides what the facts mean.
#[must_use]
pub fn decide(facts: &Facts) -> Decision {
    let mut findings = Vec::new();
    super_findings(facts, &mut findings);
    let Some(meta) = super_store::newest(&facts.supers).cloned() else {
        return without_superblock(facts, findings);
    };
    if let Some(finding) = identity::contradiction(facts, &meta) {
        findings.push(finding);
        return refuse(Outcome::Fatal, findings);
    }
    let live = live_segments(facts, &meta, &mut findings);
    let sources = sources(facts, &meta, &live);
    let bound = sources
        .iter()
        .map(|source| source.lsn)
        .max()
        .unwrap_or_default();
    let (snapshots, snapshot_slot) = snapshots(facts, &meta, &mut findings);
    let mut fold = Fold::new(facts, &meta, bound, snapshot_slot, findings);
    fold.run(&live);
    conclude(facts, &meta, live, sources, snapshots, fold)
}

fn conclude(
    facts: &Facts,
    meta: &Superblock,
    live: Vec<LiveSegment>,
    sources: Vec<Source>,
    snapshots: Vec<SnapshotRef>,
    mut fold: Fold<'_>,
) -> Decision {
    let covered = snapshots
        .iter()
        .any(|snapshot| snapshot.slot >= meta.removed_slot);
    if meta.removed_slot > 0 && !covered {
        let range = SlotRange {
            first: 1,
            last: meta.removed_slot,
            ballot_max: fold.ballots,
        };
        fold.lose(
            26,
            "snapshots",
            0,
            0,
            "no valid snapshot covers the removed log",
            Some(range),
        );
    }
    let logged = fold.promises;
    if logged > meta.promised {
        fold.note(
            24,
            "wal/super.0",
            "the log holds a higher promise than the superblock",
        );
    }
    let marker_end = Lsn(meta.durable_hint.0 + crate::storage::BLOCK_BYTES as u64);
    if meta.clean && fold.end != marker_end && fold.ranges.is_empty() {
        fold.note(
            25,
            "wal/super.0",
            "the clean flag is set, but the log does not end where it was closed",
        );
    }
    let bound = fold.bound;
    let carry: Vec<Place> = fold
        .batches
        .iter()
        .copied()
        .filter(|place| {
            batch(facts, *place).is_some_and(|b| b.header.lsn >= bound && b.header.records > 0)
        })
        .collect();
    let outcome = fold.outcome();
    // What is lost below the snapshot counts as removed: nobody reads it, and no peer is served from it.
    let without_slots_to = fold.covered();
    let first_slot = meta.removed_slot.max(without_slots_to) + 1;
    let reuse = outcome == Outcome::Clean && carry.is_empty() && newest_is_empty(facts, &live);
    let headers = || {
        live.iter()
            .filter_map(|at| facts.segments[at.segment].header())
    };
    let promised = headers()
        .map(|h| h.promised)
        .fold(meta.promised.max(fold.ballots), u64::max);
    let ballots = headers()
        .map(|h| h.max_ballot_ever)
        .fold(promised, u64::max);
    let slots = headers()
        .map(|h| h.max_slot_ever)
        .fold(meta.max_slot_ever.max(fold.slots), u64::max);
    let commit = headers()
        .map(|h| h.commit_slot)
        .fold(fold.commit_slot, u64::max);
    Decision {
        report: Report {
            outcome: outcome.clone(),
            durable_bound: bound,
            sources,
            end: fold.end,
            findings: fold.findings,
            without_slots_to,
        },
        outcome,
        prev_end: prev_end(facts, &live, bound, fold.end),
        live,
        batches: fold.batches,
        carry,
        reuse,
        promised,
        max_slot_ever: slots,
        max_ballot_ever: ballots.max(meta.max_ballot_ever),
        commit_slot: commit,
        first_slot,
        marked_slot: fold.marked_slot,
        snapshots,
    }
}

/// The durable bound, inside the newest segment: a segment whose header is valid proves its predecessor.
fn prev_end(facts: &Facts, live: &[LiveSegment], bound: Lsn, end: Lsn) -> Lsn {
    let newest = live
        .last()
        .and_then(|at| facts.segments[at.segment].header());
    let Some(header) = newest else { return Lsn(0) };
    let first = Lsn(header.base.0 + crate::storage::BLOCK_BYTES as u64);
    bound.min(end).max(first)
}

/// The batch at a place.
pub(crate) fn batch(facts: &Facts, place: Place) -> Option<&FoundBatch> {
    match facts.segments.get(place.segment)?.items.get(place.item)? {
        Item::Batch(batch) => Some(batch),
        Item::Gap(_) => None,
    }
}

/// Rows 21 and 22, as far as they are told. In an unused folder both copies are missing, and that is no damage.
fn super_findings(facts: &Facts, findings: &mut Vec<Finding>) {
    let valid = facts.supers.iter().filter(|copy| copy.is_ok()).count();
    for (copy, found) in facts.supers.iter().enumerate() {
        let Err(fault) = found else { continue };
        let row = if valid == 0 { 22 } else { 21 };
        findings.push(Finding {
            row,
            damage: *fault != SuperFault::Missing || valid > 0 || was_in_use(facts),
            file: crate::layout::SUPERBLOCKS[copy].to_owned(),
            offset: 0,
            length: 0,
            what: format!("superblock copy: {fault}"),
            slots: None,
        });
    }
}

/// Judges whether superblocks and segments belong together, before anything is written.
///
/// # Errors
///
/// [`Error::Damaged`] with the report, if they do not; [`Error::Io`].
pub(crate) fn refuse_contradiction(disk: &dyn Disk, found: &Copies) -> Result<(), Error> {
    let facts = Facts {
        supers: found.clone(),
        ..survey(disk)?
    };
    let contradiction =
        super_store::newest(found).and_then(|meta| identity::contradiction(&facts, meta));
    match contradiction {
        Some(finding) => {
            let report = refuse(Outcome::Fatal, vec![finding]).report;
            Err(Error::Damaged(report.to_string()))
        }
        None => Ok(()),
    }
}

/// Whether a folder without a valid superblock was in use. The second copy appears only after the first
/// is durable, so a crash while the folder is made leaves no second copy.
#[must_use]
pub(crate) fn was_in_use(facts: &Facts) -> bool {
    facts.supers[1] != Err(SuperFault::Missing)
        || !facts.segments.is_empty()
        || !facts.snapshots.is_empty()
}

fn without_superblock(facts: &Facts, mut findings: Vec<Finding>) -> Decision {
    let newer = facts
        .supers
        .iter()
        .any(|copy| matches!(copy, Err(SuperFault::Major(_))));
    if newer {
        return refuse(Outcome::Fatal, findings);
    }
    if !was_in_use(facts) {
        findings.clear();
        return refuse(Outcome::Clean, findings);
    }
    // Row 22: what segments still tell is only a lower bound of what was promised.
    let headers = || facts.segments.iter().filter_map(SegmentFacts::header);
    let records = facts.segments.iter().flat_map(SegmentFacts::batches);
    let seen = records
        .map(|b| b.header.max_ballot_ever)
        .max()
        .unwrap_or_default();
    let promised = headers()
        .map(|h| h.promised.max(h.max_ballot_ever))
        .fold(seen, u64::max);
    Decision {
        promised,
        max_ballot_ever: promised,
        ..refuse(Outcome::MetaLost, findings)
    }
}

/// A decision that opens nothing.
fn refuse(outcome: Outcome, findings: Vec<Finding>) -> Decision {
    let report = Report {
        outcome: outcome.clone(),
        durable_bound: Lsn(0),
        sources: Vec::new(),
        end: Lsn(0),
        findings,
        without_slots_to: 0,
    };
    Decision {
        outcome,
        report,
        live: Vec::new(),
        batches: Vec::new(),
        carry: Vec::new(),
        prev_end: Lsn(0),
        reuse: false,
        promised: 0,
        max_slot_ever: 0,
        max_ballot_ever: 0,
        commit_slot: 0,
        first_slot: 1,
        marked_slot: 0,
        snapshots: Vec::new(),
    }
}

/// The highest proof of each kind.
fn sources(facts: &Facts, meta: &Superblock, live: &[LiveSegment]) -> Vec<Source> {
    let mut sources = Vec::new();
    let headers = live.iter().map(|at| &facts.segments[at.segment]);
    let next = headers
        .clone()
        .filter_map(|s| s.header().map(|h| (h.prev_end, s.seq)))
        .max();
    if let Some((lsn, seq)) = next.filter(|(lsn, _)| lsn.0 > 0) {
        sources.push(Source {
            what: format!("header of segment {seq}"),
            lsn,
        });
    }
    let batches = live.iter().flat_map(|at| {
        let within = move |b: &&FoundBatch| b.header.lsn < at.void_from;
        facts.segments[at.segment].batches().filter(within)
    });
    if let Some(best) = batches.max_by_key(|b| b.header.durable) {
        let what = format!(
            "header of batch {} at {}",
            best.header.batch_seq, best.header.lsn
        );
        sources.push(Source {
            what,
            lsn: best.header.durable,
        });
    }
    if meta.durable_hint.0 > 0 {
        sources.push(Source {
            what: "hint of the superblock".to_owned(),
            lsn: meta.durable_hint,
        });
    }
    sources
}

/// Whether the newest segment holds no record and nothing torn.
fn newest_is_empty(facts: &Facts, live: &[LiveSegment]) -> bool {
    use super::facts::GapKind;
    use crate::batch::BatchFlags;
    let Some(newest) = live.last().map(|at| &facts.segments[at.segment]) else {
        return false;
    };
    newest.headers.iter().all(Result::is_ok)
        && newest.items.iter().all(|item| match item {
            Item::Batch(b) => b.header.records == 0 && !b.header.flags.has(BatchFlags::SEAL),
            Item::Gap(gap) => gap.kind == GapKind::Zero,
        })
}
