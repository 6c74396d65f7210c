//! A leader's timers: heartbeats, and the reasons to stop leading.
//!
//! A leader that cannot make progress must not keep the followers quiet with heartbeats: not
//! without a quorum that answers, not with a disk that hangs, not when nothing gets chosen for
//! whatever reason.

use crate::core::{Core, Part};
use crate::outbox::{Note, Outbox, Why};

impl Core {
    /// Everything a leader does by the clock, once per heartbeat.
    pub(crate) fn on_leader_timers(&mut self, out: &mut Outbox) {
        let heartbeat_us = self.config.heartbeat_us;
        let Some(leadership) = self.leadership_mut() else {
            return;
        };
        let due = leadership.heartbeat_at;
        if self.now < due {
            return;
        }
        if let Some(why) = self.reason_to_stop() {
            if why != Why::NoQuorum {
                out.notes.push(Note::WatchdogFired { why });
            }
            self.become_follower(why, out);
            return;
        }
        let now = self.now;
        let Some(leadership) = self.leadership_mut() else {
            return;
        };
        leadership.heartbeat_at = now.after(heartbeat_us);
        self.expire_transfer(out);
        self.mark_chosen();
        self.hand_over_if_unfit(out);
        self.prefer_lowest(out);
        self.update_needed(out);
        self.begin_round(out);
    }

    fn reason_to_stop(&self) -> Option<Why> {
        let Part::Leader(leadership) = &self.part else {
            return None;
        };
        if self.peers.is_empty() {
            return None; // Alone, stopping would help nobody.
        }
        let election_us = self.config.election_us;
        let heard = leadership.quorum_heard(self.now, self.quorum());
        if self.now.since(heard) > election_us {
            return Some(Why::NoQuorum);
        }
        let sync_us = self.durable.sync_us();
        if self.wal_age_us() > self.config.disk_patience_us(sync_us) {
            return Some(Why::DiskStalled);
        }
        let waits = self.log.last() > self.log.chosen();
        let quorum_us = leadership.quorum_sync_us(sync_us, self.quorum());
        let patience_us = 2 * self.config.disk_patience_us(quorum_us);
        if waits && self.now.since(leadership.progress_at) > patience_us {
            return Some(Why::CommitStalled);
        }
        None
    }

    /// Remembers what is chosen now, to tell later who has applied it in time.
    fn mark_chosen(&mut self) {
        let (now, chosen) = (self.now, self.log.chosen());
        let since = now.0.saturating_sub(self.config.election_us);
        let Some(leadership) = self.leadership_mut() else {
            return;
        };
        // The newest mark that is old enough stays.
        while leadership
            .chosen_at
            .get(1)
            .is_some_and(|(at, _)| at.0 <= since)
        {
            leadership.chosen_at.pop_front();
        }
        leadership.chosen_at.push_back((now, chosen));
    }
}
