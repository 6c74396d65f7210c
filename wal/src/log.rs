//! The log for many callers: a bounded queue, one thread that writes, and callers that write themselves
//! when nobody else does.
//!
//! ```text
//! submit ----> queue --(everything queued, up to 1 MiB)--> one durable write --> one wake by position
//! commit_inline: if the queue is empty and nobody writes, the caller writes and nobody is woken
//! ```
//!
//! Positions count calls: 1, 2, 3. Records become durable in the order of positions, never one alone.
//!
//! An append costs one flush. Beside the log thread (`wal-log`) one thread prepares the next segment and removes files
//! (`wal-spare`) and one writes superblocks (`wal-super`), so that neither stands in the way of an append. A group with
//! a promise, and the first ones in a new segment, are told to be durable once the superblock has followed; the log
//! thread goes on meanwhile.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use bytes::Bytes;

use crate::error::Error;
use crate::litter::Litter;
use crate::reader::Reader;
use crate::record::{PAYLOAD_BYTES_MAX, Record};
use crate::snapshot::SnapshotRef;
use crate::spare::Spare;
use crate::storage::SharedDisk;
use crate::supers::{SuperDesk, Ticket};
use crate::writer::{NextSnapshots, Removed, Writer, check_peers};

mod preparer;
mod queue;
mod stats;
mod thread;

use preparer::Preparer;
use queue::{Queue, Work};
use stats::Meter;
pub use stats::{LogStats, SYNC_BUCKETS_US};

/// Bounds and delays of a [`Log`].
#[derive(Clone, Debug)]
pub struct LogOptions {
    /// Payload bytes that may wait in the queue; then `submit` blocks. Default 64 MiB.
    pub queue_bytes_max: usize,
    /// Calls that may wait in the queue. Default 65,536.
    pub queue_calls_max: usize,
    /// Idle time after the last write before it is settled: a marker behind it, and the note in the superblock how far the
    /// log is durable. Two flushes, side by side; a log that is written to again and again spares them. Default 50 ms.
    pub idle_delay: Duration,
    /// Time after a write until the superblock notes how far the log is durable, idle or not. Default 1 s.
    pub hint_interval: Duration,
    /// Time between two attempts when the disk is full. Default 50 ms.
    pub retry_interval: Duration,
}

impl Default for LogOptions {
    fn default() -> LogOptions {
        LogOptions {
            queue_bytes_max: 64 << 20,
            queue_calls_max: 65_536,
            idle_delay: Duration::from_millis(50),
            hint_interval: Duration::from_secs(1),
            retry_interval: Duration::from_millis(50),
        }
    }
}

/// What the log tells its owner, from one of its threads; must not block.
#[derive(Clone, Debug)]
pub enum Progress {
    /// Every call up to this position is durable. One for each group, not for each call.
    Durable {
        /// The position of the last one.
        position: u64,
    },
    /// The log is poisoned; nothing after the last durable position is known to be on the disk.
    Poisoned(Arc<Error>),
}

/// What became of an inline commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Submitted {
    /// Written by the caller; durable. No [`Progress`] is told for it.
    Durable(u64),
    /// The log was busy, or the superblock has to follow first: told later.
    Queued(u64),
}

type OnDurable = Box<dyn Fn(Progress) + Send + Sync>;

/// A log that any thread may append to.
pub struct Log {
    core: Arc<Core>,
    thread: Option<JoinHandle<()>>,
    preparer: Preparer,
}

impl std::fmt::Debug for Log {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Log")
            .field("durable", &self.durable())
            .finish_non_exhaustive()
    }
}

/// What the threads of a log share. Lock order: queue, then (never while holding it) writer.
struct Core {
    options: LogOptions,
    queue: Mutex<Queue>,
    /// Wakes the log thread.
    work: Condvar,
    /// Wakes callers that wait for room.
    room: Condvar,
    /// Taken by whoever set `Queue::busy`; `None` once closed.
    writer: Mutex<Option<Writer>>,
    durable: AtomicU64,
    /// The last position that was told; held while it is told, so that they are told in order.
    told: Mutex<u64>,
    meter: Meter,
    on_durable: OnDurable,
    reader: Reader,
    spare: Arc<Spare>,
    supers: SuperDesk,
    litter: Arc<Litter>,
    disk: SharedDisk,
    prepare: preparer::Wish,
}

