//! The number of one attempt to lead.

use std::fmt;

use crate::ident::NodeId;

const NODE_BITS: u32 = 16;
const ROUND_MAX: u64 = (1 << (64 - NODE_BITS)) - 1;

/// The number of one attempt to lead: a round and the replica that owns it.
///
/// - Shape: ordered by round, then by replica, so no two replicas ever own the same ballot.
/// - Range: [`Ballot::ZERO`] is below every ballot in use and means "nothing promised yet".
/// - Layout: `round << 16 | node` in 64 bits, 48 bits of round.
/// - Source: Lamport, *Paxos Made Simple* (2001), section 2.5, "disjoint sets of numbers".
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ballot(u64);

impl Ballot {
    /// Below every ballot in use.
    pub const ZERO: Ballot = Ballot(0);

    /// The ballot of `round` that `node` owns.
    ///
    /// # Panics
    ///
    /// When `round` needs more than 48 bits: 8.9 million years of an election each microsecond.
    #[must_use]
    pub fn new(round: u64, node: NodeId) -> Ballot {
        assert!(round <= ROUND_MAX, "round {round} needs more than 48 bits");
        Ballot(round << NODE_BITS | u64::from(node.0))
    }

    /// The ballot in its stored form; every 64 bits are some ballot.
    #[must_use]
    pub const fn from_raw(raw: u64) -> Ballot {
        Ballot(raw)
    }

    /// The stored form.
    #[must_use]
    pub const fn raw(self) -> u64 {
        self.0
    }

    /// The attempt's number, counted over all replicas.
    #[must_use]
    pub const fn round(self) -> u64 {
        self.0 >> NODE_BITS
    }

    /// The replica that owns this ballot: only it may propose under it.
    #[must_use]
    pub const fn node(self) -> NodeId {
        NodeId((self.0 & 0xffff) as u16)
    }

    /// The lowest ballot of `node` above this one's round.
    #[must_use]
    pub fn next_for(self, node: NodeId) -> Ballot {
        Ballot::new(self.round() + 1, node)
    }
}

impl fmt::Display for Ballot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.round(), self.node())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn orders_by_round_then_node() {
        let ballots = [(0, 0), (1, 1), (1, 3), (2, 1), (2, 2)]
            .map(|(round, node)| Ballot::new(round, NodeId(node)));
        assert!(ballots.is_sorted());
        assert_eq!(ballots[0], Ballot::ZERO);
        assert_eq!(ballots[3].to_string(), "2.1");
        assert_eq!(Ballot::from_raw(ballots[2].raw()), ballots[2]);
        assert_eq!(ballots[2].next_for(NodeId(1)), ballots[3]);
    }

    #[test]
    #[should_panic(expected = "48 bits")]
    fn refuses_a_round_too_large() {
        let _ = Ballot::new(1 << 48, NodeId(1));
    }
}
