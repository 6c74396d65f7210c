//! Calls as clients made them, with the times of question and answer on the test's one clock.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// What a client asked for, as far as the checks care.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Call {
    /// For a lock.
    Acquire,
    /// To extend its lease.
    Renew,
    /// To add `data` to `file` in its section.
    Append {
        /// The file's name.
        file: String,
        /// The bytes.
        data: Vec<u8>,
    },
    /// To apply its section.
    Release,
    /// To discard its section.
    Abort,
}

/// How it was answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Done.
    Done,
    /// Refused with this code, or certainly not done (`unavailable`).
    Refused(String),
    /// Perhaps done; also a call that was never answered.
    Unknown,
}

/// One call.
#[derive(Clone, Debug)]
pub struct Event {
    /// The client's name.
    pub client: String,
    /// The lock it is about.
    pub lock: String,
    /// The token that the call carried, or that a granted acquire got.
    pub token: Option<u64>,
    /// The call.
    pub call: Call,
    /// When it was sent, since the history began.
    pub asked: Duration,
    /// When it was answered; `None` if never.
    pub answered: Option<Duration>,
    /// The answer.
    pub answer: Answer,
}

/// All calls of one test, by any number of clients.
#[derive(Debug)]
pub struct History {
    start: Instant,
    events: Mutex<Vec<Event>>,
}

impl Default for History {
    fn default() -> Self {
        History {
            start: Instant::now(),
            events: Mutex::new(Vec::new()),
        }
    }
}

impl History {
    /// The time of this history.
    pub fn now(&self) -> Duration {
        self.start.elapsed()
    }

    /// Notes a call before it is sent; the number is for [`History::answered`].
    pub fn asked(&self, event: Event) -> usize {
        let mut events = self.lock();
        events.push(event);
        events.len() - 1
    }

    /// Notes the answer to a call. A token in it is that of a grant.
    pub fn answered(&self, number: usize, answer: Answer, token: Option<u64>) {
        let now = self.now();
        if let Some(event) = self.lock().get_mut(number) {
            event.answered = Some(now);
            event.answer = answer;
            event.token = token.or(event.token);
        }
    }

    /// The calls so far, in the order in which they were asked.
    pub fn events(&self) -> Vec<Event> {
        self.lock().clone()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Event>> {
        self.events.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
