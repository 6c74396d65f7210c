//! Connections to peers: who is reachable, and who is who.
//!
//! A voter is a node and its disk. A peer whose disk is not the one in the membership counts for
//! nothing, whatever it says: it may have forgotten what it promised.

use crate::core::{Acquaintance, Core, Part};
use crate::ident::NodeId;
use crate::input::PeerHello;
use crate::outbox::{Note, Outbox};
use crate::refusal::Refusal;

impl Core {
    /// What to say in the handshake of a new connection.
    #[must_use]
    pub fn hello(&self) -> PeerHello {
        let identity = self.config.identity;
        PeerHello {
            node: identity.node,
            disk: identity.disk,
            life: self.config.life,
            witness: self.witness(),
        }
    }

    /// A connection stands.
    pub(crate) fn on_peer_up(
        &mut self,
        peer: NodeId,
        link: u64,
        hello: PeerHello,
        out: &mut Outbox,
    ) {
        let expected = self.config.membership.disk_of(peer);
        if hello.node != peer || expected != Some(hello.disk) || peer == self.own() {
            let found = hello.disk;
            self.turn_away(peer, Refusal::Disk { found, expected }, out);
            return;
        }
        if !self.accepts_life(peer, hello.life) {
            // It finds out by itself: the handshake told it which start is known here.
            let (found, known) = (hello.life, self.known_life(peer));
            self.turn_away(peer, Refusal::Life { found, known }, out);
            return;
        }
        let Some(known) = self.peers.get_mut(&peer) else {
            return;
        };
        if known.link.is_some_and(|present| present > link) {
            return;
        }
        if known.life != hello.life {
            *known = Acquaintance {
                chosen: known.chosen,
                holds: known.holds,
                pace: known.pace,
                life: hello.life,
                ..Acquaintance::default()
            };
            // It may have fetched more since it answered; it is asked again below.
            if let Part::Candidate(candidate) = &mut self.part {
                candidate.phase1.forget(peer);
            }
        }
        if let Some(known) = self.peers.get_mut(&peer) {
            known.link = Some(link);
            known.turned_away = None;
        }
        self.asked.forget_loads(peer);
        if !self.hear_witness(peer, &hello.witness, out) {
            return;
        }
        let counted = self.counts(peer);
        if let Some(known) = self.peers.get_mut(&peer) {
            known.counted = counted;
        }
        self.greet(peer, out);
        self.prepare_late(peer, out);
    }

    /// A process that claims to be `peer` gets no connection. Another one may stand.
    fn turn_away(&mut self, peer: NodeId, why: Refusal, out: &mut Outbox) {
        out.notes.push(Note::Refused { peer, why });
        if let Some(known) = self.peers.get_mut(&peer) {
            known.turned_away = Some(why);
        }
    }

    /// A connection is gone. If it was the leader's and was reset, its process is most likely
    /// dead: the election need not wait for the whole timeout.
    pub(crate) fn on_peer_down(&mut self, peer: NodeId, link: u64, reset: bool) {
        match self.peers.get_mut(&peer) {
            Some(known) if known.link == Some(link) => known.link = None,
            _ => return,
        }
        if let Some(stream) = self.leadership_mut().and_then(|l| l.streams.get_mut(&peer)) {
            stream.forget_position();
        }
        let follows = matches!(self.part, Part::Follower) && self.leader_hint() == Some(peer);
        if let Some(contact) = self.following.contact.filter(|_| reset && follows) {
            self.following.reset = true;
            let heartbeat_us = self.config.heartbeat_us;
            self.stand_soon(contact.after(heartbeat_us).max(self.now));
        }
        if reset {
            self.withdraw_pledge(peer);
        }
    }

    /// Whether a message came over the peer's present connection.
    pub(crate) fn is_present(&self, peer: NodeId, link: u64) -> bool {
        self.peers
            .get(&peer)
            .is_some_and(|known| known.link == Some(link))
    }

    /// A candidate asks whoever comes late as well.
    pub(crate) fn prepare_late(&mut self, peer: NodeId, out: &mut Outbox) {
        if let Part::Candidate(candidate) = &mut self.part {
            candidate.asked.remove(&peer);
            self.send_prepares(out);
        }
    }
}
