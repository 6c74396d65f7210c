//! How a cluster is born: from a list of node ids to members with disks and a cluster id.
//!
//! `--peers` names node ids, but a voter is a node *and* its disk. So fresh replicas tell each
//! other their list and disk. The lowest id, once it heard from **every** one on the list that it
//! is fresh and has the same list, writes the [`BirthRecord`]: a random cluster id, the name, the
//! members with their disks. A fresh replica whose disk the record names stores the first one it
//! gets and votes from then on. A born replica hands its record to a fresh one that it names, and
//! refuses any other disk under a known id: two wiped replicas of three cannot found a second
//! cluster, and a wiped one cannot vote under its old name.
//!
//! Pure: the driver carries announcements, draws the cluster id and makes the record durable.

use std::collections::BTreeMap;

use bytes::{BufMut, Bytes, BytesMut};

use crate::config::{Member, Membership};
use crate::ident::{DiskId, NodeId};
use crate::wire::{DecodeError, Reader, put_count};

/// The longest cluster name, in bytes.
pub const NAME_BYTES_MAX: usize = 255;
/// The most members a birth record names.
pub const MEMBERS_MAX: usize = 64;

/// What makes a cluster: stored by every member before it votes.
///
/// ```text
/// byte 0             16         20       20+n       24+n
///      | cluster u128 | len: u32 | name    | count: u32 | (node: u16, disk: u64) ... |
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BirthRecord {
    /// The cluster's random id.
    pub cluster: u128,
    /// Its label (`--cluster`).
    pub name: String,
    /// The voters with their disks, ascending by node.
    pub members: Vec<(NodeId, DiskId)>,
}

impl BirthRecord {
    /// The record in its stored form.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        let mut bytes = BytesMut::new();
        bytes.put_u128_le(self.cluster);
        put_count(&mut bytes, self.name.len());
        bytes.put_slice(self.name.as_bytes());
        put_count(&mut bytes, self.members.len());
        for (node, disk) in &self.members {
            bytes.put_u16_le(node.0);
            bytes.put_u64_le(disk.0);
        }
        bytes.freeze()
    }

    /// Reads a record.
    ///
    /// # Errors
    ///
    /// The first [`DecodeError`]. Never panics, whatever `bytes` holds.
    pub fn decode(bytes: Bytes) -> Result<BirthRecord, DecodeError> {
        let mut reader = Reader::new(bytes);
        let cluster = reader.u128()?;
        let length = bounded(reader.count(1)?, NAME_BYTES_MAX)?;
        let name = reader.bytes(length)?;
        let name = std::str::from_utf8(&name)
            .map_err(|_| DecodeError::NotText)?
            .to_owned();
        let members = reader.list(10, |r| Ok((NodeId(r.u16()?), DiskId(r.u64()?))))?;
        bounded(members.len(), MEMBERS_MAX)?;
        reader.finish()?;
        Ok(BirthRecord {
            cluster,
            name,
            members,
        })
    }

    /// The voters, as the core wants them.
    #[must_use]
    pub fn membership(&self) -> Membership {
        let members = self
            .members
            .iter()
            .map(|&(node, disk)| Member { node, disk })
            .collect();
        Membership { epoch: 1, members }
    }

    fn disk_of(&self, node: NodeId) -> Option<DiskId> {
        self.members
            .iter()
            .find(|member| member.0 == node)
            .map(|member| member.1)
    }
}

/// What a replica tells each listed peer until it is born, and each fresh peer afterwards.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Announcement {
    /// The node ids of its `--peers`, itself included, ascending.
    pub list: Vec<NodeId>,
    /// Its disk.
    pub disk: DiskId,
    /// The record it was born with.
    pub born: Option<BirthRecord>,
}

