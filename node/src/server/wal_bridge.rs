//! Between the engine and the log: records go in, in order; how far they are durable comes back.
//!
//! The engine counts its appends, the log counts submissions; one batch's appends are one
//! submission. So the only state is which append each open submission ended with.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use paxos::{Memories, Remember, Slot, WalAppend, WalSeq};
use wal::{Log, LogOptions, NextSnapshots, Progress, Submitted, Writer};

use crate::clock::micros;
use crate::failure::{Exit, Failure};
use crate::server::desk::LogReport;
use crate::server::inbox::{Event, Inbox};
use replica::Release;
use replica::causes::with_causes;
use replica::engine::Input;
use replica::records;

/// How long the end waits for jobs that use the log.
const JOBS_PATIENCE: Duration = Duration::from_millis(500);
/// How long a process that must stop waits for the superblock to say why.
const REMEMBER_PATIENCE: Duration = Duration::from_secs(10);

/// Who writes a batch to the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(
    dead_code,
    reason = "which one is used is one constant, changed to measure the other"
)]
pub(crate) enum CommitPolicy {
    /// The log's own thread, always: the reactor goes on meanwhile.
    Thread,
    /// The reactor itself while the log is idle and nothing else waits to be handled: no thread is
    /// woken, twice; what arrives in the meantime becomes the next batch.
    InlineWhenIdle,
}

/// The one place where that is decided.
pub(crate) const COMMIT_POLICY: CommitPolicy = CommitPolicy::InlineWhenIdle;

/// The log, as the reactor sees it.
#[derive(Debug)]
pub(crate) struct WalBridge {
    log: Arc<Log>,
    /// Submissions that are not known to be durable: position, last append in it.
    open: VecDeque<(u64, WalSeq)>,
    poison: Arc<Mutex<Option<Arc<wal::Error>>>>,
    remembering: Arc<Remembering>,
    /// Bytes of log that were there at the start.
    found_bytes: u64,
    /// Bytes removed since.
    freed_bytes: Arc<AtomicU64>,
}

/// Counts the superblock writes under way, so that the end of the process can wait for them.
#[derive(Debug, Default)]
struct Remembering {
    open: Mutex<usize>,
    changed: Condvar,
}

impl Remembering {
    fn begin(&self) {
        *self.open.lock().unwrap_or_else(PoisonError::into_inner) += 1;
    }

    fn end(&self) {
        *self.open.lock().unwrap_or_else(PoisonError::into_inner) -= 1;
        self.changed.notify_all();
    }

    fn wait(&self, patience: Duration) {
        let open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self
            .changed
            .wait_timeout_while(open, patience, |open| *open > 0);
        drop(waited.unwrap_or_else(PoisonError::into_inner));
    }
}

impl WalBridge {
    /// Starts the log's thread; it wakes the reactor through `inbox`.
    pub(crate) fn start(writer: Writer, inbox: Arc<Inbox>) -> WalBridge {
        let poison: Arc<Mutex<Option<Arc<wal::Error>>>> = Arc::default();
        let cell = poison.clone();
        let on_progress = move |progress| {
            if let Progress::Poisoned(error) = progress {
                *cell.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
            }
            inbox.push(Event::LogMoved);
        };
        let found_bytes = writer.log_bytes();
        let log = Log::start(writer, LogOptions::default(), Box::new(on_progress));
        WalBridge {
            log: Arc::new(log),
            open: VecDeque::new(),
            poison,
            remembering: Arc::default(),
            found_bytes,
            freed_bytes: Arc::default(),
        }
    }

    /// Hands the appends over. With `inline` they may be durable on return.
    ///
    /// # Errors
    ///
    /// [`Exit::WriteFailed`]: the log is poisoned.
    pub(crate) fn submit(
        &mut self,
        appends: &mut Vec<WalAppend>,
        inline: bool,
    ) -> Result<(), Failure> {
        let Some(last) = appends.last() else {
            return Ok(());
        };
        let (seq, commit) = (last.seq, last.commit.0);
        let records = appends
            .drain(..)
            .flat_map(|append| append.records)
            .map(records::to_wal)
            .collect();
        let submitted = if inline {
            match self.log.commit_inline(records, commit) {
                Ok(Submitted::Durable(position) | Submitted::Queued(position)) => Ok(position),
                Err(error) => Err(error),
            }
        } else {
            self.log.submit(records, commit)
        };
        let position = submitted.map_err(|error| write_failed(&error))?;
        self.open.push_back((position, seq));
        Ok(())
    }

