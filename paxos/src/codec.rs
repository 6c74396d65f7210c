//! Messages as bytes.
//!
//! ```text
//! byte 0     1
//!      | tag | fields in the order of the struct ...
//! ```
//!
//! - Integers are little-endian: ballots, slots and rounds 8 bytes, counts and lengths 4.
//! - A list is its count, then its items. An entry is its length, then its bytes.
//! - A held slot is `ballot: u64, chosen: u8 (0 or 1), entry`; a faulty range three words.
//!
//! Decoding checks every length against what is left before anything is allocated, refuses bytes
//! left over, and lets the entries share the frame's memory. Checksums and frame lengths are the
//! link's business.

use bytes::{BufMut, Bytes, BytesMut};

use crate::ballot::Ballot;
use crate::entry::{ENTRY_HEADER_BYTES, Entry};
use crate::ident::Slot;
use crate::message::{
    Accept, Accepted, ChosenChunk, Faulty, FetchChosen, Heartbeat, HeartbeatAck, Held, Message,
    Nack, Prepare, Probe, ProbeReply, Promise, Resync, TransferNow, Verdict,
};

/// Why bytes are not what they should be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// The bytes end too early.
    #[error("{found} bytes where {needed} are needed")]
    Short {
        /// How many a field or header takes.
        needed: usize,
        /// How many were left.
        found: usize,
    },
    /// A list or text says that it is longer than what is left.
    #[error("a length of {length} with {left} bytes left")]
    LengthTooLarge {
        /// The length it says.
        length: usize,
        /// The bytes left.
        left: usize,
    },
    /// An entry of a kind that this version does not know.
    #[error("unknown entry kind {kind}")]
    UnknownKind {
        /// The kind's byte.
        kind: u8,
    },
    /// A message that this version does not know.
    #[error("unknown message tag {tag}")]
    UnknownTag {
        /// The tag's byte.
        tag: u8,
    },
    /// A byte that should be one of a few values is another.
    #[error("byte {byte} is no value of {what}")]
    BadValue {
        /// What it stands for.
        what: &'static str,
        /// The byte.
        byte: u8,
    },
    /// A ballot or slot that no cluster reaches; going on from it would overflow.
    #[error("{what} {found} is out of range")]
    OutOfRange {
        /// What it is.
        what: &'static str,
        /// The number.
        found: u64,
    },
    /// Reserved bytes that should be zero are not.
    #[error("non-zero padding")]
    NonZeroPadding,
    /// More bytes than the message has.
    #[error("{left} bytes left over")]
    LeftOver {
        /// How many.
        left: usize,
    },
    /// A text that is not UTF-8.
    #[error("text is not utf-8")]
    NotText,
}

/// Takes fields from the front of some bytes.
pub(crate) struct Reader(Bytes);

impl Reader {
    pub(crate) fn new(bytes: Bytes) -> Reader {
        Reader(bytes)
    }

    pub(crate) fn bytes(&mut self, len: usize) -> Result<Bytes, DecodeError> {
        if self.0.len() < len {
            return Err(DecodeError::Short {
                needed: len,
                found: self.0.len(),
            });
        }
        Ok(self.0.split_to(len))
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        let mut array = [0; N];
        array.copy_from_slice(&self.bytes(N)?);
        Ok(array)
    }

    pub(crate) fn u8(&mut self) -> Result<u8, DecodeError> {
        Ok(self.array::<1>()?[0])
    }

    pub(crate) fn u16(&mut self) -> Result<u16, DecodeError> {
        Ok(u16::from_le_bytes(self.array()?))
    }

    pub(crate) fn u32(&mut self) -> Result<u32, DecodeError> {
        Ok(u32::from_le_bytes(self.array()?))
    }

    pub(crate) fn u64(&mut self) -> Result<u64, DecodeError> {
        Ok(u64::from_le_bytes(self.array()?))
    }

