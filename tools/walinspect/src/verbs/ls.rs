//! `ls`: the files of a log, one a line.

use serde_json::{Value, json};
use wal::scan::{BatchFlags, FoundBatch, GapKind, Item, SegmentFacts};

use crate::failure::Failure;
use crate::output::Output;
use crate::selection::{Selection, Standing};
use crate::source::{Source, void_from};
use crate::wording::{ballot, wall_ns};

pub(super) fn run(source: &Source, part: Selection, out: &Output) -> Result<(), Failure> {
    let segments: Vec<Value> = source
        .facts
        .segments
        .iter()
        .enumerate()
        .filter(|(_, segment)| part.holds(standing(segment)))
        .map(|(at, segment)| row(source, at, segment))
        .collect();
    out.list("segment", "", &segments)?;
    super::snap::ls(source, out)?;
    let others: Vec<Value> = source
        .facts
        .unknown
        .iter()
        .map(|path| json!({"file": path}))
        .collect();
    out.list("other", "\nother files", &others)
}

/// A segment overlaps a part if any of it is inside.
fn standing(segment: &SegmentFacts) -> Standing {
    let slots = || segment.batches().filter(|batch| batch.header.max_slot > 0);
    let first = slots().map(|batch| batch.header.min_slot).min();
    let last = slots().map(|batch| batch.header.max_slot).max();
    Standing {
        slots: first.zip(last),
        lsn: segment.header().map_or(0, |header| header.base.0),
        segment: segment.seq,
        wall_ns: segment
            .batches()
            .last()
            .map_or(0, |batch| batch.header.wall_ns),
    }
}

fn row(source: &Source, at: usize, segment: &SegmentFacts) -> Value {
    let void = void_from(source.view(), at);
    let counts = |batch: &&FoundBatch| void.is_some_and(|void| batch.header.lsn < void);
    let batches: Vec<&FoundBatch> = segment.batches().filter(counts).collect();
    let slots = standing(segment).slots;
    let ballots = batches
        .iter()
        .map(|batch| batch.header.max_ballot)
        .filter(|b| *b > 0);
    let used: u64 = batches.iter().map(|batch| batch.header.padded()).sum();
    let void_bytes: u64 = segment
        .batches()
        .filter(|b| !counts(b))
        .map(|b| b.header.padded())
        .sum();
    let wall = |batch: Option<&&FoundBatch>| {
        batch.map_or(Value::Null, |batch| wall_ns(batch.header.wall_ns))
    };
    json!({
        "file": segment.path,
        "seq": segment.seq,
        "state": state(source, at, segment),
        "base": segment.header().map(|header| header.base.0),
        "bytes": segment.len,
        "used": used,
        "void": void_bytes,
        "batches": batches.len(),
        "records": batches.iter().map(|b| u64::from(b.header.records)).sum::<u64>(),
        "first_slot": slots.map(|(first, _)| first),
        "last_slot": slots.map(|(_, last)| last),
        "ballot_min": ballots.clone().min().map_or(Value::Null, ballot),
        "ballot_max": ballots.max().map_or(Value::Null, ballot),
        "first_time": wall(batches.first()),
        "last_time": wall(batches.last()),
    })
}

/// One word for what a segment is.
fn state(source: &Source, at: usize, segment: &SegmentFacts) -> &'static str {
    let live = &source.view().live;
    let is_live = live.iter().any(|live| live.segment == at);
    let damaged = |item: &Item| match item {
        Item::Batch(batch) => !batch.body.is_whole(),
        Item::Gap(gap) => gap.kind != GapKind::Zero,
    };
    let sealed = segment
        .batches()
        .any(|b| b.header.flags.has(BatchFlags::SEAL));
    match () {
        () if segment.zero => "reserved",
        () if segment.header().is_none() => "unreadable",
        () if !is_live => "removed",
        () if segment.items.iter().any(damaged) => "damaged",
        () if live.last().is_some_and(|live| live.segment == at) => "newest",
        () if sealed => "sealed",
        () => "ended",
    }
}
