//! What was given to look at, read as a whole: what is there, and what recovery makes of it.

use std::io;
use std::path::Path;
use std::time::Duration;

use wal::layout::{FILES, WAL};
use wal::scan::{
    Decision, Facts, Finding, Outcome, RecordView, SegmentFacts, SnapshotFacts, Superblock,
    Verdict, decide, records, survey_watched,
};
use wal::storage::{Disk, SharedDisk};
use wal::{Lsn, SnapshotRef};

use crate::failure::Failure;
use crate::place::Place;
use crate::progress::Progress;
use crate::shelf::Scope;

/// A live folder may change while it is read. What is damage stays so: it is believed at the second look.
const LOOKS_MAX: usize = 5;
const BETWEEN_LOOKS: Duration = Duration::from_millis(25);

/// Everything about what was given.
#[derive(Debug)]
pub(crate) struct Source {
    /// Reads only.
    pub(crate) disk: SharedDisk,
    pub(crate) facts: Facts,
    /// What recovery would say.
    pub(crate) decision: Decision,
    /// What can be shown where recovery opens nothing: the best guess without superblocks.
    fallback: Option<Decision>,
}

impl Source {
    /// Reads it all. On a live folder, looks again at what seems to be damage.
    pub(crate) fn read(place: &Place, quiet: bool) -> Result<Source, Failure> {
        let progress = Progress::new(quiet);
        let mut found = Source::look(place, &progress)?;
        for _ in 1..LOOKS_MAX {
            if found.is_calm() {
                break;
            }
            std::thread::sleep(BETWEEN_LOOKS);
            let again = Source::look(place, &progress)?;
            let same = again.decision.outcome == found.decision.outcome
                && again.decision.report.findings == found.decision.report.findings;
            found = again;
            if same {
                break;
            }
        }
        progress.clear();
        Ok(found)
    }

    /// What to show records by.
    pub(crate) fn view(&self) -> &Decision {
        self.fallback.as_ref().unwrap_or(&self.decision)
    }

    /// Every readable record with what it counts for.
    pub(crate) fn records(&self) -> impl Iterator<Item = RecordView<'_>> {
        records(&self.facts, self.view())
    }

    /// The records that count.
    pub(crate) fn believed(&self) -> impl Iterator<Item = RecordView<'_>> {
        let counts =
            |view: &RecordView<'_>| matches!(view.verdict, Verdict::Live | Verdict::Unproven);
        self.records().filter(counts)
    }

    fn look(place: &Place, progress: &Progress) -> Result<Source, Failure> {
        let disk = place.disk_of_one_look();
        let mut facts = survey_watched(&*disk, &|far| progress.show(far))?;
        let (mut decision, mut fallback) = match &place.scope {
            Scope::Data => (decide(&facts), None),
            Scope::Log => (decide_without_snapshots(&mut facts), None),
            Scope::Segment { .. } => (decide_without_superblock(&mut facts), None),
            Scope::Snapshot { slot, .. } => (decide_snapshot(&mut facts, *slot), None),
        };
        if decision.outcome == Outcome::MetaLost {
            fallback = Some(decide_without_superblock(&mut facts));
        }
        if place.scope == Scope::Data {
            miss_a_lost_log(&*disk, &facts, &mut decision)?;
        }
        Ok(Source {
            disk,
            facts,
            decision,
            fallback,
        })
    }

    fn is_calm(&self) -> bool {
        self.decision.outcome == Outcome::Clean && self.decision.report.damage().next().is_none()
    }
}

/// Decides about a log folder alone: its snapshots are elsewhere, so nothing can be said against them.
fn decide_without_snapshots(facts: &mut Facts) -> Decision {
    let newest = facts.supers.iter().filter_map(|copy| copy.as_ref().ok());
    let newest = newest.max_by_key(|copy| copy.sequence);
    let named: Vec<SnapshotRef> = newest
        .into_iter()
        .flat_map(|copy| copy.snapshot.into_iter().chain(copy.previous_snapshot))
        .collect();
    facts.snapshots = named.iter().map(|snapshot| claim(*snapshot)).collect();
    let mut decision = decide(facts);
    facts.snapshots.clear();
    decision.snapshots.clear();
    decision
}

