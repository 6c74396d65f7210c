//! The time in which results count, and what was counted in it.

use std::cell::{Cell, RefCell};
use std::time::Duration;

use tokio::sync::Notify;

use crate::latency::CycleTimes;

/// Shared by all clients of a run.
pub(crate) struct Window {
    open: Cell<bool>,
    over: Cell<bool>,
    done: Cell<u64>,
    failed: Cell<u64>,
    /// Stops the run once so many are done.
    limit: Option<u64>,
    pub(crate) times: RefCell<CycleTimes>,
    full: Notify,
}

impl Window {
    pub(crate) fn new(limit: Option<u64>) -> Self {
        Window {
            open: Cell::new(false),
            over: Cell::new(false),
            done: Cell::new(0),
            failed: Cell::new(0),
            limit,
            times: RefCell::new(CycleTimes::new()),
            full: Notify::new(),
        }
    }

    /// From now on results count.
    pub(crate) fn open(&self) {
        self.open.set(true);
    }

    /// From now on they do not, and clients come to an end.
    pub(crate) fn close(&self) {
        self.open.set(false);
        self.over.set(true);
    }

    pub(crate) fn is_over(&self) -> bool {
        self.over.get()
    }

    /// One cycle, or append, is done; `record` keeps its times.
    pub(crate) fn done(&self, record: impl FnOnce(&mut CycleTimes)) {
        if !self.open.get() {
            return;
        }
        record(&mut self.times.borrow_mut());
        self.done.set(self.done.get() + 1);
        if self.limit.is_some_and(|limit| self.done.get() >= limit) {
            self.open.set(false);
            self.full.notify_one();
        }
    }

    pub(crate) fn failed(&self) {
        if self.open.get() {
            self.failed.set(self.failed.get() + 1);
        }
    }

    pub(crate) fn counts(&self) -> (u64, u64) {
        (self.done.get(), self.failed.get())
    }

    /// Waits until the limit is reached, or for `duration` if there is none.
    pub(crate) async fn filled(&self, duration: Duration) {
        match self.limit {
            Some(_) => self.full.notified().await,
            None => tokio::time::sleep(duration).await,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_ends_inside_counts() {
        let window = Window::new(None);
        window.done(|_| ());
        window.failed();
        window.open();
        window.done(|times| times.cycle.record(Duration::from_micros(5)));
        window.failed();
        window.close();
        window.done(|_| ());
        assert_eq!(window.counts(), (1, 1));
        assert!(window.is_over());
        assert_eq!(
            window
                .times
                .borrow()
                .cycle
                .percentiles()
                .map(|it| it.p50_us),
            Some(5)
        );
    }

    #[test]
    fn a_limit_closes_it() {
        let window = Window::new(Some(2));
        window.open();
        (0..5).for_each(|_| window.done(|_| ()));
        assert_eq!(window.counts(), (2, 0));
    }
}
