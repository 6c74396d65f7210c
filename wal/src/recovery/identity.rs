//! Rows 10, 19 and 20 between files: segments that contradict the superblock or each other.

use crate::segment::{HeaderFault, SegmentHeader};
use crate::superblock::{SuperFault, Superblock};

use super::facts::{Facts, SegmentFacts};
use super::report::Finding;

/// The first contradiction that no crash and no rot explains.
pub(super) fn contradiction(facts: &Facts, meta: &Superblock) -> Option<Finding> {
    for (copy, found) in facts.supers.iter().enumerate() {
        let file = crate::layout::SUPERBLOCKS[copy];
        match found {
            Err(SuperFault::Major(major)) => return Some(newer(file, *major)),
            Ok(other) if (other.node, other.disk) != (meta.node, meta.disk) => {
                return Some(fatal(
                    19,
                    file,
                    "belongs to another node or disk".to_owned(),
                ));
            }
            _ => {}
        }
    }
    if let [Ok(one), Ok(other)] = &facts.supers
        && let Some(what) = diverge(one, other)
    {
        return Some(fatal(10, "wal/super.1", what.to_owned()));
    }
    let mut previous: Option<(&SegmentFacts, &SegmentHeader)> = None;
    for segment in &facts.segments {
        for header in &segment.headers {
            match header {
                Err(HeaderFault::Major(major)) => return Some(newer(&segment.path, *major)),
                Ok(header) => {
                    if let Some(what) = foreign(header, meta) {
                        return Some(fatal(19, &segment.path, what));
                    }
                }
                Err(_) => {}
            }
        }
        if let [Ok(first), Ok(copy)] = &segment.headers
            && first != copy
        {
            return Some(fatal(
                10,
                &segment.path,
                "its two headers differ".to_owned(),
            ));
        }
        let Some(header) = segment.header() else {
            continue;
        };
        if let Some((before, last)) = previous
            && let Some(what) = breaks(before, last, segment, header)
        {
            return Some(fatal(10, &segment.path, what));
        }
        previous = Some((segment, header));
    }
    None
}

/// Why two copies of the superblock cannot be of one history, in which starts and promises only grow.
fn diverge(one: &Superblock, other: &Superblock) -> Option<&'static str> {
    if one.cluster != other.cluster && one.cluster != 0 && other.cluster != 0 {
        return Some("the two copies belong to different clusters");
    }
    let (old, new) = match one.sequence <= other.sequence {
        true => (one, other),
        false => (other, one),
    };
    if old.sequence == new.sequence && old != new {
        return Some("the two copies say different things under one number");
    }
    (old.incarnation > new.incarnation || old.promised > new.promised)
        .then_some("the newer copy knows less than the older one")
}

fn foreign(header: &SegmentHeader, meta: &Superblock) -> Option<String> {
    if header.node != meta.node {
        Some(format!(
            "belongs to node {}, not {}",
            header.node, meta.node
        ))
    } else if header.disk != meta.disk {
        Some(format!(
            "belongs to disk {:016x}, not {:016x}",
            header.disk, meta.disk
        ))
    } else if header.cluster != meta.cluster && header.cluster != 0 {
        Some(format!(
            "belongs to cluster {:032x}, not {:032x}",
            header.cluster, meta.cluster
        ))
    } else {
        None
    }
}

/// Whether two neighbours cannot both be of one log.
fn breaks(
    before: &SegmentFacts,
    last: &SegmentHeader,
    segment: &SegmentFacts,
    header: &SegmentHeader,
) -> Option<String> {
    let adjacent = before.seq + 1 == segment.seq;
    if adjacent && header.base != last.end() {
        return Some(format!(
            "begins at {}, segment {} ends at {}",
            header.base,
            before.seq,
            last.end()
        ));
    }
    if !adjacent && header.base < last.end() {
        return Some(format!(
            "begins at {}, inside segment {}",
            header.base, before.seq
        ));
    }
    if adjacent && header.prev_end < last.base {
        return Some(format!(
            "says that segment {} ends before it begins",
            before.seq
        ));
    }
    None
}

fn newer(file: &str, major: u16) -> Finding {
    let known = crate::segment::FORMAT_MAJOR;
    fatal(
        20,
        file,
        format!("format {major}, this version reads up to {known}"),
    )
}

fn fatal(row: u8, file: &str, what: String) -> Finding {
    Finding {
        row,
        damage: true,
        file: file.to_owned(),
        offset: 0,
        length: 0,
        what,
        slots: None,
    }
}
