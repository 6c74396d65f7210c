//! A process that slept: suspended, swapped out, or starved.
//!
//! Its timers are all due at once, while the messages that would have stopped them wait in its
//! queues. So after a pause no timeout fires before that input had time to arrive.
//!
//! This excuses a replica once. A processor that is always late would otherwise disarm every
//! watchdog for ever: the next late turn is not excused until the replica has shown that it works,
//! a leader by a quorum that answered a round begun after the pause, any other by a leader's word or
//! by going on to the next step of an election.
//!
//! Reads need nothing here. A round is confirmed by answers that were given after it began and while
//! nothing higher was promised; how late they are heard does not matter (decision 19).

use crate::core::{Core, Part};
use crate::ident::MonoTime;
use crate::outbox::{Note, Outbox};

impl Core {
    /// Looks at the gap since the timer that should have woken this replica.
    pub(crate) fn notice_pause(&mut self, now: MonoTime, out: &mut Outbox) {
        let late_us = now.since(self.next_wake());
        if self.peers.is_empty() || late_us <= self.config.heartbeat_us {
            return;
        }
        self.end_excuse();
        if self.excused {
            return;
        }
        self.excused = true;
        out.notes.push(Note::Paused { late_us });
        let (heartbeat_us, election_us) = (self.config.heartbeat_us, self.config.election_us);
        let soon = now.after(heartbeat_us);
        // As if everything had been fine until two heartbeats before the end of patience.
        let patience_us = election_us.saturating_sub(2 * heartbeat_us);
        let fresh = MonoTime(now.0.saturating_sub(patience_us));
        self.durable
            .forgive(MonoTime(now.0.saturating_sub(election_us / 4)));
        match &mut self.part {
            Part::Follower => self.election_at = self.election_at.max(soon),
            Part::Prober(prober) => {
                prober.deadline = prober.deadline.max(soon);
                prober.courtesy_until = prober.courtesy_until.map(|until| until.max(now));
            }
            Part::Candidate(candidate) => {
                candidate.deadline = candidate.deadline.max(soon);
                candidate.resend_at = candidate.resend_at.max(now);
            }
            Part::Leader(leadership) => {
                leadership.heartbeat_at = leadership.heartbeat_at.max(now);
                leadership.excused_until = Some(leadership.round + 1);
                leadership.progress_at = leadership.progress_at.max(fresh);
                for stream in leadership.streams.values_mut() {
                    stream.heard_at = stream.heard_at.max(fresh);
                }
            }
        }
    }

    /// A leader's excuse has done its work once a quorum answered after the pause.
    fn end_excuse(&mut self) {
        let quorum = self.quorum();
        let Part::Leader(leadership) = &mut self.part else {
            return;
        };
        let round = leadership.quorum_round(quorum);
        if leadership.excused_until.is_none_or(|until| round >= until) {
            leadership.excused_until = None;
            self.excused = false;
        }
    }
}
