//! From candidate to leader: phase 1 is complete, the log is taken over.

use std::collections::{BTreeMap, VecDeque};

use crate::candidate::Candidate;
use crate::clock::{ClusterClock, LeaderStart, Stamper};
use crate::core::{Core, Part, Vote};
use crate::entry::{Entry, EntryKind};
use crate::ident::{NodeId, Slot};
use crate::leadership::Leadership;
use crate::outbox::{Note, Outbox};
use crate::phase1::Value;
use crate::reads::Reads;
use crate::stream::Stream;

impl Core {
    /// Leads, if a quorum has promised and told everything above the chosen prefix.
    pub(crate) fn try_take_over(&mut self, out: &mut Outbox) {
        self.weigh_promises(out);
        let from = self.log.chosen().next();
        let Part::Candidate(candidate) = &self.part else {
            return;
        };
        let promised = usize::from(candidate.prepared) + candidate.phase1.complete(from);
        if !candidate.prepared || promised < self.quorum() {
            return;
        }
        let part = std::mem::replace(&mut self.part, Part::Follower);
        let Part::Candidate(candidate) = part else {
            unreachable!("just looked")
        };
        self.take_over(*candidate, out);
    }

    /// Adopts what is known to be chosen, proposes every other slot again under the own ballot and
    /// its own `LeaderStart` behind them, all in one submission.
    fn take_over(&mut self, mut candidate: Candidate, out: &mut Outbox) {
        let ballot = candidate.ballot;
        assert_eq!(
            self.promised, ballot,
            "a candidate's ballot is what it promised"
        );
        let from = self.log.chosen().next();
        for (slot, item) in self.log.from(from) {
            let (ballot, entry) = (item.ballot, item.entry.clone());
            candidate.phase1.merge(
                slot,
                Value {
                    ballot,
                    chosen: false,
                    entry,
                },
            );
        }
        let next_of = |node| candidate.phase1.chosen_of(node).map(Slot::next);
        let streams: BTreeMap<NodeId, Stream> = self
            .peers
            .keys()
            .map(|&node| (node, Stream::new(next_of(node), self.now)))
            .collect();
        let values = candidate.phase1.into_values(from);
        let known = values.iter().take_while(|(chosen, _)| *chosen).count();
        let mut values: Vec<Entry> = values.into_iter().map(|(_, entry)| entry).collect();
        let reproposed = values.split_off(known);
        self.adopt_chosen(values, out);

        let clock = self.clock_after(&reproposed);
        let stamper = Stamper::new(clock.time_ms, self.now);
        let first = self.log.chosen().next();
        let start = Slot(first.0 + reproposed.len() as u64);
        out.notes.push(Note::Elected {
            ballot,
            reproposed: reproposed.len() as u64,
        });
        let mut entries = reproposed;
        entries.push(self.leader_start(&clock));
        self.vote = Vote {
            ballot,
            upto: Slot::NONE,
        };
        self.backoff = 1;
        self.accept(ballot, first, entries, out);
        assert_eq!(
            self.log.last(),
            start,
            "the own log is part of what was merged"
        );
        self.part = Part::Leader(Box::new(Leadership {
            ballot,
            start,
            streams,
            stamper,
            placed: VecDeque::new(),
            reads: Reads::default(),
            round: 0,
            heartbeat_at: self.now,
            progress_at: self.now,
            chosen_at: VecDeque::new(),
            excused_until: None,
            transfer: None,
            prefer_at: self.now.after(self.config.election_us),
        }));
        // The first heartbeat leaves in this very step and tells everybody.
        self.on_leader_timers(out);
    }

    /// Cluster time at the end of the log taken over, chosen or not.
    fn clock_after(&self, reproposed: &[Entry]) -> ClusterClock {
        let mut clock = self.clock.clone();
        let adopted = self.published.next();
        let held = self
            .log
            .from(adopted)
            .take_while(|(slot, _)| *slot <= self.log.chosen());
        for entry in held.map(|(_, item)| &item.entry).chain(reproposed) {
            clock.move_time(entry);
        }
        clock
    }

    /// Bears the time of the log taken over, and says which leader's it is.
    fn leader_start(&self, clock: &ClusterClock) -> Entry {
        let said = LeaderStart {
            grace_ms: self.config.grace_ms,
            after: clock.leader,
            chained: true,
        };
        let (ballot, stamp_ms) = (self.promised, clock.time_ms);
        Entry::new(EntryKind::LeaderStart, ballot, stamp_ms, 0, &said.encode())
    }
}
