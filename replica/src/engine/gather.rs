//! Keep-alives of many sessions, gathered into one entry of the log.
//!
//! A keep-alive goes at once if the last entry of this kind is long enough ago, or if it carried a
//! single attempt and is applied: whoever keeps alive alone never waits. Else all that arrive until
//! the interval is over go together, in as few entries as their bounded size allows.

use bytes::Bytes;
use paxos::MonoTime;
use statemachine::{Beat, Command};

use super::io::Origin;

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
    /// As it came.
    bytes: Bytes,
}

/// An attempt's share of an entry.
#[derive(Debug)]
pub(super) struct Part {
    pub(super) origin: Origin,
    /// The number of its beats.
    pub(super) beats: usize,
    /// As the attempt sent them.
    pub(super) bytes: Bytes,
}

impl Waiting {
    fn split(self) -> (Part, Vec<Beat>) {
        let part = Part {
            origin: self.origin,
            beats: self.beats.len(),
            bytes: self.bytes,
        };
        (part, self.beats)
    }
}

/// What is gathered so far.
#[derive(Debug)]
pub(super) struct Gather {
    interval_us: u64,
    waiting: Vec<Waiting>,
    /// When keep-alives were proposed last.
    last: Option<MonoTime>,
    /// Whether those were several attempts, or are not applied yet.
    busy: bool,
    /// Whether it was a single attempt.
    single: bool,
}

impl Gather {
    pub(super) fn new(interval_us: u64) -> Gather {
        Gather {
            interval_us,
            waiting: Vec::new(),
            last: None,
            busy: false,
            single: false,
        }
    }

    /// Adds one attempt, of at most [`BEATS_MAX`] beats, that came as these bytes.
    pub(super) fn add(&mut self, origin: Origin, beats: Vec<Beat>, bytes: Bytes) {
        self.waiting.push(Waiting {
            origin,
            beats,
            bytes,
        });
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

    /// All that waits, if it is due: the commands, and for each the attempts in it.
    pub(super) fn take(&mut self, now: MonoTime) -> Vec<(Command, Vec<Part>)> {
        if self.due().is_none_or(|due| due > now) {
            return Vec::new();
        }
        self.last = Some(now);
        self.busy = true;
        self.single = self.waiting.len() == 1;
        let mut entries = Vec::new();
        let mut waiting = std::mem::take(&mut self.waiting).into_iter().peekable();
        while let Some(first) = waiting.next() {
            let mut bytes = first.bytes.len();
            let (part, mut beats) = first.split();
            let mut parts = vec![part];
            while let Some(next) = waiting.next_if(|next| {
                beats.len() + next.beats.len() <= BEATS_MAX && bytes + next.bytes.len() <= BYTES_MAX
            }) {
                bytes += next.bytes.len();
                let (part, more) = next.split();
                parts.push(part);
                beats.extend(more);
            }
            entries.push((Command::KeepAlive { beats }, parts));
        }
        entries
    }

    /// An entry of keep-alives was applied.
    pub(super) fn on_applied(&mut self) {
        self.busy &= !self.single;
    }

    /// Everything that waits, given back: this replica leads no more.
    pub(super) fn take_all(&mut self) -> Vec<Part> {
        self.busy = false;
        let taken = self.waiting.drain(..);
        taken.map(|waiting| waiting.split().0).collect()
    }
}
