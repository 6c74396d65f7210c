//! One lock: its holder, with the section, and those who wait.

use crate::budget::{LOCK_BYTES, WAITER_BYTES};
use crate::digest::{self, Kind};
use crate::name::Name;
use crate::queue::Queue;
use crate::section::Section;
use crate::{ClusterTime, Seq, SessionId, Slot, Token};

/// A lock that is held or waited for. A free one does not exist.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Lock {
    /// Invariant: present, except within the slot that frees the lock, and while all who wait have ended
    /// and are not cleared away yet.
    pub(crate) holder: Option<Holder>,
    pub(crate) queue: Queue<Waiter>,
    /// The share of the holder in the state's hash, as of the last change; 0 without one.
    pub(crate) part: u128,
}

/// Who holds a lock.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Holder {
    pub(crate) session: SessionId,
    /// The acquire that got it.
    pub(crate) seq: Seq,
    pub(crate) token: Token,
    /// The slot that granted it.
    pub(crate) slot: Slot,
    pub(crate) since: ClusterTime,
    pub(crate) since_wall_ms: u64,
    pub(crate) lease_ms: u64,
    /// When the lease ends.
    pub(crate) deadline: ClusterTime,
    pub(crate) section: Section,
}

/// Who waits for a lock, in the queue under the slot that queued the acquire.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Waiter {
    pub(crate) session: SessionId,
    pub(crate) seq: Seq,
    pub(crate) lease_ms: u64,
    pub(crate) since: ClusterTime,
    /// When it stops waiting; absent if it waits as long as its session lives.
    pub(crate) until: Option<ClusterTime>,
}

impl Waiter {
    /// The hash of an acquire that waits for the lock `name` since `slot`.
    pub(crate) fn hash(&self, name: &Name, slot: Slot) -> u128 {
        let party = (self.session, self.seq, self.lease_ms, self.since);
        digest::part(Kind::Waiter, &(&**name, slot, party, self.until))
    }
}

impl Lock {
    /// The hash of the holder and its section; 0 without one.
    pub(crate) fn hash(&self, name: &Name) -> u128 {
        let Some(holder) = &self.holder else {
            return 0;
        };
        let grant = (holder.session, holder.seq, holder.token, holder.slot);
        let since = (holder.since, holder.since_wall_ms);
        let lease = (holder.lease_ms, holder.deadline);
        let section = (holder.section.count(), holder.section.hash());
        digest::part(Kind::Lock, &(&**name, grant, since, lease, section))
    }

    /// What it takes of the budget, its name apart.
    pub(crate) fn cost(&self) -> u64 {
        let section = self
            .holder
            .as_ref()
            .map_or(0, |holder| holder.section.cost());
        LOCK_BYTES + self.queue.len() * WAITER_BYTES + section
    }
}
