//! Elections: probe first, then phase 1.
//!
//! A probe changes nothing durable. It asks whether the others miss the leader too, so that a
//! replica that was cut off does not depose a healthy leader when it comes back. It never compares
//! logs: whoever is connected to a quorum may lead, because phase 1 brings it what it lacks.

use std::collections::{BTreeMap, BTreeSet};

use crate::candidate::Candidate;
use crate::core::{Core, Part};
use crate::ident::{NodeId, Slot};
use crate::message::{Message, Nack, Prepare, Probe, ProbeReply, Promise, TransferNow, Verdict};
use crate::outbox::{Note, Outbox, Why};
use crate::phase1::Phase1;
use crate::prober::Prober;

impl Core {
    /// Timers of everybody but a leader.
    pub(crate) fn on_election_timers(&mut self, out: &mut Outbox) {
        match &self.part {
            Part::Follower if self.now >= self.election_at => self.on_leader_lost(out),
            Part::Prober(prober) if self.now >= prober.deadline => self.on_leader_lost(out),
            Part::Prober(_) => self.try_candidacy(out),
            // Alone, giving up would help nobody.
            Part::Candidate(candidate)
                if self.now >= candidate.deadline && !self.peers.is_empty() =>
            {
                self.backoff = (self.backoff * 2).min(4);
                self.become_follower(Why::NoQuorum, out);
            }
            Part::Candidate(candidate) if self.now >= candidate.resend_at => {
                self.send_prepares(out);
            }
            _ => {}
        }
    }

    /// Nobody leads as far as this replica can see: asks the others, unless it could not lead.
    pub(crate) fn on_leader_lost(&mut self, out: &mut Outbox) {
        self.following.contact = None;
        self.excused = false;
        if self.is_voter() && self.peers.is_empty() {
            self.start_candidacy(out);
        } else if !self.is_voter() || self.disk_is_stalled() {
            self.part = Part::Follower;
            self.rearm_election();
        } else {
            self.start_probe(out);
        }
    }

    fn start_probe(&mut self, out: &mut Outbox) {
        self.excused = false;
        let would_be = self.ballot_seen.next_for(self.own());
        let half = self.config.election_us / 2;
        let deadline = self.now.after(half + self.prng.below(half));
        self.part = Part::Prober(Prober {
            would_be,
            grants: BTreeSet::from([self.own()]),
            freshest: self.log.last(),
            courtesy_until: None,
            deadline,
        });
        out.notes.push(Note::ProbeStarted { would_be });
        let probe = Probe {
            would_be,
            chosen: self.log.chosen(),
            last: self.log.last(),
        };
        out.broadcast(self.peers_up(), Message::Probe(probe));
    }

    /// Another asks whether it may lead.
    pub(crate) fn on_probe(&mut self, from: NodeId, probe: Probe, out: &mut Outbox) {
        let verdict = self.judge(&probe);
        let reply = ProbeReply {
            would_be: probe.would_be,
            verdict,
            promised: self.standing(),
            chosen: self.log.chosen(),
            first: self.log.first(),
            last: self.log.last(),
        };
        self.send(from, Message::ProbeReply(reply), out);
        self.fetch_if_leaderless(from, probe.chosen, out);
    }

    fn judge(&self, probe: &Probe) -> Verdict {
        if probe.chosen.next() < self.log.first() {
            return Verdict::TooOld;
        }
        if self.is_loyal() {
            return Verdict::Sticky;
        }
        if probe.would_be <= self.standing() {
            return Verdict::BallotTooLow;
        }
        Verdict::Grant
    }

    /// Whether a leader is alive, or may be: heard within E, unless its connection was reset and
    /// nothing came for a heartbeat.
    fn is_loyal(&self) -> bool {
        if matches!(self.part, Part::Leader(_)) {
            return true;
        }
        let config = &self.config;
        let patience_us = if self.following.reset {
            config.heartbeat_us
        } else {
            config.election_us
        };
        self.following
            .contact
            .is_some_and(|at| self.now.since(at) < patience_us)
    }

    /// A probe was answered. A refusal teaches the ballot to beat.
    pub(crate) fn on_probe_reply(&mut self, from: NodeId, reply: ProbeReply, out: &mut Outbox) {
        self.see(reply.promised);
        self.fetch_if_leaderless(from, reply.chosen, out);
        let Part::Prober(prober) = &mut self.part else {
            return;
        };
        if reply.would_be != prober.would_be {
            return;
        }
        prober.freshest = prober.freshest.max(reply.last);
        match reply.verdict {
            Verdict::Grant => {
                prober.grants.insert(from);
                self.try_candidacy(out);
            }
            Verdict::BallotTooLow if self.ballot_seen.round() >= reply.would_be.round() => {
                self.start_probe(out);
            }
            Verdict::BallotTooLow | Verdict::Sticky | Verdict::TooOld => {}
        }
    }

