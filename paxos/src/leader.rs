//! A leader: places proposals, streams them, counts votes, confirms reads.
//!
//! No timer stands on the way of a command: accepts leave in the step in which the entries go to
//! the own disk, and the acknowledgement that completes a quorum chooses in its own step.

use crate::core::{Core, Part};
use crate::entry::{Entry, EntryKind};
use crate::ident::{NodeId, Slot};
use crate::input::Proposal;
use crate::leadership::Leadership;
use crate::message::{Accepted, Heartbeat, HeartbeatAck, Message, Resync};
use crate::outbox::{Note, Outbox, Reject};
use crate::stream::Stream;

impl Core {
    /// Gives each proposal a slot, all as one submission to the log, or says why not.
    pub(crate) fn on_propose(&mut self, proposals: Vec<Proposal>, wall_ms: u64, out: &mut Outbox) {
        let hint = self.leader_hint();
        let mut room = self
            .config
            .unchosen_bytes_max
            .saturating_sub(self.log.unchosen_bytes());
        let last = self.log.last();
        let idle = self.log.chosen() == last;
        let Part::Leader(leadership) = &mut self.part else {
            let reject = |proposal: Proposal| (proposal.id, Reject::NotLeader { hint });
            out.rejects.extend(proposals.into_iter().map(reject));
            return;
        };
        let ballot = leadership.ballot;
        let stamp_ms = leadership.stamper.stamp(self.now);
        let closed = leadership.transfer.is_some();
        let mut entries = Vec::with_capacity(proposals.len());
        let mut slot = last;
        let mut full = closed;
        for proposal in proposals {
            assert!(
                is_proposable(proposal.kind),
                "the core proposes {:?} itself",
                proposal.kind
            );
            // Once one had no room, later ones wait too, so that a client's order is kept.
            full |= proposal.payload.len() > room;
            if full {
                out.rejects.push((proposal.id, Reject::Busy));
                continue;
            }
            let entry = Entry::new(proposal.kind, ballot, stamp_ms, wall_ms, &proposal.payload);
            room = room.saturating_sub(entry.size_bytes());
            slot = slot.next();
            leadership.placed.push_back((slot, proposal.id));
            out.placed.push((proposal.id, slot, stamp_ms));
            entries.push(entry);
        }
        if idle {
            leadership.progress_at = self.now;
        }
        if !entries.is_empty() {
            self.accept(ballot, last.next(), entries, out);
        }
    }

    /// A read wants an index.
    pub(crate) fn on_read(&mut self, id: u64, out: &mut Outbox) {
        let hint = self.leader_hint();
        let Part::Leader(leadership) = &mut self.part else {
            out.reads_failed.push((id, Reject::NotLeader { hint }));
            return;
        };
        if !leadership.reads.add(id) {
            out.reads_failed.push((id, Reject::Busy));
        }
    }

    /// Phase 2b: a follower's durable prefix.
    pub(crate) fn on_accepted(&mut self, from: NodeId, m: Accepted) {
        let (now, last) = (self.now, self.log.last());
        let Some(stream) = self.stream_at(from, m.ballot) else {
            return;
        };
        stream.heard_at = now;
        stream.wal_age_us = m.wal_age_us;
        stream.round = stream.round.max(m.round);
        stream.on_progress(m.upto.min(last), m.received.min(last));
        self.remember(from, m.chosen, m.upto);
    }

    /// A follower answered a heartbeat: it is alive, it confirms the round, and it says where it is.
    pub(crate) fn on_heartbeat_ack(&mut self, from: NodeId, m: HeartbeatAck, out: &mut Outbox) {
        let (now, last) = (self.now, self.log.last());
        if m.own.node == from {
            self.hear_testimony(from, &m.own, out);
        }
        let Some(stream) = self.stream_at(from, m.ballot) else {
            return;
        };
        stream.heard_at = now;
        stream.wal_age_us = m.wal_age_us;
        stream.applied = stream.applied.max(m.applied);
        stream.sync_us = m.sync_us;
        stream.condition = Some(m.condition);
        let received = m.received.min(last);
        if let Some(next) = stream.lost_after(m.round, received) {
            let known = stream.next.is_some();
            stream.rewind(next);
            if known {
                out.notes.push(Note::Resent {
                    peer: from,
                    from: next,
                });
            }
        }
        stream.round = stream.round.max(m.round);
        let took = stream.round_took(m.round, now);
        stream.on_progress(m.upto.min(last), received);
        self.remember(from, m.chosen, m.upto);
        let election_us = self.config.election_us;
        if let Some(peer) = self.peers.get_mut(&from) {
            if let Some((bytes, took_us)) = took {
                peer.pace.observe(bytes, took_us, election_us);
            }
            peer.holds = peer.holds.max(m.recorded);
        }
    }

