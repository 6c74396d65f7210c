//! What a folder holds for each slot, and of which slots it knows that they are chosen.

use std::collections::BTreeMap;

use bytes::Bytes;
use paxos::Entry;
use wal::scan::{Outcome, RecordView, payload};
use wal::{RecordKind, SlotRange};

use crate::failure::Failure;
use crate::source::Source;

/// The record that counts for each slot.
#[derive(Debug)]
pub(crate) struct Ledger<'a> {
    source: &'a Source,
    slots: BTreeMap<u64, RecordView<'a>>,
    /// Every slot up to here is chosen, a node with this log once knew.
    commit: u64,
}

/// What a folder knows of a slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Known {
    /// Its value is chosen.
    Chosen,
    /// A value was accepted; whether it is chosen, only the other replicas can say.
    Accepted,
    /// It was here and is damaged: an older value must not be believed.
    Lost,
    /// It is not here.
    Missing,
}

impl Known {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Known::Chosen => "chosen",
            Known::Accepted => "accepted",
            Known::Lost => "lost",
            Known::Missing => "missing",
        }
    }
}

impl<'a> Ledger<'a> {
    pub(crate) fn new(source: &'a Source) -> Ledger<'a> {
        let mut slots: BTreeMap<u64, RecordView<'a>> = BTreeMap::new();
        for view in source
            .believed()
            .filter(|v| v.record.header.kind.is_entry())
        {
            let head = view.record.header;
            // What is chosen outranks every accept of its slot; else the last one counts.
            let outranked = slots
                .get(&head.slot)
                .is_some_and(|old| is_chosen(old) && head.kind != RecordKind::Chosen);
            if !outranked {
                slots.insert(head.slot, view);
            }
        }
        Ledger {
            source,
            slots,
            commit: source.view().commit_slot,
        }
    }

    pub(crate) fn known(&self, slot: u64) -> Known {
        let view = self.slots.get(&slot);
        let lost = |view: Option<&RecordView<'_>>, range: &SlotRange| {
            range.contains(slot)
                && view.is_none_or(|view| {
                    !is_chosen(view) && view.record.header.ballot < range.ballot_max
                })
        };
        if let Outcome::Faulty { ranges, .. } = &self.source.view().outcome
            && ranges.iter().any(|range| lost(view, range))
        {
            return Known::Lost;
        }
        match view {
            None => Known::Missing,
            Some(view) if is_chosen(view) || slot <= self.commit => Known::Chosen,
            Some(_) => Known::Accepted,
        }
    }

    /// The record that counts for a slot.
    pub(crate) fn record(&self, slot: u64) -> Option<&RecordView<'a>> {
        self.slots.get(&slot)
    }

    /// The entry of a slot; `None` if there is none that can be read.
    pub(crate) fn entry(&self, slot: u64) -> Result<Option<Entry>, Failure> {
        let Some(view) = self.slots.get(&slot) else {
            return Ok(None);
        };
        let bytes = bytes_of(self.source, view)?;
        Ok(bytes.and_then(|bytes| Entry::decode(bytes).ok()))
    }

    /// First and last slot that have a record.
    pub(crate) fn span(&self) -> Option<(u64, u64)> {
        let first = self.slots.first_key_value()?.0;
        let last = self.slots.last_key_value()?.0;
        Some((*first, *last))
    }

    /// The last slot of which this folder knows that it and all before it are chosen.
    pub(crate) fn commit(&self) -> u64 {
        self.commit
    }
}

fn is_chosen(view: &RecordView<'_>) -> bool {
    view.record.header.kind == RecordKind::Chosen
}

/// The payload of a record; `None` if it is damaged.
pub(crate) fn bytes_of(source: &Source, view: &RecordView<'_>) -> Result<Option<Bytes>, Failure> {
    if !view.record.good {
        return Ok(None);
    }
    Ok(payload(&*source.disk, view.segment, view.record)?)
}
