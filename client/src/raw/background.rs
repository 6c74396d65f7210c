//! The thread on which the library's own work runs: connections, keep-alives, and what must still be
//! done after its future was dropped.
//!
//! All clients of a process share one thread with one small runtime, from the first client to the
//! last. So a lock does not depend on the caller's runtime: that may end, or be blocked by a long
//! computation, while the thread goes on. The price is one thread for each process, and one hand-over
//! between threads for each message, some ten microseconds.

use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use tokio::runtime::{Builder, Handle};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::Instant;

/// How long the thread may take to write what is queued once its last client is gone.
const LINGER: Duration = Duration::from_secs(1);
/// How often it looks whether everything is written.
const LOOK: Duration = Duration::from_millis(1);

/// The thread of the process, while any client has it.
static SHARED: Mutex<Weak<Background>> = Mutex::new(Weak::new());

/// Runs tasks for as long as somebody has it.
#[derive(Debug)]
pub(crate) struct Background {
    handle: Handle,
    /// Dropped to end the thread.
    _running: oneshot::Sender<()>,
}

impl Background {
    /// The thread of this process, started if there is none.
    ///
    /// # Panics
    ///
    /// If the system refuses another thread.
    pub(crate) fn shared() -> Arc<Background> {
        let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(background) = shared.upgrade() {
            return background;
        }
        let background = Arc::new(Background::start());
        *shared = Arc::downgrade(&background);
        background
    }

    fn start() -> Background {
        let runtime = Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("the system has room for a runtime");
        let handle = runtime.handle().clone();
        let (running, ended) = oneshot::channel::<()>();
        std::thread::Builder::new()
            .name("lock-client".to_owned())
            .spawn(move || {
                runtime.block_on(async {
                    let _ = ended.await;
                    let until = Instant::now() + LINGER;
                    while runtime.metrics().num_alive_tasks() > 0 && Instant::now() < until {
                        tokio::time::sleep(LOOK).await;
                    }
                });
            })
            .expect("the system has room for a thread");
        Background {
            handle,
            _running: running,
        }
    }

    /// Runs a task on the thread.
    pub(crate) fn spawn<T: Send + 'static>(
        &self,
        task: impl Future<Output = T> + Send + 'static,
    ) -> JoinHandle<T> {
        self.handle.spawn(task)
    }

    /// The runtime's handle.
    pub(crate) fn handle(&self) -> &Handle {
        &self.handle
    }
}