    /// The last append that has become durable since the last call, if any.
    ///
    /// # Errors
    ///
    /// [`Exit::WriteFailed`]: the log is poisoned.
    pub(crate) fn durable(&mut self) -> Result<Option<WalSeq>, Failure> {
        if let Some(error) = self
            .poison
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .as_ref()
        {
            return Err(write_failed(error));
        }
        let durable = self.log.durable();
        let mut newest = None;
        while let Some(&(position, seq)) = self.open.front()
            && position <= durable
        {
            newest = Some(seq);
            self.open.pop_front();
        }
        Ok(newest)
    }

    /// Writes to the superblock, beside the log; the engine is told once it is durable.
    pub(crate) fn remember(&self, remember: Remember, inbox: Arc<Inbox>) {
        let Remember { number, memories } = remember;
        let remembering = self.remembering.clone();
        remembering.begin();
        self.log.note_peers(memories.encode(), move |written| {
            remembering.end();
            inbox.push(match written {
                Ok(()) => Event::Engine(Input::Remembered { number }),
                Err(error) => Event::Failed(write_failed(&error)),
            });
        });
    }

    /// Writes to the superblock with whatever is written there next.
    ///
    /// # Errors
    ///
    /// [`Exit::WriteFailed`].
    pub(crate) fn remember_later(&self, memories: &Memories) -> Result<(), Failure> {
        let noted = self.log.note_peers_later(memories.encode());
        noted.map_err(|error| write_failed(&error))
    }

    /// Waits until the superblock holds what it was last asked to, for a moment at most.
    pub(crate) fn finish_remembering(&self) {
        self.remembering.wait(REMEMBER_PATIENCE);
    }

    /// Whether the disk is nearly full.
    pub(crate) fn low_space(&self) -> bool {
        self.log.low_space()
    }

    /// Whether everything submitted is durable.
    pub(crate) fn is_idle(&self) -> bool {
        self.open.is_empty()
    }

    /// The log itself, for jobs on other threads.
    pub(crate) fn log(&self) -> Arc<Log> {
        self.log.clone()
    }

    /// Bytes of log on the disk.
    pub(crate) fn log_bytes(&self) -> u64 {
        let written = self.found_bytes + self.log.stats().bytes;
        written.saturating_sub(self.freed_bytes.load(Ordering::Relaxed))
    }

    /// What the log has done, for the pages.
    pub(crate) fn report(&self) -> LogReport {
        let stats = self.log.stats();
        LogReport {
            stats,
            oldest_unsynced_us: micros(self.log.oldest_unsynced_age()),
            low_space: self.log.low_space(),
        }
    }

    /// Lets the part of the log go that nobody needs; the engine is told where it begins then.
    pub(crate) fn release(&self, release: Release, inbox: Arc<Inbox>) {
        let freed = self.freed_bytes.clone();
        let told = move |removed: Result<wal::Removed, wal::Error>| {
            inbox.push(match removed {
                Ok(removed) => {
                    freed.fetch_add(removed.bytes, Ordering::Relaxed);
                    let first = Slot(removed.first_slot);
                    Event::Engine(Input::LogTrimmed { first })
                }
                Err(error) => Event::Failed(write_failed(&error)),
            });
        };
        let Release {
            snapshot,
            needed,
            keep_bytes,
        } = release;
        self.log.remove_prefix(snapshot, needed, keep_bytes, told);
    }

    /// Has the replica told what two more snapshots would free of the log and of older snapshots.
    pub(crate) fn tell_reclaimable(&self, next: NextSnapshots, inbox: Arc<Inbox>) {
        self.log.reclaimable_bytes(next, move |bytes| {
            inbox.push(Event::Reclaimable(bytes));
        });
    }

    /// Makes everything durable, leaves the mark of a clean end and stops the thread.
    ///
    /// # Errors
    ///
    /// [`Exit::WriteFailed`].
    pub(crate) async fn close(self) -> Result<(), Failure> {
        let patience = Instant::now() + JOBS_PATIENCE;
        let mut log = self.log;
        loop {
            // A job on another thread may still use it.
            match Arc::try_unwrap(log) {
                Ok(log) => return log.close().map_err(|error| write_failed(&error)),
                Err(_) if Instant::now() > patience => {
                    tracing::warn!("a job still uses the log: it is left as after a crash");
                    return Ok(());
                }
                Err(shared) => log = shared,
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

/// The failure that a log's error is for the process.
pub(crate) fn write_failed(error: &wal::Error) -> Failure {
    Failure::new(
        Exit::WriteFailed,
        format!("the log: {}", with_causes(error)),
    )
}
