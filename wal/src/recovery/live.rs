//! Which files make up the log; rows 12 to 18.

use crate::record::Lsn;
use crate::segment::SegmentHeader;
use crate::superblock::Superblock;

use super::decide::LiveSegment;
use super::facts::{Facts, SegmentFacts};
use super::report::Finding;

/// The files that make up the log, in order, and where each is void; rows 12 to 18.
pub(super) fn live_segments(
    facts: &Facts,
    meta: &Superblock,
    findings: &mut Vec<Finding>,
) -> Vec<LiveSegment> {
    let newest_valid = facts
        .segments
        .iter()
        .filter(|s| s.header().is_some())
        .map(|s| s.seq)
        .max();
    let newest = newest_valid.unwrap_or(0).max(meta.newest_segment);
    let mut live: Vec<LiveSegment> = Vec::new();
    let mut expected = meta.first_segment;
    for (at, segment) in facts.segments.iter().enumerate() {
        if segment.seq < meta.first_segment {
            findings.push(note(
                18,
                segment,
                "older than the first segment of the log: already removed",
            ));
            continue;
        }
        if segment.seq > newest {
            let (row, what) = match (segment.zero, segment.seq == newest + 1) {
                (true, true) => (15, "reserved"),
                (false, true) => (14, "torn while it was made: holds nothing of the log"),
                (_, false) => (18, "does not follow the log"),
            };
            findings.push(note(row, segment, what));
            continue;
        }
        missing(expected, segment.seq, newest, findings);
        expected = segment.seq + 1;
        let Some(header) = segment.header() else {
            let row = if segment.seq < newest { 13 } else { 14 };
            let [first, copy] = &segment.headers;
            let told = |header: &Result<SegmentHeader, _>| match header {
                Ok(header) => format!("names segment {}", header.seq),
                Err(fault) => format!("{fault}"),
            };
            findings.push(Finding {
                damage: true,
                length: segment.len,
                ..note(
                    row,
                    segment,
                    &format!(
                        "no valid header ({}; copy {}): the whole segment is lost",
                        told(first),
                        told(copy)
                    ),
                )
            });
            continue;
        };
        if let Some((bad, Err(fault))) = segment
            .headers
            .iter()
            .enumerate()
            .find(|(_, header)| header.is_err())
        {
            let name = ["header", "copy of the header"][bad];
            let offset = if bad == 0 {
                0
            } else {
                header.capacity - crate::storage::BLOCK_BYTES as u64
            };
            let damage = *fault != crate::segment::HeaderFault::Zero || segment.seq < newest;
            let what = format!("{name}: {fault}; the other one is used");
            findings.push(Finding {
                damage,
                offset,
                ..note(12, segment, &what)
            });
        }
        if let Some(last) = live
            .last_mut()
            .filter(|last| facts.segments[last.segment].seq + 1 == segment.seq)
        {
            last.void_from = header.prev_end;
        }
        live.push(LiveSegment {
            segment: at,
            void_from: Lsn(u64::MAX),
        });
    }
    missing(expected, newest + 1, newest, findings);
    live
}

/// Rows 16 and 17.
fn missing(from: u64, to: u64, newest: u64, findings: &mut Vec<Finding>) {
    if from >= to {
        return;
    }
    let row = if to > newest { 17 } else { 16 };
    let what = match to - from {
        1 => "segment is missing".to_owned(),
        count => format!("{count} segments from here on are missing"),
    };
    let file = crate::layout::segment_path(from);
    findings.push(Finding {
        row,
        damage: true,
        file,
        offset: 0,
        length: 0,
        what,
        slots: None,
    });
}

fn note(row: u8, segment: &SegmentFacts, what: &str) -> Finding {
    Finding {
        row,
        damage: false,
        file: segment.path.clone(),
        offset: 0,
        length: 0,
        what: what.to_owned(),
        slots: None,
    }
}
