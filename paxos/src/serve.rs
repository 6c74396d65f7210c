//! Serving chosen entries to a peer that lacks them, from memory or from the log.
//!
//! A chosen value needs no ballot, so any role serves it.

use crate::acceptor::PIECE_BYTES_MAX;
use crate::ballot::Ballot;
use crate::core::Core;
use crate::entry::Entry;
use crate::ident::{NodeId, Slot};
use crate::message::{ChosenChunk, FetchChosen, Message};
use crate::outbox::{LoadLog, Note, Outbox};

impl Core {
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
        // On a link with a queue the answer takes at least as long as a heartbeat's.
        let known = self.peers.get(&to);
        let answer_us = known.map_or(0, |peer| peer.pace.answer_us());
        let wait_us = answer_us.max(4 * self.config.heartbeat_us);
        if !self.asked.load(to, from, self.now, wait_us) {
            return;
        }
        if from < self.log.first() {
            self.say_behind(to, from, out);
        } else {
            out.load_log.push(LoadLog {
                to,
                from,
                upto: self.log.start().prev(),
                max_bytes: self.pace_of(to),
            });
        }
    }

    /// How many bytes one piece to `peer` may have.
    fn pace_of(&self, peer: NodeId) -> usize {
        let known = self.peers.get(&peer);
        known.map_or(PIECE_BYTES_MAX, |peer| peer.pace.piece_bytes())
    }

    /// The disk answered.
    pub(crate) fn on_log_loaded(
        &mut self,
        to: NodeId,
        first: Slot,
        entries: Vec<(Slot, Ballot, Entry, bool)>,
        out: &mut Outbox,
    ) {
        let Some(wanted) = self.asked.loading(to) else {
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
}
