//! The thread that writes what is queued, settles the log when nothing is, and has the durable hint written in time.

use std::sync::{Arc, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::queue::{Job, Queue, Work};
use super::{Core, lock};
use crate::error::Error;
use crate::record::Record;
use crate::supers::Ticket;

/// What to do next.
enum Task {
    Write,
    Settle,
    Hint,
    Stop,
}

pub(super) fn run(core: &Arc<Core>) {
    let mut jobs = Vec::new();
    let mut records: Vec<Record> = Vec::new();
    loop {
        match next_task(core, &mut jobs) {
            Task::Stop => return,
            Task::Settle => settle(core),
            Task::Write => write(core, &mut jobs, &mut records),
            Task::Hint => {}
        }
        hint_if_due(core);
    }
}

/// Waits for work; on return `busy` is set if something is to be written.
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
        let now = Instant::now();
        let idle_due = queue
            .unmarked_since
            .map(|since| since + core.options.idle_delay);
        if idle_due.is_some_and(|due| due <= now) && !queue.busy {
            queue.begin(now);
            return Task::Settle;
        }
        let hint_due = queue.hint_due(&core.options);
        if hint_due.is_some_and(|due| due <= now) {
            // Also while a caller writes: one who never rests would put it off for ever.
            return Task::Hint;
        }
        // While a caller writes, its end moves the rest on; there is nothing to do before.
        let idle_due = idle_due.map(|due| match queue.busy {
            true => now + core.options.idle_delay,
            false => due,
        });
        queue = sleep(core, queue, idle_due.into_iter().chain(hint_due).min());
    }
}

/// Waits until something changes, at most until `due`.
fn sleep<'a>(
    core: &Core,
    mut queue: MutexGuard<'a, Queue>,
    due: Option<Instant>,
) -> MutexGuard<'a, Queue> {
    // The next write has to wake this thread if no hint or no rest is due by now.
    queue.asleep = queue.unmarked_since.is_none() || queue.unhinted_since.is_none();
    let mut queue = match due {
        Some(due) => {
            let left = due.saturating_duration_since(Instant::now());
            let left = left.max(Duration::from_micros(100));
            let waited = core.work.wait_timeout(queue, left);
            waited.unwrap_or_else(PoisonError::into_inner).0
        }
        None => core
            .work
            .wait(queue)
            .unwrap_or_else(PoisonError::into_inner),
    };
    queue.asleep = false;
    queue
}

/// Writes one group or runs one call.
fn write(core: &Arc<Core>, jobs: &mut Vec<Job>, records: &mut Vec<Record>) {
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
        match write_all(core, records, commit) {
            Ok(ticket) => core.tell_when(position, ticket),
            Err(error) => core.poison(&error),
        }
    } else {
        core.finish(core.queue());
    }
}

/// Writes everything; on a full disk it waits, as on a stalled one: no record fails alone.
fn write_all(core: &Core, records: &[Record], commit_slot: u64) -> Result<Ticket, Error> {
    let mut done = 0;
    loop {
        match core.write(&records[done..], commit_slot) {
            Ok(ticket) => return Ok(ticket),
            Err((error @ Error::NoSpace { .. }, more)) => {
                done += more;
                let queue = core.queue();
                if queue.aborted || queue.closing {
                    return Err(error);
                }
                let waited = core.work.wait_timeout(queue, core.options.retry_interval);
                drop(waited.unwrap_or_else(PoisonError::into_inner));
                hint_if_due(core);
            }
            Err((error, _)) => return Err(error),
        }
    }
}

/// The log rests: a marker proves its last batch, and the hint that there was one. Both together, side by side.
fn settle(core: &Core) {
    core.queue().unhinted_since = None;
    let settled = lock(&core.writer).as_mut().map_or(Ok(()), |writer| {
        writer.durable_hint()?;
        writer.idle_marker()
    });
    if let Err(error) = settled {
        return core.poison(&error);
    }
    core.queue().rest();
}

/// Begins to note the durable position once it is time; the superblock's thread writes it.
fn hint_if_due(core: &Core) {
    let mut queue = core.queue();
    let due = queue.hint_due(&core.options);
    if queue.poisoned.is_some() || due.is_none_or(|due| due > Instant::now()) {
        return;
    }
    // Before the look at the log: a write that ends meanwhile asks for another hint.
    queue.unhinted_since = None;
    drop(queue);
    let begun = lock(&core.writer)
        .as_mut()
        .map_or(Ok(()), |writer| writer.durable_hint());
    if let Err(error) = begun {
        core.poison(&error);
    }
}
