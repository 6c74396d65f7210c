//! The thread that prepares the next segment before it is needed, and removes files: nobody waits for either.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use super::{Core, lock};

/// Time between two attempts while the disk is full.
const RETRY: Duration = Duration::from_millis(500);

/// Something that may take long.
type Chore = Box<dyn FnOnce(&Core) + Send>;

/// Which segment is wanted next, and what else is to be done.
pub(super) struct Wish {
    state: Mutex<State>,
    changed: Condvar,
}

struct State {
    wanted: u64,
    made: u64,
    /// First in, first out, and before a segment is made: removing gives room.
    chores: VecDeque<Chore>,
    stopped: bool,
}

impl Wish {
    pub(super) fn new(seq: u64) -> Wish {
        let state = State {
            wanted: seq,
            made: 0,
            chores: VecDeque::new(),
            stopped: false,
        };
        Wish {
            state: Mutex::new(state),
            changed: Condvar::new(),
        }
    }

    pub(super) fn want(&self, seq: u64) {
        let mut state = lock(&self.state);
        if state.wanted < seq {
            state.wanted = seq;
            self.changed.notify_one();
        }
    }
}

/// Has the thread do something; on this one if it has stopped.
pub(super) fn run_beside(core: &Core, chore: Chore) {
    let mut state = lock(&core.prepare.state);
    if state.stopped {
        drop(state);
        return chore(core);
    }
    state.chores.push_back(chore);
    core.prepare.changed.notify_one();
}

pub(super) struct Preparer(Option<JoinHandle<()>>);

impl Preparer {
    pub(super) fn start(core: Arc<Core>) -> Preparer {
        let thread = std::thread::Builder::new().name("wal-spare".to_owned());
        let handle = thread
            .spawn(move || run(&core))
            .expect("the machine starts a thread");
        Preparer(Some(handle))
    }

    pub(super) fn stop(&mut self, core: &Core) {
        lock(&core.prepare.state).stopped = true;
        core.prepare.changed.notify_all();
        if let Some(handle) = self.0.take() {
            // A panic of the thread has been printed; there is nothing to add.
            let _ = handle.join();
        }
    }
}

fn run(core: &Core) {
    let wish = &core.prepare;
    let mut state = lock(&wish.state);
    loop {
        if let Some(chore) = state.chores.pop_front() {
            drop(state);
            chore(core);
            state = lock(&wish.state);
            continue;
        }
        if state.stopped {
            return;
        }
        if state.made >= state.wanted {
            state = wish
                .changed
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner);
            continue;
        }
        let wanted = state.wanted;
        drop(state);
        // An error other than a full disk shows again when the writer asks for the segment, and counts there.
        let made = core.spare.prepare(wanted).is_ok();
        state = lock(&wish.state);
        if made {
            state.made = wanted;
        } else if !state.stopped {
            let waited = wish.changed.wait_timeout(state, RETRY);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}
