//! Cluster time: one clock for all replicas, kept by the log.
//!
//! A leader stamps what it proposes with the time at the end of the log it took over plus what its
//! own monotonic clock has counted since (`Stamper`). Time moves only when an entry is chosen
//! ([`ClusterClock`]), so it stands still while nobody leads, and no wall clock has a say.
//!
//! An entry is believed only if it was born under the ballot of the last `LeaderStart`: a leader
//! that slept and wrote to its own disk alone stamps from a clock that ran on, and a later leader
//! may still choose those entries. They apply as commands; they do not move time.

use crate::ballot::Ballot;
use crate::entry::{Entry, EntryKind};
use crate::ident::MonoTime;

/// Cluster time as a fold over the chosen entries, in slot order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClusterClock {
    /// Milliseconds since the cluster's birth in which somebody led.
    pub time_ms: u64,
    /// Birth ballot of the last `LeaderStart` that counted.
    pub leader: Ballot,
}

/// What one entry did to cluster time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moved {
    /// The time after the entry.
    pub time_ms: u64,
    /// Whether the entry's stamp was believed. False for a `LeaderStart` that does nothing and for
    /// an entry of another birth ballot; it still applies as a command.
    pub counts: bool,
}

impl ClusterClock {
    /// Folds in the next chosen entry.
    pub fn observe(&mut self, entry: &Entry) -> Moved {
        let counts = match entry.kind() {
            EntryKind::LeaderStart => entry.birth() > self.leader,
            _ => entry.birth() == self.leader,
        };
        if counts {
            self.leader = entry.birth();
            self.time_ms = self.time_ms.max(entry.stamp_ms());
        }
        Moved {
            time_ms: self.time_ms,
            counts,
        }
    }
}

/// A leader's source of stamps: the log's time at takeover plus its own elapsed time.
#[derive(Clone, Debug)]
pub(crate) struct Stamper {
    base_ms: u64,
    taken_over: MonoTime,
    previous_ms: u64,
}

impl Stamper {
    pub(crate) fn new(base_ms: u64, now: MonoTime) -> Stamper {
        Stamper {
            base_ms,
            taken_over: now,
            previous_ms: base_ms,
        }
    }

    /// The stamp for entries proposed at `now`; never below an earlier one.
    pub(crate) fn stamp(&mut self, now: MonoTime) -> u64 {
        let elapsed_ms = now.since(self.taken_over) / 1000;
        self.previous_ms = self
            .previous_ms
            .max(self.base_ms.saturating_add(elapsed_ms));
        self.previous_ms
    }

    /// The cluster time a command would be stamped with at `now`, for timers of the application.
    pub(crate) fn peek(&self, now: MonoTime) -> u64 {
        self.previous_ms.max(
            self.base_ms
                .saturating_add(now.since(self.taken_over) / 1000),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ident::NodeId;

    fn entry(kind: EntryKind, birth: Ballot, stamp_ms: u64) -> Entry {
        Entry::new(kind, birth, stamp_ms, 0, b"")
    }

    /// The story of mutant t8: Z slept for a minute, its stamps must not end A's lease.
    #[test]
    fn a_sleeper_does_not_move_time() {
        let (z, a, b) = (
            Ballot::new(1, NodeId(3)),
            Ballot::new(2, NodeId(1)),
            Ballot::new(3, NodeId(2)),
        );
        let mut clock = ClusterClock::default();
        clock.observe(&entry(EntryKind::LeaderStart, z, 1_000));
        clock.observe(&entry(EntryKind::LeaderStart, a, 1_000));
        clock.observe(&entry(EntryKind::App, a, 1_500));
        let slept = clock.observe(&entry(EntryKind::App, z, 61_000));
        assert_eq!(
            slept,
            Moved {
                time_ms: 1_500,
                counts: false
            }
        );
        let late = clock.observe(&entry(EntryKind::LeaderStart, z, 61_000));
        assert_eq!(
            late,
            Moved {
                time_ms: 1_500,
                counts: false
            }
        );
        let next = clock.observe(&entry(EntryKind::LeaderStart, b, 1_500));
        assert_eq!(
            next,
            Moved {
                time_ms: 1_500,
                counts: true
            }
        );
    }

    #[test]
    fn stamps_never_fall() {
        let mut stamper = Stamper::new(500, MonoTime(10_000));
        assert_eq!(stamper.stamp(MonoTime(12_500)), 502);
        assert_eq!(stamper.stamp(MonoTime(11_000)), 502);
        assert_eq!(stamper.stamp(MonoTime(0)), 502);
        assert_eq!(stamper.peek(MonoTime(1_010_000)), 1_500);
    }
}
