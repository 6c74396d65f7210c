//! `timeline`: what happened to the log, in its order.

use paxos::{Ballot, Entry, EntryKind};
use serde_json::json;
use wal::RecordKind;
use wal::scan::{BatchFlags, FoundBatch, Item, Place, RecordView, SegmentFacts, records};

use crate::failure::Failure;
use crate::ledger::bytes_of;
use crate::output::Output;
use crate::selection::{Selection, Standing};
use crate::source::Source;
use crate::wording::{self, wall_ns, word};

/// One thing that happened.
#[derive(Clone, Debug)]
struct Moment {
    what: &'static str,
    lsn: u64,
    segment: u64,
    slot: u64,
    wall_ns: u64,
    words: String,
}

pub(super) fn run(source: &Source, part: Selection, out: &Output) -> Result<(), Failure> {
    let mut moments = Vec::new();
    let mut before = None;
    for live in &source.view().live {
        let segment = &source.facts.segments[live.segment];
        starts(before, segment, &mut moments);
        before = Some(segment);
    }
    of_batches(source, &mut moments);
    of_records(source, &mut moments)?;
    of_findings(source, &mut moments);
    moments.sort_by_key(|moment| moment.lsn);
    for moment in moments.iter().filter(|moment| part.holds(standing(moment))) {
        tell(moment, out)?;
    }
    Ok(())
}

fn standing(moment: &Moment) -> Standing {
    Standing {
        slots: (moment.slot > 0).then_some((moment.slot, moment.slot)),
        lsn: moment.lsn,
        segment: moment.segment,
        wall_ns: moment.wall_ns,
    }
}

fn tell(moment: &Moment, out: &Output) -> Result<(), Failure> {
    let time = wall_ns(moment.wall_ns);
    let fields = || {
        json!({
            "what": moment.what,
            "lsn": moment.lsn,
            "segment": moment.segment,
            "slot": (moment.slot > 0).then_some(moment.slot),
            "time": time,
            "words": moment.words,
        })
    };
    let words = || {
        let at = word(&time);
        format!(
            "{:>12}  {at:<24}  {:<14} {}",
            moment.lsn, moment.what, moment.words
        )
    };
    out.tell("moment", fields, words)
}

/// What a segment's header says of processes and machines.
fn starts(before: Option<&SegmentFacts>, segment: &SegmentFacts, moments: &mut Vec<Moment>) {
    let Some(header) = segment.header() else {
        return;
    };
    let moment = |what, words| Moment {
        what,
        lsn: header.base.0,
        segment: segment.seq,
        slot: 0,
        wall_ns: header.created_ns,
        words,
    };
    let before = before.and_then(SegmentFacts::header);
    if before.is_none_or(|before| before.boot_id != header.boot_id) {
        let words = format!("the machine's boot {:032x}", header.boot_id);
        moments.push(moment("boot", words));
    }
    if before.is_none_or(|before| before.incarnation != header.incarnation) {
        let words = format!(
            "start {} of node {}, promised {}",
            header.incarnation,
            header.node,
            Ballot::from_raw(header.promised)
        );
        moments.push(moment("start", words));
    }
    if before.is_none_or(|before| before.incarnation == header.incarnation) {
        moments.push(moment("segment", format!("segment {} begins", segment.seq)));
    }
}

/// What batches are, besides their records.
fn of_batches(source: &Source, moments: &mut Vec<Moment>) {
    let view = source.view();
    let mut carried = false;
    for Place { segment, item } in &view.batches {
        let facts = &source.facts.segments[*segment];
        let Some(Item::Batch(batch)) = facts.items.get(*item) else {
            continue;
        };
        let flags = batch.header.flags;
        if flags.has(BatchFlags::CARRIED) && !carried {
            let words = "what nothing proved durable is appended again".to_owned();
            moments.push(of_batch("carried", facts, batch, words));
        }
        carried = flags.has(BatchFlags::CARRIED);
        if flags.has(BatchFlags::CLEAN_CLOSE) {
            moments.push(of_batch(
                "close",
                facts,
                batch,
                "closed in order".to_owned(),
            ));
        }
    }
    for (at, facts) in source.facts.segments.iter().enumerate() {
        let live = view.live.iter().find(|live| live.segment == at);
        let Some(live) = live else { continue };
        let mut void = facts
            .batches()
            .filter(|batch| batch.header.lsn >= live.void_from);
        if let Some(first) = void.next() {
            let words = format!(
                "{} batches from here on in segment {} are void",
                1 + void.count(),
                facts.seq
            );
            moments.push(of_batch("void", facts, first, words));
        }
    }
}