/// What the driver has to do, in this order: a record is durable before it is announced.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BirthAction {
    /// Make the record durable, then start the core with it. The replica is born.
    Store(BirthRecord),
    /// Send the present announcement to this peer.
    Announce(NodeId),
    /// This replica must not go on: tell the operator and stop.
    Refuse(String),
    /// The peer must not take part: log it and close its connection.
    RefusePeer {
        /// The peer.
        peer: NodeId,
        /// Why, for people.
        reason: String,
    },
}

/// One replica's side of the birth.
#[derive(Clone, Debug)]
pub struct Birth {
    node: NodeId,
    disk: DiskId,
    list: Vec<NodeId>,
    name: String,
    heard: BTreeMap<NodeId, DiskId>,
    born: Option<BirthRecord>,
}

impl Birth {
    /// A fresh replica. `list` is what `--peers` names; without it, or with itself alone, the
    /// replica is born at the first [`Birth::begin`].
    #[must_use]
    pub fn new(node: NodeId, disk: DiskId, list: Vec<NodeId>, name: String) -> Birth {
        let mut list = list;
        list.push(node);
        list.sort_unstable();
        list.dedup();
        Birth {
            node,
            disk,
            list,
            name,
            heard: BTreeMap::new(),
            born: None,
        }
    }

    /// A replica born before, which only hands its record on and refuses strangers.
    #[must_use]
    pub fn resume(node: NodeId, disk: DiskId, record: BirthRecord) -> Birth {
        let list = record.members.iter().map(|member| member.0).collect();
        let name = record.name.clone();
        Birth {
            node,
            disk,
            list,
            name,
            heard: BTreeMap::new(),
            born: Some(record),
        }
    }

    /// What to tell a peer now.
    #[must_use]
    pub fn announcement(&self) -> Announcement {
        Announcement {
            list: self.list.clone(),
            disk: self.disk,
            born: self.born.clone(),
        }
    }

    /// The record, once born.
    #[must_use]
    pub fn born(&self) -> Option<&BirthRecord> {
        self.born.as_ref()
    }

    /// Listed peers that were not heard of yet, for the operator who waits.
    #[must_use]
    pub fn missing(&self) -> Vec<NodeId> {
        let known = |node: &NodeId| *node == self.node || self.heard.contains_key(node);
        self.list
            .iter()
            .copied()
            .filter(|node| !known(node))
            .collect()
    }

    /// The first call: a sole replica is born at once, others announce themselves.
    /// `random_cluster` is fresh randomness, used only if this call founds the cluster.
    pub fn begin(&mut self, random_cluster: u128) -> Vec<BirthAction> {
        if self.born.is_some() {
            return Vec::new();
        }
        if self.list.len() == 1 {
            return self.found(random_cluster);
        }
        self.others().map(BirthAction::Announce).collect()
    }

    /// A peer announced itself. `random_cluster` as in [`Birth::begin`].
    pub fn on_heard(
        &mut self,
        peer: NodeId,
        announcement: Announcement,
        random_cluster: u128,
    ) -> Vec<BirthAction> {
        match (&self.born, announcement.born) {
            (Some(own), Some(theirs)) => Self::both_born(own, &theirs, peer, announcement.disk),
            (Some(own), None) => Self::hand_on(own, peer, announcement.disk),
            (None, Some(theirs)) => self.join(peer, theirs),
            (None, None) => self.gather(peer, announcement.list, announcement.disk, random_cluster),
        }
    }

    fn others(&self) -> impl Iterator<Item = NodeId> {
        let node = self.node;
        self.list
            .iter()
            .copied()
            .filter(move |&other| other != node)
    }

    fn both_born(
        own: &BirthRecord,
        theirs: &BirthRecord,
        peer: NodeId,
        disk: DiskId,
    ) -> Vec<BirthAction> {
        if own.cluster != theirs.cluster {
            let reason = format!(
                "node {peer} belongs to cluster {:032x} ({:?}), this one to {:032x} ({:?})",
                theirs.cluster, theirs.name, own.cluster, own.name
            );
            return vec![BirthAction::RefusePeer { peer, reason }];
        }
        match wrong_disk(own, peer, disk) {
            Some(reason) => vec![BirthAction::RefusePeer { peer, reason }],
            None => Vec::new(),
        }
    }

