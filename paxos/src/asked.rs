//! What was asked of whom, and when: nothing is asked twice in a moment.
//!
//! What was read from the log for a peer may still be on its way over a slow link when it is due again. Each copy makes
//! the link slower, so the first wait is as long as rounds take there, and the wait for the same slot doubles each time.

use std::collections::BTreeMap;

use crate::ident::{MonoTime, NodeId, Slot};

/// The wait for the same slot doubles up to so many times the first one.
const WAITS_MAX: u64 = 32;
/// It does not double beyond this, in microseconds: what was sent may be lost, too.
const DOUBLED_US_MAX: u64 = 4_000_000;

/// What was last wanted from the own log for a peer.
#[derive(Clone, Copy, Debug)]
struct Load {
    slot: Slot,
    at: MonoTime,
    /// How long to wait before it is read again, in units of the caller's wait.
    waits: u64,
}

impl Load {
    /// How long to wait before it is read again, where the first wait would be `first_us` now.
    fn wait_us(&self, first_us: u64) -> u64 {
        let doubled_us = self.waits.saturating_mul(first_us).min(DOUBLED_US_MAX);
        doubled_us.max(first_us)
    }
}

/// The last questions. Asked again only for another slot, or after a while.
#[derive(Clone, Debug, Default)]
pub(crate) struct Asked {
    /// The slot wanted from the own log for each peer.
    loads: BTreeMap<NodeId, Load>,
    /// The slot asked of a peer.
    fetch: Option<(Slot, MonoTime)>,
}

impl Asked {
    /// Whether to ask the log for `slot` on behalf of `peer` now; if so it is noted.
    pub(crate) fn load(&mut self, peer: NodeId, slot: Slot, now: MonoTime, wait_us: u64) -> bool {
        let waits = match self.loads.get(&peer).filter(|last| last.slot == slot) {
            Some(last) if now.since(last.at) < last.wait_us(wait_us) => return false,
            Some(last) => (2 * last.waits).min(WAITS_MAX),
            None => 1,
        };
        let at = now;
        self.loads.insert(peer, Load { slot, at, waits });
        true
    }

    /// A new connection to `peer` stands: what was on its way over the old one is lost.
    pub(crate) fn forget_loads(&mut self, peer: NodeId) {
        self.loads.remove(&peer);
    }

    /// The slot that was last wanted from the log for `peer`.
    pub(crate) fn loading(&self, peer: NodeId) -> Option<Slot> {
        self.loads.get(&peer).map(|last| last.slot)
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
    fn what_a_slow_link_carries_is_not_sent_over_and_over() {
        let mut asked = Asked::default();
        let mut sent = 0;
        for at in 0..6_000 {
            sent += u64::from(asked.load(NodeId(2), Slot(5), MonoTime(at), 100));
        }
        assert_eq!(sent, 6, "after 0, 100, 300, 700, 1500 and 3100");
        assert!(
            asked.load(NodeId(2), Slot(6), MonoTime(6_000), 100),
            "the peer got on"
        );
        assert!(asked.load(NodeId(2), Slot(6), MonoTime(6_100), 100));
        assert!(!asked.load(NodeId(2), Slot(6), MonoTime(6_200), 100));
        asked.forget_loads(NodeId(2));
        assert!(
            asked.load(NodeId(2), Slot(6), MonoTime(6_200), 100),
            "a new connection"
        );
    }

    #[test]
    fn a_wait_doubles_only_so_far() {
        let mut asked = Asked::default();
        let first_us = 1_500_000;
        let times = (0..20_000_000).step_by(100_000);
        let sent = times.filter(|at| asked.load(NodeId(2), Slot(5), MonoTime(*at), first_us));
        let sent: Vec<_> = sent.map(|at| at / 100_000).collect();
        assert_eq!(sent, [0, 15, 45, 85, 125, 165], "in tenths of a second");
        let slower_us = 6_000_000;
        assert!(!asked.load(NodeId(2), Slot(5), MonoTime(20_500_000), slower_us));
        assert!(asked.load(NodeId(2), Slot(5), MonoTime(22_500_000), slower_us));
    }

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