/// Decides with a superblock that claims no more than the segments themselves say.
fn decide_without_superblock(facts: &mut Facts) -> Decision {
    let header = |segment: &SegmentFacts| segment.header().cloned();
    let Some(oldest) = facts.segments.iter().find_map(header) else {
        // Nothing to believe: a first segment that is lost, if there is a file at all.
        let seq = facts.segments.first().map_or(0, |segment| segment.seq);
        let block = Superblock {
            first_segment: seq.max(1),
            newest_segment: seq,
            ..Superblock::default()
        };
        return decide_by(facts, block);
    };
    let newest = facts
        .segments
        .iter()
        .filter(|s| s.header().is_some())
        .map(|s| s.seq)
        .max();
    // The snapshots here are believed, as nothing says more about them than they do.
    let mut sound: Vec<SnapshotRef> = facts
        .snapshots
        .iter()
        .filter_map(|snapshot| snapshot.verdict.clone().ok())
        .collect();
    sound.sort_by_key(|snapshot| std::cmp::Reverse(snapshot.slot));
    let first = facts
        .segments
        .iter()
        .flat_map(SegmentFacts::batches)
        .map(|batch| batch.header.min_slot)
        .find(|slot| *slot > 0);
    let removed = first.unwrap_or(1).saturating_sub(1);
    let covered = sound.iter().any(|snapshot| snapshot.slot >= removed);
    let claimed = (removed > 0 && !covered).then_some(SnapshotRef {
        slot: removed,
        ..SnapshotRef::default()
    });
    let block = Superblock {
        cluster: oldest.cluster,
        node: oldest.node,
        disk: oldest.disk,
        first_segment: oldest.seq,
        newest_segment: newest.unwrap_or(oldest.seq),
        snapshot: sound.first().copied().or(claimed),
        previous_snapshot: sound.get(1).copied().or(claimed),
        removed_slot: removed,
        ..Superblock::default()
    };
    if let Some(claimed) = claimed {
        facts.snapshots.push(claim(claimed));
    }
    let mut decision = decide_by(facts, block);
    if claimed.is_some() {
        facts.snapshots.pop();
        decision
            .snapshots
            .retain(|snapshot| Some(*snapshot) != claimed);
    }
    decision
}

/// Decides about one snapshot file.
fn decide_snapshot(facts: &mut Facts, slot: u64) -> Decision {
    let verdict = facts
        .snapshots
        .first()
        .and_then(|snapshot| snapshot.verdict.clone().ok());
    let named = verdict.unwrap_or(SnapshotRef {
        slot,
        ..SnapshotRef::default()
    });
    let block = Superblock {
        first_segment: 1,
        snapshot: Some(named),
        ..Superblock::default()
    };
    decide_by(facts, block)
}

fn decide_by(facts: &mut Facts, block: Superblock) -> Decision {
    let found = std::mem::replace(&mut facts.supers, [Ok(block.clone()), Ok(block)]);
    let decision = decide(facts);
    facts.supers = found;
    decision
}

/// A snapshot that is said to be there.
fn claim(snapshot: SnapshotRef) -> SnapshotFacts {
    SnapshotFacts {
        slot: snapshot.slot,
        path: wal::layout::snapshot_path(snapshot.slot),
        verdict: Ok(snapshot),
    }
}

/// An empty log beside files with data: somebody took the log away.
fn miss_a_lost_log(disk: &dyn Disk, facts: &Facts, decision: &mut Decision) -> Result<(), Failure> {
    let unused = facts.segments.is_empty() && facts.supers.iter().all(Result::is_err);
    let listed = match disk.list(FILES) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
        other => other.map_err(Failure::io("cannot list", Path::new(FILES)))?,
    };
    if unused && decision.outcome == Outcome::Clean && listed.iter().any(|entry| entry.len > 0) {
        decision.outcome = Outcome::MetaLost;
        decision.report.outcome = Outcome::MetaLost;
        decision.report.findings.push(Finding {
            row: 22,
            damage: true,
            file: WAL.to_owned(),
            offset: 0,
            length: 0,
            what: "there is no log, but files/ holds data".to_owned(),
            slots: None,
        });
    }
    Ok(())
}

/// Where a record stands in all ways that can be asked for.
pub(crate) fn standing(view: &RecordView<'_>) -> crate::selection::Standing {
    let slot = view.record.header.slot;
    crate::selection::Standing {
        slots: (slot > 0).then_some((slot, slot)),
        lsn: view.record.lsn.0,
        segment: view.segment.seq,
        wall_ns: view.batch.header.wall_ns,
    }
}

/// Where the batches of a segment that count end; `None` if none does.
pub(crate) fn void_from(decision: &Decision, segment: usize) -> Option<Lsn> {
    let live = decision.live.iter().find(|live| live.segment == segment)?;
    Some(live.void_from)
}
