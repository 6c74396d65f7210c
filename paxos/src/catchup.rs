//! Catching up: chosen entries from any peer, from its memory or its log.
//!
//! A chosen value needs no ballot, so anybody may serve it and anybody may take it. Followers get
//! it from their leader; a replica without a leader asks whoever knows more, which lets the one
//! that is connected to a quorum lead however old its log is.

use std::collections::BTreeMap;

use crate::acceptor::PIECE_BYTES_MAX;
use crate::ballot::Ballot;
use crate::core::{Core, Part};
use crate::entry::Entry;
use crate::ident::{MonoTime, NodeId, Slot};
use crate::message::{ChosenChunk, FetchChosen, Message};
use crate::outbox::{LoadLog, Note, Outbox, WalRecord};

/// What is under way.
#[derive(Clone, Debug, Default)]
pub(crate) struct Catchup {
    /// The last slot wanted from the disk for each peer, and when: asked again only for another
    /// slot, or after a while.
    loads: BTreeMap<NodeId, (Slot, MonoTime)>,
    /// The last slot asked of a peer, and when.
    fetch: Option<(Slot, MonoTime)>,
}

impl Core {
    /// Asks `peer` for chosen entries, unless the same was asked just now.
    pub(crate) fn fetch(&mut self, peer: NodeId, out: &mut Outbox) {
        let from = self.log.chosen().next();
        if self.is_recent(self.catchup.fetch, from, 2) {
            return;
        }
        self.catchup.fetch = Some((from, self.now));
        let max_bytes = PIECE_BYTES_MAX as u32;
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

    /// A peer asks for chosen entries. Any role answers.
    pub(crate) fn on_fetch_chosen(&mut self, from: NodeId, m: FetchChosen, out: &mut Outbox) {
        if m.from > self.log.chosen() || m.from == Slot::NONE {
            return;
        }
        if m.from < self.log.start() {
            self.load_for(from, m.from, out);
            return;
        }
        let bytes_max = (m.max_bytes as usize).min(PIECE_BYTES_MAX);
        let chosen = self.log.chosen();
        let (mut entries, mut bytes) = (Vec::new(), 0);
        for (_, item) in self
            .log
            .from(m.from)
            .take_while(|(slot, _)| *slot <= chosen)
        {
            bytes += item.entry.size_bytes();
            if !entries.is_empty() && bytes > bytes_max {
                break;
            }
            entries.push(item.entry.clone());
        }
        self.send_chunk(from, m.from, entries, out);
    }

    /// Wants entries from the disk for a peer that lacks what memory no longer holds.
    pub(crate) fn load_for(&mut self, to: NodeId, from: Slot, out: &mut Outbox) {
        if self.is_recent(self.catchup.loads.get(&to).copied(), from, 4) {
            return;
        }
        self.catchup.loads.insert(to, (from, self.now));
        if from < self.log.first() {
            self.say_behind(to, from, out);
        } else {
            out.load_log.push(LoadLog {
                to,
                from,
                max_bytes: PIECE_BYTES_MAX,
            });
        }
    }

    /// The disk answered.
    pub(crate) fn on_log_loaded(
        &mut self,
        to: NodeId,
        first: Slot,
        entries: Vec<(Slot, Ballot, Entry, bool)>,
        out: &mut Outbox,
    ) {
        let Some(&(wanted, _)) = self.catchup.loads.get(&to) else {
            return;
        };
        if entries.is_empty() {
            self.log.forget_below(first);
            if first > wanted {
                self.say_behind(to, wanted, out);
            }
            return;
        }
        let in_memory = self.log.start();
        let mut run = Vec::with_capacity(entries.len());
        let slots = (first.0..).map(Slot);
        for ((slot, _, entry, known), expected) in entries.into_iter().zip(slots) {
            // What has left memory is on disk with the value that was chosen. What is in memory may
            // be there with an older one.
            if slot != expected || !(slot < in_memory || known) {
                break;
            }
            run.push(entry);
        }
        if !run.is_empty() {
            self.send_chunk(to, first, run, out);
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
            candidate.deadline = candidate
                .deadline
                .max(self.now.after(self.config.election_us));
            self.try_take_over(out);
        }
    }

    /// Takes values known to be chosen for the slots right above the chosen prefix. One that is
    /// not held yet is recorded as chosen, which outranks every accept of its slot.
    pub(crate) fn adopt_chosen(&mut self, entries: Vec<Entry>, out: &mut Outbox) {
        let mut slot = self.log.chosen();
        let mut records = Vec::new();
        for entry in entries {
            slot = slot.next();
            if self.log.get(slot).is_none_or(|item| item.entry != entry) {
                self.log.put(slot, Ballot::ZERO, entry.clone());
                records.push(WalRecord::Chosen { slot, entry });
            }
        }
        if slot == self.log.chosen() {
            return;
        }
        self.log.choose(slot);
        if !records.is_empty() {
            self.submit(records, out);
        }
        self.skip_stream_to_chosen();
    }

    fn send_chunk(&self, to: NodeId, start: Slot, entries: Vec<Entry>, out: &mut Outbox) {
        let (chosen, first) = (self.log.chosen(), self.log.first());
        let chunk = ChosenChunk {
            start,
            entries,
            chosen,
            first,
        };
        self.send(to, Message::ChosenChunk(chunk), out);
    }

    /// A peer lacks what this log no longer holds: nothing here can help it.
    fn say_behind(&self, peer: NodeId, needs: Slot, out: &mut Outbox) {
        out.notes.push(Note::PeerFellBehind {
            peer,
            needs,
            first: self.log.first(),
        });
        self.send_chunk(peer, needs, Vec::new(), out);
    }

    /// That peer's log begins too late: the next one may hold more.
    fn fetch_elsewhere(&mut self, not: NodeId, out: &mut Outbox) {
        let up = self.peers_up();
        let after = up.iter().find(|&&node| node > not).or_else(|| up.first());
        if let Some(&peer) = after.filter(|&&node| node != not) {
            self.fetch(peer, out);
        }
    }

    fn is_recent(&self, last: Option<(Slot, MonoTime)>, slot: Slot, heartbeats: u64) -> bool {
        let limit = heartbeats * self.config.heartbeat_us;
        last.is_some_and(|(asked, at)| asked == slot && self.now.since(at) < limit)
    }
}