impl Log {
    /// Starts the threads. `on_durable` is called once for each group that the log thread wrote.
    #[must_use]
    pub fn start(mut writer: Writer, options: LogOptions, on_durable: OnDurable) -> Log {
        writer.supers.start_thread();
        let core = Arc::new(Core {
            options,
            queue: Mutex::new(Queue::new()),
            work: Condvar::new(),
            room: Condvar::new(),
            durable: AtomicU64::new(0),
            told: Mutex::new(0),
            meter: Meter::default(),
            on_durable,
            reader: writer.reader(),
            spare: writer.spare.clone(),
            supers: writer.supers.desk(),
            litter: writer.litter.clone(),
            disk: writer.disk.clone(),
            prepare: preparer::Wish::new(writer.next_seq()),
            writer: Mutex::new(Some(writer)),
        });
        let preparer = Preparer::start(core.clone());
        let theirs = core.clone();
        let thread = std::thread::Builder::new()
            .name("wal-log".to_owned())
            .spawn(move || thread::run(&theirs))
            .expect("the machine starts a thread");
        Log {
            core,
            thread: Some(thread),
            preparer,
        }
    }

    /// Queues records; blocks while the queue is full. Returns the position of this call.
    ///
    /// # Errors
    ///
    /// [`Error::Poisoned`], [`Error::Closed`], [`Error::TooLarge`] (then nothing was queued).
    pub fn submit(&self, records: Vec<Record>, commit_slot: u64) -> Result<u64, Error> {
        self.refuse_large(&records)?;
        let bytes = payload_bytes(&records);
        let mut queue = self.core.queue();
        while queue.is_full(bytes, &self.core.options) {
            queue.check()?;
            queue = self
                .core
                .room
                .wait(queue)
                .unwrap_or_else(PoisonError::into_inner);
        }
        queue.check()?;
        let position = queue.push(Work::Records {
            records,
            commit_slot,
            bytes,
        });
        self.core.wake(&queue);
        Ok(position)
    }

    /// Writes the records on this thread if the log is idle, else queues them.
    ///
    /// Blocks for a disk write: from a `tokio` task only where blocking is allowed.
    ///
    /// # Errors
    ///
    /// As [`Log::submit`], or why the write failed: the log is poisoned then.
    pub fn commit_inline(
        &self,
        records: Vec<Record>,
        commit_slot: u64,
    ) -> Result<Submitted, Error> {
        self.refuse_large(&records)?;
        let mut queue = self.core.queue();
        queue.check()?;
        if queue.busy || !queue.is_empty() {
            drop(queue);
            return self.submit(records, commit_slot).map(Submitted::Queued);
        }
        let position = queue.next_position();
        queue.begin(Instant::now());
        drop(queue);
        let written = self.core.write(&records, commit_slot);
        if let Err((Error::NoSpace { .. }, done)) = written {
            // The log thread waits for room; this call stays first in line.
            let records = records[done..].to_vec();
            let bytes = payload_bytes(&records);
            let mut queue = self.core.queue();
            queue.push_front(
                position,
                Work::Records {
                    records,
                    commit_slot,
                    bytes,
                },
            );
            self.core.finish(queue);
            return Ok(Submitted::Queued(position));
        }
        match written {
            Ok(ticket) if self.core.supers.holds(ticket) => {
                self.core.durable.fetch_max(position, Ordering::AcqRel);
                self.core.finish(self.core.queue());
                Ok(Submitted::Durable(position))
            }
            Ok(ticket) => {
                self.core.tell_when(position, ticket);
                Ok(Submitted::Queued(position))
            }
            Err((error, _)) => {
                self.core.poison(&error);
                Err(error)
            }
        }
    }

    /// Everything up to this position is durable.
    #[must_use]
    pub fn durable(&self) -> u64 {
        self.core.durable.load(Ordering::Acquire)
    }

    /// How long the oldest call has waited that is not durable yet; zero if there is none.
    #[must_use]
    pub fn oldest_unsynced_age(&self) -> Duration {
        self.core
            .queue()
            .oldest()
            .map_or(Duration::ZERO, |since| since.elapsed())
    }

    /// Whether the next segment could not be prepared for want of room: refuse new work.
    #[must_use]
    pub fn low_space(&self) -> bool {
        self.core.spare.is_low()
    }

    /// A reader of what is durable.
    #[must_use]
    pub fn reader(&self) -> Reader {
        self.core.reader.clone()
    }

    /// Counts since the start.
    #[must_use]
    pub fn stats(&self) -> LogStats {
        self.core.meter.read()
    }

    /// Runs `call` on the log thread, in order behind everything submitted. If the log is poisoned or
    /// closed before its turn, it gets the error.
    pub fn with_writer(&self, call: impl FnOnce(Result<&mut Writer, Error>) + Send + 'static) {
        let mut queue = self.core.queue();
        if let Err(error) = queue.check() {
            drop(queue);
            return call(Err(error));
        }
        queue.push(Work::Call(Box::new(call)));
        self.core.wake(&queue);
    }

