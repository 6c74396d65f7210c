//! Keep-alives of many sessions, gathered into one entry of the log.
//!
//! A keep-alive goes at once if the last entry of this kind is long enough ago, or if it carried a
//! single attempt and is applied: whoever keeps alive alone never waits. Else all that arrive until
//! the interval is over go together, so that their number does not set the number of entries.

use paxos::MonoTime;
use statemachine::{Beat, Command};

use super::io::{ConnId, Origin};

/// Beats in one entry at most, so that an entry stays far below the limits of log and frame.
pub(super) const BEATS_MAX: usize = 4_096;
/// Bytes of gathered requests in one entry at most, for the same reason: a beat may name many tokens.
/// A request of more goes alone.
const BYTES_MAX: usize = 1 << 20;

/// One attempt.
#[derive(Debug)]
struct Waiting {
    origin: Origin,
    beats: Vec<Beat>,
    /// The request's length.
    bytes: usize,
}

/// What is gathered so far.
#[derive(Debug)]
pub(super) struct Gather {
    interval_us: u64,
    waiting: Vec<Waiting>,
    /// When the last entry was proposed.
    last: Option<MonoTime>,
    /// Whether that entry carried several attempts, or is not applied yet.
    busy: bool,
}

impl Gather {
    pub(super) fn new(interval_us: u64) -> Gather {
        Gather {
            interval_us,
            waiting: Vec::new(),
            last: None,
            busy: false,
        }
    }

    /// Adds one attempt, of at most [`BEATS_MAX`] beats, that came in so many bytes.
    pub(super) fn add(&mut self, origin: Origin, beats: Vec<Beat>, bytes: usize) {
        self.waiting.push(Waiting {
            origin,
            beats,
            bytes,
        });
    }

    /// Drops what a connection gave that is gone. The requests table has forgotten it already.
    pub(super) fn gone(&mut self, conn: ConnId) {
        self.waiting.retain(|waiting| waiting.origin.conn != conn);
    }

    /// When the next entry is due, if anything waits.
    pub(super) fn due(&self) -> Option<MonoTime> {
        if self.waiting.is_empty() {
            return None;
        }
        match self.last {
            Some(last) if self.busy => Some(MonoTime(last.0 + self.interval_us)),
            _ => Some(MonoTime(0)),
        }
    }

    /// The next entry, if one is due: the command, and each attempt with the number of its beats.
    pub(super) fn take(&mut self, now: MonoTime) -> Option<(Command, Vec<(Origin, usize)>)> {
        if self.due().is_none_or(|due| due > now) {
            return None;
        }
        let (mut beats, mut bytes) = (0, 0);
        let fits = self.waiting.iter().take_while(|waiting| {
            beats += waiting.beats.len();
            bytes += waiting.bytes;
            beats <= BEATS_MAX && bytes <= BYTES_MAX
        });
        let taken = fits.count().max(1);
        let mut parts = Vec::with_capacity(taken);
        let mut beats = Vec::new();
        for waiting in self.waiting.drain(..taken) {
            parts.push((waiting.origin, waiting.beats.len()));
            beats.extend(waiting.beats);
        }
        self.last = Some(now);
        self.busy = true;
        Some((Command::KeepAlive { beats }, parts))
    }

    /// An entry with this many attempts was applied.
    pub(super) fn on_applied(&mut self, attempts: usize) {
        self.busy = attempts > 1;
    }

    /// Everything that waits, given back: this replica leads no more.
    pub(super) fn take_all(&mut self) -> Vec<Origin> {
        self.busy = false;
        let taken = self.waiting.drain(..);
        taken.map(|waiting| waiting.origin).collect()
    }
}
