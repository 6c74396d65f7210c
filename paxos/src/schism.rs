//! Replicas whose histories differ: found by hashes, decided by a majority.
//!
//! Every heartbeat and answer carries the sender's newest chosen slot with the chain hash there, and a slot
//! for which the application gave a hash of its state. Whoever has its own hash for that slot compares. If
//! two differ, some replica holds other values than were agreed: an old copy of a disk voted, or a disk or a
//! program changed what it should have kept.
//!
//! Nothing here can tell who is right. So the majority goes on and counts the others' votes no more, and a
//! replica that cannot be with a majority stops. Where nobody can, all stop: an operator has to look.

use crate::chain::Window;
use crate::core::Core;
use crate::ident::{MonoTime, NodeId, Slot};
use crate::memory::Mark;
use crate::message::{Message, Objection, Witness};
use crate::outbox::Outbox;
use crate::refusal::Refusal;

/// Slots for which the chain hash is kept: half a megabyte.
const CHAINS_MOST: usize = 1 << 15;
/// State hashes that are kept.
const STATES_MOST: usize = 256;

/// How one peer's history compares with the own one.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Compared {
    /// The highest slot at which the hashes were equal.
    agrees: Slot,
    differs: Option<Difference>,
    /// A hash for a slot that this replica has not reached.
    pending: Option<(Slot, u64)>,
}

/// The lowest slot at which two replicas were seen to differ.
#[derive(Clone, Copy, Debug)]
struct Difference {
    slot: Slot,
    ours: u64,
    theirs: u64,
}

/// What is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Chain,
    State,
}

/// The own hashes.
#[derive(Clone, Debug)]
pub(crate) struct Histories {
    chains: Window,
    states: Window,
    /// Since when a difference is known but not who is in the majority.
    undecided: Option<MonoTime>,
}

impl Histories {
    pub(crate) fn new() -> Histories {
        Histories {
            chains: Window::new(CHAINS_MOST),
            states: Window::new(STATES_MOST),
            undecided: None,
        }
    }

    fn window(&self, kind: Kind) -> &Window {
        match kind {
            Kind::Chain => &self.chains,
            Kind::State => &self.states,
        }
    }
}

impl Core {
    /// The own newest hashes.
    pub(crate) fn own_mark(&self) -> Mark {
        let (slot, chain) = self.histories.chains.newest().unwrap_or_default();
        let (state_slot, state) = self.histories.states.newest().unwrap_or_default();
        Mark {
            slot,
            chain,
            state_slot,
            state,
        }
    }

    /// A slot was published: its chain hash is `self.clock.chain`.
    pub(crate) fn note_chain(&mut self) {
        let chain = self.clock.chain.0;
        if chain != 0 {
            self.histories.chains.push(self.published, chain);
        }
    }

    /// The application hashed its state.
    pub(crate) fn on_state_hash(&mut self, slot: Slot, hash: u64, out: &mut Outbox) {
        let newest = self.histories.states.newest();
        if newest.is_none_or(|(newest, _)| slot > newest) {
            self.histories.states.push(slot, hash);
            self.compare_pending(Kind::State, out);
        }
    }

    /// Compares what peers said of slots that were not reached here by then.
    pub(crate) fn compare_pending(&mut self, kind: Kind, out: &mut Outbox) {
        let Some((newest, _)) = self.histories.window(kind).newest() else {
            return;
        };
        let nodes: Vec<NodeId> = self.peers.keys().copied().collect();
        for node in nodes {
            let compared = self.compared_mut(node, kind);
            if let Some((slot, hash)) =
                compared.and_then(|compared| compared.pending.take_if(|(slot, _)| *slot <= newest))
            {
                self.compare(node, kind, slot, hash, out);
            }
        }
    }

    /// Somebody said where the history of `peer` is.
    pub(crate) fn hear_mark(&mut self, peer: NodeId, mark: Mark, out: &mut Outbox) {
        let Some(known) = self.peers.get_mut(&peer) else {
            return;
        };
        // Both only grow, so an older word that was relayed late adds nothing.
        if mark.chain != 0 && mark.slot >= known.mark.slot {
            (known.mark.slot, known.mark.chain) = (mark.slot, mark.chain);
            self.compare(peer, Kind::Chain, mark.slot, mark.chain, out);
        }
        let Some(known) = self.peers.get_mut(&peer) else {
            return;
        };
        if mark.state_slot > Slot::NONE && mark.state_slot >= known.mark.state_slot {
            (known.mark.state_slot, known.mark.state) = (mark.state_slot, mark.state);
            self.compare(peer, Kind::State, mark.state_slot, mark.state, out);
        }
    }

    /// A peer has another history, and says who is on its side.
    pub(crate) fn on_objection(&mut self, from: NodeId, m: Objection, out: &mut Outbox) {
        let kind = if m.is_state { Kind::State } else { Kind::Chain };
        for node in m.agreeing.into_iter().chain([from]) {
            self.compare(node, kind, m.slot, m.hash, out);
        }
    }

    fn compared_mut(&mut self, peer: NodeId, kind: Kind) -> Option<&mut Compared> {
        self.peers.get_mut(&peer).map(|known| match kind {
            Kind::Chain => &mut known.chain,
            Kind::State => &mut known.state,
        })
    }