    /// With a quorum of grants goes on to phase 1, after waiting once for a fresher peer.
    fn try_candidacy(&mut self, out: &mut Outbox) {
        let quorum = self.quorum();
        let (last, now) = (self.log.last(), self.now);
        let courtesy = self.config.election_us / 4;
        let Part::Prober(prober) = &mut self.part else {
            return;
        };
        if prober.grants.len() < quorum {
            return;
        }
        if prober.freshest > last {
            let until = *prober.courtesy_until.get_or_insert(now.after(courtesy));
            if now < until {
                prober.deadline = prober.deadline.max(until.after(1));
                return;
            }
        }
        self.start_candidacy(out);
    }

    /// Promises itself a new ballot; the prepares go out once that promise is durable (P1), so
    /// that no ballot is ever used twice, whatever crashes.
    pub(crate) fn start_candidacy(&mut self, out: &mut Outbox) {
        let ballot = self.ballot_seen.max(self.promised).next_for(self.own());
        let least = self.attempt_us();
        let deadline = self.now.after(least + self.prng.below(least));
        self.see(ballot);
        self.following.contact = None;
        self.excused = false;
        self.promise(ballot, out);
        self.durable
            .hold(crate::durable::Waiting::Prepare { ballot });
        self.part = Part::Candidate(Box::new(Candidate {
            ballot,
            prepared: false,
            phase1: Phase1::default(),
            resend_at: self.now.after(self.config.heartbeat_us),
            deadline,
        }));
        out.notes.push(Note::ElectionStarted { ballot });
    }

    /// The own promise is durable.
    pub(crate) fn on_prepared(&mut self, ballot: crate::ballot::Ballot, out: &mut Outbox) {
        match &mut self.part {
            Part::Candidate(candidate) if candidate.ballot == ballot => candidate.prepared = true,
            _ => return,
        }
        self.send_prepares(out);
        self.try_take_over(out);
    }

    fn send_prepares(&mut self, out: &mut Outbox) {
        let from = self.log.chosen().next();
        let up = self.peers_up();
        let Part::Candidate(candidate) = &mut self.part else {
            return;
        };
        candidate.resend_at = self.now.after(self.config.heartbeat_us);
        if !candidate.prepared {
            return;
        }
        // What was told already is not asked for again: an answer larger than a link's queue
        // comes through piece by piece.
        let mut asked: BTreeMap<Slot, Vec<NodeId>> = BTreeMap::new();
        for node in up {
            if !candidate.phase1.is_complete(node, from) {
                let untold = candidate.phase1.untold(node, from);
                asked.entry(untold).or_default().push(node);
            }
        }
        for (from, to) in asked {
            let ballot = candidate.ballot;
            out.broadcast(to, Message::Prepare(Prepare { ballot, from }));
        }
    }

    /// A part of a promise came.
    pub(crate) fn on_promise(&mut self, from: NodeId, promise: Promise, out: &mut Outbox) {
        self.see(promise.ballot);
        let needs = self.log.chosen().next();
        let Part::Candidate(candidate) = &mut self.part else {
            return;
        };
        if promise.ballot != candidate.ballot || !candidate.prepared {
            return;
        }
        let lacks = promise.start > needs && promise.chosen >= needs;
        candidate.phase1.add(from, promise);
        if lacks {
            // The promise begins above what this replica holds: it counts once the chosen slots
            // between were fetched.
            self.fetch(from, out);
        }
        self.try_take_over(out);
    }

    /// A message of this replica was refused: a higher ballot stands.
    pub(crate) fn on_nack(&mut self, nack: Nack, out: &mut Outbox) {
        self.see(nack.promised);
        let own = match &self.part {
            Part::Candidate(candidate) => candidate.ballot,
            Part::Leader(leadership) => leadership.ballot,
            Part::Follower | Part::Prober(_) => return,
        };
        if nack.refused == own && nack.promised > own {
            self.become_follower(Why::HigherBallot, out);
        }
    }

    /// The leader asks this replica to take over. No probe: the leader itself gave up its claim.
    pub(crate) fn on_transfer_now(&mut self, from: NodeId, m: TransferNow, out: &mut Outbox) {
        let follows = matches!(self.part, Part::Follower) && self.following.ballot == m.ballot;
        let holds = self.vote.ballot == m.ballot && self.vote.upto >= m.upto;
        let may = m.ballot.node() == from && m.ballot >= self.promised && self.is_voter();
        // Without a quorum in reach it would only depose a leader that has one.
        let reaches = self.peers_up().len() + 1 >= self.quorum();
        if follows && holds && may && reaches && !self.disk_is_stalled() {
            self.start_candidacy(out);
        }
    }
}
