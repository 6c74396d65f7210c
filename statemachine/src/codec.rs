//! How values become bytes and bytes become values, in one place for all types.
//!
//! ```text
//! byte 0            1
//!      | version = 1 | bincode 2: integers fixed, little-endian; lengths u64; variants u32 |
//! ```
//!
//! A field or variant added later means another version byte, or a variant at the end of its
//! enum; old bytes in a log must read the same for ever. A version that this code does not know
//! is refused as such, and never guessed at.
//!
//! Decoding allocates no more than a small multiple of the bytes it is given: strings and byte
//! strings are checked against the input that is left, lists grow as their items are read.

use bincode::config::{Config, Configuration, Fixint, Limit, LittleEndian};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// The version of commands, outcomes, queries and answers. Settings and snapshots have versions of
/// their own, which follow the rules of the state machine.
pub const VERSION: u8 = 1;

/// Bytes that any one encoded value may have: as much as a frame on the wire can carry.
pub const ENCODED_BYTES_MAX: usize = 16 * 1024 * 1024;

/// Why bytes were not understood.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// There are none.
    #[error("no bytes to decode")]
    Empty,
    /// They were written by another version.
    #[error("unknown format version {found}, the newest that this program knows is {newest}")]
    Version {
        /// The version byte.
        found: u8,
        /// The newest version that this program reads.
        newest: u8,
    },
    /// They are more than any value can have.
    #[error("{bytes} bytes are more than {ENCODED_BYTES_MAX}")]
    TooLong {
        /// How many they are.
        bytes: usize,
    },
    /// They are no value of the type.
    #[error("malformed bytes: {0}")]
    Malformed(String),
    /// A value ends before they do.
    #[error("{bytes} bytes left over")]
    LeftOver {
        /// How many are left.
        bytes: usize,
    },
    /// They are a value, but one that cannot be.
    #[error("invalid: {0}")]
    Invalid(String),
}

pub(crate) fn encode<T: Serialize>(value: &T) -> Vec<u8> {
    let mut out = vec![VERSION];
    encode_into(value, &mut out);
    out
}

pub(crate) fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, DecodeError> {
    let (&version, body) = bytes.split_first().ok_or(DecodeError::Empty)?;
    if version != VERSION {
        return Err(DecodeError::Version {
            found: version,
            newest: VERSION,
        });
    }
    decode_body(body)
}

/// Reads a value that has no version byte and takes up all of `body`.
pub(crate) fn decode_body<T: DeserializeOwned>(body: &[u8]) -> Result<T, DecodeError> {
    if body.len() >= ENCODED_BYTES_MAX {
        return Err(DecodeError::TooLong {
            bytes: body.len() + 1,
        });
    }
    let (value, used) = decode_prefix(body)?;
    if used < body.len() {
        return Err(DecodeError::LeftOver {
            bytes: body.len() - used,
        });
    }
    Ok(value)
}

/// Appends the bytes of `value`, without a version byte.
pub(crate) fn encode_into<T: Serialize>(value: &T, out: &mut Vec<u8>) {
    // Writing to memory fails for no value of ours: none has an unsized sequence.
    bincode::serde::encode_into_std_write(value, out, unlimited()).expect("plain data encodes");
}

/// Reads one value at the start of `bytes`, which has no version byte, and how long it was.
pub(crate) fn decode_prefix<T: DeserializeOwned>(bytes: &[u8]) -> Result<(T, usize), DecodeError> {
    // The length of a string is believed up to the limit, so the limit follows the input.
    let read = match bytes.len() {
        0..=0x1000 => bincode::serde::decode_from_slice(bytes, limited::<0x1000>()),
        0x1001..=0x1_0000 => bincode::serde::decode_from_slice(bytes, limited::<0x1_0000>()),
        0x1_0001..=0x10_0000 => bincode::serde::decode_from_slice(bytes, limited::<0x10_0000>()),
        _ => bincode::serde::decode_from_slice(bytes, limited::<ENCODED_BYTES_MAX>()),
    };
    read.map_err(|e| DecodeError::Malformed(e.to_string()))
}

fn unlimited() -> Configuration<LittleEndian, Fixint> {
    bincode::config::standard()
        .with_fixed_int_encoding()
        .with_little_endian()
}

fn limited<const N: usize>() -> impl Config {
    let config: Configuration<LittleEndian, Fixint, Limit<N>> = unlimited().with_limit::<N>();
    config
}
