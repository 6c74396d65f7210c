//! `stats`: how many, how large, how full, how fast.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use wal::scan::{FoundBatch, Verdict};

use crate::failure::Failure;
use crate::ledger::bytes_of;
use crate::output::Output;
use crate::selection::{Selection, Standing};
use crate::source::{Source, standing, void_from};
use crate::wording::{self, wall_ns};

/// Bytes of a batch header.
const BATCH_HEADER: u64 = wal::batch::HEADER_BYTES as u64;

pub(super) fn run(source: &Source, part: Selection, out: &Output) -> Result<(), Failure> {
    types(source, part, out)?;
    let mut found: Vec<&FoundBatch> = Vec::new();
    for (at, segment) in source.facts.segments.iter().enumerate() {
        let void = void_from(source.view(), at);
        found.extend(segment.batches().filter(|batch| {
            let head = &batch.header;
            void.is_some_and(|void| head.lsn < void)
                && part.holds(Standing {
                    slots: (head.max_slot > 0).then_some((head.min_slot, head.max_slot)),
                    lsn: head.lsn.0,
                    segment: segment.seq,
                    wall_ns: head.wall_ns,
                })
        }));
    }
    out.line("")?;
    out.sheet("batches", &batches(&found))
}

/// Counts and bytes by type of record and kind of entry.
fn types(source: &Source, part: Selection, out: &Output) -> Result<(), Failure> {
    let mut counted: BTreeMap<(String, String), (u64, u64)> = BTreeMap::new();
    let mut total = (0, 0);
    for view in source.records() {
        if !part.holds(standing(&view)) || view.verdict == Verdict::Void {
            continue;
        }
        let head = view.record.header;
        let command = match bytes_of(source, &view)? {
            Some(bytes) => {
                let told = wording::payload(head.kind, head.slot, &bytes).fields;
                told["command"].as_str().unwrap_or("-").to_owned()
            }
            None => "damaged".to_owned(),
        };
        let entry = counted.entry((head.kind.to_string(), command)).or_default();
        for sum in [entry, &mut total] {
            *sum = (sum.0 + 1, sum.1 + u64::from(head.length));
        }
    }
    let rows: Vec<Value> = counted
        .into_iter()
        .chain([(("all".to_owned(), "-".to_owned()), total)])
        .map(|((kind, command), (count, bytes))| {
            json!({"type": kind, "command": command, "records": count, "bytes": bytes})
        })
        .collect();
    out.list("type", "", &rows)
}

fn batches(found: &[&FoundBatch]) -> Value {
    let filled = found.iter().filter(|batch| batch.header.records > 0);
    let sum = |of: fn(&FoundBatch) -> u64| found.iter().map(|batch| of(batch)).sum::<u64>();
    let padded = sum(|batch| batch.header.padded());
    let used = sum(|batch| u64::from(batch.header.length));
    let walls = || {
        found
            .iter()
            .map(|batch| batch.header.wall_ns)
            .filter(|ns| *ns > 0)
    };
    let (first, last) = (walls().min(), walls().max());
    let mut gaps: Vec<u64> = found
        .windows(2)
        .map(|pair| {
            pair[1]
                .header
                .wall_ns
                .saturating_sub(pair[0].header.wall_ns)
                / 1000
        })
        .collect();
    let mut sizes: Vec<u64> = filled
        .clone()
        .map(|batch| u64::from(batch.header.length))
        .collect();
    let mut counts: Vec<u64> = filled
        .clone()
        .map(|batch| u64::from(batch.header.records))
        .collect();
    let share = |part: u64| {
        let permille = (part * 1000).checked_div(padded).unwrap_or(0);
        permille as f64 / 10.0
    };
    json!({
        "batches": found.len(),
        "with_records": filled.count(),
        "markers": found.iter().filter(|batch| batch.header.records == 0).count(),
        "bytes": padded,
        "padding_bytes": padded - used,
        "padding_percent": share(padded - used),
        "header_percent": share(found.len() as u64 * BATCH_HEADER),
        "batch_bytes": spread(&mut sizes),
        "records_per_batch": spread(&mut counts),
        "between_batches_us": spread(&mut gaps),
        "first_time": first.map_or(Value::Null, wall_ns),
        "last_time": last.map_or(Value::Null, wall_ns),
        "seconds": first.zip(last).map(|(first, last)| (last - first) / 1_000_000_000),
    })
}

/// The least, the middle, the 99th percentile and the most.
fn spread(values: &mut [u64]) -> Value {
    values.sort_unstable();
    let at = |percent: usize| {
        let place = (values.len() * percent / 100).min(values.len().saturating_sub(1));
        values.get(place)
    };
    json!({"min": values.first(), "p50": at(50), "p99": at(99), "max": values.last()})
}
