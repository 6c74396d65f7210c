//! How many appends of a session are under way: so many at once, the others in the order of the calls.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use statemachine::Op;
use tokio::sync::oneshot;

use crate::raw::{Call, Session};

/// Under way at once. Below the service's limit for a session.
const TURNS_MAX: usize = 512;

/// Hands out turns.
#[derive(Clone, Debug, Default)]
pub(crate) struct Turns {
    line: Arc<Mutex<Line>>,
}

#[derive(Debug, Default)]
struct Line {
    taken: usize,
    /// Numbered, not sent. As long as the caller makes it.
    waiting: VecDeque<(Call, oneshot::Sender<Turn>)>,
}

/// The right to be under way. Dropped, it sends the next in line.
#[derive(Debug)]
pub(super) struct Turn {
    turns: Turns,
}

impl Turns {
    /// Numbers a call, and sends it now or in its turn.
    pub(super) fn start(
        &self,
        session: &Session,
        op: Op,
    ) -> (Call, impl Future<Output = Option<Turn>> + Send + use<>) {
        let (send, turn) = oneshot::channel();
        let mut line = self.lock();
        let call = session.prepare(op);
        if line.taken < TURNS_MAX && line.waiting.is_empty() {
            line.taken += 1;
            // Within the lock: calls leave in the order of their places.
            call.send();
            let _ = send.send(Turn {
                turns: self.clone(),
            });
        } else {
            line.waiting.push_back((call.clone(), send));
        }
        drop(line);
        (call, async move { turn.await.ok() })
    }

    fn lock(&self) -> MutexGuard<'_, Line> {
        self.line.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let mut line = self.turns.lock();
        while let Some((call, send)) = line.waiting.pop_front() {
            if send.is_closed() {
                // Its driver ended with the runtime; nobody will see it through.
                continue;
            }
            call.send();
            let next = send.send(Turn {
                turns: self.turns.clone(),
            });
            drop(line);
            // Given back all the same: passed on by its own drop.
            drop(next);
            return;
        }
        line.taken -= 1;
    }
}
