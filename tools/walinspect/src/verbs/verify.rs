//! `verify`: every checksum, the chain, the order, snapshots and superblocks.

use serde_json::json;

use super::finding_fields;
use crate::failure::Failure;
use crate::files::Files;
use crate::output::Output;
use crate::source::Source;
use crate::wording::size;

pub(super) fn run(source: &Source, files: &Files, code: u8, out: &Output) -> Result<(), Failure> {
    let report = &source.decision.report;
    for finding in report.findings.iter().chain(&files.findings) {
        let told = if finding.damage { "damage" } else { "note" };
        if finding.damage || !out.is_quiet() {
            out.tell(
                "finding",
                || finding_fields(finding),
                || format!("{told} {finding}"),
            )?;
        }
    }
    if out.is_quiet() {
        return Ok(());
    }
    let facts = &source.facts;
    let batches = || facts.segments.iter().flat_map(|segment| segment.batches());
    let count = batches().count();
    let records: u64 = batches().map(|batch| u64::from(batch.header.records)).sum();
    let bytes: u64 = facts.segments.iter().map(|segment| segment.len).sum();
    let supers = facts.supers.iter().filter(|copy| copy.is_ok()).count();
    let outcome = files.verdict().unwrap_or(report.verdict());
    let damage = report.damage().count() + files.findings.len();
    out.tell_lines(
        "verdict",
        || {
            json!({
                "outcome": outcome,
                "exit": code,
                "damage": damage,
                "segments": facts.segments.len(),
                "batches": count,
                "records": records,
                "bytes": bytes,
                "snapshots": facts.snapshots.len(),
                "superblocks": supers,
                "durable": report.durable_bound.0,
                "end": report.end.0,
            })
        },
        || {
            let places = if damage == 1 { "place" } else { "places" };
            let (segments, snapshots) = (facts.segments.len(), facts.snapshots.len());
            vec![
                format!("{outcome}: {damage} damaged {places}"),
                format!(
                    "{segments} segments, {}: {count} batches, {records} records",
                    size(bytes)
                ),
                format!("{snapshots} snapshots, {supers} superblock copies"),
            ]
        },
    )
}
