//! Holding back: while one candidacy is under way, another would only cost everybody one more promise.
//!
//! Where a promise takes the disk a good part of an election timeout, two replicas that outbid each other by
//! turns elect nobody. So whoever supports a candidacy, its own or another's, grants no probe of a rival and
//! does not stand itself until that candidacy has had its time. Nothing of this is durable and safety does not
//! rest on it: a prepare with a higher ballot is answered as always.
//!
//! Each step of a candidacy that is seen, the grant, the prepare, the promise, begins that time again; its
//! owner's death ends it.

use crate::ballot::Ballot;
use crate::core::{Core, Part};
use crate::ident::{MonoTime, NodeId};
use crate::message::Probe;
use crate::outbox::{Outbox, Why};

/// Support for another's candidacy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Pledge {
    pub(crate) to: NodeId,
    /// The ballot that was promised to it; [`Ballot::ZERO`] while only a probe was granted.
    pub(crate) ballot: Ballot,
    /// When its last step was seen.
    step_at: MonoTime,
    /// How long a promise takes on the candidate's disk, as it said.
    promise_us: u64,
    /// The promise is durable and has left.
    answered: bool,
}

impl Core {
    /// Whether a candidacy under way, the own or a supported one, forbids to grant the probe of `from`.
    pub(crate) fn is_held_back(&self, from: NodeId, probe: &Probe) -> bool {
        match &self.part {
            Part::Candidate(candidate) => self.now < candidate.step_at.after(self.hold_us(0)),
            Part::Prober(prober) => {
                // Two that ask at the same moment: the fresher log goes first, then the higher id. One that
                // gets no answers in that time holds nobody back.
                let just_asked = self.now.since(prober.asked_at) < self.config.heartbeat_us;
                just_asked && (self.log.last(), self.own()) > (probe.last, from)
            }
            Part::Follower => {
                let to_another = self.pledge.is_some_and(|pledge| pledge.to != from);
                to_another && self.held_until().is_some_and(|until| self.now < until)
            }
            Part::Leader(_) => true,
        }
    }

    /// A probe of `from` is granted: does not stand against it, unless it waits for this replica's fresher log.
    ///
    /// A pledge to stand back is given once. If nothing comes of it, this replica stands next, however often it is
    /// asked meanwhile: it may be the only one with a quorum in reach.
    pub(crate) fn pledge(&mut self, from: NodeId, probe: &Probe, out: &mut Outbox) {
        let stands = matches!(self.part, Part::Candidate(_));
        if stands || self.pledge.is_some() || self.log.last() > probe.last {
            return;
        }
        if !matches!(self.part, Part::Follower) {
            self.become_follower(Why::HigherBallot, out);
        }
        self.hold_back(from, Ballot::ZERO, probe.promise_us);
    }

    /// `to` has got as far as asking for a promise of `ballot`, or this replica's promise of it leaves now.
    pub(crate) fn support(&mut self, to: NodeId, ballot: Ballot, answered: bool) {
        let known = self.pledge.filter(|pledge| pledge.ballot == ballot);
        if known.is_some_and(|pledge| pledge.answered || !answered) {
            return; // Repeated.
        }
        let from_it = self.pledge.filter(|pledge| pledge.to == to);
        self.hold_back(to, ballot, from_it.map_or(0, |pledge| pledge.promise_us));
        if let Some(pledge) = &mut self.pledge {
            pledge.answered = answered;
        }
    }

    fn hold_back(&mut self, to: NodeId, ballot: Ballot, promise_us: u64) {
        self.pledge = Some(Pledge {
            to,
            ballot,
            step_at: self.now,
            promise_us,
            answered: false,
        });
        if let Some(until) = self.held_until() {
            self.stand_after(until);
        }
    }

    /// Until when rivals of the supported candidacy are held back, as it looks now.
    pub(crate) fn held_until(&self) -> Option<MonoTime> {
        let hold = |pledge: Pledge| pledge.step_at.after(self.hold_us(pledge.promise_us));
        self.pledge.map(hold)
    }

    /// Does not stand before `until`, and then not at the very moment at which all others do.
    pub(crate) fn stand_after(&mut self, until: MonoTime) {
        let jitter_us = self.prng.below(self.config.heartbeat_us);
        self.election_at = self.election_at.max(until.after(jitter_us));
    }

    /// The process that was supported is most likely dead: nobody needs to be held back for it.
    pub(crate) fn withdraw_pledge(&mut self, peer: NodeId) {
        if self.pledge.is_none_or(|pledge| pledge.to != peer) {
            return;
        }
        self.pledge = None;
        if matches!(self.part, Part::Follower) && !self.is_loyal() {
            self.stand_soon(self.now);
        }
    }

    /// How long one step of a candidacy may take: E and two promises, four E at most. A promise takes as long as
    /// on this disk, or `theirs_us` if that is longer.
    pub(crate) fn hold_us(&self, theirs_us: u64) -> u64 {
        let election_us = self.config.election_us;
        let promise_us = self.durable.promise_us(self.now).max(theirs_us);
        election_us
            .saturating_add(promise_us.saturating_mul(2))
            .min(4 * election_us)
    }
}
