//! The thread that prepares the next segment before it is needed.

use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use super::{Core, lock};

/// Time between two attempts while the disk is full.
const RETRY: Duration = Duration::from_millis(500);

/// Which segment is wanted next.
pub(super) struct Wish {
    state: Mutex<State>,
    changed: Condvar,
}

struct State {
    wanted: u64,
    made: u64,
    stopped: bool,
}

impl Wish {
    pub(super) fn new(seq: u64) -> Wish {
        let state = State {
            wanted: seq,
            made: 0,
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
    while !state.stopped {
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
