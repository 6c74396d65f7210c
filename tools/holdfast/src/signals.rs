//! Signals that ask holdfast itself to do something, or to pass them on.
//!
//! A signal that was ignored when holdfast was started stays ignored, by holdfast and by its command: that is what
//! `nohup` and a shell's `trap '' INT` ask for.

use nix::sys::signal::Signal as NixSignal;
use rustix::process::Signal;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

use crate::exit::SIGNAL_BASE;
use crate::failure::Failure;

/// Those that mean: come to an end.
const ENDING: [Signal; 4] = [Signal::HUP, Signal::INT, Signal::QUIT, Signal::TERM];

/// Those that mean something to a command only.
const OTHER: [Signal; 2] = [Signal::USR1, Signal::USR2];

/// All that are passed on to a command.
pub(crate) const PASSED_ON: [Signal; 6] = [
    ENDING[0], ENDING[1], ENDING[2], ENDING[3], OTHER[0], OTHER[1],
];

/// Which signals this process was started to ignore. To be asked before the first handler is set.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ignored(u64);

impl Ignored {
    /// As the kernel tells it; none where it does not. Source: `SigIgn` in `proc_pid_status(5)`.
    pub(crate) fn now() -> Ignored {
        let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
        let mask = status
            .lines()
            .find_map(|line| line.strip_prefix("SigIgn:"))
            .and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
        Ignored(mask.unwrap_or(0))
    }

    pub(crate) fn has(self, signal: Signal) -> bool {
        // Bit 0 is signal 1.
        self.0 >> (signal.as_raw() - 1) & 1 == 1
    }
}

/// Signals as they come. While it lives, none of them ends the process.
#[derive(Debug)]
pub(crate) struct Signals {
    sender: mpsc::Sender<Signal>,
    receiver: mpsc::Receiver<Signal>,
    ignored: Ignored,
}

impl Signals {
    /// Catches what would end the process, and with `all` what a command might understand.
    ///
    /// # Errors
    ///
    /// Fails if the system refuses a handler.
    pub(crate) fn catch(all: bool) -> Result<Self, Failure> {
        let (sender, receiver) = mpsc::channel(16);
        let signals = Signals {
            sender,
            receiver,
            ignored: Ignored::now(),
        };
        let others: &[Signal] = if all { &OTHER } else { &[] };
        for &wanted in ENDING.iter().chain(others) {
            signals.also(wanted)?;
        }
        Ok(signals)
    }

    /// Catches one more, unless it is ignored.
    ///
    /// # Errors
    ///
    /// Fails if the system refuses a handler.
    pub(crate) fn also(&self, wanted: Signal) -> Result<(), Failure> {
        if self.ignored.has(wanted) {
            return Ok(());
        }
        let mut caught = signal(SignalKind::from_raw(wanted.as_raw()))
            .map_err(|error| Failure::local("catching signals", &error))?;
        let sender = self.sender.clone();
        tokio::spawn(async move {
            while caught.recv().await.is_some() && sender.send(wanted).await.is_ok() {}
        });
        Ok(())
    }

    /// Whether a signal was ignored from the start.
    pub(crate) fn ignores(&self, signal: Signal) -> bool {
        self.ignored.has(signal)
    }

    /// The next one.
    pub(crate) async fn next(&mut self) -> Signal {
        match self.receiver.recv().await {
            Some(signal) => signal,
            // This very value has a sender.
            None => std::future::pending().await,
        }
    }
}

/// Whether it asks for an end.
pub(crate) fn is_ending(signal: Signal) -> bool {
    ENDING.contains(&signal)
}

/// As `kill -l` calls it, with `SIG`.
pub(crate) fn name(signal: Signal) -> String {
    NixSignal::try_from(signal.as_raw()).map_or_else(
        |_| format!("signal {}", signal.as_raw()),
        |it| it.to_string(),
    )
}

/// Reads `TERM`, `SIGTERM` or `15`.
pub(crate) fn parse(text: &str) -> Result<Signal, String> {
    let word = text.to_uppercase();
    let number = match word.parse::<i32>() {
        Ok(number) => Some(number),
        Err(_) => {
            let name = format!("SIG{}", word.trim_start_matches("SIG"));
            name.parse::<NixSignal>().ok().map(|signal| signal as i32)
        }
    };
    number
        .and_then(Signal::from_named_raw)
        .ok_or_else(|| format!("there is no signal {text:?}; one is written like TERM or 15"))
}

/// The exit code of what a signal ended.
pub(crate) fn exit_code(signal: Signal) -> u8 {
    u8::try_from(signal.as_raw()).map_or(u8::MAX, |number| SIGNAL_BASE.saturating_add(number))
}
