//! The acceptor's half of phase 1: promises.

use crate::ballot::Ballot;
use crate::core::{Core, Part};
use crate::durable::Waiting;
use crate::ident::{NodeId, Slot};
use crate::message::{Held, Message, Nack, Prepare, Promise};
use crate::outbox::{Outbox, Why};

/// Bytes of entries in one part of a promise, and in one piece of a stream; a single entry may be
/// larger.
pub(crate) const PIECE_BYTES_MAX: usize = 1 << 20;

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
        }
        let ballot = prepare.ballot;
        self.durable.hold(Waiting::Promise {
            to: from,
            ballot,
            from: prepare.from,
        });
    }

    /// Says which ballot stands against the sender's.
    pub(crate) fn nack(&mut self, to: NodeId, refused: Ballot, out: &mut Outbox) {
        let promised = self.standing();
        self.send(to, Message::Nack(Nack { refused, promised }), out);
    }

    /// The promise is durable: phase 1b, in parts.
    ///
    /// The report is made now and not when the prepare came, so it holds everything submitted
    /// before the promise; nothing below the ballot was accepted since.
    pub(crate) fn send_promise(
        &mut self,
        to: NodeId,
        ballot: Ballot,
        from: Slot,
        out: &mut Outbox,
    ) {
        if self.promised != ballot {
            self.nack(to, ballot, out);
            return;
        }
        let last = self.log.last();
        let mut start = from.max(self.log.start()).min(last.next());
        loop {
            let held = self.held_from(start);
            let next = Slot(start.0 + held.len() as u64);
            let promise = Promise {
                ballot,
                first: self.log.first(),
                chosen: self.log.chosen(),
                last,
                start,
                held,
                faulty: Vec::new(),
            };
            self.send(to, Message::Promise(promise), out);
            start = next;
            if start > last {
                return;
            }
        }
    }

    fn held_from(&self, start: Slot) -> Vec<Held> {
        let mut bytes = 0;
        let mut held = Vec::new();
        for (slot, item) in self.log.from(start) {
            if bytes >= PIECE_BYTES_MAX.min(self.config.peer_window_bytes) {
                break;
            }
            bytes += item.entry.size_bytes();
            let chosen = slot <= self.log.chosen();
            held.push(Held {
                ballot: item.ballot,
                chosen,
                entry: item.entry.clone(),
            });
        }
        held
    }
}
