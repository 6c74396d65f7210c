//! Elections: probe first, then phase 1.
//!
//! A probe changes nothing durable. It asks whether the others miss the leader too, so that a
//! replica that was cut off does not depose a healthy leader when it comes back. It never compares
//! logs: whoever is connected to a quorum may lead, because phase 1 brings it what it lacks.

use std::collections::{BTreeMap, BTreeSet};

use crate::ballot::Ballot;
use crate::candidate::{Asked, Candidate};
use crate::core::{Core, Part};
use crate::entry::Entry;
use crate::ident::{MonoTime, NodeId, Slot};
use crate::kept::Runs;
use crate::message::{
    Message, Nack, Prepare, Probe, ProbeReply, Promise, Run, TransferNow, Verdict,
};
use crate::outbox::{Note, Outbox, Why};
use crate::phase1::{Phase1, Value};
use crate::prober::Prober;

impl Core {
    /// Timers of everybody but a leader.
    pub(crate) fn on_election_timers(&mut self, out: &mut Outbox) {
        match &self.part {
            Part::Follower if self.now >= self.election_at => match self.held_until() {
                // The disk turned out slower than was known when the pledge was given.
                Some(until) if self.now < until => self.stand_after(until),
                _ => self.on_leader_lost(out),
            },
            Part::Prober(prober) if self.now >= prober.deadline => self.on_leader_lost(out),
            Part::Prober(_) => self.try_candidacy(out),
            // Alone, giving up would help nobody.
            Part::Candidate(candidate)
                if self.now >= self.candidacy_ends_at(candidate) && !self.peers.is_empty() =>
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

    /// When a candidacy is given up. While the own promise is on its way to the disk, the time that took so far
    /// says how long the others' may take.
    pub(crate) fn candidacy_ends_at(&self, candidate: &Candidate) -> MonoTime {
        if candidate.prepared {
            return candidate.deadline;
        }
        let least_us = self.attempt_us();
        candidate.deadline.max(candidate.begun_at.after(least_us))
    }

    /// Nobody leads as far as this replica can see: asks the others, unless it could not lead.
    pub(crate) fn on_leader_lost(&mut self, out: &mut Outbox) {
        self.following.contact = None;
        self.excused = false;
        self.kept.forget_upto(self.log.chosen());
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
        self.pledge = None;
        let half = self.config.election_us / 2;
        let deadline = self.now.after(half + self.prng.below(half));
        self.part = Part::Prober(Prober {
            would_be,
            grants: BTreeSet::from([self.own()]),
            freshest: self.log.last(),
            courtesy_until: None,
            asked_at: self.now,
            deadline,
        });
        out.notes.push(Note::ProbeStarted { would_be });
        let probe = Probe {
            would_be,
            chosen: self.log.chosen(),
            last: self.log.last(),
            promise_us: self.durable.promise_us(self.now),
        };
        out.broadcast(self.peers_up(), Message::Probe(probe));
    }

    /// Another asks whether it may lead.
    pub(crate) fn on_probe(&mut self, from: NodeId, probe: Probe, out: &mut Outbox) {
        let verdict = self.judge(from, &probe);
        if verdict == Verdict::Grant {
            self.see(probe.would_be);
            self.pledge(from, &probe, out);
        }
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

    fn judge(&self, from: NodeId, probe: &Probe) -> Verdict {
        if probe.chosen.next() < self.log.first() {
            return Verdict::TooOld;
        }
        if self.is_loyal() || self.is_held_back(from, probe) {
            return Verdict::Sticky;
        }
        if probe.would_be <= self.standing() {
            return Verdict::BallotTooLow;
        }
        Verdict::Grant
    }

    /// Whether a leader is alive, or may be: heard within E, unless its connection was reset and
    /// nothing came for a heartbeat.
    pub(crate) fn is_loyal(&self) -> bool {
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
        let jitter_us = self.prng.below(self.config.election_us);
        let deadline = self.now.after(self.attempt_us() + jitter_us);
        self.pledge = None;
        self.see(ballot);
        self.following.contact = None;
        self.excused = false;
        self.promise(ballot, out);
        self.durable
            .hold(crate::durable::Waiting::Prepare { ballot });
        self.part = Part::Candidate(Box::new(Candidate {
            ballot,
            begun_at: self.now,
            prepared: false,
            phase1: Phase1::default(),
            asked: BTreeMap::new(),
            resend_at: self.now.after(self.config.heartbeat_us),
            step_at: self.now,
            deadline,
        }));
        out.notes.push(Note::ElectionStarted { ballot });
    }

    /// The own promise is durable.
    pub(crate) fn on_prepared(&mut self, ballot: crate::ballot::Ballot, out: &mut Outbox) {
        // How long promises take here is known by now.
        let (now, least_us) = (self.now, self.hold_us(0));
        match &mut self.part {
            Part::Candidate(candidate) if candidate.ballot == ballot => {
                candidate.prepared = true;
                candidate.step_at = now;
                candidate.deadline = candidate.deadline.max(now.after(least_us));
            }
            _ => return,
        }
        self.send_prepares(out);
        self.try_take_over(out);
    }

    /// Asks every acceptor for what it has not told yet, unless it was asked just now.
    pub(crate) fn send_prepares(&mut self, out: &mut Outbox) {
        let (now, needs) = (self.now, self.log.chosen().next());
        let (heartbeat_us, election_us) = (self.config.heartbeat_us, self.config.election_us);
        let up = self.peers.iter().filter(|(_, peer)| peer.link.is_some());
        let up: Vec<(NodeId, u32)> = up
            .map(|(&node, peer)| (node, peer.pace.piece_bytes() as u32))
            .collect();
        let Part::Candidate(candidate) = &mut self.part else {
            return;
        };
        candidate.resend_at = now.after(heartbeat_us);
        if !candidate.prepared {
            return;
        }
        let (mut wanted, mut lacking) = (BTreeMap::<(Slot, u32), Vec<NodeId>>::new(), Vec::new());
        for (node, max_bytes) in up {
            if candidate.phase1.is_complete(node, needs) {
                continue;
            }
            let Some(from) = candidate.phase1.untold(node, needs) else {
                lacking.push(node); // It told all; what lies below, it told to be chosen.
                continue;
            };
            let last = candidate.asked.get(&node).filter(|last| last.from == from);
            if last.is_some_and(|last| now.since(last.at) < last.wait_us) {
                continue;
            }
            // On a slow link the answer may be on its way for long.
            let wait_us = last.map_or(heartbeat_us, |last| (2 * last.wait_us).min(election_us));
            let at = now;
            candidate.asked.insert(node, Asked { from, at, wait_us });
            wanted.entry((from, max_bytes)).or_default().push(node);
        }
        let ballot = candidate.ballot;
        for ((from, max_bytes), to) in wanted {
            let have = self.have_from(from);
            let prepare = Prepare {
                ballot,
                from,
                max_bytes,
                have,
            };
            out.broadcast(to, Message::Prepare(prepare));
        }
        for node in lacking {
            self.fetch(node, out);
        }
    }

    /// The values above `from` whose bytes are here, in the own log or from earlier promises.
    fn have_from(&self, from: Slot) -> Vec<Run> {
        let mut runs = Runs::default();
        let from = from.max(self.log.chosen().next());
        if from <= self.log.last() {
            for (slot, item) in self.log.from(from) {
                runs.push(slot, item.ballot);
            }
        }
        self.kept.add_runs(&mut runs);
        runs.into_vec()
    }

    /// A part of a promise came.
    pub(crate) fn on_promise(&mut self, from: NodeId, promise: Promise, out: &mut Outbox) {
        if !self.hear_witness(from, &promise.witness, out) {
            return;
        }
        self.see(promise.ballot);
        let needs = self.log.chosen().next();
        match &self.part {
            Part::Candidate(candidate)
                if candidate.prepared && promise.ballot == candidate.ballot => {}
            _ => return,
        }
        let values = self.values_of(&promise);
        let (now, attempt_us, election_us) = (self.now, self.attempt_us(), self.config.election_us);
        let Part::Candidate(candidate) = &mut self.part else {
            return;
        };
        let lacks = promise.start > needs && promise.chosen >= needs;
        let bytes = values.iter().map(|value| value.entry.size_bytes()).sum();
        let asked = candidate.asked.get(&from);
        let is_first = !candidate.phase1.has_answered(from);
        if candidate.phase1.add(from, &promise, values) {
            // Only what is new puts the end off.
            candidate.deadline = candidate.deadline.max(now.after(attempt_us));
            candidate.step_at = now;
            // The first answer waited for a disk too.
            if let Some(asked) = asked.filter(|_| !is_first)
                && let Some(peer) = self.peers.get_mut(&from)
            {
                peer.pace.observe(bytes, now.since(asked.at), election_us);
            }
            self.send_prepares(out);
        }
        if lacks {
            // The promise begins above what this replica holds: it counts once the chosen slots
            // between were fetched.
            self.fetch(from, out);
        }
        self.try_take_over(out);
    }

    /// The values that a part reports, as far as their bytes came or are here.
    fn values_of(&mut self, promise: &Promise) -> Vec<Value> {
        let bytes_max = 2 * self.config.unchosen_bytes_max;
        let mut values = Vec::with_capacity(promise.held.len());
        for (slot, held) in (promise.start.0..).map(Slot).zip(&promise.held) {
            let entry = match &held.entry {
                Some(entry) => {
                    self.kept.put(slot, held.ballot, entry, bytes_max);
                    Some(entry)
                }
                None => self.known(slot, held.ballot),
            };
            let Some(entry) = entry.cloned() else {
                break; // It is asked for again.
            };
            values.push(Value {
                ballot: held.ballot,
                chosen: held.chosen,
                entry,
            });
        }
        values
    }

    /// The value accepted in `slot` under `ballot`, if its bytes are here.
    fn known(&self, slot: Slot, ballot: Ballot) -> Option<&Entry> {
        let own = self.log.get(slot).filter(|item| item.ballot == ballot);
        own.map(|item| &item.entry)
            .or_else(|| self.kept.get(slot, ballot))
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
