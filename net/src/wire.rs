//! How typed values become bytes: a fixed-layout head, then opaque bytes up to the end.
//!
//! ```text
//! | head: bincode 2, fixed-width little-endian integers | tail: the rest of the frame |
//! ```
//!
//! The tail (a command, a query, an outcome, an answer) is never copied when decoded: it is a
//! slice of the frame it came in. This is the only file that names the encoding library.

use bytes::{BufMut, Bytes, BytesMut};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// The longest head in bytes. Lengths inside a head are compared with it before allocation.
const HEAD_BYTES_MAX: usize = 1 << 20;

fn config() -> impl bincode::config::Config {
    bincode::config::standard()
        .with_little_endian()
        .with_fixed_int_encoding()
        .with_limit::<HEAD_BYTES_MAX>()
}

/// Why a frame's body is not what it should be.
#[derive(Debug, thiserror::Error)]
pub enum DecodeError {
    /// The head is cut short, has an unknown kind or a length above its limit.
    #[error("{what} does not decode ({bytes} bytes)")]
    Head {
        /// What was expected.
        what: &'static str,
        /// How long the body is.
        bytes: usize,
        /// What the decoder found.
        #[source]
        source: Box<bincode::error::DecodeError>,
    },
    /// A message that carries no payload has bytes after it.
    #[error("{what} has {bytes} bytes after its end")]
    Trailing {
        /// What was expected.
        what: &'static str,
        /// How many bytes follow it.
        bytes: usize,
    },
    /// The first frame of a connection does not start with the magic bytes.
    #[error("no handshake: the other side does not speak this protocol")]
    Magic,
}

/// Head and tail in one buffer.
pub(crate) fn encode<T: Serialize>(head: &T, tail: &[u8]) -> Bytes {
    let mut out = BytesMut::with_capacity(64 + tail.len()).writer();
    bincode::serde::encode_into_std_write(head, &mut out, config())
        .expect("heads are plain data and a buffer takes them all");
    let mut out = out.into_inner();
    out.extend_from_slice(tail);
    out.freeze()
}

/// The head at the start of `body` and what follows it.
///
/// # Errors
///
/// [`DecodeError::Head`]. Never panics, whatever `body` holds.
pub(crate) fn decode<T: DeserializeOwned>(
    what: &'static str,
    body: Bytes,
) -> Result<(T, Bytes), DecodeError> {
    match bincode::serde::decode_from_slice(&body, config()) {
        Ok((head, used)) => Ok((head, body.slice(used..))),
        Err(source) => Err(DecodeError::Head {
            what,
            bytes: body.len(),
            source: Box::new(source),
        }),
    }
}

/// Refuses bytes where none belong.
pub(crate) fn nothing_left(what: &'static str, tail: &Bytes) -> Result<(), DecodeError> {
    match tail.len() {
        0 => Ok(()),
        bytes => Err(DecodeError::Trailing { what, bytes }),
    }
}