    fn compared(&self, peer: NodeId, kind: Kind) -> Compared {
        let known = self.peers.get(&peer).copied().unwrap_or_default();
        match kind {
            Kind::Chain => known.chain,
            Kind::State => known.state,
        }
    }

    fn compare(&mut self, peer: NodeId, kind: Kind, slot: Slot, theirs: u64, out: &mut Outbox) {
        let window = self.histories.window(kind);
        let ours = window.get(slot);
        let ahead = window.newest().is_none_or(|(newest, _)| slot > newest);
        let Some(compared) = self.compared_mut(peer, kind) else {
            return;
        };
        match ours {
            Some(ours) if ours == theirs => compared.agrees = compared.agrees.max(slot),
            Some(ours) => {
                let seen = compared.differs.is_some_and(|differs| differs.slot <= slot);
                if !seen {
                    compared.differs = Some(Difference { slot, ours, theirs });
                    // Followers hear only their leader, and that may be the odd one, which stops.
                    let (to, witness) = (self.peers_up(), self.witness());
                    out.broadcast(to, Message::Witness(Witness { witness }));
                }
                self.decide(kind, out);
                self.object(peer, out);
            }
            // The oldest one is kept until it can be compared; newer ones come with every heartbeat.
            None if ahead => drop(compared.pending.get_or_insert((slot, theirs))),
            None => {}
        }
        if self.histories.undecided.is_some() {
            self.decide(kind, out);
        }
    }

    /// Tells a peer with another history what this one is, and who shares it.
    pub(crate) fn object(&mut self, peer: NodeId, out: &mut Outbox) {
        for kind in [Kind::Chain, Kind::State] {
            let Some(differs) = self.compared(peer, kind).differs else {
                continue;
            };
            let objection = Objection {
                slot: differs.slot,
                is_state: kind == Kind::State,
                hash: differs.ours,
                agreeing: self.agreeing(kind, differs.slot),
            };
            self.send(peer, Message::Objection(objection), out);
        }
    }

    /// Members that had this replica's history at `slot`, itself included.
    fn agreeing(&self, kind: Kind, slot: Slot) -> Vec<NodeId> {
        let peers = self.peers.keys().copied().filter(|&peer| {
            let compared = self.compared(peer, kind);
            compared.differs.is_none() && compared.agrees >= slot
        });
        peers.chain([self.own()]).collect()
    }

    /// Decides who goes on, as far as that can be decided.
    fn decide(&mut self, kind: Kind, out: &mut Outbox) {
        let nodes = self.peers.keys().copied();
        let differing: Vec<(NodeId, Difference)> = nodes
            .filter_map(|node| Some((node, self.compared(node, kind).differs?)))
            .collect();
        let Some(slot) = differing.iter().map(|(_, differs)| differs.slot).min() else {
            return;
        };
        let agreeing = self.agreeing(kind, slot).len();
        let members = self.peers.len() + 1;
        if agreeing >= self.quorum() {
            self.histories.undecided = None;
            for (peer, Difference { slot, ours, theirs }) in differing {
                let why = Refusal::History { slot, ours, theirs };
                self.refuse(peer, why, out);
            }
        } else if members - differing.len() < self.quorum() {
            self.stop(kind, &differing, out);
        } else {
            self.histories.undecided.get_or_insert(self.now);
        }
    }

    /// A difference is known and those who could decide have not been heard for an election timeout.
    pub(crate) fn expire_undecided(&mut self, out: &mut Outbox) {
        let Some(since) = self.histories.undecided else {
            return;
        };
        if self.now.since(since) < self.config.election_us {
            return;
        }
        for kind in [Kind::Chain, Kind::State] {
            let nodes = self.peers.keys().copied();
            let differing: Vec<(NodeId, Difference)> = nodes
                .filter_map(|node| Some((node, self.compared(node, kind).differs?)))
                .collect();
            if !differing.is_empty() {
                self.stop(kind, &differing, out);
            }
        }
    }

    fn stop(&mut self, kind: Kind, differing: &[(NodeId, Difference)], out: &mut Outbox) {
        let Some(&(_, first)) = differing.iter().min_by_key(|(_, differs)| differs.slot) else {
            return;
        };
        let others: Vec<String> = differing
            .iter()
            .map(|(peer, differs)| {
                let Difference { slot, ours, theirs } = differs;
                format!("replica {peer} has {theirs:016x} at slot {slot} (here {ours:016x})")
            })
            .collect();
        let (what, agreeing) = match kind {
            Kind::Chain => ("the agreed history", self.agreeing(kind, first.slot)),
            Kind::State => ("the applied state", self.agreeing(kind, first.slot)),
        };
        let verdict = if differing.len() >= self.quorum() {
            "A majority has another one, so this replica stops"
        } else {
            "No majority is known to have this one, so this replica stops"
        };
        let agreeing: Vec<String> = agreeing.iter().map(ToString::to_string).collect();
        out.fatal.get_or_insert(format!(
            "replicas differ in {what}: {}; with this replica: {}. {verdict}. Nothing was changed or deleted. \
             Keep every data folder: an acknowledged entry may be in this one alone. Compare the folders with \
             `walinspect slot`, at slot {} and below, before you start this one again",
            others.join(", "),
            agreeing.join(", "),
            first.slot
        ));
    }
}
