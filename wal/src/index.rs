//! Where the value of each slot stands: 16 bytes for each slot, in memory only.
//!
//! The index is rebuilt from the log at open and never trusted beyond it: every read verifies the record.

use std::collections::{BTreeMap, VecDeque};

use crate::record::{Lsn, RecordKind};

/// A slot further above the last one than this is no slot that anyone can mean.
pub(crate) const SLOT_JUMP_MAX: u64 = 1 << 22;

/// Where a value stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) lsn: Lsn,
    pub(crate) kind: RecordKind,
    pub(crate) ballot: u64,
    pub(crate) payload_bytes: u32,
}

/// Slots from a base on.
#[derive(Debug, Default)]
pub(crate) struct Index {
    first: u64,
    places: VecDeque<Place>,
    ballots: Vec<u64>,
    ballot_numbers: BTreeMap<u64, u32>,
}

/// One slot; position 0 holds a segment header, so it means "none".
#[derive(Clone, Copy, Debug, Default)]
struct Place {
    lsn: u64,
    /// Payload bytes in the low 28 bits, kind above.
    bytes_and_kind: u32,
    ballot_number: u32,
}

const KIND_SHIFT: u32 = 28;
const _: () = assert!(size_of::<Place>() == 16);
const _: () = assert!(crate::record::PAYLOAD_BYTES_MAX < 1 << KIND_SHIFT);

impl Index {
    pub(crate) fn new(first: u64) -> Index {
        Index {
            first,
            ..Index::default()
        }
    }

    pub(crate) fn first(&self) -> u64 {
        self.first
    }

    /// The last slot; `first - 1` if there is none.
    pub(crate) fn last(&self) -> u64 {
        self.first + self.places.len() as u64 - 1
    }

    /// Notes a value. A chosen value outranks any accept of its slot, else the latest counts.
    ///
    /// Slots below the first are forgotten ones; slots too far above the last are refused by the writer.
    pub(crate) fn put(&mut self, slot: u64, entry: Entry) {
        let Some(at) = slot.checked_sub(self.first) else {
            return;
        };
        let at = at as usize;
        if at >= self.places.len() {
            self.places.resize(at + 1, Place::default());
        }
        let old = self.places[at];
        let outranked =
            old.lsn != 0 && old.kind() == RecordKind::Chosen && entry.kind != RecordKind::Chosen;
        if !outranked {
            let ballot_number = self.ballot_number(entry.ballot);
            let bytes_and_kind = entry.payload_bytes | (entry.kind as u32) << KIND_SHIFT;
            self.places[at] = Place {
                lsn: entry.lsn.0,
                bytes_and_kind,
                ballot_number,
            };
        }
    }

    pub(crate) fn get(&self, slot: u64) -> Option<Entry> {
        let place = self
            .places
            .get(usize::try_from(slot.checked_sub(self.first)?).ok()?)?;
        (place.lsn != 0).then(|| Entry {
            lsn: Lsn(place.lsn),
            kind: place.kind(),
            ballot: self.ballots[place.ballot_number as usize],
            payload_bytes: place.bytes_and_kind & ((1 << KIND_SHIFT) - 1),
        })
    }

    /// Forgets the slots below `first`.
    pub(crate) fn cut(&mut self, first: u64) {
        let gone = first
            .saturating_sub(self.first)
            .min(self.places.len() as u64);
        self.places.drain(..gone as usize);
        self.first = self.first.max(first);
    }

    fn ballot_number(&mut self, ballot: u64) -> u32 {
        if let Some(number) = self.ballot_numbers.get(&ballot) {
            return *number;
        }
        let number = u32::try_from(self.ballots.len()).expect("fewer than 2^32 ballots");
        self.ballots.push(ballot);
        self.ballot_numbers.insert(ballot, number);
        number
    }
}

impl Place {
    fn kind(self) -> RecordKind {
        RecordKind::from_u8((self.bytes_and_kind >> KIND_SHIFT) as u8)
            .expect("only real kinds are noted")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(kind: RecordKind, ballot: u64, lsn: u64) -> Entry {
        Entry {
            lsn: Lsn(lsn),
            kind,
            ballot,
            payload_bytes: 3,
        }
    }

    #[test]
    fn the_latest_counts_and_chosen_outranks() {
        use RecordKind::{Accept, Chosen};
        let mut index = Index::new(5);
        assert_eq!((index.first(), index.last()), (5, 4));
        index.put(6, entry(Accept, 1, 100));
        index.put(6, entry(Accept, 2, 200));
        assert_eq!(index.get(6), Some(entry(Accept, 2, 200)));
        assert_eq!(index.get(5), None);
        index.put(6, entry(Chosen, 0, 300));
        index.put(6, entry(Accept, 9, 400));
        assert_eq!(index.get(6), Some(entry(Chosen, 0, 300)));
        index.put(6, entry(Chosen, 0, 500));
        assert_eq!(index.get(6).unwrap().lsn, Lsn(500));
    }

    #[test]
    fn cutting_forgets_and_never_goes_back() {
        let mut index = Index::new(1);
        for slot in 1..=10 {
            index.put(slot, entry(RecordKind::Accept, 1, slot));
        }
        index.cut(4);
        assert_eq!((index.first(), index.last(), index.get(3)), (4, 10, None));
        index.put(3, entry(RecordKind::Accept, 1, 33));
        assert_eq!(index.get(3), None);
        index.cut(20);
        assert_eq!((index.first(), index.last()), (20, 19));
        index.cut(2);
        assert_eq!(index.first(), 20);
    }
}
