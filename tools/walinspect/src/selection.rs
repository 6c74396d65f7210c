//! Which part of a log was asked for: `--from` and `--to`.

use std::str::FromStr;
use std::time::{SystemTime, UNIX_EPOCH};

use paxos::{Ballot, NodeId};

/// An end of the part that was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Bound {
    Slot(u64),
    Lsn(u64),
    Segment(u64),
    /// Unix nanoseconds.
    Time(u64),
}

impl FromStr for Bound {
    type Err = String;

    fn from_str(text: &str) -> Result<Bound, String> {
        let (kind, value) = text.split_once(':').unwrap_or(("slot", text));
        let number = || {
            value
                .parse::<u64>()
                .map_err(|_| format!("`{value}` is no number"))
        };
        match kind {
            "slot" => number().map(Bound::Slot),
            "lsn" => number().map(Bound::Lsn),
            "segment" | "seg" => number().map(Bound::Segment),
            "time" => unix_ns(value).map(Bound::Time),
            _ => Err(format!(
                "`{kind}` is none of slot, lsn, segment, time; write SLOT, lsn:LSN, segment:SEQ or time:TIME"
            )),
        }
    }
}

fn unix_ns(text: &str) -> Result<u64, String> {
    let time: SystemTime = humantime::parse_rfc3339_weak(text)
        .map_err(|error| format!("`{text}` is no time such as 2026-11-20T10:00:00Z: {error}"))?;
    let since = time
        .duration_since(UNIX_EPOCH)
        .map_err(|_| "a time before 1970".to_owned())?;
    u64::try_from(since.as_nanos()).map_err(|_| "a time too late".to_owned())
}

/// Reads a ballot in the form in which all of Holdfast prints it: `round.node`.
pub(crate) fn ballot(text: &str) -> Result<u64, String> {
    let parts = text
        .split_once('.')
        .and_then(|(round, node)| Some((round.parse::<u64>().ok()?, node.parse::<u16>().ok()?)));
    match parts {
        Some((round, node)) if round < 1 << 48 => Ok(Ballot::new(round, NodeId(node)).raw()),
        _ => Err(format!("`{text}` is no ballot such as 7.2")),
    }
}

/// Where a record or a batch stands, in every way that can be asked for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Standing {
    /// First and last slot; `None` if it has no slots.
    pub(crate) slots: Option<(u64, u64)>,
    pub(crate) lsn: u64,
    pub(crate) segment: u64,
    pub(crate) wall_ns: u64,
}

/// The part that was asked for.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Selection {
    pub(crate) from: Option<Bound>,
    pub(crate) to: Option<Bound>,
}

impl Selection {
    /// Whether it is inside. What has no slot is outside of any part given by slots.
    pub(crate) fn holds(&self, at: Standing) -> bool {
        let from = match self.from {
            None => true,
            Some(Bound::Slot(slot)) => at.slots.is_some_and(|(_, last)| last >= slot),
            Some(Bound::Lsn(lsn)) => at.lsn >= lsn,
            Some(Bound::Segment(seq)) => at.segment >= seq,
            Some(Bound::Time(ns)) => at.wall_ns >= ns,
        };
        let to = match self.to {
            None => true,
            Some(Bound::Slot(slot)) => at.slots.is_some_and(|(first, _)| first <= slot),
            Some(Bound::Lsn(lsn)) => at.lsn <= lsn,
            Some(Bound::Segment(seq)) => at.segment <= seq,
            Some(Bound::Time(ns)) => at.wall_ns <= ns,
        };
        from && to
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(from: &str, to: &str, inside: bool) {
        let selection = Selection {
            from: Some(from.parse().expect("a bound")),
            to: Some(to.parse().expect("a bound")),
        };
        let at = Standing {
            slots: Some((5, 9)),
            lsn: 8192,
            segment: 2,
            wall_ns: 1_000_000_000,
        };
        assert_eq!(selection.holds(at), inside, "{from} to {to}");
    }

    #[test]
    fn bounds_are_inclusive() {
        check("9", "9", true);
        check("10", "20", false);
        check("slot:1", "4", false);
        check("lsn:8192", "seg:2", true);
        check("lsn:8193", "segment:2", false);
        check(
            "time:1970-01-01T00:00:01Z",
            "time:1970-01-01T00:00:01Z",
            true,
        );
        check("time:1970-01-01T00:00:02Z", "9", false);
    }

    #[test]
    fn what_is_no_bound_is_refused() {
        for text in ["", "x", "slot:", "lsn:-1", "time:yesterday", "day:3"] {
            assert!(text.parse::<Bound>().is_err(), "{text}");
        }
        assert_eq!(ballot("7.2"), Ok(7 << 16 | 2));
        for text in ["7", "7.", ".2", "7.70000", "281474976710656.1"] {
            assert!(ballot(text).is_err(), "{text}");
        }
    }
}
