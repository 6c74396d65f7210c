//! Whether this replica can serve: answer clients, or send them to somebody who does.

use paxos::{MonoTime, Role, Slot};

use super::Engine;

/// Whether applying keeps up with what the cluster has chosen.
#[derive(Debug, Default)]
pub(super) struct Pace {
    /// A slot known to be chosen but not applied here, and since when.
    owed: Option<(Slot, MonoTime)>,
    /// The last moment known.
    now: MonoTime,
}

impl Pace {
    /// Looks at the replica after a batch.
    pub(super) fn observe(&mut self, now: MonoTime, applied: Slot, known: Slot) {
        self.now = now;
        let paid = self.owed.is_none_or(|(slot, _)| applied >= slot);
        if paid {
            self.owed = (applied < known).then_some((known, now));
        }
    }

    /// How long the oldest slot that is owed has waited, in microseconds.
    fn late_us(&self) -> u64 {
        self.owed.map_or(0, |(_, since)| self.now.since(since))
    }
}

impl Engine {
    /// Why this replica cannot serve now; `None` if it can.
    pub fn not_ready(&self) -> Option<String> {
        let status = self.core.status();
        if self.files_blocked {
            return Some("the disk of the data files is full: nothing is applied".to_owned());
        }
        // A follower sends its clients to the leader, so that only the leader's reasons count.
        if self.role == Role::Leader
            && let Some(reason) = self.refuses_work()
        {
            return Some(format!("new work is refused: {reason}"));
        }
        if status.leader.is_none() {
            return Some("no leader is known".to_owned());
        }
        let patience_us = 2 * self.options.core.election_us;
        (self.pace.late_us() > patience_us).then(|| {
            let behind = status.known_chosen.0.saturating_sub(self.applied.0);
            format!("{behind} slots behind the leader")
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn late_is_who_owes_a_slot_for_long() {
        let mut pace = Pace::default();
        let mut after = |ms: u64, applied, known| {
            pace.observe(MonoTime(1_000 * ms), Slot(applied), Slot(known));
            pace.late_us() / 1_000
        };
        assert_eq!(after(10, 5, 5), 0);
        assert_eq!(after(20, 5, 9), 0, "it has only just become known");
        assert_eq!(after(50, 8, 30), 30, "slot 9 is owed since 20");
        assert_eq!(after(60, 9, 40), 0, "now 40 is");
        assert_eq!(after(90, 12, 50), 30);
        assert_eq!(after(95, 50, 50), 0);
    }
}