    /// Records what the replica knows of its peers, in place of what was recorded before.
    ///
    /// Returns at once and waits neither for what was submitted nor for a flush of the log. `done` is called once both
    /// superblock copies hold these bytes or those of a later call, from a thread of the log; it must not block.
    /// It gets an error at once (on this thread) if the bytes are more than [`crate::PEERS_BYTES_MAX`] or the log is
    /// closed or poisoned. A failed write poisons the log.
    pub fn note_peers(&self, peers: Bytes, done: impl FnOnce(Result<(), Error>) + Send + 'static) {
        let checked = check_peers(&peers).and_then(|()| self.core.queue().check());
        if let Err(error) = checked {
            return done(Err(error));
        }
        let core = Arc::downgrade(&self.core);
        let told = move |written: Result<(), Error>| {
            if let (Err(error), Some(core)) = (&written, core.upgrade()) {
                core.poison(error);
            }
            done(written);
        };
        self.core.supers.note_peers(peers, Box::new(told));
    }

    /// [`Writer::note_peers_later`]; returns at once.
    ///
    /// # Errors
    ///
    /// [`Error::TooLarge`].
    pub fn note_peers_later(&self, peers: Bytes) -> Result<(), Error> {
        check_peers(&peers)?;
        self.core.supers.note_peers_later(peers);
        Ok(())
    }

    /// [`Writer::snapshot_saved`], in order behind everything submitted, but no append waits for it. `done` is called on a
    /// thread of the log once the snapshot is named; older ones are removed after that.
    pub fn snapshot_saved(
        &self,
        snapshot: SnapshotRef,
        done: impl FnOnce(Result<(), Error>) + Send + 'static,
    ) {
        let core = Arc::downgrade(&self.core);
        self.with_writer(
            move |writer| match writer.and_then(|w| w.begin_naming(snapshot)) {
                Ok(naming) => Core::afterwards(core, naming.ticket, move |named, core| {
                    done(named.clone());
                    if let (Ok(()), Some(core)) = (named, core) {
                        naming.prune(&*core.disk);
                    }
                }),
                Err(error) => done(Err(error)),
            },
        );
    }

    /// [`Writer::remove_prefix`], in order behind everything submitted, but no append waits for it. `done` is called on a
    /// thread of the log when the files are gone.
    pub fn remove_prefix(
        &self,
        snapshot: u64,
        needed: u64,
        cap_bytes: u64,
        done: impl FnOnce(Result<Removed, Error>) + Send + 'static,
    ) {
        let core = Arc::downgrade(&self.core);
        self.with_writer(move |writer| {
            let begun = writer.and_then(|w| w.begin_removal(snapshot, needed, cap_bytes));
            match begun {
                Ok(removal) => Core::afterwards(core, removal.ticket, move |forgotten, core| {
                    if let (Ok(()), Some(core)) = (&forgotten, core) {
                        core.litter.add(removal.paths);
                        core.litter.clear();
                    }
                    done(forgotten.map(|()| removal.removed));
                }),
                Err(error) => done(Err(error)),
            }
        });
    }

    /// [`Writer::reclaimable_bytes`], in order behind everything submitted. `done` is called on a thread of the log,
    /// unless the log is closed or poisoned.
    pub fn reclaimable_bytes(&self, next: NextSnapshots, done: impl FnOnce(u64) + Send + 'static) {
        self.with_writer(move |writer| {
            if let Ok(writer) = writer {
                done(writer.reclaimable_bytes(&next));
            }
        });
    }

    /// Writes what is queued, then closes the log in order.
    ///
    /// # Errors
    ///
    /// The error that poisoned the log, or that of the last writes.
    pub fn close(mut self) -> Result<(), Error> {
        self.core.queue().closing = true;
        self.core.stir();
        self.join();
        let writer = lock(&self.core.writer).take();
        let poisoned = self.core.queue().poisoned.clone();
        match (poisoned, writer) {
            (Some(error), _) => Err((*error).clone()),
            (None, Some(writer)) => writer.close(),
            (None, None) => Err(Error::Closed),
        }
    }

    fn join(&mut self) {
        if let Some(thread) = self.thread.take() {
            // A panic of the thread has been printed; there is nothing to add.
            let _ = thread.join();
        }
        self.preparer.stop(&self.core);
    }