    /// A fresh peer gets the record if its disk is named there; else the answer still goes out, so
    /// that the peer learns why it may not join.
    fn hand_on(own: &BirthRecord, peer: NodeId, disk: DiskId) -> Vec<BirthAction> {
        let mut actions = vec![BirthAction::Announce(peer)];
        if let Some(reason) = wrong_disk(own, peer, disk) {
            actions.push(BirthAction::RefusePeer { peer, reason });
        }
        actions
    }

    fn join(&mut self, peer: NodeId, record: BirthRecord) -> Vec<BirthAction> {
        match record.disk_of(self.node) {
            Some(disk) if disk == self.disk => self.store(record),
            Some(disk) => vec![BirthAction::Refuse(format!(
                "node {} of cluster {:?} votes with disk {disk}, but the data folder here is disk \
                 {}: it was wiped or swapped, and a replica that forgot its promises must not vote \
                 under its old id (told by node {peer}); bring the old folder back",
                self.node, record.name, self.disk
            ))],
            None => vec![BirthAction::Refuse(format!(
                "cluster {:?} has no node {} (told by node {peer})",
                record.name, self.node
            ))],
        }
    }

    fn gather(
        &mut self,
        peer: NodeId,
        list: Vec<NodeId>,
        disk: DiskId,
        random_cluster: u128,
    ) -> Vec<BirthAction> {
        if list != self.list || !list.contains(&peer) {
            let reason = format!(
                "node {peer} was started with peers {}, this one with {}",
                names(&list),
                names(&self.list)
            );
            return vec![BirthAction::RefusePeer { peer, reason }];
        }
        let first_time = self.heard.insert(peer, disk) != Some(disk);
        if self.list[0] == self.node && self.heard.len() + 1 == self.list.len() {
            return self.found(random_cluster);
        }
        if first_time {
            vec![BirthAction::Announce(peer)]
        } else {
            Vec::new()
        }
    }

    fn found(&mut self, cluster: u128) -> Vec<BirthAction> {
        assert_ne!(cluster, 0, "cluster id 0 means not born");
        let mut members: Vec<_> = self
            .heard
            .iter()
            .map(|(&node, &disk)| (node, disk))
            .collect();
        members.push((self.node, self.disk));
        members.sort_unstable();
        let record = BirthRecord {
            cluster,
            name: self.name.clone(),
            members,
        };
        self.store(record)
    }

    fn store(&mut self, record: BirthRecord) -> Vec<BirthAction> {
        self.list = record.members.iter().map(|member| member.0).collect();
        self.born = Some(record.clone());
        let mut actions = vec![BirthAction::Store(record)];
        actions.extend(self.others().map(BirthAction::Announce));
        actions
    }
}

fn bounded(length: usize, max: usize) -> Result<usize, DecodeError> {
    if length > max {
        Err(DecodeError::LengthTooLarge { length, left: max })
    } else {
        Ok(length)
    }
}

/// Why `peer` with `disk` may not take part in the cluster of `record`, if it may not.
fn wrong_disk(record: &BirthRecord, peer: NodeId, disk: DiskId) -> Option<String> {
    match record.disk_of(peer) {
        Some(expected) if expected == disk => None,
        Some(expected) => Some(format!(
            "node {peer} came with disk {disk}, but cluster {:?} knows it with disk {expected}: \
             its data folder was wiped or swapped",
            record.name
        )),
        None => Some(format!(
            "node {peer} is no member of cluster {:?}",
            record.name
        )),
    }
}

fn names(list: &[NodeId]) -> String {
    let names: Vec<_> = list.iter().map(NodeId::to_string).collect();
    format!("[{}]", names.join(", "))
}
