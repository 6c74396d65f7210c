//! `dump`: records or batches as they stand, one a line.

use bytes::Bytes;
use serde_json::{Value, json};
use wal::RecordKind;
use wal::scan::{FoundBatch, Item, Place, RecordView, verdict_of};

use crate::args::{Dump, Payload, RecordType};
use crate::failure::Failure;
use crate::ledger::bytes_of;
use crate::output::Output;
use crate::selection::{Selection, Standing};
use crate::source::{Source, standing};
use crate::wording::{self, ballot, wall_ns, word};

pub(super) fn run(
    source: &Source,
    dump: &Dump,
    part: Selection,
    out: &Output,
) -> Result<(), Failure> {
    if dump.batches {
        return batches(source, dump, part, out);
    }
    for view in source.records() {
        let head = view.record.header;
        let wanted = (dump.types.is_empty() || dump.types.iter().any(|kind| kind.is(head.kind)))
            && dump.slot.is_none_or(|slot| slot == head.slot)
            && dump.ballot.is_none_or(|ballot| ballot == head.ballot)
            && part.holds(standing(&view));
        if wanted {
            record(source, &view, dump.payload, out)?;
        }
    }
    Ok(())
}

impl RecordType {
    fn is(self, kind: RecordKind) -> bool {
        kind == match self {
            RecordType::Accept => RecordKind::Accept,
            RecordType::Promise => RecordKind::Promise,
            RecordType::Chosen => RecordKind::Chosen,
            RecordType::SnapshotMark => RecordKind::SnapshotMark,
            RecordType::Repair => RecordKind::Repair,
        }
    }
}

/// Prints one record.
pub(super) fn record(
    source: &Source,
    view: &RecordView<'_>,
    payload: Payload,
    out: &Output,
) -> Result<(), Failure> {
    let bytes = match payload {
        Payload::None => None,
        _ => bytes_of(source, view)?,
    };
    let line = Line::of(view);
    out.tell(
        "record",
        || line.fields(bytes.as_ref(), payload),
        || line.words(bytes.as_ref(), payload),
    )
}

/// What is printed of a record.
#[derive(Clone, Copy, Debug)]
pub(super) struct Line {
    pub(super) segment: u64,
    pub(super) offset: u64,
    pub(super) lsn: u64,
    pub(super) batch: u64,
    pub(super) kind: RecordKind,
    pub(super) slot: u64,
    pub(super) ballot: u64,
    pub(super) bytes: u64,
    pub(super) verdict: &'static str,
    pub(super) wall_ns: u64,
}

impl Line {
    pub(super) fn of(view: &RecordView<'_>) -> Line {
        let head = view.record.header;
        Line {
            segment: view.segment.seq,
            offset: view.offset,
            lsn: view.record.lsn.0,
            batch: view.batch.header.batch_seq,
            kind: head.kind,
            slot: head.slot,
            ballot: head.ballot,
            bytes: u64::from(head.length),
            verdict: view.verdict.name(),
            wall_ns: view.batch.header.wall_ns,
        }
    }

    pub(super) fn fields(&self, bytes: Option<&Bytes>, payload: Payload) -> Value {
        let mut fields = json!({
            "lsn": self.lsn,
            "segment": self.segment,
            "offset": self.offset,
            "batch": self.batch,
            "type": self.kind.to_string(),
            "slot": (self.slot > 0).then_some(self.slot),
            "ballot": ballot(self.ballot),
            "bytes": self.bytes,
            "state": self.verdict,
            "time": wall_ns(self.wall_ns),
        });
        match (payload, bytes) {
            (Payload::Hex, Some(bytes)) => fields["payload"] = json!(hex(bytes)),
            (Payload::Decoded, Some(bytes)) => {
                let told = wording::payload(self.kind, self.slot, bytes);
                fields["words"] = json!(told.words);
                fields["entry"] = told.fields;
            }
            _ => {}
        }
        fields
    }

    pub(super) fn words(&self, bytes: Option<&Bytes>, payload: Payload) -> String {
        let told = match (payload, bytes) {
            (Payload::Hex, Some(bytes)) => hex(bytes),
            (Payload::Decoded, Some(bytes)) => wording::payload(self.kind, self.slot, bytes).words,
            _ => String::new(),
        };
        let slot = if self.slot > 0 {
            format!("slot {}", self.slot)
        } else {
            String::new()
        };
        let state = match self.verdict {
            "live" => "",
            other => &format!("[{other}] "),
        };
        let line = format!(
            "{:>12} {:<13} {slot:<12} {:<8} {:>7} B  {state}{told}",
            self.lsn,
            self.kind,
            word(&ballot(self.ballot)),
            self.bytes,
        );
        line.trim_end().to_owned()
    }
}

fn hex(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        text.push_str(&format!("{byte:02x}"));
    }
    text
}

fn batches(source: &Source, dump: &Dump, part: Selection, out: &Output) -> Result<(), Failure> {
    for (segment, facts) in source.facts.segments.iter().enumerate() {
        for (item, found) in facts.items.iter().enumerate() {
            let Item::Batch(batch) = found else { continue };
            let head = &batch.header;
            let slots = (head.max_slot > 0).then_some((head.min_slot, head.max_slot));
            let has = |slot: u64| slots.is_some_and(|(first, last)| (first..=last).contains(&slot));
            let wanted = dump.slot.is_none_or(has)
                && dump.ballot.is_none_or(|ballot| ballot == head.max_ballot)
                && part.holds(Standing {
                    slots,
                    lsn: head.lsn.0,
                    segment: facts.seq,
                    wall_ns: head.wall_ns,
                });
            if wanted {
                let state = verdict_of(source.view(), Place { segment, item }).name();
                tell_batch(facts.seq, batch, state, out)?;
            }
        }
    }
    Ok(())
}

fn tell_batch(seq: u64, batch: &FoundBatch, state: &str, out: &Output) -> Result<(), Failure> {
    let head = &batch.header;
    let body = if batch.body.is_whole() {
        "whole"
    } else {
        "damaged"
    };
    let fields = || {
        json!({
            "lsn": head.lsn.0,
            "segment": seq,
            "batch": head.batch_seq,
            "flags": head.flags.to_string(),
            "records": head.records,
            "bytes": head.length,
            "padded": head.padded(),
            "min_slot": (head.max_slot > 0).then_some(head.min_slot),
            "max_slot": (head.max_slot > 0).then_some(head.max_slot),
            "max_ballot": ballot(head.max_ballot),
            "commit_slot": head.commit_slot,
            "durable": head.durable.0,
            "crc": format!("{:08x}", head.crc),
            "prev_crc": format!("{:08x}", head.prev_crc),
            "body": body,
            "state": state,
            "time": wall_ns(head.wall_ns),
        })
    };
    let words = || {
        let slots = match head.max_slot {
            0 => "-".to_owned(),
            last => format!("{}..={last}", head.min_slot),
        };
        format!(
            "{:>12} batch {:<8} {:>3} records {:>8} B  slots {slots:<14} ballot {:<7} commit {:<8} durable {:<10} {state} {body} {}",
            head.lsn.0,
            head.batch_seq,
            head.records,
            head.length,
            word(&ballot(head.max_ballot)),
            head.commit_slot,
            head.durable.0,
            head.flags,
        )
        .trim_end()
        .to_owned()
    };
    out.tell("batch", fields, words)
}
