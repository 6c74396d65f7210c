//! Taking values that are known to be chosen.

use crate::ballot::Ballot;
use crate::core::Core;
use crate::entry::Entry;
use crate::outbox::{Outbox, WalRecord};

impl Core {
    /// Takes values known to be chosen for the slots right above the chosen prefix. One that is
    /// not held yet is recorded as chosen, which outranks every accept of its slot.
    pub(crate) fn adopt_chosen(&mut self, entries: Vec<Entry>, out: &mut Outbox) {
        let mut slot = self.log.chosen();
        let mut records = Vec::new();
        for entry in entries {
            slot = slot.next();
            if self.log.get(slot).is_none_or(|item| item.entry != entry) {
                self.log.put(slot, Ballot::ZERO, entry.clone());
                records.push(WalRecord::Chosen { slot, entry });
            }
        }
        if slot == self.log.chosen() {
            return;
        }
        self.log.choose(slot);
        if !records.is_empty() {
            self.submit(records, out);
        }
        self.skip_stream_to_chosen();
    }
}
