//! Who is fit to lead: what a leader asks before it hands over, and when it has to.
//!
//! A leader whose disk is full, whose files have no room or whose disk hangs harms everybody, while
//! its followers may have none of these troubles. It hands over to one that is measurably better
//! off; where there is none it goes on leading, for a change would cost and gain nothing.

use crate::core::{Core, Part};
use crate::ident::{MonoTime, NodeId};
use crate::leadership::Leadership;
use crate::outbox::{Note, Outbox, Why};
use crate::stream::Stream;

/// A disk must be so many times faster to be worth a change of leader.
const BETTER: u64 = 3;

/// Election timeouts between two hand-overs to the same replica at least.
const HANDED_WAIT: u64 = 4;

/// The hand-overs to one peer that this replica tried.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Handed {
    /// The last one.
    pub(crate) at: MonoTime,
    /// None is tried again for so long. Doubles while they do not last.
    pub(crate) wait_us: u64,
}

impl Core {
    /// Once per heartbeat: hands over if another voter can serve and this one cannot, or only much
    /// worse.
    pub(crate) fn hand_over_if_unfit(&mut self, out: &mut Outbox) {
        let Part::Leader(leadership) = &self.part else {
            return;
        };
        if leadership.transfer.is_some() {
            return;
        }
        let (why, to) = match self.better_condition(leadership) {
            Some(to) => (Why::NoRoom, Some(to)),
            None => (Why::DiskStalled, self.better_disk(leadership)),
        };
        if let Some(to) = to {
            out.notes.push(Note::WatchdogFired { why });
            self.note_handed(to);
            self.begin_transfer(to, out);
        }
    }

    /// Whether this replica leads, and so many voters have told that they lack room or apply nothing that the others are
    /// no majority. Nothing is assumed of those who have told nothing.
    #[must_use]
    pub fn is_majority_unfit(&self) -> bool {
        let Part::Leader(leadership) = &self.part else {
            return false;
        };
        let others = leadership.streams.values();
        let told = others.filter_map(|stream| stream.condition);
        let unfit = told.chain([self.condition]).filter(|it| it.severity() > 0);
        unfit.count() + self.quorum() > self.config.membership.members.len()
    }

    /// A follower that has room and applies, or at least more so than this replica. It must have said so: at the
    /// beginning of a leadership nothing is known of anybody.
    fn better_condition(&self, leadership: &Leadership) -> Option<NodeId> {
        let own = self.condition.severity();
        if own == 0 {
            return None;
        }
        let better = |(&node, stream): (&NodeId, &Stream)| {
            let severity = stream.condition?.severity();
            let fit = severity < own && self.keeps_up(node, stream) && self.applies(stream);
            (fit && self.may_flee_to(node)).then_some((severity, node))
        };
        let streams = leadership.streams.iter();
        streams.filter_map(better).min().map(|(_, node)| node)
    }

    /// While the own disk hangs or crawls, a follower whose disk is measurably better.
    fn better_disk(&self, leadership: &Leadership) -> Option<NodeId> {
        if self.wal_age_us() <= self.config.election_us / 2 {
            return None;
        }
        let own_us = self
            .durable
            .sync_us()
            .max(self.durable.present_us(self.now));
        let better = |(&node, stream): (&NodeId, &Stream)| {
            let theirs_us = stream.sync_us.max(stream.wal_age_us);
            let fit = theirs_us.saturating_mul(BETTER) <= own_us && self.is_healthy(node, stream);
            (fit && self.may_flee_to(node)).then_some((stream.durable, node))
        };
        let streams = leadership.streams.iter();
        streams.filter_map(better).max().map(|(_, node)| node)
    }

    /// The fittest follower to hand over to on request: a healthy one, that holds most.
    pub(crate) fn healthiest(&self) -> Option<NodeId> {
        let Part::Leader(leadership) = &self.part else {
            return None;
        };
        let healthy = leadership
            .streams
            .iter()
            .filter(|(node, s)| self.is_healthy(**node, s));
        healthy
            .max_by_key(|(_, stream)| stream.durable)
            .map(|(&node, _)| node)
    }

    /// Whether a follower could lead well: it is in reach, its disk works and has room, and it
    /// applies what is chosen.
    pub(crate) fn is_healthy(&self, node: NodeId, stream: &Stream) -> bool {
        let fit = stream.condition.is_none_or(|it| it.severity() == 0);
        fit && self.keeps_up(node, stream) && self.applies(stream)
    }

    /// Whether a follower is connected, was heard of lately, and its disk does not hang.
    fn keeps_up(&self, node: NodeId, stream: &Stream) -> bool {
        let lately = self.now.since(stream.heard_at) <= 2 * self.config.heartbeat_us;
        let patience_us = self.config.disk_patience_us(stream.sync_us);
        self.is_up(node) && lately && stream.wal_age_us <= patience_us / 2
    }

    /// Whether a follower has applied what was chosen an election timeout ago, or as much as this
    /// replica.
    fn applies(&self, stream: &Stream) -> bool {
        let Part::Leader(leadership) = &self.part else {
            return false;
        };
        let since = self.now.0.saturating_sub(self.config.election_us);
        let mut marks = leadership.chosen_at.iter().rev();
        let then = marks.find(|(at, _)| at.0 <= since);
        then.is_none_or(|(_, chosen)| stream.applied >= *chosen)
    }

    /// Whether the last hand-over to `node` is long enough ago to try again out of need.
    fn may_flee_to(&self, node: NodeId) -> bool {
        let wait_us = HANDED_WAIT * self.config.election_us;
        let last = self.handed.get(&node);
        last.is_none_or(|last| self.now.since(last.at) >= wait_us)
    }

    /// Whether `node` may be preferred: no hand-over to it was tried lately. A hand-over is not repeated at once, whoever
    /// led in between: what made it fail is mostly still there.
    pub(crate) fn may_be_handed(&self, node: NodeId) -> bool {
        self.handed
            .get(&node)
            .is_none_or(|last| self.now.since(last.at) >= last.wait_us)
    }

    /// Remembers that `node` is handed leadership now, of this replica's own accord.
    pub(crate) fn note_handed(&mut self, node: NodeId) {
        let least_us = HANDED_WAIT * self.config.election_us;
        let now = self.now;
        let handed = self.handed.entry(node).or_insert(Handed {
            at: now,
            wait_us: least_us / 2,
        });
        // What lasted as long again as it had to be waited for is no failure.
        let lasted = now.since(handed.at) > 4 * handed.wait_us;
        handed.wait_us = if lasted {
            least_us
        } else {
            (2 * handed.wait_us).min(64 * least_us)
        };
        handed.at = now;
    }
}
