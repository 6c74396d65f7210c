//! What was asked of whom, and when: nothing is asked twice in a moment.

use std::collections::BTreeMap;

use crate::ident::{MonoTime, NodeId, Slot};

/// The last questions. Asked again only for another slot, or after a while.
#[derive(Clone, Debug, Default)]
pub(crate) struct Asked {
    /// The slot wanted from the own log for each peer.
    loads: BTreeMap<NodeId, (Slot, MonoTime)>,
    /// The slot asked of a peer.
    fetch: Option<(Slot, MonoTime)>,
}

impl Asked {
    /// Whether to ask the log for `slot` on behalf of `peer` now; if so it is noted.
    pub(crate) fn load(&mut self, peer: NodeId, slot: Slot, now: MonoTime, wait_us: u64) -> bool {
        let due = is_due(self.loads.get(&peer).copied(), slot, now, wait_us);
        if due {
            self.loads.insert(peer, (slot, now));
        }
        due
    }

    /// The slot that was last wanted from the log for `peer`.
    pub(crate) fn loading(&self, peer: NodeId) -> Option<Slot> {
        self.loads.get(&peer).map(|(slot, _)| *slot)
    }

    /// Whether to ask a peer for `slot` now; if so it is noted.
    pub(crate) fn fetch(&mut self, slot: Slot, now: MonoTime, wait_us: u64) -> bool {
        let due = is_due(self.fetch, slot, now, wait_us);
        if due {
            self.fetch = Some((slot, now));
        }
        due
    }
}

fn is_due(last: Option<(Slot, MonoTime)>, slot: Slot, now: MonoTime, wait_us: u64) -> bool {
    last.is_none_or(|(asked, at)| asked != slot || now.since(at) >= wait_us)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_asked_twice_in_a_moment() {
        let mut asked = Asked::default();
        assert!(asked.fetch(Slot(5), MonoTime(0), 100));
        assert!(!asked.fetch(Slot(5), MonoTime(99), 100));
        assert!(asked.fetch(Slot(6), MonoTime(99), 100), "another slot");
        assert!(
            asked.fetch(Slot(6), MonoTime(199), 100),
            "the answer was lost"
        );
        assert!(asked.load(NodeId(2), Slot(5), MonoTime(0), 100));
        assert!(
            asked.load(NodeId(3), Slot(5), MonoTime(0), 100),
            "another peer"
        );
        assert!(!asked.load(NodeId(2), Slot(5), MonoTime(1), 100));
        assert_eq!(asked.loading(NodeId(2)), Some(Slot(5)));
    }
}
