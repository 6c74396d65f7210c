//! The acceptor's half of phase 1: promises.

use std::collections::BTreeMap;

use crate::ballot::Ballot;
use crate::core::{Core, Part};
use crate::durable::Waiting;
use crate::ident::{NodeId, Slot};
use crate::message::{Held, Message, Nack, Prepare, Promise};
use crate::outbox::{Outbox, Why};

/// Bytes of entries in one part of a promise, and in one piece of a stream; a single entry may be
/// larger.
pub(crate) const PIECE_BYTES_MAX: usize = 1 << 20;

/// What a slot takes in a promise beside its entry.
const HELD_BYTES: usize = 9;

impl Core {
    /// Phase 1a arrived. The answer waits until the promise, and everything submitted to the log
    /// before it, is durable (P2).
    pub(crate) fn on_prepare(&mut self, from: NodeId, prepare: Prepare, out: &mut Outbox) {
        if prepare.ballot.node() != from {
            return; // Nobody proposes under another's ballot.
        }
        self.see(prepare.ballot);
        if prepare.ballot < self.standing() {
            self.nack(from, prepare.ballot, out);
            return;
        }
        if prepare.ballot > self.promised {
            if !matches!(self.part, Part::Follower) {
                self.become_follower(Why::HigherBallot, out);
            }
            self.promise(prepare.ballot, out);
            // The old leader can do nothing here any more; give the candidate its time.
            self.following.contact = None;
            self.rearm_election();
            self.support(from, prepare.ballot, false);
        }
        if prepare.ballot > self.asked_from.0 || prepare.from > self.asked_from.1 {
            // The candidate gets on; the old leader's end is not put off by mere repetition.
            self.asked_from = (prepare.ballot, prepare.from);
            if matches!(self.part, Part::Follower) && self.following.contact.is_none() {
                self.rearm_election();
            }
        }
        let ballot = prepare.ballot;
        self.prepares.insert(from, prepare);
        self.durable.hold(Waiting::Promise { to: from, ballot });
    }

    /// Says which ballot stands against the sender's.
    pub(crate) fn nack(&mut self, to: NodeId, refused: Ballot, out: &mut Outbox) {
        let promised = self.standing();
        self.send(to, Message::Nack(Nack { refused, promised }), out);
    }

    /// The promise is durable: one part of phase 1b, as large as asked for.
    ///
    /// The report is made now and not when the prepare came, so it holds everything submitted
    /// before the promise; nothing below the ballot was accepted since.
    pub(crate) fn send_promise(&mut self, to: NodeId, ballot: Ballot, out: &mut Outbox) {
        let Some(prepare) = self.prepares.remove(&to) else {
            return; // Answered already: it was asked twice meanwhile.
        };
        if self.promised != ballot {
            self.nack(to, ballot, out);
            return;
        }
        if matches!(self.part, Part::Follower) && self.following.contact.is_none() {
            self.support(to, ballot, true);
        }
        let last = self.log.last();
        let start = prepare.from.max(self.log.start()).min(last.next());
        let promise = Promise {
            ballot,
            first: self.log.first(),
            chosen: self.log.chosen(),
            last,
            start,
            held: self.held_from(start, &prepare),
            faulty: Vec::new(),
            witness: self.witness(),
        };
        self.send(to, Message::Promise(promise), out);
    }

    fn held_from(&self, start: Slot, prepare: &Prepare) -> Vec<Held> {
        let have = prepare.have.iter();
        let have: BTreeMap<_, _> = have.map(|run| ((run.ballot, run.from), run.to)).collect();
        let has = |slot: Slot, ballot: Ballot| {
            let run = have.range(..=(ballot, slot)).next_back();
            ballot != Ballot::ZERO && run.is_some_and(|((at, _), to)| *at == ballot && *to >= slot)
        };
        let bytes_max = PIECE_BYTES_MAX
            .min(self.config.peer_window_bytes)
            .min(prepare.max_bytes as usize);
        let mut bytes = 0;
        let mut held = Vec::new();
        for (slot, item) in self.log.from(start) {
            let known = has(slot, item.ballot);
            bytes += HELD_BYTES + if known { 0 } else { item.entry.size_bytes() };
            if !held.is_empty() && bytes > bytes_max {
                break;
            }
            held.push(Held {
                ballot: item.ballot,
                chosen: slot <= self.log.chosen(),
                entry: (!known).then(|| item.entry.clone()),
            });
        }
        held
    }
}
