//! Catching up: a replica without a leader fetches chosen entries from whoever knows more.
//!
//! That lets the one that is connected to a quorum lead, however old its log is. A follower is
//! served by its leader without asking.

use crate::core::{Core, Part};
use crate::ident::{NodeId, Slot};
use crate::message::{ChosenChunk, FetchChosen, Message};
use crate::outbox::{Note, Outbox};

impl Core {
    /// Asks `peer` for chosen entries, unless the same was asked just now.
    pub(crate) fn fetch(&mut self, peer: NodeId, out: &mut Outbox) {
        let from = self.log.chosen().next();
        if !self
            .asked
            .fetch(from, self.now, 2 * self.config.heartbeat_us)
        {
            return;
        }
        let pace = self.peers.get(&peer).map(|peer| peer.pace);
        let max_bytes = pace.unwrap_or_default().piece_bytes() as u32;
        self.send(
            peer,
            Message::FetchChosen(FetchChosen { from, max_bytes }),
            out,
        );
    }

    /// A peer knows more and no leader will tell: asks it.
    pub(crate) fn fetch_if_leaderless(&mut self, peer: NodeId, chosen: Slot, out: &mut Outbox) {
        let leads = matches!(self.part, Part::Leader(_));
        if !leads && self.following.contact.is_none() && chosen > self.log.chosen() {
            self.fetch(peer, out);
        }
    }

    /// Chosen entries came.
    pub(crate) fn on_chosen_chunk(&mut self, from: NodeId, m: ChosenChunk, out: &mut Outbox) {
        if matches!(self.part, Part::Leader(_)) {
            return; // A leader holds everything chosen already, or is about to choose it.
        }
        let next = self.log.chosen().next();
        if m.start > next || m.entries.is_empty() {
            if m.first > next {
                out.notes.push(Note::FellBehind {
                    peer: from,
                    first: m.first,
                });
                self.fetch_elsewhere(from, out);
            }
            return;
        }
        let known = usize::try_from(next.0 - m.start.0).unwrap_or(usize::MAX);
        let fresh: Vec<_> = m.entries.into_iter().skip(known).collect();
        if fresh.is_empty() {
            return;
        }
        self.adopt_chosen(fresh, out);
        self.fetch_if_leaderless(from, m.chosen, out);
        if let Part::Candidate(candidate) = &mut self.part {
            candidate.step_at = self.now;
            candidate.deadline = candidate
                .deadline
                .max(self.now.after(self.config.election_us));
            self.try_take_over(out);
        }
    }

    /// That peer's log begins too late: the next one may hold more.
    fn fetch_elsewhere(&mut self, not: NodeId, out: &mut Outbox) {
        let up = self.peers_up();
        let after = up.iter().find(|&&node| node > not).or_else(|| up.first());
        if let Some(&peer) = after.filter(|&&node| node != not) {
            self.fetch(peer, out);
        }
    }
}
