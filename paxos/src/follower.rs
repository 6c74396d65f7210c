//! A follower: takes a leader's stream in order, acknowledges what is durable, learns what is
//! chosen.

use crate::ballot::Ballot;
use crate::core::{Core, Following, Part, Vote};
use crate::durable::Waiting;
use crate::ident::{NodeId, Slot};
use crate::message::{Accept, Accepted, Heartbeat, HeartbeatAck, Message, Resync};
use crate::outbox::{Outbox, Why};

impl Core {
    /// Phase 2a arrived: a piece of the stream.
    pub(crate) fn on_accept(&mut self, from: NodeId, accept: Accept, out: &mut Outbox) {
        if !self.hear_leader(from, accept.ballot, out) {
            return;
        }
        self.following.round = self.following.round.max(accept.round);
        self.following.commit = self.following.commit.max(accept.commit);
        self.learn_commit(accept.commit);
        // In order: a slot is accepted only if everything below is chosen or accepted at this
        // ballot, so that one number acknowledges all of it.
        if accept.prev >= self.following.next {
            self.ask_resync(out);
            return;
        }
        let known = self.following.next.0 - accept.prev.next().0;
        let known = usize::try_from(known).unwrap_or(usize::MAX);
        if !accept.entries.is_empty() && known >= accept.entries.len() {
            self.following.ack_due = true; // A repeated piece: perhaps the answer was lost.
        }
        let fresh: Vec<_> = accept.entries.into_iter().skip(known).collect();
        if !fresh.is_empty() {
            let next = self.following.next;
            self.following.next = Slot(next.0 + fresh.len() as u64);
            self.accept(accept.ballot, next, fresh, out);
            self.learn_commit(accept.commit);
        }
    }

    /// A heartbeat arrived. It is answered while nothing above its ballot is promised, durable or
    /// not; the answer confirms the round.
    pub(crate) fn on_heartbeat(&mut self, from: NodeId, beat: Heartbeat, out: &mut Outbox) {
        if !self.hear_witness(from, &beat.witness, out) || !self.hear_leader(from, beat.ballot, out)
        {
            return;
        }
        self.remember_later(out);
        self.following.round = self.following.round.max(beat.round);
        self.following.commit = self.following.commit.max(beat.commit);
        self.needed = self.needed.max(beat.needed);
        self.learn_commit(beat.commit);
        self.release_if_grown(out);
        self.kept.forget_upto(self.log.chosen());
        let ack = HeartbeatAck {
            ballot: beat.ballot,
            round: beat.round,
            upto: self.vote.upto,
            received: self.following.next.prev(),
            chosen: self.log.chosen(),
            applied: self.applied,
            wal_age_us: self.wal_age_us(),
            recorded: self.recorded,
            sync_us: self.durable.sync_us(),
            condition: self.condition,
            own: self.own_testimony(),
        };
        self.send(from, Message::HeartbeatAck(ack), out);
    }

    /// Sends the acknowledgement that became due in this step, one for everything.
    pub(crate) fn acknowledge(&mut self, out: &mut Outbox) {
        if !std::mem::take(&mut self.following.ack_due) {
            return;
        }
        let ballot = self.following.ballot;
        let follows = matches!(self.part, Part::Follower) && self.vote.ballot == ballot;
        if !follows || self.promised > ballot {
            return;
        }
        let accepted = Accepted {
            ballot,
            upto: self.vote.upto,
            received: self.following.next.prev(),
            chosen: self.log.chosen(),
            wal_age_us: self.wal_age_us(),
            round: self.following.round,
        };
        self.send(ballot.node(), Message::Accepted(accepted), out);
    }

    /// A message of a leader at `ballot` came: follows it, or refuses it and gives false.
    fn hear_leader(&mut self, from: NodeId, ballot: Ballot, out: &mut Outbox) -> bool {
        if ballot.node() != from {
            return false; // Nobody proposes under another's ballot.
        }
        self.see(ballot);
        if ballot < self.standing() {
            self.nack(from, ballot, out);
            return false;
        }
        if !matches!(self.part, Part::Follower) {
            self.become_follower(Why::HigherBallot, out);
        }
        if ballot > self.following.ballot {
            self.follow(ballot);
        }
        self.following.contact = Some(self.now);
        self.following.reset = false;
        self.pledge = None;
        self.backoff = 1;
        self.excused = false;
        self.rearm_election();
        true
    }

    fn follow(&mut self, ballot: Ballot) {
        let next = self.log.stream_next(ballot);
        self.following = Following {
            ballot,
            next,
            ..Following::default()
        };
        self.vote = Vote {
            ballot,
            upto: Slot::NONE,
        };
        // What is held already counts once it is durable, which after a start it is at once.
        self.durable.hold(Waiting::Vote {
            ballot,
            upto: next.prev(),
        });
    }

    /// A leader's commit index chooses only what is held at that leader's ballot, or is chosen
    /// already: an entry of another ballot in that slot may be another value.
    fn learn_commit(&mut self, commit: Slot) {
        let upto = commit.min(self.following.next.prev());
        if upto > self.log.chosen() {
            self.log.choose(upto);
        }
    }

    /// Everything up to the chosen prefix was fetched: the stream goes on behind it.
    pub(crate) fn skip_stream_to_chosen(&mut self) {
        let following = &mut self.following;
        following.next = following.next.max(self.log.chosen().next());
        // Once a higher ballot was promised, nothing is acknowledged to that leader any more.
        if self.vote.ballot == following.ballot && following.ballot >= self.promised {
            let upto = following.next.prev();
            self.durable.hold(Waiting::Vote {
                ballot: following.ballot,
                upto,
            });
        }
    }

    /// Something is missing in front of what came. Asks once per gap and heartbeat, however many
    /// pieces behind the gap arrive.
    fn ask_resync(&mut self, out: &mut Outbox) {
        let next = self.following.next;
        let again = self.following.resync.is_none_or(|(asked, at)| {
            asked != next || self.now.since(at) >= self.config.heartbeat_us
        });
        if again {
            self.following.resync = Some((next, self.now));
            let ballot = self.following.ballot;
            self.send(ballot.node(), Message::Resync(Resync { ballot, next }), out);
        }
    }
}
