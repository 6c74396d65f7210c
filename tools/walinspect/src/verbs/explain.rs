//! `explain`: what recovery would decide, by which row of the table, and from what it knows what was durable.

use serde_json::{Value, json};
use wal::scan::Outcome;

use super::{finding_fields, range_fields};
use crate::failure::Failure;
use crate::files::Files;
use crate::output::Output;
use crate::source::Source;
use crate::wording::{ballot, word};

pub(super) fn run(source: &Source, files: &Files, code: u8, out: &Output) -> Result<(), Failure> {
    let decision = &source.decision;
    let report = &decision.report;
    bound(source, out)?;
    if report.findings.is_empty() {
        let words = "row 1: everything is valid and the chain is whole";
        out.line(words)?;
    }
    for finding in report.findings.iter().chain(&files.findings) {
        let rule = rule(finding.row);
        let fields = || {
            let mut fields = finding_fields(finding);
            fields["rule"] = json!(rule);
            fields
        };
        let lines = || {
            let told = if finding.damage { "damage" } else { "note" };
            let rule = match finding.row {
                0 => format!("       {rule}"),
                row => format!("       row {row}: {rule}"),
            };
            vec![format!("{told} {finding}"), rule]
        };
        out.tell_lines("finding", fields, lines)?;
    }
    out.line("")?;
    let (ranges, max_ballot) = match &decision.outcome {
        Outcome::Faulty { ranges, max_ballot } => (ranges.as_slice(), *max_ballot),
        _ => (&[][..], 0),
    };
    let lost: Vec<Value> = ranges.iter().map(range_fields).collect();
    let outcome = json!({
        "outcome": files.verdict().unwrap_or(report.verdict()),
        "exit": code,
        "lost": lost,
        "max_ballot_lost": ballot(max_ballot),
        "promised": ballot(decision.promised),
        "commit_slot": decision.commit_slot,
        "first_slot": decision.first_slot,
        "without_slots_to": (report.without_slots_to > 0).then_some(report.without_slots_to),
        "snapshots": decision.snapshots.iter().map(|snapshot| snapshot.slot).collect::<Vec<_>>(),
        "carried_batches": decision.carry.len(),
        "end": report.end.0,
        "advice": files.advice().unwrap_or(report.advice()),
    });
    out.sheet("outcome", &outcome)
}

/// W: everything below was durable, so that damage there is damage and not a torn write.
fn bound(source: &Source, out: &Output) -> Result<(), Failure> {
    let report = &source.decision.report;
    let sources: Vec<Value> = report
        .sources
        .iter()
        .map(|source| json!({"what": source.what, "lsn": source.lsn.0}))
        .collect();
    let lines = || {
        let bound = format!("W = {}: everything below was durable", report.durable_bound);
        let proofs = report.sources.iter();
        let proofs = proofs.map(|source| format!("    {} by the {}", source.lsn, source.what));
        let promised = ballot(source.decision.promised);
        let promised = format!("promised {}", word(&promised));
        let lines = std::iter::once(bound).chain(proofs);
        lines.chain([promised, String::new()]).collect()
    };
    let fields = || json!({"w": report.durable_bound.0, "sources": sources});
    out.tell_lines("bound", fields, lines)
}

/// What the decision table in `wal/FORMAT.md` says in a row.
fn rule(row: u8) -> &'static str {
    match row {
        0 => {
            "a file of users is not what a snapshot names: written again from the log if that reaches back, else the node ends with 5"
        }
        1 => "everything valid, the chain whole: clean",
        2 => "zeros at or after W: the normal end",
        3 => {
            "the log ends before W, or its file was cut: everything from the snapshot on may be lost, under any ballot"
        }
        4 => {
            "bad at or after W, nothing valid after it: a torn tail, never acknowledged, dropped and left where it is"
        }
        5 => {
            "good header, bad body below W: the slots of records with a bad checksum are lost, the others are kept"
        }
        6 => {
            "bad header below W, a valid one later: one batch's slots are known from its successor; of more, every slot above the snapshot is suspect"
        }
        7 => "bad header at or after W that no later one proves: dropped from there on",
        8 => {
            "blocks that belong elsewhere, a stale or misdirected write: as 6; behind the end of the log as 3"
        }
        9 => "a batch number missing, or a chain that does not match, below W: a lost write",
        10 => {
            "one batch number twice, or segments that contradict each other: two writers or a copied disk; refused"
        }
        11 => "the disk could not read it, twice: as damage at that place",
        12 => "one copy of a segment header bad: the other is used",
        13 => "both copies of a segment header bad: the whole segment is lost",
        14 => {
            "both copies bad in the newest segment: lost if something says that it held data, else torn while it was made"
        }
        15 => "a reserved segment or a spare: normal",
        16 => "a segment missing in the middle: lost, never skipped silently",
        17 => {
            "the newest segment that the superblock names is missing: everything from the snapshot on may be lost, under any ballot"
        }
        18 => "not a file of the log as it is now: listed and left alone",
        19 => "another cluster, node or disk: refused",
        20 => "a newer format: refused",
        21 => "one copy of the superblock bad: written again from the other at the next start",
        22 => {
            "both copies of the superblock lost: a promise may be forgotten, so this disk must not vote again"
        }
        23 => {
            "damage that may hide a promise: the highest of superblock, headers and records counts"
        }
        24 => "the log promises more than the superblock: the higher counts",
        25 => "closed in order, but it ends elsewhere",
        26 => {
            "a snapshot is missing or damaged: the one before it and the log between; without any, the removed slots are lost"
        }
        27 => "a snapshot that no superblock names: ignored",
        28 => "a snapshot that was being received: kept",
        29 => "an impossible record under a good checksum: a bug of the writer; refused",
        _ => "see the table in wal/FORMAT.md",
    }
}
