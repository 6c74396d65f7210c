//! A core's state as plain data, for `/status`, metrics and checks.

use crate::ballot::Ballot;
use crate::core::{Core, Part};
use crate::ident::{NodeId, Slot};
use crate::outbox::Role;
use crate::refusal::Refusal;

/// What a core knows of itself and its peers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// What it does.
    pub role: Role,
    /// Its own ballot as candidate and leader, else the ballot of the leader it follows.
    pub ballot: Ballot,
    /// Who leads, as far as known.
    pub leader: Option<NodeId>,
    /// The highest ballot promised.
    pub promised: Ballot,
    /// The first slot the log holds.
    pub first: Slot,
    /// Every slot up to here is known to be chosen.
    pub chosen: Slot,
    /// The highest slot known to be chosen anywhere; above `chosen` on a replica that is behind.
    pub known_chosen: Slot,
    /// The last slot held.
    pub last: Slot,
    /// What the driver applied.
    pub applied: Slot,
    /// Every slot up to here is durable here at `ballot`, or chosen: this replica's own vote.
    pub durable: Slot,
    /// The slot of the own `LeaderStart`, while leading.
    pub leader_start: Option<Slot>,
    /// Bytes of entries proposed but not chosen.
    pub unchosen_bytes: usize,
    /// Age of the oldest record that the disk has not finished, microseconds.
    pub wal_age_us: u64,
    /// The lowest slot that a known member lacks.
    pub needed: Slot,
    /// To whom leadership is being handed, if it is.
    pub transfer: Option<NodeId>,
    /// The other members, ascending.
    pub peers: Vec<PeerStatus>,
}

/// What a core knows of one peer. All but `up`, `chosen` and `refused` is only known while leading.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PeerStatus {
    /// The peer.
    pub node: NodeId,
    /// Whether a connection stands.
    pub up: bool,
    /// The next slot to stream to it, if known.
    pub next: Option<Slot>,
    /// Every slot up to here is durable there at this ballot, or chosen.
    pub durable: Slot,
    /// Every slot up to here has arrived there.
    pub received: Slot,
    /// Its chosen prefix, as it last said.
    pub chosen: Slot,
    /// Age of the oldest record that its disk has not finished, microseconds.
    pub wal_age_us: u64,
    /// Slots between the last one held here and the last one durable there.
    pub lag: u64,
    /// Why it does not count, or why another process that claimed to be it was turned away lately. Known to
    /// every role.
    pub refused: Option<Refusal>,
}

impl Core {
    /// The state as plain data.
    #[must_use]
    pub fn status(&self) -> Status {
        let leadership = match &self.part {
            Part::Leader(leadership) => Some(leadership),
            _ => None,
        };
        Status {
            role: self.role(),
            ballot: self.ballot(),
            leader: self.leader_hint(),
            promised: self.promised,
            first: self.log.first(),
            chosen: self.log.chosen(),
            known_chosen: self.known_chosen(),
            last: self.log.last(),
            applied: self.applied,
            durable: self.vote.upto,
            leader_start: leadership.map(|leadership| leadership.start),
            unchosen_bytes: self.log.unchosen_bytes(),
            wal_age_us: self.wal_age_us(),
            needed: self.needed,
            transfer: leadership
                .and_then(|l| l.transfer)
                .map(|transfer| transfer.to),
            peers: self
                .peers
                .keys()
                .map(|&node| self.peer_status(node))
                .collect(),
        }
    }

    /// The highest slot that this replica knows to be chosen anywhere: told by its leader or by any
    /// peer, or chosen here.
    #[must_use]
    pub fn known_chosen(&self) -> Slot {
        let told = self.peers.values().map(|peer| peer.chosen).max();
        let told = told.unwrap_or_default().max(self.following.commit);
        told.max(self.log.chosen())
    }

    fn peer_status(&self, node: NodeId) -> PeerStatus {
        let known = self.peers.get(&node).copied().unwrap_or_default();
        let stream = match &self.part {
            Part::Leader(leadership) => leadership.streams.get(&node),
            _ => None,
        };
        let durable = stream.map_or(Slot::NONE, |stream| stream.durable);
        PeerStatus {
            node,
            up: known.link.is_some(),
            next: stream.and_then(|stream| stream.next),
            durable,
            received: stream.map_or(Slot::NONE, |stream| stream.received),
            chosen: known.chosen,
            wal_age_us: stream.map_or(0, |stream| stream.wal_age_us),
            lag: self.log.last().0.saturating_sub(durable.0),
            refused: known.refused.or(known.turned_away),
        }
    }
}
