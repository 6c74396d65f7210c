//! Tasks of one client that want the same lock: one of them asks the service, the others wait here in the
//! order in which they came.
//!
//! Locks are not reentrant for a session, so without this a second task would be refused, although the lock
//! will be free for it in a moment.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use statemachine::SessionId;
use tokio::sync::OwnedMutexGuard;

/// Below this number of locks in use, lines that ended are not cleared away.
const LINES_MIN: usize = 64;

/// The lines of one client, by lock.
#[derive(Debug, Default)]
pub(crate) struct Lines {
    /// Twice as many as are in use, at most.
    lines: Mutex<HashMap<String, Weak<Line>>>,
}

#[derive(Debug, Default)]
struct Line {
    /// First come, first served.
    turn: Arc<tokio::sync::Mutex<()>>,
    /// The session of the task whose turn it is; 0 if it has none yet.
    session: AtomicU64,
}

/// The right to ask the service for a lock, and to hold it.
#[derive(Debug)]
pub(crate) struct Turn {
    line: Arc<Line>,
    _taken: OwnedMutexGuard<()>,
}

impl Turn {
    /// Says by which session the lock is asked for.
    pub(crate) fn by(&self, session: SessionId) {
        self.line.session.store(session.0, Ordering::Relaxed);
    }
}

impl Lines {
    /// Waits for the turn at a lock.
    pub(crate) async fn wait(&self, lock: &str) -> Turn {
        let line = self.line(lock);
        let taken = line.turn.clone().lock_owned().await;
        Turn {
            line,
            _taken: taken,
        }
    }

    /// As [`Lines::wait`], for so long.
    pub(crate) async fn wait_for(&self, lock: &str, wait: Duration) -> Option<Turn> {
        tokio::time::timeout(wait, self.wait(lock)).await.ok()
    }

    /// The turn at a lock, if nobody has it; else the session of whoever has.
    pub(crate) fn try_take(&self, lock: &str) -> Result<Turn, SessionId> {
        let line = self.line(lock);
        match line.turn.clone().try_lock_owned() {
            Ok(taken) => Ok(Turn {
                line,
                _taken: taken,
            }),
            Err(_) => Err(SessionId(line.session.load(Ordering::Relaxed))),
        }
    }

    fn line(&self, lock: &str) -> Arc<Line> {
        let mut lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(line) = lines.get(lock).and_then(Weak::upgrade) {
            return line;
        }
        if lines.len() >= LINES_MIN && lines.len() == lines.capacity() {
            lines.retain(|_, line| line.strong_count() > 0);
        }
        let line = Arc::new(Line::default());
        lines.insert(lock.to_owned(), Arc::downgrade(&line));
        line
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn first_come_first_served_and_nothing_is_left_behind() {
        let lines = Lines::default();
        let first = lines.wait("a").await;
        first.by(SessionId(3));
        let mut second = Box::pin(lines.wait("a"));
        assert!(futures::poll!(&mut second).is_pending());
        assert_eq!(lines.try_take("a").expect_err("taken"), SessionId(3));
        assert!(lines.wait_for("a", Duration::ZERO).await.is_none());
        drop(first);
        assert!(lines.try_take("a").is_err(), "it is the second's");
        drop(second.await);
        assert!(lines.try_take("a").is_ok());
        for n in 0..1_000 {
            drop(lines.wait(&n.to_string()).await);
        }
        let kept = lines.lines.lock().expect("sound").len();
        assert!(kept < 4 * LINES_MIN, "{kept} lines are kept");
    }
}