    /// A follower found a gap.
    pub(crate) fn on_resync(&mut self, from: NodeId, m: Resync, out: &mut Outbox) {
        let (now, next) = (self.now, m.next.min(self.log.last().next()));
        let Some(stream) = self.stream_at(from, m.ballot) else {
            return;
        };
        stream.heard_at = now;
        if next > stream.durable {
            stream.rewind(next);
            out.notes.push(Note::Resent {
                peer: from,
                from: next,
            });
        }
    }

    /// What follows from whatever this step brought: commit, reads, hand-over, streams.
    pub(crate) fn settle_leader(&mut self, out: &mut Outbox) {
        self.advance_commit();
        self.settle_reads(out);
        self.advance_transfer(out);
        self.flush_streams(out);
        self.tell_commit(out);
    }

    /// Begins a round: everybody is asked to confirm this leader.
    pub(crate) fn begin_round(&mut self, out: &mut Outbox) {
        let (commit, needed, now) = (self.log.chosen(), self.needed, self.now);
        let (to, witness) = (self.peers_up(), self.witness());
        let Part::Leader(leadership) = &mut self.part else {
            return;
        };
        leadership.round += 1;
        let round = leadership.round;
        leadership.reads.begin(round, commit.max(leadership.start));
        for stream in leadership.streams.values_mut() {
            stream.mark_round(round, now);
            stream.commit_sent = stream.commit_sent.max(commit);
        }
        let beat = Heartbeat {
            ballot: leadership.ballot,
            commit,
            round,
            needed,
            witness,
        };
        out.broadcast(to, Message::Heartbeat(beat));
        self.remember_later(out);
    }

    /// A connection to a follower stands: its answer will tell where the stream goes on.
    pub(crate) fn greet(&mut self, peer: NodeId, out: &mut Outbox) {
        let (commit, needed) = (self.log.chosen(), self.needed);
        let witness = self.witness();
        let Part::Leader(leadership) = &mut self.part else {
            return;
        };
        if let Some(stream) = leadership.streams.get_mut(&peer) {
            stream.forget_position();
            let (ballot, round) = (leadership.ballot, leadership.round);
            out.send(
                peer,
                Message::Heartbeat(Heartbeat {
                    ballot,
                    commit,
                    round,
                    needed,
                    witness,
                }),
            );
        }
    }

    pub(crate) fn leadership_mut(&mut self) -> Option<&mut Leadership> {
        match &mut self.part {
            Part::Leader(leadership) => Some(leadership),
            _ => None,
        }
    }

    /// The stream to `peer`, if `ballot` is the one of this leadership: answers to an older one
    /// count for nothing.
    fn stream_at(&mut self, peer: NodeId, ballot: crate::ballot::Ballot) -> Option<&mut Stream> {
        let leadership = self.leadership_mut().filter(|l| l.ballot == ballot)?;
        leadership.streams.get_mut(&peer)
    }

    /// Keeps what a follower's answer says beyond this leadership.
    fn remember(&mut self, peer: NodeId, chosen: Slot, upto: Slot) {
        self.note_acknowledged(peer, upto);
        if let Some(peer) = self.peers.get_mut(&peer) {
            peer.chosen = peer.chosen.max(chosen);
        }
    }

    /// The highest slot that a quorum has durably at this ballot is chosen, and all below. The
    /// leader itself counts like any other: only what its own disk has (P4).
    fn advance_commit(&mut self) {
        let (quorum, now, chosen) = (self.quorum(), self.now, self.log.chosen());
        let vote = self.vote;
        let Part::Leader(leadership) = &mut self.part else {
            return;
        };
        let own = if vote.ballot == leadership.ballot {
            vote.upto
        } else {
            Slot::NONE
        };
        let upto = leadership.quorum_upto(own, quorum);
        if upto > chosen {
            leadership.progress_at = now;
            while leadership
                .placed
                .front()
                .is_some_and(|(slot, _)| *slot <= upto)
            {
                leadership.placed.pop_front();
            }
            self.log.choose(upto);
        }
    }

    fn settle_reads(&mut self, out: &mut Outbox) {
        let quorum = self.quorum();
        let Some(leadership) = self.leadership_mut() else {
            return;
        };
        leadership
            .reads
            .confirm(leadership.quorum_round(quorum), &mut out.reads_ready);
        if leadership.reads.wants_round() {
            self.begin_round(out);
            let Some(leadership) = self.leadership_mut() else {
                return;
            };
            // Alone, a leader is its own quorum.
            leadership
                .reads
                .confirm(leadership.quorum_round(quorum), &mut out.reads_ready);
        }
    }
}

const fn is_proposable(kind: EntryKind) -> bool {
    matches!(kind, EntryKind::App | EntryKind::Settings | EntryKind::Time)
}
