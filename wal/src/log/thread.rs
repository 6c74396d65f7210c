//! The thread that writes what is queued, and the marker when nothing is.

use std::sync::PoisonError;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::queue::{Job, Work};
use super::{Core, Progress, lock};
use crate::error::Error;
use crate::record::Record;

/// What to do next.
enum Task {
    Write,
    Mark,
    Stop,
}

pub(super) fn run(core: &Core) {
    let mut jobs = Vec::new();
    let mut records: Vec<Record> = Vec::new();
    let mut last_hint = Instant::now();
    loop {
        match next_task(core, &mut jobs) {
            Task::Stop => return,
            Task::Mark => mark(core, &mut last_hint),
            Task::Write => write(core, &mut jobs, &mut records),
        }
        if last_hint.elapsed() >= core.options.hint_interval {
            hint(core, &mut last_hint);
        }
    }
}

/// Waits for work; on return `busy` is set unless it is time to stop.
fn next_task(core: &Core, jobs: &mut Vec<Job>) -> Task {
    let mut queue = core.queue();
    loop {
        let done = queue.closing && queue.is_empty() && !queue.busy;
        if queue.aborted || queue.poisoned.is_some() || done {
            let left = queue.drain();
            drop(queue);
            core.room.notify_all();
            left.into_iter().for_each(|job| job.refuse(&Error::Closed));
            return Task::Stop;
        }
        if !queue.busy && !queue.is_empty() {
            queue.take(jobs);
            core.room.notify_all();
            queue.begin(jobs.first().map_or_else(Instant::now, |job| job.since));
            return Task::Write;
        }
        let due = queue
            .unmarked_since
            .map(|since| since + core.options.marker_delay);
        let now = Instant::now();
        queue = match due {
            Some(due) if due <= now && !queue.busy => {
                queue.begin(now);
                return Task::Mark;
            }
            Some(due) => {
                // While a caller writes, its end moves the moment on; there is nothing to do before.
                let left = due.saturating_duration_since(now);
                let wait = if queue.busy {
                    core.options.marker_delay
                } else {
                    left
                };
                let waited = core
                    .work
                    .wait_timeout(queue, wait.max(Duration::from_micros(100)));
                waited.unwrap_or_else(PoisonError::into_inner).0
            }
            None => {
                queue.asleep = true;
                let mut queue = core
                    .work
                    .wait(queue)
                    .unwrap_or_else(PoisonError::into_inner);
                queue.asleep = false;
                queue
            }
        };
    }
}

/// Writes one group or runs one call.
fn write(core: &Core, jobs: &mut Vec<Job>, records: &mut Vec<Record>) {
    let (mut position, mut commit) = (0, 0);
    records.clear();
    for job in jobs.drain(..) {
        match job.work {
            Work::Records {
                records: more,
                commit_slot,
                ..
            } => {
                position = job.position;
                commit = commit_slot.max(commit);
                records.extend(more);
            }
            Work::Call(call) => {
                let mut writer = lock(&core.writer);
                call(writer.as_mut().ok_or(Error::Closed));
                if let Some(error) = writer.as_ref().and_then(|w| w.check(&[]).err()) {
                    drop(writer);
                    return core.poison(&error);
                }
            }
        }
    }
    if position > 0 {
        if let Err(error) = write_all(core, records, commit) {
            return core.poison(&error);
        }
        core.durable.fetch_max(position, Ordering::AcqRel);
        core.finish(core.queue());
        (core.on_durable)(Progress::Durable { position });
    } else {
        core.finish(core.queue());
    }
}

/// Writes everything; on a full disk it waits, as on a stalled one: no record fails alone.
fn write_all(core: &Core, records: &[Record], commit_slot: u64) -> Result<(), Error> {
    let mut done = 0;
    loop {
        match core.write(&records[done..], commit_slot) {
            Ok(()) => return Ok(()),
            Err((error @ Error::NoSpace { .. }, more)) => {
                done += more;
                let queue = core.queue();
                if queue.aborted || queue.closing {
                    return Err(error);
                }
                let waited = core.work.wait_timeout(queue, core.options.retry_interval);
                drop(waited.unwrap_or_else(PoisonError::into_inner));
            }
            Err((error, _)) => return Err(error),
        }
    }
}

fn mark(core: &Core, last_hint: &mut Instant) {
    let marked = lock(&core.writer)
        .as_mut()
        .map_or(Ok(()), |writer| writer.idle_marker());
    if let Err(error) = marked {
        return core.poison(&error);
    }
    let mut queue = core.queue();
    queue.end(Instant::now());
    queue.unmarked_since = None;
    drop(queue);
    if last_hint.elapsed() >= core.options.hint_interval {
        hint(core, last_hint);
    }
}

/// Begins to note the durable position; the superblock's thread writes it.
fn hint(core: &Core, last_hint: &mut Instant) {
    *last_hint = Instant::now();
    let begun = lock(&core.writer)
        .as_mut()
        .map_or(Ok(()), |writer| writer.durable_hint());
    if let Err(error) = begun {
        core.poison(&error);
    }
}
