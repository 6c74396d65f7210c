//! One agreed value: what Paxos chooses for a slot.
//!
//! ```text
//! byte 0      1       8             16            24            32
//!      | kind | zeros | birth: u64  | stamp: u64  | wall: u64   | payload ... |
//! ```
//!
//! Integers are little-endian. `birth` is the ballot under which the entry was first proposed,
//! `stamp` the leader's cluster time in milliseconds, `wall` its wall clock in milliseconds since
//! 1970 (for people; nothing is decided by it). All of it is the value: a new leader that proposes
//! an entry again keeps every byte.
//!
//! The bytes are made once and shared by the log and every link; the slot, the ballot under which
//! the entry was accepted and the checksums stand outside.

use std::fmt;

use bytes::{BufMut, Bytes, BytesMut};

use crate::ballot::Ballot;
use crate::wire::DecodeError;

/// Bytes before the payload.
pub const ENTRY_HEADER_BYTES: usize = 32;

/// What an entry is for. The numbers stand on wire and disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum EntryKind {
    /// A command of the application.
    App = 1,
    /// A new leader's first own entry; its payload is a [`LeaderStart`](crate::LeaderStart).
    LeaderStart = 2,
    /// Settings of the service, chosen first of all; only the first one counts.
    Settings = 3,
    /// A change of members. Reserved: nothing proposes it yet.
    Config = 4,
    /// Only moves cluster time.
    Time = 5,
    /// Fills a slot that a damaged log lost. Reserved: nothing proposes it yet.
    Noop = 6,
}

impl EntryKind {
    /// The kind with that number, or `None`.
    #[must_use]
    pub const fn from_byte(byte: u8) -> Option<EntryKind> {
        Some(match byte {
            1 => EntryKind::App,
            2 => EntryKind::LeaderStart,
            3 => EntryKind::Settings,
            4 => EntryKind::Config,
            5 => EntryKind::Time,
            6 => EntryKind::Noop,
            _ => return None,
        })
    }
}

/// One agreed value; a clone is one reference count.
///
/// Invariant: the bytes are at least a header with a known kind and zero padding.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Entry(Bytes);

impl Entry {
    /// Encodes an entry. `stamp_ms` is cluster time, `wall_ms` milliseconds since 1970.
    #[must_use]
    pub fn new(
        kind: EntryKind,
        birth: Ballot,
        stamp_ms: u64,
        wall_ms: u64,
        payload: &[u8],
    ) -> Entry {
        let mut bytes = BytesMut::with_capacity(ENTRY_HEADER_BYTES + payload.len());
        bytes.put_u64_le(kind as u64);
        bytes.put_u64_le(birth.raw());
        bytes.put_u64_le(stamp_ms);
        bytes.put_u64_le(wall_ms);
        bytes.put_slice(payload);
        Entry(bytes.freeze())
    }

    /// Takes bytes from disk or network as an entry, without copying them.
    ///
    /// # Errors
    ///
    /// [`DecodeError`] when they are too short, of an unknown kind, or padded with non-zeros.
    pub fn decode(bytes: Bytes) -> Result<Entry, DecodeError> {
        if bytes.len() < ENTRY_HEADER_BYTES {
            return Err(DecodeError::Short {
                needed: ENTRY_HEADER_BYTES,
                found: bytes.len(),
            });
        }
        if EntryKind::from_byte(bytes[0]).is_none() {
            return Err(DecodeError::UnknownKind { kind: bytes[0] });
        }
        if bytes[1..8].iter().any(|&byte| byte != 0) {
            return Err(DecodeError::NonZeroPadding);
        }
        Ok(Entry(bytes))
    }

    /// What the entry is for.
    #[must_use]
    pub fn kind(&self) -> EntryKind {
        EntryKind::from_byte(self.0[0]).expect("checked when the entry was made")
    }

    /// The ballot under which the entry was first proposed.
    #[must_use]
    pub fn birth(&self) -> Ballot {
        Ballot::from_raw(self.word(8))
    }

    /// The leader's cluster time, in milliseconds, when it first proposed the entry.
    #[must_use]
    pub fn stamp_ms(&self) -> u64 {
        self.word(16)
    }

    /// The leader's wall clock then, in milliseconds since 1970. Informative only.
    #[must_use]
    pub fn wall_ms(&self) -> u64 {
        self.word(24)
    }

    /// The command, sharing this entry's memory.
    #[must_use]
    pub fn payload(&self) -> Bytes {
        self.0.slice(ENTRY_HEADER_BYTES..)
    }

    /// The whole entry as it stands in the log and in frames.
    #[must_use]
    pub fn bytes(&self) -> &Bytes {
        &self.0
    }

    /// Length of [`Entry::bytes`], for windows and caps.
    #[must_use]
    pub fn size_bytes(&self) -> usize {
        self.0.len()
    }

    fn word(&self, at: usize) -> u64 {
        let bytes = self.0[at..at + 8]
            .try_into()
            .expect("eight bytes of the header");
        u64::from_le_bytes(bytes)
    }
}

impl fmt::Debug for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = self.0[ENTRY_HEADER_BYTES..].escape_ascii();
        write!(
            f,
            "{:?}[{} @{} {text}]",
            self.kind(),
            self.birth(),
            self.stamp_ms()
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ident::NodeId;

    /// The layout that logs of running clusters hold; a change here is a new format.
    #[test]
    fn golden_bytes() {
        let entry = Entry::new(EntryKind::App, Ballot::new(7, NodeId(2)), 1000, 5, b"hi");
        let hex: String = entry
            .bytes()
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        let expected = [
            "0100000000000000",
            "0200070000000000",
            "e803000000000000",
            "0500000000000000",
            "6869",
        ];
        assert_eq!(hex, expected.concat());
    }

    #[test]
    fn reads_back_what_was_written() {
        let birth = Ballot::new(3, NodeId(1));
        let entry = Entry::new(EntryKind::LeaderStart, birth, 1, 2, &2000u64.to_le_bytes());
        let again = Entry::decode(entry.bytes().clone()).expect("a whole entry");
        assert_eq!(again, entry);
        assert_eq!(again.kind(), EntryKind::LeaderStart);
        assert_eq!(
            (again.birth(), again.stamp_ms(), again.wall_ms()),
            (birth, 1, 2)
        );
        assert_eq!(&again.payload()[..], &2000u64.to_le_bytes());
    }

    #[test]
    fn refuses_cuts_kinds_and_padding() {
        let entry = Entry::new(EntryKind::App, Ballot::ZERO, 0, 0, b"x");
        for len in 0..ENTRY_HEADER_BYTES {
            assert!(Entry::decode(entry.bytes().slice(..len)).is_err());
        }
        let check = |at: usize, byte: u8| {
            let mut bytes = entry.bytes().to_vec();
            bytes[at] = byte;
            Entry::decode(bytes.into()).expect_err("a broken header")
        };
        assert_eq!(check(0, 0), DecodeError::UnknownKind { kind: 0 });
        assert_eq!(check(0, 7), DecodeError::UnknownKind { kind: 7 });
        assert_eq!(check(3, 1), DecodeError::NonZeroPadding);
    }
}
