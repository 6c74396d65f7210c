//! Handing leadership over: the other holds everything durably before it is told.
//!
//! While a hand-over is under way nothing new is proposed. It ends when the other takes over, or
//! at a deadline, after which this leader goes on.

use crate::core::Core;
use crate::ident::NodeId;
use crate::leadership::Transfer;
use crate::message::{Message, TransferNow};
use crate::outbox::{Note, Outbox};

impl Core {
    /// Begins to hand leadership to `to`, unless a hand-over is under way already.
    pub(crate) fn begin_transfer(&mut self, to: NodeId, out: &mut Outbox) {
        let deadline = self.now.after(self.config.election_us);
        let up = self.is_up(to);
        let Some(leadership) = self.leadership_mut() else {
            return;
        };
        if leadership.transfer.is_some() || to == leadership.ballot.node() {
            return;
        }
        if !up {
            out.notes.push(Note::TransferFailed { to });
            return;
        }
        leadership.transfer = Some(Transfer {
            to,
            deadline,
            sent: false,
        });
        out.notes.push(Note::TransferStarted { to });
    }

    /// Tells the other once it holds everything durably and nothing is left open here.
    pub(crate) fn advance_transfer(&mut self, out: &mut Outbox) {
        let (last, chosen) = (self.log.last(), self.log.chosen());
        let Some(leadership) = self.leadership_mut() else {
            return;
        };
        let Some(transfer) = leadership.transfer.filter(|transfer| !transfer.sent) else {
            return;
        };
        let to = transfer.to;
        let holds = leadership
            .streams
            .get(&to)
            .is_some_and(|stream| stream.durable == last);
        if holds && chosen == last {
            leadership.transfer = Some(Transfer {
                sent: true,
                ..transfer
            });
            let ballot = leadership.ballot;
            out.notes.push(Note::TransferSent { to });
            self.send(
                to,
                Message::TransferNow(TransferNow { ballot, upto: last }),
                out,
            );
        }
    }

    /// Gives a hand-over up after its deadline.
    pub(crate) fn expire_transfer(&mut self, out: &mut Outbox) {
        let (now, election_us) = (self.now, self.config.election_us);
        let Some(leadership) = self.leadership_mut() else {
            return;
        };
        if let Some(transfer) = leadership
            .transfer
            .filter(|transfer| now >= transfer.deadline)
        {
            leadership.transfer = None;
            leadership.prefer_at = now.after(4 * election_us);
            out.notes.push(Note::TransferFailed { to: transfer.to });
        }
    }
}
