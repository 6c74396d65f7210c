//! How one message lies on the wire.
//!
//! ```text
//! byte 0             4                 8
//!      | length: u32 | crc32: u32      | body: length - 4 bytes |
//! ```
//!
//! Integers are little-endian. `length` counts all that follows it, so the checksum too. The
//! checksum is CRC-32 (IEEE) of the body. An empty body says goodbye: its sender closes by intent,
//! and an end of the stream without it means that the process died.
//!
//! A length out of range or a wrong checksum is an error after which nothing more can be read from
//! that connection; there is no way to find the next frame. What that means is for the connection
//! to say.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use tokio_util::codec::{Decoder, Encoder};

/// The largest value of a frame's length field, in bytes: checksum and body.
pub const FRAME_BYTES_MAX: usize = 16 << 20;
/// The largest value of the length field of the first frame each way. A greeting names replicas and
/// addresses; whoever has not greeted must not make us keep megabytes for it.
pub const FIRST_FRAME_BYTES_MAX: usize = 64 << 10;
/// The longest body in bytes.
pub const BODY_BYTES_MAX: usize = FRAME_BYTES_MAX - CHECKSUM_BYTES;
/// Length and checksum.
pub const HEADER_BYTES: usize = 8;

const LENGTH_BYTES: usize = 4;
const CHECKSUM_BYTES: usize = 4;
/// Bodies up to this are copied out of the read buffer, so that a small message that is kept for
/// long does not keep a whole buffer with it; larger ones are split off without copying.
const COPIED_BODY_BYTES_MAX: usize = 4096;

/// A frame under way gets room for this much more, or for as much again as has come.
const RESERVED_BYTES_MIN: usize = 64 << 10;

const _: () = assert!(FRAME_BYTES_MAX <= u32::MAX as usize);
const _: () = assert!(LENGTH_BYTES + CHECKSUM_BYTES == HEADER_BYTES);

/// What is wrong with a frame. The connection it came from ends.
#[derive(Debug, thiserror::Error)]
pub enum FrameError {
    /// The length field is above [`FRAME_BYTES_MAX`] or below the checksum's own four bytes.
    #[error("frame of {found} bytes, expected 4 to {FRAME_BYTES_MAX}")]
    Length {
        /// The length field.
        found: usize,
    },
    /// The other side has not greeted yet and announces more than a greeting can be.
    #[error("frame of {found} bytes before the greeting; the limit is {FIRST_FRAME_BYTES_MAX}")]
    BeforeGreeting {
        /// The length field.
        found: usize,
    },
    /// The body is not what was sent.
    #[error("frame of {bytes} bytes has checksum {found:08x}, its header says {expected:08x}")]
    Checksum {
        /// The body's length.
        bytes: usize,
        /// What the header says.
        expected: u32,
        /// What the body has.
        found: u32,
    },
    /// The socket failed; here because codecs must carry it.
    #[error("i/o error")]
    Io(#[from] std::io::Error),
}

/// A body with its header computed: encoded once, then queued on any number of links.
///
/// Cloning shares the body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sealed {
    header: [u8; HEADER_BYTES],
    body: Bytes,
}

impl Sealed {
    /// Computes the header of `body`.
    ///
    /// # Errors
    ///
    /// [`FrameError::Length`] if the body is above [`BODY_BYTES_MAX`].
    pub fn new(body: Bytes) -> Result<Sealed, FrameError> {
        let length = body.len() + CHECKSUM_BYTES;
        if length > FRAME_BYTES_MAX {
            return Err(FrameError::Length { found: length });
        }
        let mut header = [0; HEADER_BYTES];
        header[..LENGTH_BYTES].copy_from_slice(&(length as u32).to_le_bytes());
        header[LENGTH_BYTES..].copy_from_slice(&crc32fast::hash(&body).to_le_bytes());
        Ok(Sealed { header, body })
    }

    /// The frame that announces an intended close.
    pub fn goodbye() -> Sealed {
        Sealed::new(Bytes::new()).expect("an empty body fits")
    }

    /// Length and checksum as they go on the wire.
    pub fn header(&self) -> &[u8; HEADER_BYTES] {
        &self.header
    }

    /// What follows the header.
    pub fn body(&self) -> &Bytes {
        &self.body
    }

    /// Bytes on the wire.
    pub fn wire_bytes(&self) -> usize {
        HEADER_BYTES + self.body.len()
    }
}

/// Cuts a stream of bytes into checked bodies, and puts headers before bodies.
#[derive(Clone, Copy, Debug, Default)]
pub struct FrameCodec;

impl Decoder for FrameCodec {
    type Item = Bytes;
    type Error = FrameError;

    fn decode(&mut self, source: &mut BytesMut) -> Result<Option<Bytes>, FrameError> {
        let Some((length, expected)) = header_of(source)? else {
            return Ok(None);
        };
        let whole = LENGTH_BYTES + length;
        if source.len() < whole {
            // Never much more than has come: a header alone must not cost what it promises.
            let step = source.len().max(RESERVED_BYTES_MIN);
            source.reserve(step.min(whole - source.len()));
            return Ok(None);
        }
        let bytes = length - CHECKSUM_BYTES;
        source.advance(HEADER_BYTES);
        let body = if bytes <= COPIED_BODY_BYTES_MAX {
            let body = Bytes::copy_from_slice(&source[..bytes]);
            source.advance(bytes);
            body
        } else {
            source.split_to(bytes).freeze()
        };
        let found = crc32fast::hash(&body);
        if found != expected {
            return Err(FrameError::Checksum {
                bytes,
                expected,
                found,
            });
        }
        Ok(Some(body))
    }
}

impl Encoder<Bytes> for FrameCodec {
    type Error = FrameError;

    fn encode(&mut self, body: Bytes, out: &mut BytesMut) -> Result<(), FrameError> {
        let sealed = Sealed::new(body)?;
        out.reserve(sealed.wire_bytes());
        out.put_slice(sealed.header());
        out.put_slice(sealed.body());
        Ok(())
    }
}

/// The length field, once it is there.
pub(crate) fn length_of(source: &[u8]) -> Option<usize> {
    let length = source.first_chunk::<LENGTH_BYTES>()?;
    Some(u32::from_le_bytes(*length) as usize)
}

/// Length and checksum fields, or nothing as long as they have not arrived. The length is checked
/// as soon as its four bytes are there, before anything is allocated for it.
fn header_of(source: &[u8]) -> Result<Option<(usize, u32)>, FrameError> {
    let Some((length, rest)) = source.split_first_chunk::<LENGTH_BYTES>() else {
        return Ok(None);
    };
    let length = u32::from_le_bytes(*length) as usize;
    if !(CHECKSUM_BYTES..=FRAME_BYTES_MAX).contains(&length) {
        return Err(FrameError::Length { found: length });
    }
    let Some(checksum) = rest.first_chunk::<CHECKSUM_BYTES>() else {
        return Ok(None);
    };
    Ok(Some((length, u32::from_le_bytes(*checksum))))
}

#[cfg(test)]
mod tests;
