//! The one door: an input comes, its handler runs, and what follows from it is settled.

use crate::core::{Core, Part};
use crate::durable::Waiting;
use crate::ident::{MonoTime, NodeId};
use crate::input::Input;
use crate::message::Message;
use crate::outbox::Outbox;

impl Core {
    /// Takes one input; adds what it wants done to `out`.
    ///
    /// `now` must not fall from call to call; if it does, the latest moment counts. Cost: the
    /// number of peers plus the size of the input.
    ///
    /// # Panics
    ///
    /// When an invariant of the protocol is broken; going on would endanger what was agreed.
    pub fn step(&mut self, now: MonoTime, input: Input, out: &mut Outbox) {
        let now = self.now.max(now);
        self.notice_pause(now, out);
        self.now = now;
        self.dispatch(input, out);
        self.release_durable(out);
        if matches!(self.part, Part::Leader(_)) {
            self.settle_leader(out);
        }
        self.acknowledge(out);
        self.publish(out);
        self.tell_role(out);
        self.assert_invariants();
    }

    /// The earliest time at which a `Tick` would do something.
    #[must_use]
    pub fn next_wake(&self) -> MonoTime {
        match &self.part {
            Part::Follower => self.election_at,
            Part::Prober(prober) => match prober.courtesy_until {
                Some(until) => until.min(prober.deadline),
                None => prober.deadline,
            },
            Part::Candidate(candidate) if self.peers.is_empty() => candidate.resend_at,
            Part::Candidate(candidate) => {
                self.candidacy_ends_at(candidate).min(candidate.resend_at)
            }
            Part::Leader(leadership) => leadership.heartbeat_at,
        }
    }

    fn dispatch(&mut self, input: Input, out: &mut Outbox) {
        match input {
            Input::Tick => {
                self.expire_undecided(out);
                match self.part {
                    Part::Leader(_) => self.on_leader_timers(out),
                    _ => self.on_election_timers(out),
                }
            }
            Input::Recv {
                from,
                link,
                message,
            } => {
                if self.is_present(from, link) {
                    self.on_message(from, message, out);
                }
            }
            Input::Propose { proposals, wall_ms } => self.on_propose(proposals, wall_ms, out),
            Input::Read { id } => self.on_read(id, out),
            Input::WalDurable { seq } => self.durable.complete(seq, self.now),
            Input::Applied { slot } => {
                assert!(
                    slot <= self.published,
                    "applied {slot}, above what was handed out"
                );
                self.applied = self.applied.max(slot);
            }
            Input::PeerUp { peer, link, hello } => self.on_peer_up(peer, link, hello, out),
            Input::PeerDown { peer, link, reset } => self.on_peer_down(peer, link, reset),
            Input::LogLoaded { to, first, entries } => {
                self.on_log_loaded(to, first, entries, out);
            }
            Input::Remembered { number } => self.on_remembered(number, out),
            Input::StateHash { slot, hash } => self.on_state_hash(slot, hash, out),
            Input::LogTrimmed { first } => self.log.forget_below(first),
            Input::SnapshotSaved { slot, meta } => self.on_snapshot_saved(slot, meta, out),
            Input::Admin(admin) => self.on_admin(admin, out),
            Input::Condition(condition) => self.condition = condition,
        }
    }

    fn on_message(&mut self, from: NodeId, message: Message, out: &mut Outbox) {
        match &message {
            Message::Witness(m) => {
                self.hear_witness(from, &m.witness, out);
                return;
            }
            Message::Objection(m) => return self.on_objection(from, m.clone(), out),
            _ if self.peers[&from].refused.is_some() => return self.answer_refused(from, out),
            _ => self.meet(from, out),
        }
        let is_vote = matches!(
            message,
            Message::Promise(_) | Message::Accepted(_) | Message::HeartbeatAck(_)
        );
        if is_vote && !self.counts(from) {
            return; // Asked for again once its start is in the superblock.
        }
        match message {
            Message::Probe(m) => self.on_probe(from, m, out),
            Message::ProbeReply(m) => self.on_probe_reply(from, m, out),
            Message::Prepare(m) => self.on_prepare(from, m, out),
            Message::Promise(m) => self.on_promise(from, m, out),
            Message::Nack(m) => self.on_nack(m, out),
            Message::Accept(m) => self.on_accept(from, m, out),
            Message::Accepted(m) => self.on_accepted(from, m),
            Message::Heartbeat(m) => self.on_heartbeat(from, m, out),
            Message::HeartbeatAck(m) => self.on_heartbeat_ack(from, m, out),
            Message::Resync(m) => self.on_resync(from, m, out),
            Message::FetchChosen(m) => self.on_fetch_chosen(from, m, out),
            Message::ChosenChunk(m) => self.on_chosen_chunk(from, m, out),
            Message::TransferNow(m) => self.on_transfer_now(from, m, out),
            Message::Witness(_) | Message::Objection(_) => unreachable!("handled above"),
        }
    }

    /// Lets go of what waited for the disk, in the order in which it began to wait.
    fn release_durable(&mut self, out: &mut Outbox) {
        while let Some(what) = self.durable.release() {
            self.note_durable(&what);
            match what {
                Waiting::Prepare { ballot } => self.on_prepared(ballot, out),
                Waiting::Promise { to, ballot } => self.send_promise(to, ballot, out),
                Waiting::Vote { ballot, upto } => {
                    if self.vote.ballot == ballot && upto > self.vote.upto {
                        self.vote.upto = upto;
                    }
                    self.following.ack_due |= self.vote.ballot == ballot;
                }
                Waiting::Settled { slot } => {
                    self.settled = self.settled.max(slot);
                    self.log.trim(self.config.chosen_tail_bytes, self.settled);
                }
                Waiting::Recorded { slot } => self.recorded = self.recorded.max(slot),
                Waiting::Snapshot { slot } => self.on_snapshot_marked(slot, out),
            }
        }
    }

    /// R5 and what no handler may break; a broken one stops the replica before it does harm.
    fn assert_invariants(&self) {
        let log = &self.log;
        assert!(log.first() <= log.start() && log.start() <= log.chosen().next());
        assert!(
            log.chosen() <= log.last(),
            "chosen {} above {}",
            log.chosen(),
            log.last()
        );
        assert!(self.applied <= self.published && self.published == log.chosen());
        assert!(self.vote.upto <= log.last(), "a vote for what is not held");
        if let Part::Leader(leadership) = &self.part {
            assert!(
                leadership.ballot == self.promised,
                "leads at a ballot that is not promised"
            );
        }
    }
}
