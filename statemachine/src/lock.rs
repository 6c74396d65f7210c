//! One lock: its holder, with the section, and those who wait.

use crate::budget::{LOCK_BYTES, WAITER_BYTES};
use crate::queue::Queue;
use crate::section::Section;
use crate::{ClusterTime, Seq, SessionId, Slot, Token};

/// A lock that is held or waited for. A free one does not exist.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Lock {
    /// Invariant: present, except within the slot that frees the lock.
    pub(crate) holder: Option<Holder>,
    pub(crate) queue: Queue<Waiter>,
}

/// Who holds a lock.
#[derive(Clone, Debug, PartialEq)]
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

impl Lock {
    /// What it takes of the budget, its name apart.
    pub(crate) fn cost(&self) -> u64 {
        let section = self
            .holder
            .as_ref()
            .map_or(0, |holder| holder.section.cost());
        LOCK_BYTES + self.queue.len() * WAITER_BYTES + section
    }
}
