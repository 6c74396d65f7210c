//! The work `cycle`: acquire, append, release, again and again.

use std::rc::Rc;

use crate::window::Window;
use crate::worker::{CycleTook, Worker};

/// Works until the window is over; gives the client back.
pub(crate) async fn work(mut worker: Worker, window: Rc<Window>) -> Worker {
    while !window.is_over() {
        match worker.cycle().await {
            Ok(CycleTook {
                acquire,
                append,
                release,
            }) => window.done(|times| {
                times.cycle.record(acquire + append + release);
                times.acquire.record(acquire);
                times.append.record(append);
                times.release.record(release);
            }),
            Err(_) => {
                window.failed();
                worker.recover().await;
            }
        }
    }
    worker
}
