//! Messages as bytes.
//!
//! ```text
//! byte 0     1
//!      | tag | fields in the order of the struct ...
//! ```
//!
//! - Integers are little-endian: ballots, slots, rounds and hashes 8 bytes, counts and lengths 4.
//! - A list is its count, then its items. An entry is its length, then its bytes.
//! - A held slot is `ballot: u64, flags: u8 (1: chosen, 2: without its entry), entry`; a run or a faulty range is
//!   three words.
//! - A testimony is `node: u16`, then incarnation, start, ballot, accepted, last, slot, chain, state slot, state: `u64`.
//!
//! Decoding checks every length against what is left before anything is allocated, refuses bytes
//! left over, and lets the entries share the frame's memory. Checksums and frame lengths are the
//! link's business.

use bytes::{BufMut, Bytes, BytesMut};

use crate::entry::{ENTRY_HEADER_BYTES, Entry};
use crate::ident::NodeId;
use crate::input::Condition;
use crate::memory::{TESTIMONY_BYTES, Testimony, put_testimony, read_testimony};
use crate::message::{
    Accept, Accepted, ChosenChunk, Faulty, FetchChosen, Heartbeat, HeartbeatAck, Held, Message,
    Nack, Objection, Prepare, Probe, ProbeReply, Promise, Resync, Run, TransferNow, Verdict,
    Witness,
};
use crate::wire::{Reader, put_count, put_words};

pub use crate::wire::DecodeError;

/// An entry's length and its shortest form.
const ENTRY_BYTES_MIN: usize = 4 + ENTRY_HEADER_BYTES;
const HELD_BYTES_MIN: usize = 8 + 1;
const RUN_BYTES: usize = 24;
const FAULTY_BYTES: usize = 24;

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

fn held_bytes(held: &Held) -> usize {
    let entry = held.entry.as_ref();
    HELD_BYTES_MIN + entry.map_or(0, |entry| 4 + entry.size_bytes())
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
            Message::Objection(_) => 14,
            Message::Witness(_) => 15,
        }
    }

    fn size_bytes_about(&self) -> usize {
        64 + match self {
            Message::Accept(m) => entries_bytes(&m.entries),
            Message::ChosenChunk(m) => entries_bytes(&m.entries),
            Message::Promise(m) => m.held.iter().map(held_bytes).sum(),
            Message::Prepare(m) => RUN_BYTES * m.have.len(),
            _ => 0,
        }
    }

    fn put_fields(&self, out: &mut BytesMut) {
        match self {
            Message::Probe(m) => {
                put_words(out, [m.would_be.raw(), m.chosen.0, m.last.0, m.promise_us]);
            }
            Message::ProbeReply(m) => {
                out.put_u64_le(m.would_be.raw());
                out.put_u8(m.verdict as u8);
                put_words(out, [m.promised.raw(), m.chosen.0, m.first.0, m.last.0]);
            }
            Message::Prepare(m) => {
                put_words(out, [m.ballot.raw(), m.from.0]);
                out.put_u32_le(m.max_bytes);
                put_count(out, m.have.len());
                for run in &m.have {
                    put_words(out, [run.from.0, run.to.0, run.ballot.raw()]);
                }
            }
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
                put_witness(out, &m.witness);
            }
            Message::HeartbeatAck(m) => {
                put_words(out, [m.ballot.raw(), m.round, m.upto.0, m.received.0]);
                put_words(out, [m.chosen.0, m.applied.0, m.wal_age_us, m.recorded.0]);
                out.put_u64_le(m.sync_us);
                out.put_u8(u8::from(m.condition.low) | u8::from(m.condition.blocked) << 1);
                put_testimony(out, &m.own);
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
            Message::Objection(m) => {
                out.put_u8(u8::from(m.is_state));
                put_words(out, [m.slot.0, m.hash]);
                put_count(out, m.agreeing.len());
                m.agreeing.iter().for_each(|node| out.put_u16_le(node.0));
            }
            Message::Witness(m) => put_witness(out, &m.witness),
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
        out.put_u8(u8::from(held.chosen) | u8::from(held.entry.is_none()) << 1);
        if let Some(entry) = &held.entry {
            put_entry(out, entry);
        }
    }
    put_count(out, m.faulty.len());
    for range in &m.faulty {
        put_words(out, [range.from.0, range.to.0, range.ballot_max.raw()]);
    }
    put_witness(out, &m.witness);
}

