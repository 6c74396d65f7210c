//! One slot while it is applied: where it stands, what it has brought about so far.

use crate::name::Name;
use crate::{Effects, Event, FileOp, Outcome, Refusal, Reply, ReplyTo, Seq, SessionId, Slot};

/// The slot being applied.
#[derive(Debug)]
pub(crate) struct Step {
    pub(crate) slot: Slot,
    /// The leader's wall clock, for people.
    pub(crate) wall_ms: u64,
    pub(crate) effects: Effects,
    /// Locks freed and not yet granted again, in the order in which they became free.
    pub(crate) freed: Vec<Name>,
}

impl Step {
    pub(crate) fn new(slot: Slot, wall_ms: u64) -> Step {
        Step {
            slot,
            wall_ms,
            effects: Effects::default(),
            freed: Vec::new(),
        }
    }

    pub(crate) fn event(&mut self, event: Event) {
        self.effects.events.push(event);
    }

    pub(crate) fn file(&mut self, op: FileOp) {
        self.effects.files.push(op);
    }

    /// Answers the command of this slot.
    pub(crate) fn reply(&mut self, to: ReplyTo, outcome: Outcome) {
        self.note_refusal(outcome.refusal());
        self.effects.replies.push(Reply {
            to,
            outcome,
            counts_for_time: true,
        });
    }

    /// Answers an acquire of an earlier slot.
    pub(crate) fn push(&mut self, session: SessionId, seq: Seq, outcome: Outcome) {
        self.note_refusal(outcome.refusal());
        let to = ReplyTo::Command(session, seq);
        self.effects.replies.push(Reply {
            to,
            outcome,
            counts_for_time: false,
        });
    }

    fn note_refusal(&mut self, refusal: Option<&Refusal>) {
        if let Some(refusal) = refusal {
            self.event(Event::Refused {
                code: refusal.code(),
            });
        }
    }
}
