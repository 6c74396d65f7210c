//! What waits to be written, in order.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

use super::LogOptions;
use crate::error::Error;
use crate::record::Record;
use crate::writer::{GROUP_BYTES_MAX, Writer};

type Call = Box<dyn FnOnce(Result<&mut Writer, Error>) + Send>;

pub(super) enum Work {
    Records {
        records: Vec<Record>,
        commit_slot: u64,
        bytes: usize,
    },
    Call(Call),
}

pub(super) struct Job {
    pub(super) position: u64,
    pub(super) since: Instant,
    pub(super) work: Work,
}

impl Job {
    /// Tells a call that its turn never comes.
    pub(super) fn refuse(self, error: &Error) {
        if let Work::Call(call) = self.work {
            call(Err(error.clone()));
        }
    }
}

/// Bounded by bytes and calls (see [`LogOptions`]).
pub(super) struct Queue {
    jobs: VecDeque<Job>,
    bytes: usize,
    last_position: u64,
    /// Somebody writes now: the log thread or an inline caller.
    pub(super) busy: bool,
    busy_since: Option<Instant>,
    /// Positions that are written and wait for the superblock, each with the start of its write.
    unsettled: VecDeque<(u64, Instant)>,
    /// The log thread sleeps, and not until the next write would have to be hinted and settled.
    pub(super) asleep: bool,
    /// End of the last write with records, until a marker follows it.
    pub(super) unmarked_since: Option<Instant>,
    /// End of the first write since the last durable hint; none if the hint covers everything.
    pub(super) unhinted_since: Option<Instant>,
    pub(super) closing: bool,
    pub(super) aborted: bool,
    pub(super) poisoned: Option<Arc<Error>>,
}

impl Queue {
    pub(super) fn new() -> Queue {
        Queue {
            jobs: VecDeque::new(),
            bytes: 0,
            last_position: 0,
            busy: false,
            busy_since: None,
            unsettled: VecDeque::new(),
            asleep: false,
            unmarked_since: None,
            unhinted_since: None,
            closing: false,
            aborted: false,
            poisoned: None,
        }
    }

    pub(super) fn check(&self) -> Result<(), Error> {
        if self.poisoned.is_some() {
            return Err(Error::Poisoned);
        }
        if self.closing || self.aborted {
            Err(Error::Closed)
        } else {
            Ok(())
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.jobs.is_empty()
    }

    /// Whether so many bytes more have to wait. An empty queue takes anything, so nothing waits for ever.
    pub(super) fn is_full(&self, bytes: usize, options: &LogOptions) -> bool {
        !self.jobs.is_empty()
            && (self.bytes + bytes > options.queue_bytes_max
                || self.jobs.len() >= options.queue_calls_max)
            && self.check().is_ok()
    }

    pub(super) fn next_position(&mut self) -> u64 {
        self.last_position += 1;
        self.last_position
    }

    pub(super) fn push(&mut self, work: Work) -> u64 {
        let position = match &work {
            Work::Records { bytes, .. } => {
                self.bytes += bytes;
                self.next_position()
            }
            Work::Call(_) => self.last_position,
        };
        self.jobs.push_back(Job {
            position,
            since: Instant::now(),
            work,
        });
        position
    }

    pub(super) fn push_front(&mut self, position: u64, work: Work) {
        if let Work::Records { bytes, .. } = &work {
            self.bytes += bytes;
        }
        self.jobs.push_front(Job {
            position,
            since: Instant::now(),
            work,
        });
    }

    /// Takes a call, or as many records as fit one group.
    pub(super) fn take(&mut self, into: &mut Vec<Job>) {
        let (mut bytes, mut count) = (0, 0);
        while let Some(job) = self.jobs.front() {
            let Work::Records {
                records,
                bytes: more,
                ..
            } = &job.work
            else {
                if into.is_empty() {
                    into.extend(self.jobs.pop_front());
                }
                return;
            };
            let fits = bytes + more <= GROUP_BYTES_MAX
                && count + records.len() <= crate::batch::RECORDS_MAX;
            if !into.is_empty() && !fits {
                return;
            }
            (bytes, count) = (bytes + more, count + records.len());
            self.bytes -= more;
            into.extend(self.jobs.pop_front());
        }
    }

    pub(super) fn drain(&mut self) -> VecDeque<Job> {
        self.bytes = 0;
        std::mem::take(&mut self.jobs)
    }

    pub(super) fn begin(&mut self, since: Instant) {
        self.busy = true;
        self.busy_since = Some(since);
    }

    pub(super) fn end(&mut self, now: Instant) {
        self.busy = false;
        self.busy_since = None;
        self.unmarked_since = Some(now);
        self.unhinted_since.get_or_insert(now);
    }

    /// What was just written, up to this position, is not durable before the superblock has followed.
    pub(super) fn wait_for_super(&mut self, position: u64) {
        let since = self.busy_since.unwrap_or_else(Instant::now);
        self.unsettled.push_back((position, since));
    }

    /// The superblock has followed everything up to this position.
    pub(super) fn settle(&mut self, position: u64) {
        self.unsettled.retain(|(waiting, _)| *waiting > position);
    }

    /// The marker stands: nothing is left to write until the next call.
    pub(super) fn rest(&mut self) {
        self.busy = false;
        self.busy_since = None;
        self.unmarked_since = None;
    }

    /// When the durable hint is to be noted, if the log has moved since the last one.
    pub(super) fn hint_due(&self, options: &LogOptions) -> Option<Instant> {
        self.unhinted_since
            .map(|since| since + options.hint_interval)
    }

    /// Since when the oldest call waits that is not durable.
    pub(super) fn oldest(&self) -> Option<Instant> {
        let queued = self.jobs.front().map(|job| job.since);
        let unsettled = self.unsettled.front().map(|(_, since)| *since);
        let written = self.busy_since.into_iter().chain(unsettled);
        written.chain(queued).min()
    }
}
