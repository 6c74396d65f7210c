//! Where a shell's answers are pinned until somebody asks for them, and noted in the history.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::process::Lines;
use super::reply::Reply;
use super::words::DEFAULT_LOCK;
use crate::history::{Answer, Call, Event, History};

/// Lines of conversation that a failed test shows.
const TAIL_LINES: usize = 30;

/// Where answers are pinned until somebody asks for them.
#[derive(Debug, Default)]
pub(super) struct Board {
    pub(super) state: Mutex<Pinned>,
    pub(super) moved: Condvar,
}

#[derive(Debug, Default)]
pub(super) struct Pinned {
    pub(super) next_id: u64,
    pub(super) replies: BTreeMap<u64, Reply>,
    pub(super) events: Vec<Value>,
    /// Calls in flight or settled, by command number: their number in the history.
    noted: BTreeMap<u64, Noted>,
    /// What a `settle` asks about.
    settles: BTreeMap<u64, u64>,
    /// The tokens that the shell remembers, by session and lock.
    tokens: BTreeMap<(String, String), u64>,
    pub(super) tail: VecDeque<String>,
    pub(super) ended: bool,
}

#[derive(Clone, Debug)]
struct Noted {
    event: usize,
    session: String,
    lock: String,
    acquire: bool,
}

impl Board {
    pub(super) fn lock(&self) -> MutexGuard<'_, Pinned> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads lines until the shell ends.
    pub(super) fn read(&self, lines: &Lines, history: &History) {
        let far = Instant::now() + Duration::from_secs(24 * 3600);
        for number in 0.. {
            let Some(line) = lines.wait_line(number, far) else {
                break;
            };
            let mut pinned = self.lock();
            pinned.say(history, "<", &line);
            match serde_json::from_str::<Value>(&line) {
                Ok(value) if value.get("event").is_some() => pinned.events.push(value),
                Ok(value) => pinned.pin(Reply(value), history),
                // Words for people; tests of those read the output itself.
                Err(_) => {}
            }
            drop(pinned);
            self.moved.notify_all();
        }
        self.lock().ended = true;
        self.moved.notify_all();
    }
}

impl Pinned {
    pub(super) fn say(&mut self, history: &History, arrow: &str, text: &str) {
        const SHOWN: usize = 300;
        if self.tail.len() == TAIL_LINES {
            self.tail.pop_front();
        }
        let text: String = text.chars().take(SHOWN).collect();
        self.tail.push_back(format!(
            "{:9.3} s {arrow} {text}",
            history.now().as_secs_f64()
        ));
    }

    /// Puts a command that is about to be sent into the history, if it is one for it.
    pub(super) fn note(&mut self, id: u64, client: &str, command: &Value, history: &History) {
        let word = |field: &str| command[field].as_str().map(str::to_owned);
        let call = match command["op"].as_str() {
            Some("acquire") => Call::Acquire,
            Some("renew") => Call::Renew,
            Some("append") => Call::Append {
                file: word("file").unwrap_or_default(),
                data: word("data").unwrap_or_default().into_bytes(),
            },
            Some("release") => Call::Release,
            Some("abort") => Call::Abort,
            Some("settle") => {
                self.settles
                    .extend(command["of"].as_u64().map(|of| (id, of)));
                return;
            }
            _ => return,
        };
        let session = word("session").unwrap_or_default();
        let lock = word("lock").unwrap_or_else(|| DEFAULT_LOCK.to_owned());
        let acquire = call == Call::Acquire;
        let remembered = self.tokens.get(&(session.clone(), lock.clone())).copied();
        let token = command["token"]
            .as_u64()
            .or(remembered)
            .filter(|_| !acquire);
        let event = history.asked(Event {
            client: client.to_owned(),
            lock: lock.clone(),
            token,
            call,
            asked: history.now(),
            answered: None,
            answer: Answer::Unknown,
        });
        self.noted.insert(
            id,
            Noted {
                event,
                session,
                lock,
                acquire,
            },
        );
    }

    /// Pins an answer and completes its call in the history.
    fn pin(&mut self, reply: Reply, history: &History) {
        let Some(id) = reply.0["id"].as_u64() else {
            return;
        };
        let about = self.settles.get(&id).copied().unwrap_or(id);
        if let Some(noted) = self.noted.get(&about).cloned() {
            let answer = match (reply.is_done(), reply.code()) {
                (true, _) => Answer::Done,
                (false, "unknown") => Answer::Unknown,
                (false, code) => Answer::Refused(code.to_owned()),
            };
            let granted = reply.0["token"]
                .as_u64()
                .filter(|_| noted.acquire && reply.is_done());
            if let Some(token) = granted {
                self.tokens.insert((noted.session, noted.lock), token);
            }
            history.answered(noted.event, answer, granted);
        }
        self.replies.insert(id, reply);
    }
}
