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

/// What is gathered so far.
#[derive(Debug)]
pub(super) struct Gather {
    interval_us: u64,
    waiting: Vec<(Origin, Vec<Beat>)>,
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

    /// Adds one attempt, of at most [`BEATS_MAX`] beats.
    pub(super) fn add(&mut self, origin: Origin, beats: Vec<Beat>) {
        self.waiting.push((origin, beats));
    }

    /// Drops what a connection gave that is gone. The requests table has forgotten it already.
    pub(super) fn gone(&mut self, conn: ConnId) {
        self.waiting.retain(|(origin, _)| origin.conn != conn);
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
        let mut total = 0;
        let fits = self.waiting.iter().take_while(|(_, beats)| {
            total += beats.len();
            total <= BEATS_MAX
        });
        let taken = fits.count().max(1);
        let mut parts = Vec::with_capacity(taken);
        let mut beats = Vec::new();
        for (origin, more) in self.waiting.drain(..taken) {
            parts.push((origin, more.len()));
            beats.extend(more);
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
        self.waiting.drain(..).map(|(origin, _)| origin).collect()
    }
}