fn put_witness(out: &mut BytesMut, witness: &[Testimony]) {
    put_count(out, witness.len());
    for testimony in witness {
        put_testimony(out, testimony);
    }
}

fn decode_election(tag: u8, r: &mut Reader) -> Result<Message, DecodeError> {
    Ok(match tag {
        1 => Message::Probe(Probe {
            would_be: r.ballot()?,
            chosen: r.slot()?,
            last: r.slot()?,
            promise_us: r.u64()?,
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
            max_bytes: r.u32()?,
            have: r.list(RUN_BYTES, decode_run)?,
        }),
        4 => Message::Promise(Promise {
            ballot: r.ballot()?,
            first: r.slot()?,
            chosen: r.slot()?,
            last: r.slot()?,
            start: r.slot()?,
            held: r.list(HELD_BYTES_MIN, decode_held)?,
            faulty: r.list(FAULTY_BYTES, decode_faulty)?,
            witness: r.list(TESTIMONY_BYTES, read_testimony)?,
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
            entries: r.list(ENTRY_BYTES_MIN, decode_entry)?,
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
            witness: r.list(TESTIMONY_BYTES, read_testimony)?,
        }),
        9 => Message::HeartbeatAck(HeartbeatAck {
            ballot: r.ballot()?,
            round: r.u64()?,
            upto: r.slot()?,
            received: r.slot()?,
            chosen: r.slot()?,
            applied: r.slot()?,
            wal_age_us: r.u64()?,
            recorded: r.slot()?,
            sync_us: r.u64()?,
            condition: decode_condition(r.u8()?)?,
            own: read_testimony(r)?,
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
            entries: r.list(ENTRY_BYTES_MIN, decode_entry)?,
            chosen: r.slot()?,
            first: r.slot()?,
        }),
        13 => Message::TransferNow(TransferNow {
            ballot: r.ballot()?,
            upto: r.slot()?,
        }),
        14 => Message::Objection(Objection {
            is_state: decode_flag(r.u8()?, "is_state")?,
            slot: r.slot()?,
            hash: r.u64()?,
            agreeing: r.list(2, |r| r.u16().map(NodeId))?,
        }),
        15 => Message::Witness(Witness {
            witness: r.list(TESTIMONY_BYTES, read_testimony)?,
        }),
        _ => return Err(DecodeError::UnknownTag { tag }),
    })
}

fn decode_flag(byte: u8, what: &'static str) -> Result<bool, DecodeError> {
    match byte {
        0 => Ok(false),
        1 => Ok(true),
        byte => Err(DecodeError::BadValue { what, byte }),
    }
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

fn decode_condition(byte: u8) -> Result<Condition, DecodeError> {
    if byte > 3 {
        return Err(DecodeError::BadValue {
            what: "condition",
            byte,
        });
    }
    Ok(Condition {
        low: byte & 1 != 0,
        blocked: byte & 2 != 0,
    })
}

fn decode_entry(r: &mut Reader) -> Result<Entry, DecodeError> {
    let length = r.count(1)?;
    Entry::decode(r.bytes(length)?)
}

fn decode_held(r: &mut Reader) -> Result<Held, DecodeError> {
    let ballot = r.ballot()?;
    let byte = r.u8()?;
    if byte > 3 {
        return Err(DecodeError::BadValue { what: "held", byte });
    }
    let entry = match byte & 2 {
        0 => Some(decode_entry(r)?),
        _ => None,
    };
    Ok(Held {
        ballot,
        chosen: byte & 1 != 0,
        entry,
    })
}

fn decode_run(r: &mut Reader) -> Result<Run, DecodeError> {
    Ok(Run {
        from: r.slot()?,
        to: r.slot()?,
        ballot: r.ballot()?,
    })
}

fn decode_faulty(r: &mut Reader) -> Result<Faulty, DecodeError> {
    Ok(Faulty {
        from: r.slot()?,
        to: r.slot()?,
        ballot_max: r.ballot()?,
    })
}
