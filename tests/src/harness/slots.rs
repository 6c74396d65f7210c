//! How many clusters may run at a time: each is several processes that sync to one disk, and the
//! timeouts under test are those of production.

use std::sync::{Condvar, Mutex, PoisonError};

/// Clusters at a time.
const CLUSTERS_MAX: usize = 2;

static RUNNING: Mutex<usize> = Mutex::new(0);
static ENDED: Condvar = Condvar::new();

/// The right to run one cluster; given back when dropped.
#[derive(Debug)]
pub struct Slot(());

impl Slot {
    /// Waits for a free one.
    pub fn take() -> Slot {
        let mut running = RUNNING.lock().unwrap_or_else(PoisonError::into_inner);
        while *running >= CLUSTERS_MAX {
            running = ENDED.wait(running).unwrap_or_else(PoisonError::into_inner);
        }
        *running += 1;
        Slot(())
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        *RUNNING.lock().unwrap_or_else(PoisonError::into_inner) -= 1;
        ENDED.notify_one();
    }
}
