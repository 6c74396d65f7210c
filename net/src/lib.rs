//! Frames, connections and the request envelope of Holdfast.
//!
//! Everything that two processes of the service say to each other over TCP passes through here:
//!
//! ```text
//! Request, Response | peer messages (opaque)      what is said
//! Hello                                           who says it, the first frame each way
//! frame: length | crc32 | body                    how it lies on the wire
//! TCP on loopback or in one data centre, TCP_NODELAY
//! ```
//!
//! The bytes are described in `net/WIRE.md`. This crate knows nothing of locks or of agreement:
//! commands, queries, outcomes, answers and peer messages are opaque bytes to it.
//!
//! In reading order: [`frame`] turns bytes into frames and back; [`hello`] is the handshake;
//! [`envelope`] is what clients and replicas say; `queue` gathers outgoing frames; [`connection`]
//! is one socket with its handshake done; [`backoff`] paces retries; [`mesh`] keeps one link to
//! each peer replica alive.
//!
//! ```
//! use bytes::BytesMut;
//! use net::{FrameCodec, Request, RequestBody};
//! use tokio_util::codec::{Decoder, Encoder};
//!
//! let request = Request { id: 7, body: RequestBody::Status };
//! let mut wire = BytesMut::new();
//! FrameCodec.encode(request.encode(), &mut wire)?;
//! let body = FrameCodec.decode(&mut wire)?.expect("a whole frame");
//! assert_eq!(Request::decode(body)?, request);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

pub mod backoff;
pub mod connection;
pub mod envelope;
pub mod frame;
pub mod hello;
pub mod mesh;
mod queue;
mod wire;

pub use backoff::Backoff;
pub use connection::{Closed, ConnectError, FrameReceiver, FrameSender, Greeted, SendError};
pub use envelope::{
    Leader, MemberInfo, Refused, Request, RequestBody, Response, ResponseBody, Status,
};
pub use frame::{FRAME_BYTES_MAX, FrameCodec, FrameError, Sealed};
pub use hello::{Hello, HelloRole, PROTOCOL, PeerHello};
pub use mesh::{Mesh, MeshOptions, PeerEvent};
pub use wire::DecodeError;