    fn refuse_large(&self, records: &[Record]) -> Result<(), Error> {
        let limit = self
            .core
            .spare
            .payload_bytes_max()
            .min(PAYLOAD_BYTES_MAX as u64);
        let largest = records
            .iter()
            .map(|record| record.payload.len() as u64)
            .max()
            .unwrap_or(0);
        if largest > limit {
            return Err(Error::TooLarge {
                what: "record",
                size: largest,
                limit,
            });
        }
        Ok(())
    }
}

impl Drop for Log {
    /// Stops after the write under way; what is queued is dropped, as at a crash.
    fn drop(&mut self) {
        if self.thread.is_some() {
            self.core.queue().aborted = true;
            self.core.stir();
            self.join();
        }
    }
}

impl Core {
    fn queue(&self) -> MutexGuard<'_, Queue> {
        lock(&self.queue)
    }

    /// Wakes the log thread if it must do something about new work.
    fn wake(&self, queue: &Queue) {
        if !queue.busy {
            self.work.notify_one();
        }
    }

    fn stir(&self) {
        self.work.notify_all();
        self.room.notify_all();
    }

    /// Writes records as whoever set `busy`. They are durable once both copies of the superblock hold the ticket.
    /// On failure also how many were written before.
    fn write(&self, records: &[Record], commit_slot: u64) -> Result<Ticket, (Error, usize)> {
        let mut guard = lock(&self.writer);
        let writer = guard.as_mut().ok_or((Error::Closed, 0))?;
        writer.check(records).map_err(|error| (error, 0))?;
        let mut done = 0;
        while done < records.len() {
            let before = (Instant::now(), writer.end());
            done += writer
                .commit_group(&records[done..], commit_slot)
                .map_err(|e| (e, done))?;
            let bytes = writer.end().0.saturating_sub(before.1.0);
            self.meter.count(before.0.elapsed(), bytes);
        }
        self.prepare.want(writer.next_seq());
        Ok(writer.place.awaits)
    }

    /// Ends what `begin` began, and tells that everything up to `position` is durable as soon as the superblock holds
    /// what was written for it.
    fn tell_when(self: &Arc<Core>, position: u64, ticket: Ticket) {
        let mut queue = self.queue();
        queue.wait_for_super(position);
        self.finish(queue);
        let core = Arc::downgrade(self);
        let told = move |noted: Result<(), Error>| {
            let Some(core) = core.upgrade() else { return };
            match noted {
                Ok(()) => core.tell(position),
                Err(error) => core.poison(&error),
            }
        };
        self.supers.when(ticket, Box::new(told));
    }

    /// Everything up to `position` is durable.
    fn tell(&self, position: u64) {
        self.durable.fetch_max(position, Ordering::AcqRel);
        self.queue().settle(position);
        let mut told = lock(&self.told);
        let position = self.durable.load(Ordering::Acquire);
        if *told < position {
            *told = position;
            (self.on_durable)(Progress::Durable { position });
        }
    }

    /// Runs `work` on a thread that nobody waits for, once both copies of the superblock hold the ticket; on the
    /// superblock's thread if they never will or the log is gone.
    fn afterwards(
        core: Weak<Core>,
        ticket: Ticket,
        work: impl FnOnce(Result<(), Error>, Option<&Core>) + Send + 'static,
    ) {
        let Some(strong) = core.upgrade() else {
            return work(Err(Error::Closed), None);
        };
        let then = move |noted: Result<(), Error>| match (core.upgrade(), noted) {
            (Some(core), Ok(())) => {
                preparer::run_beside(&core, Box::new(|core| work(Ok(()), Some(core))));
            }
            (core, noted) => {
                if let (Some(core), Err(error)) = (&core, &noted) {
                    core.poison(error);
                }
                work(noted, None);
            }
        };
        strong.supers.when(ticket, Box::new(then));
    }

    /// Ends what `begin` began, and wakes whoever waits for that.
    fn finish(&self, mut queue: MutexGuard<'_, Queue>) {
        queue.end(Instant::now());
        if !queue.is_empty() || queue.asleep {
            self.work.notify_one();
        }
    }

    fn poison(&self, error: &Error) {
        let error = Arc::new(error.clone());
        let mut queue = self.queue();
        let first = queue.poisoned.is_none();
        queue.poisoned.get_or_insert_with(|| error.clone());
        let left = queue.drain();
        queue.end(Instant::now());
        drop(queue);
        self.stir();
        for job in left {
            job.refuse(&Error::Poisoned);
        }
        if first {
            (self.on_durable)(Progress::Poisoned(error));
        }
    }
}

fn payload_bytes(records: &[Record]) -> usize {
    records.iter().map(|record| record.payload.len() + 64).sum()
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Whoever panicked poisoned nothing that a reader could not see: results are checked one by one.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