fn of_batch(
    what: &'static str,
    segment: &SegmentFacts,
    batch: &FoundBatch,
    words: String,
) -> Moment {
    Moment {
        what,
        lsn: batch.header.lsn.0,
        segment: segment.seq,
        slot: batch.header.max_slot,
        wall_ns: batch.header.wall_ns,
        words,
    }
}

/// Promises, the first value of each ballot, leaders, snapshots.
fn of_records(source: &Source, moments: &mut Vec<Moment>) -> Result<(), Failure> {
    let mut ballot = 0;
    for view in records(&source.facts, source.view()) {
        if !matches!(view.verdict.name(), "live" | "unproven") {
            continue;
        }
        let head = view.record.header;
        match head.kind {
            RecordKind::Promise => {
                let words = format!("promised {}", Ballot::from_raw(head.ballot));
                moments.push(of_record("promise", &view, words));
            }
            RecordKind::SnapshotMark => {
                let words = format!("snapshot of slot {}", head.slot);
                moments.push(of_record("snapshot", &view, words));
            }
            RecordKind::Repair => {
                moments.push(of_record(
                    "repair",
                    &view,
                    format!("slot {} repaired", head.slot),
                ));
            }
            RecordKind::Accept | RecordKind::Chosen => {}
        }
        if head.kind == RecordKind::Accept && head.ballot != ballot {
            ballot = head.ballot;
            let at = Ballot::from_raw(ballot);
            let words = format!(
                "first value under {at} of node {}, slot {}",
                at.node(),
                head.slot
            );
            moments.push(of_record("ballot", &view, words));
        }
        if head.kind.is_entry()
            && let Some(bytes) = bytes_of(source, &view)?
            && let Ok(entry) = Entry::decode(bytes)
            && matches!(entry.kind(), EntryKind::LeaderStart | EntryKind::Settings)
        {
            let words = wording::entry(head.slot, &entry).words;
            let what = if entry.kind() == EntryKind::Settings {
                "settings"
            } else {
                "leader"
            };
            moments.push(of_record(
                what,
                &view,
                format!("{words}, slot {}", head.slot),
            ));
        }
    }
    Ok(())
}

fn of_record(what: &'static str, view: &RecordView<'_>, words: String) -> Moment {
    Moment {
        what,
        lsn: view.record.lsn.0,
        segment: view.segment.seq,
        slot: view.record.header.slot,
        wall_ns: view.batch.header.wall_ns,
        words,
    }
}

/// Damage and torn tails, where they stand.
fn of_findings(source: &Source, moments: &mut Vec<Moment>) {
    let report = &source.decision.report;
    let torn = |row: u8| matches!(row, 4 | 7);
    for finding in report
        .findings
        .iter()
        .filter(|finding| finding.damage || torn(finding.row))
    {
        let segment = source
            .facts
            .segments
            .iter()
            .find(|segment| segment.path == finding.file);
        let base = segment
            .and_then(SegmentFacts::header)
            .map(|header| header.base.0);
        moments.push(Moment {
            what: if finding.damage { "damage" } else { "torn" },
            lsn: base.map_or(report.end.0, |base| base + finding.offset),
            segment: segment.map_or(0, |segment| segment.seq),
            slot: finding.slots.map_or(0, |range| range.first),
            wall_ns: 0,
            words: finding.to_string(),
        });
    }
}