    pub(crate) fn u128(&mut self) -> Result<u128, DecodeError> {
        Ok(u128::from_le_bytes(self.array()?))
    }

    fn ballot(&mut self) -> Result<Ballot, DecodeError> {
        let ballot = Ballot::from_raw(self.u64()?);
        if ballot.round() > BALLOT_ROUND_MAX {
            return Err(DecodeError::OutOfRange {
                what: "ballot round",
                found: ballot.round(),
            });
        }
        Ok(ballot)
    }

    fn slot(&mut self) -> Result<Slot, DecodeError> {
        let slot = Slot(self.u64()?);
        if slot > SLOT_MAX {
            return Err(DecodeError::OutOfRange {
                what: "slot",
                found: slot.0,
            });
        }
        Ok(slot)
    }

    /// The length of something of which each item takes `item_bytes` at least.
    pub(crate) fn count(&mut self, item_bytes: usize) -> Result<usize, DecodeError> {
        let length = self.u32()? as usize;
        if length > self.0.len() / item_bytes {
            return Err(DecodeError::LengthTooLarge {
                length,
                left: self.0.len(),
            });
        }
        Ok(length)
    }

    fn entry(&mut self) -> Result<Entry, DecodeError> {
        let length = self.count(1)?;
        Entry::decode(self.bytes(length)?)
    }

    pub(crate) fn list<T>(
        &mut self,
        item_bytes: usize,
        item: impl Fn(&mut Reader) -> Result<T, DecodeError>,
    ) -> Result<Vec<T>, DecodeError> {
        let count = self.count(item_bytes)?;
        (0..count).map(|_| item(self)).collect()
    }

    pub(crate) fn finish(self) -> Result<(), DecodeError> {
        match self.0.len() {
            0 => Ok(()),
            left => Err(DecodeError::LeftOver { left }),
        }
    }
}

/// Half of what a ballot can hold, so that the next round always exists.
const BALLOT_ROUND_MAX: u64 = 1 << 47;
const SLOT_MAX: Slot = Slot(1 << 62);
/// An entry's length and its shortest form.
const ENTRY_BYTES_MIN: usize = 4 + ENTRY_HEADER_BYTES;
const HELD_BYTES_MIN: usize = 8 + 1 + ENTRY_BYTES_MIN;
const FAULTY_BYTES: usize = 24;

pub(crate) fn put_count(bytes: &mut BytesMut, count: usize) {
    bytes.put_u32_le(u32::try_from(count).expect("lists are bounded far below 4 Gi"));
}

fn put_words<const N: usize>(bytes: &mut BytesMut, words: [u64; N]) {
    for word in words {
        bytes.put_u64_le(word);
    }
}

fn put_entry(bytes: &mut BytesMut, entry: &Entry) {
    put_count(bytes, entry.size_bytes());
    bytes.put_slice(entry.bytes());
}

fn put_entries(bytes: &mut BytesMut, entries: &[Entry]) {
    put_count(bytes, entries.len());
    for entry in entries {
        put_entry(bytes, entry);
    }
}

fn entries_bytes(entries: &[Entry]) -> usize {
    entries.iter().map(|entry| 4 + entry.size_bytes()).sum()
}

