//! Writes the superblock beside the log: at once, or on a thread of its own.
//!
//! With the thread the log's flush runs while the two copies are written, one after the other: a promise costs two
//! syncs in a row and not three. Nobody waits for more than the one copy that is being written when a change comes:
//! the next write takes the change along.

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
    pub(crate) fn apply(&self, to: &mut Superblock) {
        to.promised = to.promised.max(self.promised);
        to.newest_segment = to.newest_segment.max(self.newest_segment);
        to.durable_hint = to.durable_hint.max(self.durable);
        to.max_slot_ever = to.max_slot_ever.max(self.max_slot_ever);
        to.max_ballot_ever = to.max_ballot_ever.max(self.max_ballot_ever);
    }
}

/// Names a state of the superblock; later states have higher numbers. 0 is before all.
pub(crate) type Ticket = u64;

/// Called once a write is durable in both copies, or with the reason why it is not.
pub(crate) type Done = Box<dyn FnOnce(Result<(), Error>) + Send>;

/// The superblock, shared by the writer and the thread that may write it.
#[derive(Debug)]
pub(crate) struct Supers {
    desk: SuperDesk,
    thread: Option<JoinHandle<()>>,
}

impl Supers {
    pub(crate) fn new(store: SuperStore) -> Supers {
        let state = DeskState {
            store,
            for_both: 0,
            for_one: 0,
            waiting: Vec::new(),
            threaded: false,
            closed: false,
            failed: None,
        };
        let desk = Desk {
            state: Mutex::new(state),
            changed: Condvar::new(),
        };
        Supers {
            desk: SuperDesk(Arc::new(desk)),
            thread: None,
        }
    }

    /// From now on [`Supers::begin`] returns at once and a thread writes.
    pub(crate) fn start_thread(&mut self) {
        if self.thread.is_some() {
            return;
        }
        self.desk.state().threaded = true;
        let theirs = self.desk.clone();
        let thread = std::thread::Builder::new()
            .name("wal-super".to_owned())
            .spawn(move || theirs.run())
            .expect("the machine starts a thread");
        self.thread = Some(thread);
    }

    /// What the superblock says, changes included that are still being written.
    pub(crate) fn current(&self) -> Superblock {
        self.desk.state().store.current().clone()
    }

    /// Changes the superblock; durable in both copies on return.
    pub(crate) fn update(&self, change: impl FnOnce(&mut Superblock)) -> Result<(), Error> {
        let ticket = self.desk.begin(change)?;
        self.desk.finish(ticket)
    }

    /// Begins to note what was learned. Without a thread it is durable in both copies on return.
    pub(crate) fn begin(&self, advance: &Advance) -> Result<Ticket, Error> {
        self.desk.begin(|block| advance.apply(block))
    }

    /// Begins to note what was learned in one of the copies, which is enough for what only helps to tell damage.
    pub(crate) fn hint(&self, advance: &Advance) -> Result<(), Error> {
        self.desk.begin_in_one(|block| advance.apply(block))
    }

    /// Has the next write take along what is known of the peers; begins none for it.
    pub(crate) fn note_peers_later(&self, peers: Bytes) {
        self.desk.note_peers_later(peers);
    }

    /// Waits until both copies hold what was begun under this ticket.
    pub(crate) fn finish(&self, ticket: Ticket) -> Result<(), Error> {
        self.desk.finish(ticket)
    }

    /// Where others ask for a write without the writer, which may be busy with a flush.
    pub(crate) fn desk(&self) -> SuperDesk {
        self.desk.clone()
    }
}

impl Drop for Supers {
    fn drop(&mut self) {
        self.desk.state().closed = true;
        self.desk.0.changed.notify_all();
        // A caller of the log may drop the last of it in a callback on that very thread, which ends by itself then.
        let joined = |handle: &JoinHandle<()>| handle.thread().id() != std::thread::current().id();
        if let Some(handle) = self.thread.take().filter(joined) {
            // A panic of the thread has been printed; there is nothing to add.
            let _ = handle.join();
        }
    }
}

/// A way to the superblock that does not pass the writer.
#[derive(Clone, Debug)]
pub(crate) struct SuperDesk(Arc<Desk>);

#[derive(Debug)]
struct Desk {
    state: Mutex<DeskState>,
    changed: Condvar,
}

struct DeskState {
    store: SuperStore,
    /// What both copies are to hold.
    for_both: Ticket,
    /// What at least one copy is to hold.
    for_one: Ticket,
    /// Whom to tell once both copies hold the state of that ticket.
    waiting: Vec<(Ticket, Done)>,
    threaded: bool,
    closed: bool,
    failed: Option<Error>,
}

