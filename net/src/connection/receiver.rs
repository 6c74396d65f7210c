//! The receiving half: frames as they come, and how it ended.

use bytes::{Bytes, BytesMut};
use tokio::io::AsyncReadExt;
use tokio::net::tcp::OwnedReadHalf;
use tokio_util::codec::Decoder;

use crate::frame::{FIRST_FRAME_BYTES_MAX, FrameCodec, FrameError, length_of};

/// How much is read at once if that much is there.
const READ_BYTES: usize = 64 << 10;

/// Why no more frames come.
#[derive(Debug, thiserror::Error)]
pub enum Closed {
    /// The other side said goodbye.
    #[error("closed by the other side")]
    Goodbye,
    /// The stream ended or broke without a goodbye: the other process died, or the way to it.
    #[error("the connection broke")]
    Reset(#[source] Option<std::io::Error>),
    /// What came is not a frame.
    #[error("bad frame")]
    Fault(#[source] FrameError),
}

impl Closed {
    /// Whether the other side went without meaning to.
    pub fn is_reset(&self) -> bool {
        matches!(self, Closed::Reset(_))
    }

    /// Whether the other side answered our greeting as a web server does, with `HTTP/1.1 400 Bad Request`.
    pub fn is_http(&self) -> bool {
        const HTTP: u32 = u32::from_le_bytes(*b"HTTP");
        // Read as a frame, the first four bytes are its length.
        matches!(self, Closed::Fault(FrameError::BeforeGreeting { found }) if *found == HTTP as usize)
    }
}

/// Receives the frames of one connection.
#[derive(Debug)]
pub struct FrameReceiver {
    half: OwnedReadHalf,
    buffer: BytesMut,
    /// Whether the first frame, the greeting, is behind.
    greeted: bool,
}

impl FrameReceiver {
    pub(super) fn new(half: OwnedReadHalf) -> FrameReceiver {
        FrameReceiver {
            half,
            buffer: BytesMut::new(),
            greeted: false,
        }
    }

    /// The next frame's body. Dropping the future loses nothing.
    ///
    /// # Errors
    ///
    /// [`Closed`], after which there is nothing more to receive.
    pub async fn next(&mut self) -> Result<Bytes, Closed> {
        loop {
            if let Some(body) = self.next_ready()? {
                return Ok(body);
            }
            self.buffer.reserve(READ_BYTES);
            match self.half.read_buf(&mut self.buffer).await {
                Ok(0) => return Err(Closed::Reset(None)),
                Ok(_) => {}
                Err(error) => return Err(Closed::Reset(Some(error))),
            }
        }
    }

    /// A frame that has been read from the socket already.
    ///
    /// # Errors
    ///
    /// As [`FrameReceiver::next`].
    pub fn next_ready(&mut self) -> Result<Option<Bytes>, Closed> {
        if !self.greeted
            && let Some(found) = length_of(&self.buffer).filter(|it| *it > FIRST_FRAME_BYTES_MAX)
        {
            return Err(Closed::Fault(FrameError::BeforeGreeting { found }));
        }
        match FrameCodec.decode(&mut self.buffer) {
            Ok(Some(body)) if body.is_empty() => Err(Closed::Goodbye),
            Ok(body) => {
                self.greeted |= body.is_some();
                Ok(body)
            }
            Err(fault) => Err(Closed::Fault(fault)),
        }
    }
}
