//! What a replica tells about itself and about the others.

use serde::{Deserialize, Serialize};

/// How one replica stands.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// The replica's id.
    pub id: u16,
    /// Where it serves clients, `host:port`.
    pub client: String,
    /// Where it serves peers, `host:port`.
    pub peer: String,
    /// Where it serves HTTP, `host:port`.
    pub http: String,
    /// The cluster's random id; 0 = not born yet.
    pub cluster: u128,
    /// The cluster's name, a label for people.
    pub cluster_name: String,
    /// `leader`, `follower`, `candidate` or `prober`.
    pub role: String,
    /// The ballot it follows or leads by, as `round.node`.
    pub ballot: String,
    /// The leader's id, as far as it knows.
    pub leader: Option<u16>,
    /// The highest slot that it knows to be chosen.
    pub chosen: u64,
    /// The highest slot that it has applied.
    pub applied: u64,
    /// The highest slot in its log.
    pub last: u64,
    /// Slots that it has still to apply of what it knows the cluster to have chosen.
    pub lag: u64,
    /// Bytes of its log on disk.
    pub log_bytes: u64,
    /// Hash of its whole state as of `applied`.
    pub state_hash: u64,
    /// The version of its program.
    pub version: String,
    /// Whether all data files have passed their check since the start.
    pub files_checked: bool,
    /// Number of data files that it knows to be damaged. Their reads are refused.
    pub files_damaged: u32,
    /// Replicas that it refuses.
    pub refuses: Vec<Refused>,
}

/// A replica that another one refuses: nothing that it says counts there.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refused {
    /// The refused replica's id.
    pub id: u16,
    /// Why, in words.
    pub why: String,
}

/// Where one replica is found.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemberInfo {
    /// Its id.
    pub id: u16,
    /// Client address, `host:port`; empty = not known.
    pub client: String,
    /// Peer address, `host:port`.
    pub peer: String,
    /// HTTP address, `host:port`; empty = not known.
    pub http: String,
}
