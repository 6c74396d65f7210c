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
        self.flee_slow_disk(out);
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
        if self.wal_age_us() > election_us {
            return Some(Why::DiskStalled);
        }
        let waits = self.log.last() > self.log.chosen();
        if waits && self.now.since(leadership.progress_at) > 2 * election_us {
            return Some(Why::CommitStalled);
        }
        None
    }

    /// With a disk that hangs for half an election timeout, hands leadership to a healthy one.
    fn flee_slow_disk(&mut self, out: &mut Outbox) {
        let busy = |l: &crate::leadership::Leadership| l.transfer.is_some();
        if !self.disk_is_stalled() || self.leadership_mut().is_none_or(|l| busy(l)) {
            return;
        }
        if let Some(to) = self.healthiest() {
            out.notes.push(Note::WatchdogFired {
                why: Why::DiskStalled,
            });
            self.begin_transfer(to, out);
        }
    }
}
