//! `tail`: the last records, and new ones as they become durable.

use std::collections::VecDeque;
use std::time::Duration;

use wal::Record;
use wal::scan::{Follow, Followed, RecordView, Verdict};

use super::dump::{self, Line};
use crate::args::{Payload, Tail};
use crate::failure::Failure;
use crate::output::Output;
use crate::place::Place;
use crate::selection::{Selection, Standing};
use crate::shelf::Scope;
use crate::source::{Source, standing};

/// How often a live log is looked at.
const EVERY: Duration = Duration::from_millis(20);

/// The last records that are known to be durable.
pub(super) fn last(
    source: &Source,
    tail: &Tail,
    part: Selection,
    out: &Output,
) -> Result<(), Failure> {
    let mut kept: VecDeque<RecordView<'_>> = VecDeque::new();
    let durable = source
        .records()
        .filter(|view| view.verdict == Verdict::Live && part.holds(standing(view)));
    for view in durable {
        kept.push_back(view);
        if kept.len() > tail.lines {
            kept.pop_front();
        }
    }
    kept.iter()
        .try_for_each(|view| dump::record(source, view, Payload::Decoded, out))
}

/// Goes on for ever. Shows what the log itself proves durable, so never what a crash could still take back.
pub(super) fn follow(
    place: &Place,
    tail: &Tail,
    part: Selection,
    out: &Output,
) -> Result<(), Failure> {
    let mut follow = match &place.scope {
        Scope::Snapshot { .. } => {
            return Err(Failure::Usage("a snapshot does not grow".to_owned()));
        }
        Scope::Segment { seq, .. } => Follow::from_segment(place.disk(), *seq),
        Scope::Data | Scope::Log => Follow::newest(place.disk())?,
    };
    let mut first: VecDeque<(Line, Record)> = VecDeque::new();
    for (line, record) in follow.poll()?.iter().flat_map(lines) {
        first.push_back((line, record));
        if first.len() > tail.lines {
            first.pop_front();
        }
    }
    for (line, record) in &first {
        tell(line, record, part, out)?;
    }
    loop {
        // Whoever reads this through a pipe wants it now.
        out.flush()?;
        std::thread::sleep(EVERY);
        for (line, record) in follow.poll()?.iter().flat_map(lines) {
            tell(&line, &record, part, out)?;
        }
    }
}

fn lines(batch: &Followed) -> impl Iterator<Item = (Line, Record)> {
    let (head, segment) = (&batch.header, batch.segment);
    batch
        .records
        .iter()
        .zip(&batch.places)
        .map(move |(record, place)| {
            let line = Line {
                segment,
                offset: place.0.saturating_sub(batch.base.0),
                lsn: place.0,
                batch: head.batch_seq,
                kind: record.kind,
                slot: record.slot,
                ballot: record.ballot,
                bytes: record.payload.len() as u64,
                verdict: Verdict::Live.name(),
                wall_ns: head.wall_ns,
            };
            (line, record.clone())
        })
}

fn tell(line: &Line, record: &Record, part: Selection, out: &Output) -> Result<(), Failure> {
    let at = Standing {
        slots: (line.slot > 0).then_some((line.slot, line.slot)),
        lsn: line.lsn,
        segment: line.segment,
        wall_ns: line.wall_ns,
    };
    if !part.holds(at) {
        return Ok(());
    }
    let bytes = Some(&record.payload);
    out.tell(
        "record",
        || line.fields(bytes, Payload::Decoded),
        || line.words(bytes, Payload::Decoded),
    )
}
