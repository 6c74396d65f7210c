//! Everything that ends by itself, in the order in which it ends.
//!
//! One ordered set over all sessions, waits and leases: what is due next is its first element,
//! whatever else there is. Things due at one time end in the order of the slots they come from,
//! then session before wait before lease.

use imbl::OrdSet;

use crate::name::Name;
use crate::{ClusterTime, SessionId, Slot, Token};

/// One thing that ends.
///
/// The derived order is the order of ending.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Due {
    /// When.
    pub(crate) at: ClusterTime,
    /// The slot that opened the session, queued the acquire, or granted the lock.
    pub(crate) origin: Slot,
    /// What ends.
    pub(crate) what: Ending,
}

/// What ends.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Ending {
    /// A session.
    Session(SessionId),
    /// The wait of the acquire that joined the lock's queue in the slot of origin.
    Wait(Name),
    /// The lease of a grant. Tokens tell apart the grants made in one slot.
    Lease(Token, Name),
}

/// All deadlines.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Deadlines {
    dues: OrdSet<Due>,
}

impl Deadlines {
    pub(crate) fn insert(&mut self, due: Due) {
        let known = self.dues.insert(due);
        debug_assert!(known.is_none(), "one deadline each");
    }

    /// Takes out a deadline that is there.
    pub(crate) fn remove(&mut self, due: &Due) {
        let gone = self.dues.remove(due);
        assert!(gone.is_some(), "no deadline {due:?}");
    }

    /// The next one.
    pub(crate) fn first(&self) -> Option<&Due> {
        self.dues.get_min()
    }

    /// Those after `start` and before `end`, in order.
    pub(crate) fn between(
        &self,
        start: ClusterTime,
        end: ClusterTime,
    ) -> impl Iterator<Item = &Due> {
        let first = Due {
            at: start.after(1),
            origin: Slot(0),
            what: Ending::Session(SessionId(0)),
        };
        self.dues.range(first..).take_while(move |due| due.at < end)
    }
}