impl std::fmt::Debug for DeskState {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DeskState")
            .field("store", &self.store)
            .field("for_both", &self.for_both)
            .field("for_one", &self.for_one)
            .field("failed", &self.failed)
            .finish_non_exhaustive()
    }
}

impl SuperDesk {
    /// Begins a change that both copies must hold. Without a thread they do on return.
    pub(crate) fn begin(&self, change: impl FnOnce(&mut Superblock)) -> Result<Ticket, Error> {
        let mut state = self.state();
        state.check()?;
        let ticket = state.store.change(change);
        state.for_both = ticket;
        self.write_or_wake(state)?;
        Ok(ticket)
    }

    fn begin_in_one(&self, change: impl FnOnce(&mut Superblock)) -> Result<(), Error> {
        let mut state = self.state();
        state.check()?;
        state.for_one = state.store.change(change);
        self.write_or_wake(state)
    }

    fn write_or_wake(&self, mut state: MutexGuard<'_, DeskState>) -> Result<(), Error> {
        if state.threaded {
            self.0.changed.notify_all();
            return Ok(());
        }
        let (for_both, for_one) = (state.for_both, state.for_one);
        let enough = |store: &SuperStore| store.in_both() >= for_both && store.in_one() >= for_one;
        let written = state.store.write_until(enough);
        state.failed = written.clone().err();
        written
    }

    /// Whether both copies hold what was begun under this ticket.
    pub(crate) fn holds(&self, ticket: Ticket) -> bool {
        self.state().store.in_both() >= ticket
    }

    fn finish(&self, ticket: Ticket) -> Result<(), Error> {
        let mut state = self.state();
        while state.store.in_both() < ticket {
            state.check()?;
            let waited = self.0.changed.wait(state);
            state = waited.unwrap_or_else(PoisonError::into_inner);
        }
        Ok(())
    }

    /// Calls `done` once both copies hold what was begun under this ticket: at once if they do, or else on the
    /// superblock's thread.
    pub(crate) fn when(&self, ticket: Ticket, done: Done) {
        let mut state = self.state();
        let told = match &state.failed {
            _ if state.store.in_both() >= ticket => Ok(()),
            Some(error) => Err(error.clone()),
            None => return state.waiting.push((ticket, done)),
        };
        drop(state);
        done(told);
    }

    /// Has what is known of the peers written. `done` is called on the superblock's thread, or on this one if
    /// nothing is written any more.
    pub(crate) fn note_peers(&self, peers: Bytes, done: Done) {
        match self.begin(|block| block.peers = peers) {
            Ok(ticket) => self.when(ticket, done),
            Err(error) => done(Err(error)),
        }
    }

    /// Has the next write take along what is known of the peers; begins none for it.
    pub(crate) fn note_peers_later(&self, peers: Bytes) {
        self.state().store.change(|block| block.peers = peers);
    }

    fn state(&self) -> MutexGuard<'_, DeskState> {
        let state = self.0.state.lock();
        state.unwrap_or_else(PoisonError::into_inner)
    }

    /// The thread: one write of one copy after the other, each with all changes that came before it.
    fn run(&self) {
        let mut state = self.state();
        loop {
            if !state.is_due() {
                if state.closed {
                    return;
                }
                let waited = self.0.changed.wait(state);
                state = waited.unwrap_or_else(PoisonError::into_inner);
                continue;
            }
            let written = match state.store.begin_write() {
                Ok(write) => {
                    drop(state);
                    let written = write.run();
                    state = self.state();
                    state.store.end_write(&write, written)
                }
                Err(error) => Err(error),
            };
            state.failed = written.clone().err();
            let told = state.take_told();
            self.0.changed.notify_all();
            if !told.is_empty() {
                drop(state);
                told.into_iter().for_each(|done| done(written.clone()));
                state = self.state();
            }
        }
    }
}

impl DeskState {
    fn check(&self) -> Result<(), Error> {
        match &self.failed {
            Some(error) => Err(error.clone()),
            None if self.closed => Err(Error::Closed),
            None => Ok(()),
        }
    }

    fn is_due(&self) -> bool {
        let (both, one) = (self.store.in_both(), self.store.in_one());
        self.failed.is_none() && (both < self.for_both || one < self.for_one)
    }

    /// Whom to tell now: those whose state is durable, or all after a failure.
    fn take_told(&mut self) -> Vec<Done> {
        let durable = match self.failed {
            Some(_) => Ticket::MAX,
            None => self.store.in_both(),
        };
        let waiting = std::mem::take(&mut self.waiting);
        let (told, left): (Vec<_>, _) = waiting
            .into_iter()
            .partition(|(ticket, _)| *ticket <= durable);
        self.waiting = left;
        told.into_iter().map(|(_, done)| done).collect()
    }
}