impl Message {
    /// The message in its wire form.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        let mut bytes = BytesMut::with_capacity(self.size_bytes_about());
        bytes.put_u8(self.tag());
        self.put_fields(&mut bytes);
        bytes.freeze()
    }

    /// Reads a message; its entries share the memory of `bytes`.
    ///
    /// # Errors
    ///
    /// The first [`DecodeError`]. Never panics, whatever `bytes` holds.
    pub fn decode(bytes: Bytes) -> Result<Message, DecodeError> {
        let mut reader = Reader::new(bytes);
        let tag = reader.u8()?;
        let message = match tag {
            1..=5 => decode_election(tag, &mut reader)?,
            6..=10 => decode_replication(tag, &mut reader)?,
            _ => decode_rest(tag, &mut reader)?,
        };
        reader.finish()?;
        Ok(message)
    }

    const fn tag(&self) -> u8 {
        match self {
            Message::Probe(_) => 1,
            Message::ProbeReply(_) => 2,
            Message::Prepare(_) => 3,
            Message::Promise(_) => 4,
            Message::Nack(_) => 5,
            Message::Accept(_) => 6,
            Message::Accepted(_) => 7,
            Message::Heartbeat(_) => 8,
            Message::HeartbeatAck(_) => 9,
            Message::Resync(_) => 10,
            Message::FetchChosen(_) => 11,
            Message::ChosenChunk(_) => 12,
            Message::TransferNow(_) => 13,
        }
    }

    fn size_bytes_about(&self) -> usize {
        64 + match self {
            Message::Accept(m) => entries_bytes(&m.entries),
            Message::ChosenChunk(m) => entries_bytes(&m.entries),
            Message::Promise(m) => m.held.iter().map(|held| 13 + held.entry.size_bytes()).sum(),
            _ => 0,
        }
    }

    fn put_fields(&self, out: &mut BytesMut) {
        match self {
            Message::Probe(m) => put_words(out, [m.would_be.raw(), m.chosen.0, m.last.0]),
            Message::ProbeReply(m) => {
                out.put_u64_le(m.would_be.raw());
                out.put_u8(m.verdict as u8);
                put_words(out, [m.promised.raw(), m.chosen.0, m.first.0, m.last.0]);
            }
            Message::Prepare(m) => put_words(out, [m.ballot.raw(), m.from.0]),
            Message::Promise(m) => put_promise(out, m),
            Message::Nack(m) => put_words(out, [m.refused.raw(), m.promised.raw()]),
            Message::Accept(m) => {
                put_words(out, [m.ballot.raw(), m.prev.0]);
                put_entries(out, &m.entries);
                put_words(out, [m.commit.0, m.round]);
            }
            Message::Accepted(m) => {
                put_words(out, [m.ballot.raw(), m.upto.0, m.received.0, m.chosen.0]);
                put_words(out, [m.wal_age_us, m.round]);
            }
            Message::Heartbeat(m) => {
                put_words(out, [m.ballot.raw(), m.commit.0, m.round, m.needed.0]);
            }
            Message::HeartbeatAck(m) => {
                put_words(out, [m.ballot.raw(), m.round, m.upto.0, m.received.0]);
                put_words(out, [m.chosen.0, m.applied.0, m.wal_age_us]);
            }
            Message::Resync(m) => put_words(out, [m.ballot.raw(), m.next.0]),
            Message::FetchChosen(m) => {
                out.put_u64_le(m.from.0);
                out.put_u32_le(m.max_bytes);
            }
            Message::ChosenChunk(m) => {
                out.put_u64_le(m.start.0);
                put_entries(out, &m.entries);
                put_words(out, [m.chosen.0, m.first.0]);
            }
            Message::TransferNow(m) => put_words(out, [m.ballot.raw(), m.upto.0]),
        }
    }
}

fn put_promise(out: &mut BytesMut, m: &Promise) {
    put_words(
        out,
        [m.ballot.raw(), m.first.0, m.chosen.0, m.last.0, m.start.0],
    );
    put_count(out, m.held.len());
    for held in &m.held {
        out.put_u64_le(held.ballot.raw());
        out.put_u8(u8::from(held.chosen));
        put_entry(out, &held.entry);
    }
    put_count(out, m.faulty.len());
    for range in &m.faulty {
        put_words(out, [range.from.0, range.to.0, range.ballot_max.raw()]);
    }
}

