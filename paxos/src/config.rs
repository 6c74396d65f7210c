//! What a core is made of: who it is, who votes, its timers and caps, and what its disk held.

use crate::ballot::Ballot;
use crate::clock::ClusterClock;
use crate::entry::Entry;
use crate::ident::{ClusterId, DiskId, Life, NodeId, Slot};
use crate::memory::Memories;

/// One voter: a replica together with its disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Member {
    /// The replica's number.
    pub node: NodeId,
    /// The disk that counts for it. Any other under this number is refused.
    pub disk: DiskId,
}

/// Who votes. Fixed at the cluster's birth until changes of members come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Membership {
    /// Grows with every change of members.
    pub epoch: u64,
    /// The voters, ascending by node.
    pub members: Vec<Member>,
}

impl Membership {
    /// How many voters make a quorum: more than half.
    #[must_use]
    pub fn quorum(&self) -> usize {
        self.members.len() / 2 + 1
    }

    /// The disk that counts for `node`, if it votes.
    #[must_use]
    pub fn disk_of(&self, node: NodeId) -> Option<DiskId> {
        self.members
            .iter()
            .find(|member| member.node == node)
            .map(|member| member.disk)
    }

    /// Whether this very pair votes.
    #[must_use]
    pub fn is_voter(&self, node: NodeId, disk: DiskId) -> bool {
        self.disk_of(node) == Some(disk)
    }
}

/// Who this replica is, as its disk says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The cluster it was born into.
    pub cluster: ClusterId,
    /// Its number.
    pub node: NodeId,
    /// Its disk.
    pub disk: DiskId,
}

/// Everything a core is told once.
#[derive(Clone, Debug)]
pub struct Config {
    /// Who this replica is.
    pub identity: Identity,
    /// Who votes.
    pub membership: Membership,
    /// Microseconds between a leader's heartbeats.
    pub heartbeat_us: u64,
    /// E, the shortest election timeout in microseconds; timeouts are drawn from [E, 2E).
    pub election_us: u64,
    /// How much a change of leader extends sessions and leases at least, in milliseconds.
    pub grace_ms: u64,
    /// Seeds the timeouts. Two replicas should differ; the same seed repeats a run.
    pub seed: u64,
    /// Bytes of entries a leader may hold proposed but not chosen; above it answers `Busy`.
    pub unchosen_bytes_max: usize,
    /// Bytes a leader keeps unacknowledged towards one peer.
    pub peer_window_bytes: usize,
    /// Bytes of chosen entries kept in memory for peers that are a little behind.
    pub chosen_tail_bytes: usize,
    /// Hand leadership to the lowest live, caught-up id.
    pub prefer_lowest_id: bool,
    /// This start of this replica on this disk.
    pub life: Life,
}

impl Config {
    /// A configuration with the default timers and caps.
    #[must_use]
    pub fn new(identity: Identity, membership: Membership) -> Config {
        let election_us = 500_000;
        Config {
            identity,
            membership,
            heartbeat_us: 50_000,
            election_us,
            grace_ms: default_grace_ms(election_us),
            seed: u64::from(identity.node.0),
            unchosen_bytes_max: 16 << 20,
            peer_window_bytes: 8 << 20,
            chosen_tail_bytes: 8 << 20,
            prefer_lowest_id: false,
            life: Life::default(),
        }
    }
}

impl Config {
    /// How long a write may be unfinished before its disk counts as hung, given how long a sync
    /// takes there: E, and on slow disks six syncs, four E at most.
    pub(crate) fn disk_patience_us(&self, sync_us: u64) -> u64 {
        (6 * sync_us).clamp(self.election_us, 4 * self.election_us)
    }
}

/// The grace that goes with an election timeout: 2E and a second, in milliseconds.
#[must_use]
pub const fn default_grace_ms(election_us: u64) -> u64 {
    2 * election_us / 1000 + 1000
}

/// What the boot scan found in the local log.
#[derive(Clone, Debug, Default)]
pub struct Recovered {
    /// The highest ballot promised, by a promise or by an accept.
    pub promised: Ballot,
    /// The highest ballot met in the log, promised or not.
    pub max_ballot_seen: Ballot,
    /// The first slot the log still holds.
    pub first: Slot,
    /// Every slot up to here is known to be chosen and was replayed by the driver.
    pub chosen: Slot,
    /// Cluster time as of `chosen`.
    pub clock: ClusterClock,
    /// Every entry above `chosen`, ascending and without holes from `chosen` + 1.
    pub accepted: Vec<(Slot, Ballot, Entry)>,
    /// What the driver has applied; at most `chosen`.
    pub applied: Slot,
    /// Slots above `chosen` that the log holds as `Chosen` records, ascending.
    pub chosen_marks: Vec<Slot>,
    /// What the superblock keeps of the members. A condemned disk must not be started.
    pub memories: Memories,
}
