//! What replicas remember of each other's disks, so that an old copy of a disk is not believed.
//!
//! A disk that was put back from a copy has forgotten what it promised and accepted since. It does not know
//! that, but others do: every replica keeps, for each member, the last start of its process ([`Life`]) and
//! the furthest that its disk is known to hold ([`Memory`]). Both travel with every heartbeat, promise and
//! handshake, so that more than one replica remembers.
//!
//! [`Memories`] is what the superblock keeps of this:
//!
//! ```text
//! | version u8 | members u8 | per member: node u16, incarnation, start, ballot, accepted, last: u64 |
//! | condemned u8 (0 or 1) | by: u16, then what that member remembered, as above |
//! ```

use std::collections::BTreeMap;

use bytes::{BufMut, Bytes, BytesMut};

use crate::ballot::Ballot;
use crate::ident::{Life, NodeId, Slot};
use crate::wire::{DecodeError, Reader, put_words};

const VERSION: u8 = 1;

/// The furthest that a member's disk is known to hold.
///
/// Grows only; `merge` takes the best of two.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Memory {
    /// The last start of the member's process that is known of.
    pub life: Life,
    /// The highest ballot that its disk is known to have promised.
    pub ballot: Ballot,
    /// The highest slot that it accepted at exactly that ballot; 0 if none is known of.
    pub accepted: Slot,
    /// The highest slot that it acknowledged at any ballot.
    pub last: Slot,
}

impl Memory {
    /// Adds what somebody else knows of the disk. The life is left alone: whether a start is believed
    /// depends on more than its number.
    pub(crate) fn merge(&mut self, other: &Memory) {
        self.last = self.last.max(other.last);
        if other.ballot > self.ballot {
            self.ballot = other.ballot;
            self.accepted = other.accepted;
        } else if other.ballot == self.ballot {
            self.accepted = self.accepted.max(other.accepted);
        }
    }
}

impl std::fmt::Display for Memory {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "start {}, ballot {}", self.life, self.ballot)?;
        if self.accepted > Slot::NONE {
            write!(f, " accepted up to slot {}", self.accepted)?;
        }
        write!(f, ", slots up to {}", self.last)
    }
}

/// What one replica says of a member: what it remembers, and how far it knows the member's history.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Testimony {
    /// The member.
    pub node: NodeId,
    /// What its disk holds.
    pub memory: Memory,
    /// The history that it applied.
    pub mark: Mark,
}

/// Two hashes that replicas with one history have in common. Zero where nothing is known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Mark {
    /// A chosen slot.
    pub slot: Slot,
    /// The chain hash over every slot and value up to it.
    pub chain: u64,
    /// A slot for which the application gave a hash of its state.
    pub state_slot: Slot,
    /// That hash.
    pub state: u64,
}

/// Why a disk must not be used any more: somebody remembers more of it than it holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Condemned {
    /// The member that remembers it.
    pub by: NodeId,
    /// What that member remembers.
    pub memory: Memory,
}

impl std::fmt::Display for Condemned {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "this data folder is an old copy: replica {} remembers more of this replica than the folder \
             holds ({}). Acknowledged entries may be missing here, so it must not vote. Put back the folder \
             that ran last; if there is none, leave this replica stopped and keep the folder for inspection",
            self.by, self.memory
        )
    }
}

/// What a replica keeps in its superblock about the members, itself included.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Memories {
    /// By member.
    pub members: BTreeMap<NodeId, Memory>,
    /// Set once this disk was found to be an old copy, for ever.
    pub condemned: Option<Condemned>,
}

const MEMORY_BYTES: usize = 40;

impl Memories {
    /// The bytes for the superblock; see the module.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        let mut out = BytesMut::with_capacity(64 + 42 * self.members.len());
        out.put_u8(VERSION);
        out.put_u8(u8::try_from(self.members.len()).expect("a cluster has a few members"));
        for (node, memory) in &self.members {
            out.put_u16_le(node.0);
            put_memory(&mut out, memory);
        }
        out.put_u8(u8::from(self.condemned.is_some()));
        if let Some(condemned) = &self.condemned {
            out.put_u16_le(condemned.by.0);
            put_memory(&mut out, &condemned.memory);
        }
        out.freeze()
    }

    /// Reads the superblock's bytes. None at all, as in a new or an older folder, are no memories.
    ///
    /// # Errors
    ///
    /// [`DecodeError`]. Never panics, whatever `bytes` holds.
    pub fn decode(bytes: Bytes) -> Result<Memories, DecodeError> {
        if bytes.is_empty() {
            return Ok(Memories::default());
        }
        let mut r = Reader::new(bytes);
        match r.u8()? {
            VERSION => {}
            byte => return Err(bad("version of what is remembered of the members", byte)),
        }
        let mut memories = Memories::default();
        for _ in 0..r.u8()? {
            let node = NodeId(r.u16()?);
            memories.members.insert(node, read_memory(&mut r)?);
        }
        memories.condemned = match r.u8()? {
            0 => None,
            1 => Some(Condemned {
                by: NodeId(r.u16()?),
                memory: read_memory(&mut r)?,
            }),
            byte => return Err(bad("condemned", byte)),
        };
        r.finish()?;
        Ok(memories)
    }
}