fn decode_election(tag: u8, r: &mut Reader) -> Result<Message, DecodeError> {
    Ok(match tag {
        1 => Message::Probe(Probe {
            would_be: r.ballot()?,
            chosen: r.slot()?,
            last: r.slot()?,
        }),
        2 => Message::ProbeReply(ProbeReply {
            would_be: r.ballot()?,
            verdict: decode_verdict(r.u8()?)?,
            promised: r.ballot()?,
            chosen: r.slot()?,
            first: r.slot()?,
            last: r.slot()?,
        }),
        3 => Message::Prepare(Prepare {
            ballot: r.ballot()?,
            from: r.slot()?,
        }),
        4 => Message::Promise(Promise {
            ballot: r.ballot()?,
            first: r.slot()?,
            chosen: r.slot()?,
            last: r.slot()?,
            start: r.slot()?,
            held: r.list(HELD_BYTES_MIN, decode_held)?,
            faulty: r.list(FAULTY_BYTES, decode_faulty)?,
        }),
        5 => Message::Nack(Nack {
            refused: r.ballot()?,
            promised: r.ballot()?,
        }),
        _ => return Err(DecodeError::UnknownTag { tag }),
    })
}

fn decode_replication(tag: u8, r: &mut Reader) -> Result<Message, DecodeError> {
    Ok(match tag {
        6 => Message::Accept(Accept {
            ballot: r.ballot()?,
            prev: r.slot()?,
            entries: r.list(ENTRY_BYTES_MIN, Reader::entry)?,
            commit: r.slot()?,
            round: r.u64()?,
        }),
        7 => Message::Accepted(Accepted {
            ballot: r.ballot()?,
            upto: r.slot()?,
            received: r.slot()?,
            chosen: r.slot()?,
            wal_age_us: r.u64()?,
            round: r.u64()?,
        }),
        8 => Message::Heartbeat(Heartbeat {
            ballot: r.ballot()?,
            commit: r.slot()?,
            round: r.u64()?,
            needed: r.slot()?,
        }),
        9 => Message::HeartbeatAck(HeartbeatAck {
            ballot: r.ballot()?,
            round: r.u64()?,
            upto: r.slot()?,
            received: r.slot()?,
            chosen: r.slot()?,
            applied: r.slot()?,
            wal_age_us: r.u64()?,
        }),
        10 => Message::Resync(Resync {
            ballot: r.ballot()?,
            next: r.slot()?,
        }),
        _ => return Err(DecodeError::UnknownTag { tag }),
    })
}

fn decode_rest(tag: u8, r: &mut Reader) -> Result<Message, DecodeError> {
    Ok(match tag {
        11 => Message::FetchChosen(FetchChosen {
            from: r.slot()?,
            max_bytes: r.u32()?,
        }),
        12 => Message::ChosenChunk(ChosenChunk {
            start: r.slot()?,
            entries: r.list(ENTRY_BYTES_MIN, Reader::entry)?,
            chosen: r.slot()?,
            first: r.slot()?,
        }),
        13 => Message::TransferNow(TransferNow {
            ballot: r.ballot()?,
            upto: r.slot()?,
        }),
        _ => return Err(DecodeError::UnknownTag { tag }),
    })
}

fn decode_verdict(byte: u8) -> Result<Verdict, DecodeError> {
    Ok(match byte {
        0 => Verdict::Grant,
        1 => Verdict::Sticky,
        2 => Verdict::BallotTooLow,
        3 => Verdict::TooOld,
        _ => {
            return Err(DecodeError::BadValue {
                what: "verdict",
                byte,
            });
        }
    })
}

fn decode_held(r: &mut Reader) -> Result<Held, DecodeError> {
    let ballot = r.ballot()?;
    let chosen = match r.u8()? {
        0 => false,
        1 => true,
        byte => {
            return Err(DecodeError::BadValue {
                what: "chosen",
                byte,
            });
        }
    };
    Ok(Held {
        ballot,
        chosen,
        entry: r.entry()?,
    })
}

fn decode_faulty(r: &mut Reader) -> Result<Faulty, DecodeError> {
    Ok(Faulty {
        from: r.slot()?,
        to: r.slot()?,
        ballot_max: r.ballot()?,
    })
}
