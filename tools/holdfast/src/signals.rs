//! Signals that ask holdfast itself to do something, or to pass them on.

use rustix::process::Signal;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

use crate::exit::SIGNAL_BASE;
use crate::failure::Failure;

/// Those that mean: come to an end.
const ENDING: [Signal; 4] = [Signal::HUP, Signal::INT, Signal::QUIT, Signal::TERM];

/// Those that mean something to a command only.
const OTHER: [Signal; 2] = [Signal::USR1, Signal::USR2];

/// Signals as they come. While it lives, none of them ends the process.
#[derive(Debug)]
pub(crate) struct Signals(mpsc::Receiver<Signal>);

impl Signals {
    /// Catches what would end the process, and with `all` what a command might understand.
    ///
    /// # Errors
    ///
    /// Fails if the system refuses a handler.
    pub(crate) fn catch(all: bool) -> Result<Self, Failure> {
        let (sender, receiver) = mpsc::channel(16);
        let others: &[Signal] = if all { &OTHER } else { &[] };
        for &wanted in ENDING.iter().chain(others) {
            let mut caught = signal(SignalKind::from_raw(wanted.as_raw()))
                .map_err(|error| Failure::local("catching signals", &error))?;
            let sender = sender.clone();
            tokio::spawn(async move {
                while caught.recv().await.is_some() && sender.send(wanted).await.is_ok() {}
            });
        }
        Ok(Signals(receiver))
    }

    /// The next one.
    pub(crate) async fn next(&mut self) -> Signal {
        match self.0.recv().await {
            Some(signal) => signal,
            // The senders live as long as the runtime.
            None => std::future::pending().await,
        }
    }
}

/// Whether it asks for an end.
pub(crate) fn is_ending(signal: Signal) -> bool {
    ENDING.contains(&signal)
}

/// The exit code of what a signal ended.
pub(crate) fn exit_code(signal: Signal) -> u8 {
    u8::try_from(signal.as_raw()).map_or(u8::MAX, |number| SIGNAL_BASE.saturating_add(number))
}
