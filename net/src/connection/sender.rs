//! The sending half: a bounded queue and the task that empties it.

use std::io::ErrorKind;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use tokio::net::tcp::OwnedWriteHalf;
use tokio::sync::Notify;

use crate::connection::socket;
use crate::frame::{FrameError, Sealed};
use crate::queue::WriteQueue;

/// Why a frame was not queued.
#[derive(Debug, thiserror::Error)]
pub enum SendError {
    /// The other side does not read as fast as we write.
    #[error("the connection's queue is full")]
    Full,
    /// The connection has ended.
    #[error("the connection has ended")]
    Closed,
    /// The body is too long for a frame.
    #[error(transparent)]
    Frame(#[from] FrameError),
}

/// Sends frames on one connection, in the order of the calls. Clones share the connection.
///
/// When the last clone is dropped the connection says goodbye and ends.
#[derive(Clone, Debug)]
pub struct FrameSender {
    handle: Arc<Handle>,
}

/// Ends the writer task when the last sender goes.
#[derive(Debug)]
struct Handle {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    half: OwnedWriteHalf,
    state: Mutex<State>,
    wake: Notify,
}

#[derive(Debug)]
struct State {
    queue: WriteQueue,
    stage: Stage,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Open,
    /// Goodbye is queued; nothing comes after it.
    Closing,
    Closed,
}

impl FrameSender {
    /// Takes the write half and starts its task on the current runtime.
    pub(super) fn start(half: OwnedWriteHalf, queue: WriteQueue) -> FrameSender {
        let state = State {
            queue,
            stage: Stage::Open,
        };
        let shared = Arc::new(Shared {
            half,
            state: Mutex::new(state),
            wake: Notify::new(),
        });
        tokio::spawn(run(shared.clone()));
        FrameSender {
            handle: Arc::new(Handle { shared }),
        }
    }

    /// Queues a frame. Does not block; the frame is written together with others that have
    /// gathered, once the runtime runs the connection's task, or by [`FrameSender::flush`].
    ///
    /// # Errors
    ///
    /// [`SendError::Full`] if the frame does not fit in the queue, [`SendError::Closed`] if the
    /// connection has ended. Success does not mean that the frame arrives.
    pub fn send(&self, frame: &Sealed) -> Result<(), SendError> {
        let mut state = self.handle.shared.lock();
        if state.stage != Stage::Open {
            return Err(SendError::Closed);
        }
        let idle = state.queue.bytes() == 0;
        if !state.queue.push(frame) {
            return Err(SendError::Full);
        }
        drop(state);
        if idle {
            // Otherwise the task is awake already, or waits for the socket.
            self.handle.shared.wake.notify_one();
        }
        Ok(())
    }

    /// Seals `body` and queues it.
    ///
    /// # Errors
    ///
    /// As [`FrameSender::send`]; [`SendError::Frame`] if the body is too long.
    pub fn send_body(&self, body: Bytes) -> Result<(), SendError> {
        self.send(&Sealed::new(body)?)
    }

    /// Writes what is queued from this very thread, as far as the socket takes it now.
    pub fn flush(&self) {
        self.handle.shared.write();
    }

    /// Bytes that wait to be written.
    pub fn queued_bytes(&self) -> usize {
        self.handle.shared.lock().queue.bytes()
    }

    /// Whether frames can still be queued.
    pub fn is_open(&self) -> bool {
        self.handle.shared.lock().stage == Stage::Open
    }

    /// Says goodbye after what is queued, then ends our direction. The receiver goes on until the
    /// other side has ended too.
    pub fn close(&self) {
        self.handle.shared.close();
    }

    /// Ends the connection at once, in both directions; what is queued is lost.
    pub fn abort(&self) {
        self.handle.shared.abort();
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.shared.close();
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        // A panic elsewhere leaves the queue as it was: every change is complete or asserted.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn close(&self) {
        let mut state = self.lock();
        if state.stage == Stage::Open {
            // If the queue is full the end comes without a goodbye, which is safe: the other side
            // then takes it for a crash.
            state.queue.push(&Sealed::goodbye());
            state.stage = Stage::Closing;
        }
        drop(state);
        // From this thread as far as it goes, since the runtime may be about to end.
        self.write();
        self.wake.notify_one();
    }

    fn abort(&self) {
        self.lock().stage = Stage::Closed;
        socket::end(self.half.as_ref());
        self.wake.notify_one();
    }

    /// Writes as much as the socket takes. Returns whether anything is left that waits for it.
    fn write(&self) -> bool {
        let mut state = self.lock();
        while state.queue.bytes() > 0 && state.stage != Stage::Closed {
            match state
                .queue
                .write_some(|slices| self.half.try_write_vectored(slices))
            {
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => return true,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => {
                    tracing::debug!(%error, "write failed");
                    state.stage = Stage::Closed;
                    socket::end(self.half.as_ref());
                }
            }
        }
        if state.stage == Stage::Closing {
            state.stage = Stage::Closed;
            socket::end_writing(self.half.as_ref());
        }
        false
    }
}

/// Empties the queue until the connection has ended.
async fn run(shared: Arc<Shared>) {
    loop {
        let blocked = shared.write();
        if shared.lock().stage == Stage::Closed {
            return;
        }
        if blocked {
            // Errors show in the next write.
            let _ = shared.half.writable().await;
        } else {
            shared.wake.notified().await;
        }
    }
}