fn bad(what: &'static str, byte: u8) -> DecodeError {
    DecodeError::BadValue { what, byte }
}

fn put_memory(out: &mut BytesMut, m: &Memory) {
    let life = m.life;
    put_words(
        out,
        [
            life.incarnation,
            life.start,
            m.ballot.raw(),
            m.accepted.0,
            m.last.0,
        ],
    );
}

fn read_memory(r: &mut Reader) -> Result<Memory, DecodeError> {
    Ok(Memory {
        life: Life {
            incarnation: r.u64()?,
            start: r.u64()?,
        },
        ballot: r.ballot()?,
        accepted: r.slot()?,
        last: r.slot()?,
    })
}

/// The least that a testimony takes on the wire, in bytes.
pub(crate) const TESTIMONY_BYTES: usize = 2 + MEMORY_BYTES + 32;

pub(crate) fn put_testimony(out: &mut BytesMut, testimony: &Testimony) {
    out.put_u16_le(testimony.node.0);
    put_memory(out, &testimony.memory);
    let mark = testimony.mark;
    put_words(
        out,
        [mark.slot.0, mark.chain, mark.state_slot.0, mark.state],
    );
}

pub(crate) fn read_testimony(r: &mut Reader) -> Result<Testimony, DecodeError> {
    Ok(Testimony {
        node: NodeId(r.u16()?),
        memory: read_memory(r)?,
        mark: Mark {
            slot: r.slot()?,
            chain: r.u64()?,
            state_slot: r.slot()?,
            state: r.u64()?,
        },
    })
}

/// A list of testimonies as bytes, for the handshake.
#[must_use]
pub fn encode_testimonies(testimonies: &[Testimony]) -> Bytes {
    let mut out = BytesMut::with_capacity(4 + TESTIMONY_BYTES * testimonies.len());
    crate::wire::put_count(&mut out, testimonies.len());
    for testimony in testimonies {
        put_testimony(&mut out, testimony);
    }
    out.freeze()
}

/// Reads what [`encode_testimonies`] wrote; no bytes are no testimonies.
///
/// # Errors
///
/// [`DecodeError`]. Never panics, whatever `bytes` holds.
pub fn decode_testimonies(bytes: Bytes) -> Result<Vec<Testimony>, DecodeError> {
    if bytes.is_empty() {
        return Ok(Vec::new());
    }
    let mut r = Reader::new(bytes);
    let testimonies = r.list(TESTIMONY_BYTES, read_testimony)?;
    r.finish()?;
    Ok(testimonies)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn memory(incarnation: u64, round: u64, accepted: u64, last: u64) -> Memory {
        Memory {
            life: Life {
                incarnation,
                start: 77,
            },
            ballot: Ballot::new(round, NodeId(1)),
            accepted: Slot(accepted),
            last: Slot(last),
        }
    }

    #[test]
    fn the_furthest_of_two_counts() {
        let mut known = memory(1, 2, 5, 9);
        known.merge(&memory(1, 1, 8, 8));
        assert_eq!(known, memory(1, 2, 5, 9), "a lower ballot adds nothing");
        known.merge(&memory(1, 2, 7, 7));
        assert_eq!(known, memory(1, 2, 7, 9));
        known.merge(&memory(1, 3, 0, 0));
        assert_eq!(
            known,
            memory(1, 3, 0, 9),
            "slots of a new ballot begin again"
        );
    }

    #[test]
    fn the_superblock_keeps_all_of_it() {
        let members = (1..=7).map(|n| (NodeId(n), memory(u64::from(n), 3, 4, 5)));
        let mut memories = Memories {
            members: members.collect(),
            condemned: None,
        };
        assert_eq!(Memories::decode(memories.encode()).as_ref(), Ok(&memories));
        memories.condemned = Some(Condemned {
            by: NodeId(3),
            memory: memory(2, 2, 2, 2),
        });
        let bytes = memories.encode();
        assert!(bytes.len() <= 512, "{} bytes", bytes.len());
        assert_eq!(Memories::decode(bytes.clone()).as_ref(), Ok(&memories));
        assert_eq!(Memories::decode(Bytes::new()), Ok(Memories::default()));
        for len in 1..bytes.len() {
            assert!(
                Memories::decode(bytes.slice(..len)).is_err(),
                "cut at {len}"
            );
        }
    }
}
