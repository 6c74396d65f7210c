//! Connecting, and the first frame each way.

use std::time::Duration;

use tokio::net::{TcpStream, ToSocketAddrs};
use tokio::time::timeout;

use crate::connection::{Closed, FrameReceiver, FrameSender, Options, SendError, socket};
use crate::hello::{Hello, Mismatch};
use crate::queue::WriteQueue;
use crate::wire::DecodeError;

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// Nobody listens there, or the address does not resolve.
    #[error("cannot connect")]
    Dial(#[source] std::io::Error),
    /// Connecting or the handshake took too long.
    #[error("no handshake within {} ms", .0.as_millis())]
    Timeout(Duration),
    /// The connection ended before the handshake was through.
    #[error("the connection ended in the handshake")]
    Closed(#[from] Closed),
    /// The first frame is not a greeting.
    #[error(transparent)]
    Decode(#[from] DecodeError),
    /// Both greeted, and do not fit.
    #[error(transparent)]
    Mismatch(#[from] Mismatch),
    /// The accepting side will not have this caller.
    #[error("{0}")]
    Refused(String),
}

impl From<SendError> for ConnectError {
    fn from(_: SendError) -> ConnectError {
        ConnectError::Closed(Closed::Reset(None))
    }
}

/// A connection after its handshake.
#[derive(Debug)]
pub struct Greeted {
    /// What the other side said of itself.
    pub hello: Hello,
    /// The protocol version that both speak.
    pub version: u16,
    /// The sending half.
    pub sender: FrameSender,
    /// The receiving half.
    pub receiver: FrameReceiver,
}

/// Connects to `address` and greets with `hello`.
///
/// # Errors
///
/// [`ConnectError`]; all within `options.handshake`.
pub async fn dial(
    address: impl ToSocketAddrs,
    hello: &Hello,
    options: &Options,
) -> Result<Greeted, ConnectError> {
    let greeting = async {
        let stream = TcpStream::connect(address)
            .await
            .map_err(ConnectError::Dial)?;
        let (sender, mut receiver) = halves(stream, options)?;
        sender.send_body(hello.encode())?;
        let theirs = Hello::decode(receiver.next().await?)?;
        let version = hello.agree(&theirs)?;
        Ok(Greeted {
            hello: theirs,
            version,
            sender,
            receiver,
        })
    };
    within(options.handshake, greeting).await
}

/// Greets whoever connected. `answer` sees the caller's greeting and gives ours, or says why the
/// caller is refused.
///
/// Both greetings are exchanged before they are compared, so that either side can say what does
/// not fit.
///
/// # Errors
///
/// [`ConnectError`]; all within `options.handshake`, so an idle caller costs little.
pub async fn accept(
    stream: TcpStream,
    options: &Options,
    answer: impl FnOnce(&Hello) -> Result<Hello, String>,
) -> Result<Greeted, ConnectError> {
    let greeting = async {
        let (sender, mut receiver) = halves(stream, options)?;
        let theirs = Hello::decode(receiver.next().await?)?;
        let ours = answer(&theirs).map_err(ConnectError::Refused)?;
        sender.send_body(ours.encode())?;
        let version = ours.agree(&theirs)?;
        Ok(Greeted {
            hello: theirs,
            version,
            sender,
            receiver,
        })
    };
    within(options.handshake, greeting).await
}

fn halves(
    stream: TcpStream,
    options: &Options,
) -> Result<(FrameSender, FrameReceiver), ConnectError> {
    socket::prepare(&stream).map_err(ConnectError::Dial)?;
    let (read, write) = stream.into_split();
    Ok((
        FrameSender::start(
            write,
            WriteQueue::new(options.queue_bytes, options.queued.clone()),
        ),
        FrameReceiver::new(read),
    ))
}

async fn within(
    limit: Duration,
    greeting: impl Future<Output = Result<Greeted, ConnectError>>,
) -> Result<Greeted, ConnectError> {
    timeout(limit, greeting)
        .await
        .unwrap_or(Err(ConnectError::Timeout(limit)))
}
