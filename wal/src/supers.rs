//! Writes the superblock beside the log: at once, or on a thread of its own.
//!
//! With the thread, a promise costs two syncs in a row and not three: the log's flush runs while the two
//! copies are written one after the other.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use bytes::Bytes;

use crate::error::Error;
use crate::record::Lsn;
use crate::super_store::SuperStore;
use crate::superblock::Superblock;

/// What is learned while the log runs; the superblock keeps the maximum of each.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Advance {
    pub(crate) promised: u64,
    pub(crate) newest_segment: u64,
    pub(crate) durable: Lsn,
    pub(crate) max_slot_ever: u64,
    pub(crate) max_ballot_ever: u64,
}

impl Advance {
    fn merge(&mut self, other: &Advance) {
        self.promised = self.promised.max(other.promised);
        self.newest_segment = self.newest_segment.max(other.newest_segment);
        self.durable = self.durable.max(other.durable);
        self.max_slot_ever = self.max_slot_ever.max(other.max_slot_ever);
        self.max_ballot_ever = self.max_ballot_ever.max(other.max_ballot_ever);
    }

    fn apply(&self, to: &mut Superblock) {
        to.promised = to.promised.max(self.promised);
        to.newest_segment = to.newest_segment.max(self.newest_segment);
        to.durable_hint = to.durable_hint.max(self.durable);
        to.max_slot_ever = to.max_slot_ever.max(self.max_slot_ever);
        to.max_ballot_ever = to.max_ballot_ever.max(self.max_ballot_ever);
    }
}

/// The superblock, shared by the writer and the thread that may write it.
#[derive(Debug)]
pub(crate) struct Supers {
    store: Arc<Mutex<SuperStore>>,
    thread: Option<SuperThread>,
}

impl Supers {
    pub(crate) fn new(store: SuperStore) -> Supers {
        Supers {
            store: Arc::new(Mutex::new(store)),
            thread: None,
        }
    }

    /// From now on [`Supers::begin`] returns at once and a thread writes.
    pub(crate) fn start_thread(&mut self) {
        self.thread
            .get_or_insert_with(|| SuperThread::start(self.store.clone()));
    }

    pub(crate) fn current(&self) -> Superblock {
        locked(&self.store).current().clone()
    }

    /// Changes the superblock; durable on return.
    pub(crate) fn update(&self, change: impl FnOnce(&mut Superblock)) -> Result<(), Error> {
        locked(&self.store).update(change)
    }

    /// Begins to note what was learned. Without a thread it is durable on return.
    pub(crate) fn begin(&self, advance: Advance) -> Result<(), Error> {
        match &self.thread {
            Some(thread) => thread.begin(&advance),
            None => self.update(|block| advance.apply(block)),
        }
    }

    /// Waits until everything begun is durable.
    pub(crate) fn finish(&self) -> Result<(), Error> {
        self.thread.as_ref().map_or(Ok(()), SuperThread::finish)
    }

    /// Where others ask the thread for a write without the writer; `None` before [`Supers::start_thread`].
    pub(crate) fn desk(&self) -> Option<SuperDesk> {
        self.thread
            .as_ref()
            .map(|thread| SuperDesk(thread.desk.clone()))
    }
}

/// Called once a write is durable in both copies, or with the reason why it is not.
pub(crate) type Done = Box<dyn FnOnce(Result<(), Error>) + Send>;

/// A way to the superblock's thread that does not pass the writer, which may be busy with a flush.
#[derive(Clone, Debug)]
pub(crate) struct SuperDesk(Arc<Desk>);

impl SuperDesk {
    /// Has what is known of the peers written. `done` is called on the superblock's thread, or on this one if
    /// nothing is written any more.
    pub(crate) fn note_peers(&self, peers: Bytes, done: Done) {
        let refused = {
            let mut state = locked(&self.0.state);
            match (&state.failed, state.closed) {
                (Some(error), _) => error.clone(),
                (None, true) => Error::Closed,
                (None, false) => {
                    let wanted = state.wanted.get_or_insert_default();
                    wanted.peers = Some(peers);
                    wanted.done.push(done);
                    self.0.changed.notify_all();
                    return;
                }
            }
        };
        done(Err(refused));
    }
}

#[derive(Debug)]
struct SuperThread {
    desk: Arc<Desk>,
    handle: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Desk {
    state: Mutex<DeskState>,
    changed: Condvar,
}

/// What the next write changes.
#[derive(Default)]
struct Wanted {
    advance: Advance,
    /// The newest one: a later call replaces the bytes of an earlier one.
    peers: Option<Bytes>,
    done: Vec<Done>,
}

impl std::fmt::Debug for Wanted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Wanted")
            .field("advance", &self.advance)
            .field("peers", &self.peers)
            .finish_non_exhaustive()
    }
}

#[derive(Debug, Default)]
struct DeskState {
    /// At most one: later ones are merged into it.
    wanted: Option<Wanted>,
    writing: bool,
    closed: bool,
    failed: Option<Error>,
}

impl SuperThread {
    fn start(store: Arc<Mutex<SuperStore>>) -> SuperThread {
        let desk = Arc::new(Desk::default());
        let theirs = desk.clone();
        let handle = std::thread::Builder::new()
            .name("wal-super".to_owned())
            .spawn(move || theirs.run(&store))
            .expect("the machine starts a thread");
        SuperThread {
            desk,
            handle: Some(handle),
        }
    }

    fn begin(&self, advance: &Advance) -> Result<(), Error> {
        let mut state = locked(&self.desk.state);
        if let Some(error) = &state.failed {
            return Err(error.clone());
        }
        state.wanted.get_or_insert_default().advance.merge(advance);
        self.desk.changed.notify_all();
        Ok(())
    }

    fn finish(&self) -> Result<(), Error> {
        let mut state = locked(&self.desk.state);
        while state.failed.is_none() && (state.wanted.is_some() || state.writing) {
            state = self
                .desk
                .changed
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner);
        }
        state.failed.clone().map_or(Ok(()), Err)
    }
}

impl Drop for SuperThread {
    fn drop(&mut self) {
        locked(&self.desk.state).closed = true;
        self.desk.changed.notify_all();
        // A caller of the log may drop the last of it in a callback on that very thread, which ends by itself then.
        let joined = |handle: &JoinHandle<()>| handle.thread().id() != std::thread::current().id();
        if let Some(handle) = self.handle.take().filter(joined) {
            // A panic of the thread has been printed; there is nothing to add.
            let _ = handle.join();
        }
    }
}

impl Desk {
    fn run(&self, store: &Mutex<SuperStore>) {
        let mut state = locked(&self.state);
        loop {
            let Some(wanted) = state.wanted.take() else {
                if state.closed {
                    return;
                }
                state = self
                    .changed
                    .wait(state)
                    .unwrap_or_else(PoisonError::into_inner);
                continue;
            };
            state.writing = true;
            drop(state);
            let Wanted {
                advance,
                peers,
                done,
            } = wanted;
            let written = locked(store).update(|block| {
                advance.apply(block);
                block.peers = peers.unwrap_or_else(|| block.peers.clone());
            });
            state = locked(&self.state);
            state.writing = false;
            if let Err(error) = &written {
                state.failed = Some(error.clone());
            }
            self.changed.notify_all();
            if !done.is_empty() {
                drop(state);
                done.into_iter().for_each(|done| done(written.clone()));
                state = locked(&self.state);
            }
        }
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
