//! Fields as bytes: little-endian integers and counted lists, taken from the front, every length checked.

use bytes::{BufMut, Bytes, BytesMut};

use crate::ballot::Ballot;
use crate::ident::Slot;

/// Half of what a ballot can hold, so that the next round always exists.
const BALLOT_ROUND_MAX: u64 = 1 << 47;
const SLOT_MAX: Slot = Slot(1 << 62);

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

    pub(crate) fn ballot(&mut self) -> Result<Ballot, DecodeError> {
        let ballot = Ballot::from_raw(self.u64()?);
        if ballot.round() > BALLOT_ROUND_MAX {
            return Err(DecodeError::OutOfRange {
                what: "ballot round",
                found: ballot.round(),
            });
        }
        Ok(ballot)
    }

    pub(crate) fn slot(&mut self) -> Result<Slot, DecodeError> {
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

pub(crate) fn put_count(bytes: &mut BytesMut, count: usize) {
    bytes.put_u32_le(u32::try_from(count).expect("lists are bounded far below 4 Gi"));
}

pub(crate) fn put_words<const N: usize>(bytes: &mut BytesMut, words: [u64; N]) {
    for word in words {
        bytes.put_u64_le(word);
    }
}
