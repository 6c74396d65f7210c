//! Keep-alives of many sessions, gathered into one entry of the log.
//!
//! A keep-alive goes at once if the last entry of this kind is long enough ago, or if it carried a
//! single attempt and is applied: whoever keeps alive alone never waits. Else all that arrive until
//! the interval is over go together, in as few entries as their bounded size allows.

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
    /// The request's length.
    bytes: usize,
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

    /// Adds one attempt, of at most [`BEATS_MAX`] beats, that came in so many bytes.
    pub(super) fn add(&mut self, origin: Origin, beats: Vec<Beat>, bytes: usize) {
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

    /// All that waits, if it is due: the commands, and for each the attempts with the number of
    /// their beats.
    pub(super) fn take(&mut self, now: MonoTime) -> Vec<(Command, Vec<(Origin, usize)>)> {
        if self.due().is_none_or(|due| due > now) {
            return Vec::new();
        }
        self.last = Some(now);
        self.busy = true;
        self.single = self.waiting.len() == 1;
        let mut entries = Vec::new();
        let mut waiting = std::mem::take(&mut self.waiting).into_iter().peekable();
        while let Some(first) = waiting.next() {
            let mut bytes = first.bytes;
            let mut parts = vec![(first.origin, first.beats.len())];
            let mut beats = first.beats;
            while let Some(next) = waiting.next_if(|next| {
                beats.len() + next.beats.len() <= BEATS_MAX && bytes + next.bytes <= BYTES_MAX
            }) {
                bytes += next.bytes;
                parts.push((next.origin, next.beats.len()));
                beats.extend(next.beats);
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
    pub(super) fn take_all(&mut self) -> Vec<Origin> {
        self.busy = false;
        let taken = self.waiting.drain(..);
        taken.map(|waiting| waiting.origin).collect()
    }
}
