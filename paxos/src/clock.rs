//! Cluster time: one clock for all replicas, kept by the log.
//!
//! A leader stamps what it proposes with the time at the end of the log it took over plus what its
//! own monotonic clock has counted since (`Stamper`). Time moves only when an entry is chosen
//! ([`ClusterClock`]), so it stands still while nobody leads, and no wall clock has a say.
//!
//! An entry is believed only if it was born under the ballot of the last `LeaderStart`: a leader
//! that slept and wrote to its own disk alone stamps from a clock that ran on, and a later leader
//! may still choose those entries. They apply as commands; they do not move time.
//!
//! A `LeaderStart` is believed only if it follows the very leader that its own leader saw last when
//! it took over. Else its stamp counts time that passed under leaders who are not part of this
//! history any more, and an entry stamped a moment ago would be followed by one far ahead of it.

use crate::ballot::Ballot;
use crate::chain::Chain;
use crate::entry::{Entry, EntryKind};
use crate::ident::{MonoTime, Slot};

/// What agreement itself derives from the chosen entries, in slot order: cluster time, and the chain hash.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClusterClock {
    /// Milliseconds since the cluster's birth in which somebody led.
    pub time_ms: u64,
    /// Birth ballot of the last `LeaderStart` that counted.
    pub leader: Ballot,
    /// Hash over every slot and value so far.
    pub chain: Chain,
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
    pub fn observe(&mut self, slot: Slot, entry: &Entry) -> Moved {
        let begins = entry.kind() == EntryKind::LeaderStart && LeaderStart::decode(entry).chained;
        self.chain = self.chain.after(slot, entry, begins);
        self.move_time(entry)
    }

    /// Moves time alone, for a look ahead.
    pub(crate) fn move_time(&mut self, entry: &Entry) -> Moved {
        let counts = match entry.kind() {
            EntryKind::LeaderStart => {
                entry.birth() > self.leader && LeaderStart::decode(entry).after == self.leader
            }
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

/// What a `LeaderStart` says: its payload, three little-endian words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LeaderStart {
    /// How long sessions and leases last from its time on at the least, in milliseconds.
    pub grace_ms: u64,
    /// Birth ballot of the last `LeaderStart` that counts in the log taken over.
    pub after: Ballot,
    /// The chain hash begins here, unless it has begun already. False in logs of version 0.1.0's first build.
    pub chained: bool,
}

impl LeaderStart {
    /// The payload.
    #[must_use]
    pub fn encode(self) -> [u8; 24] {
        let mut bytes = [0; 24];
        bytes[..8].copy_from_slice(&self.grace_ms.to_le_bytes());
        bytes[8..16].copy_from_slice(&self.after.raw().to_le_bytes());
        bytes[16] = u8::from(self.chained);
        bytes
    }

    /// Reads the payload of an entry of this kind. A word that is not there is zero.
    #[must_use]
    pub fn decode(entry: &Entry) -> LeaderStart {
        let payload = entry.payload();
        let word = |at: usize| {
            let bytes = payload.get(at..).and_then(<[u8]>::first_chunk);
            bytes.map_or(0, |bytes| u64::from_le_bytes(*bytes))
        };
        LeaderStart {
            grace_ms: word(0),
            after: Ballot::from_raw(word(8)),
            chained: word(16) & 1 != 0,
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

    fn start(birth: Ballot, after: Ballot, stamp_ms: u64) -> Entry {
        let said = LeaderStart {
            grace_ms: 0,
            after,
            chained: false,
        };
        Entry::new(EntryKind::LeaderStart, birth, stamp_ms, 0, &said.encode())
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
        clock.observe(Slot(1), &start(z, Ballot::ZERO, 1_000));
        clock.observe(Slot(1), &start(a, z, 1_000));
        clock.observe(Slot(1), &entry(EntryKind::App, a, 1_500));
        let slept = clock.observe(Slot(1), &entry(EntryKind::App, z, 61_000));
        assert_eq!(
            slept,
            Moved {
                time_ms: 1_500,
                counts: false
            }
        );
        let late = clock.observe(Slot(1), &start(z, a, 61_000));
        assert_eq!(
            late,
            Moved {
                time_ms: 1_500,
                counts: false
            }
        );
        let next = clock.observe(Slot(1), &start(b, a, 1_500));
        assert_eq!(
            next,
            Moved {
                time_ms: 1_500,
                counts: true
            }
        );
    }

    /// Seed 2688 of the simulator. C took over from B, whom the others never heard of; A's start, in
    /// the slot of B's, won. C's stamp counts B's time and must not end a lease that A gave just now.
    #[test]
    fn a_start_counts_only_behind_the_leader_it_saw() {
        let (z, b, a, c) = (
            Ballot::new(1, NodeId(1)),
            Ballot::new(2, NodeId(3)),
            Ballot::new(3, NodeId(2)),
            Ballot::new(3, NodeId(3)),
        );
        let mut clock = ClusterClock::default();
        clock.observe(Slot(1), &start(z, Ballot::ZERO, 100));
        clock.observe(Slot(1), &start(a, z, 166));
        clock.observe(Slot(1), &entry(EntryKind::App, b, 642));
        let before = clock.clone();
        let moved = clock.observe(Slot(1), &start(c, b, 642));
        assert!(!moved.counts);
        clock.observe(Slot(1), &entry(EntryKind::App, c, 700));
        assert_eq!(clock, before, "C's entries do not count either");
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
