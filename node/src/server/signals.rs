//! SIGTERM and SIGINT: the first asks the replica to end well, the second ends it at once.

use std::sync::Arc;

use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::failure::{Exit, Failure};
use crate::server::inbox::{Event, Inbox};

/// Both signals, caught from now on.
#[derive(Debug)]
pub(crate) struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    /// Catches the signals. Needs a runtime.
    pub(crate) fn catch() -> Result<Signals, Failure> {
        let caught =
            |kind| signal(kind).map_err(|e| Failure::new(Exit::Other, format!("signals: {e}")));
        Ok(Signals {
            terminate: caught(SignalKind::terminate())?,
            interrupt: caught(SignalKind::interrupt())?,
        })
    }

    /// The name of the next signal.
    pub(crate) async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }

    /// Passes the first signal on to the reactor; at the second the process is gone. Everything
    /// acknowledged is durable at any moment, so that nothing is lost but the hand-over.
    pub(crate) async fn forward(mut self, inbox: Arc<Inbox>) {
        let name = self.next().await;
        tracing::info!(signal = name, "asked to end: handing over and finishing");
        inbox.push(Event::Stop);
        let name = self.next().await;
        tracing::warn!(signal = name, "asked again: ending at once");
        std::process::exit(i32::from(Exit::Other as u8));
    }
}
