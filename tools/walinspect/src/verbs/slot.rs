//! `slot N`: all that a folder holds of one slot.

use serde_json::json;
use wal::scan::RecordView;

use super::dump;
use crate::args::Payload;
use crate::failure::Failure;
use crate::ledger::{Known, Ledger};
use crate::output::Output;
use crate::source::Source;
use crate::wording::{ballot, word};

pub(super) fn run(source: &Source, slot: u64, out: &Output) -> Result<(), Failure> {
    let mut found: Vec<RecordView<'_>> = source
        .records()
        .filter(|view| view.record.header.slot == slot && slot > 0)
        .collect();
    found.sort_by_key(|view| (view.record.header.ballot, view.record.lsn));
    for view in &found {
        dump::record(source, view, Payload::Decoded, out)?;
    }
    let ledger = Ledger::new(source);
    let known = ledger.known(slot);
    let counts = ledger.record(slot).filter(|_| known != Known::Lost);
    let mut snapshots = source.view().snapshots.iter().rev();
    let snapshot = snapshots.find(|snapshot| snapshot.slot >= slot);
    let fields = || {
        json!({
            "slot": slot,
            "known": known.name(),
            "records": found.len(),
            "counts_lsn": counts.map(|view| view.record.lsn.0),
            "counts_ballot": counts.map_or(serde_json::Value::Null, |view| {
                ballot(view.record.header.ballot)
            }),
            "commit_slot": ledger.commit(),
            "in_snapshot": snapshot.map(|snapshot| snapshot.slot),
        })
    };
    let words = || {
        let which = counts.map_or(String::new(), |view| {
            let head = view.record.header;
            format!(
                " by the {} record at {}, ballot {}",
                head.kind,
                view.record.lsn,
                word(&ballot(head.ballot))
            )
        });
        match (known, snapshot) {
            (Known::Chosen, _) => format!("chosen{which}"),
            (Known::Accepted, _) => format!(
                "accepted{which}; this folder knows what is chosen up to slot {} only",
                ledger.commit()
            ),
            (Known::Lost, _) => "lost: its latest value here is damaged".to_owned(),
            (Known::Missing, Some(snapshot)) => {
                format!(
                    "not in the log; its effect is in the snapshot of slot {}",
                    snapshot.slot
                )
            }
            (Known::Missing, None) => "not in this folder".to_owned(),
        }
    };
    out.tell("slot", fields, words)
}
