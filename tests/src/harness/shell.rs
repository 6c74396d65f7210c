//! A client that speaks nothing but the JSON lines of `holdfast shell`.
//!
//! Each command is sent with a number of its own; a thread reads the answers, in whatever order they
//! come. Every acquire, renew, append, release and abort is noted in the test's history, with the
//! token that the shell must be using.

use std::collections::{BTreeMap, VecDeque};
use std::io::Write;
use std::path::Path;
use std::process::{ChildStdin, Command};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::{Value, json};

use super::binaries::program;
use super::process::{Lines, Process};
use crate::history::{Answer, Call, Event, History};

/// How long an answer may take if a test says nothing else: the 5 s of `--timeout`, and room for a
/// busy machine.
pub const ANSWER_LIMIT: Duration = Duration::from_secs(20);
/// Lines of conversation that a failed test shows.
const TAIL_LINES: usize = 30;
/// The lock of the coursework.
pub const DEFAULT_LOCK: &str = "default";

/// A running `holdfast shell`. Killed when dropped.
#[derive(Debug)]
pub struct Shell {
    name: String,
    process: Process,
    stdin: Mutex<Option<ChildStdin>>,
    board: Arc<Board>,
    history: Arc<History>,
}

/// A command that was sent.
#[derive(Debug)]
#[must_use = "ask for its answer"]
pub struct Asked {
    id: u64,
    text: String,
}

/// One answer.
#[derive(Clone, Debug, PartialEq)]
pub struct Reply(pub Value);

/// Where answers are pinned until somebody asks for them.
#[derive(Debug, Default)]
struct Board {
    state: Mutex<Pinned>,
    moved: Condvar,
}

#[derive(Debug, Default)]
struct Pinned {
    next_id: u64,
    replies: BTreeMap<u64, Reply>,
    events: Vec<Value>,
    /// Calls in flight or settled, by command number: their number in the history.
    noted: BTreeMap<u64, Noted>,
    /// What a `settle` asks about.
    settles: BTreeMap<u64, u64>,
    /// The tokens that the shell remembers, by session and lock.
    tokens: BTreeMap<(String, String), u64>,
    tail: VecDeque<String>,
    ended: bool,
}

#[derive(Clone, Debug)]
struct Noted {
    event: usize,
    session: String,
    lock: String,
    acquire: bool,
}

impl Shell {
    /// Starts one.
    pub fn start(
        name: &str,
        endpoints: &str,
        folder: &Path,
        flags: &[&str],
        history: Arc<History>,
    ) -> Shell {
        let mut command = Command::new(program("holdfast"));
        command
            .args(["--endpoints", endpoints, "--name", name, "shell"])
            .args(flags);
        let process = Process::spawn(&format!("shell-{name}"), &mut command, folder);
        Shell::over(name, process, history)
    }

    /// Speaks to a process that was started already.
    pub(super) fn over(name: &str, mut process: Process, history: Arc<History>) -> Shell {
        let stdin = Mutex::new(process.take_stdin());
        let board = Arc::new(Board::default());
        let (sink, lines, notes) = (Arc::clone(&board), process.stdout(), Arc::clone(&history));
        std::thread::spawn(move || sink.read(&lines, &notes));
        Shell {
            name: name.to_owned(),
            process,
            stdin,
            board,
            history,
        }
    }

    /// Sends a command; the number is added.
    ///
    /// # Panics
    ///
    /// If the shell is gone.
    pub fn send(&self, mut command: Value) -> Asked {
        let (id, text) = {
            let mut pinned = self.board.lock();
            pinned.next_id += 1;
            let id = pinned.next_id;
            command["id"] = json!(id);
            pinned.note(id, &self.name, &command, &self.history);
            let text = command.to_string();
            pinned.say(&self.history, ">", &text);
            (id, text)
        };
        self.write(&format!("{text}\n"));
        Asked { id, text }
    }

    /// Writes raw text to the shell's standard input.
    ///
    /// # Panics
    ///
    /// If the shell is gone.
    pub fn write(&self, text: &str) {
        let mut stdin = self.stdin.lock().unwrap_or_else(PoisonError::into_inner);
        let pipe = stdin.as_mut().expect("standard input is open");
        if let Err(error) = pipe.write_all(text.as_bytes()) {
            panic!("shell {} does not read: {error}", self.name);
        }
    }

    /// The answer to a command, if it comes within `limit`.
    pub fn try_wait(&self, asked: &Asked, limit: Duration) -> Option<Reply> {
        let deadline = Instant::now() + limit;
        let mut pinned = self.board.lock();
        loop {
            if let Some(reply) = pinned.replies.get(&asked.id) {
                return Some(reply.clone());
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() || pinned.ended {
                return None;
            }
            let waited = self.board.moved.wait_timeout(pinned, left);
            pinned = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// The answer to a command.
    ///
    /// # Panics
    ///
    /// If none comes within `limit`: no call is without an answer past its deadline.
    pub fn wait_within(&self, asked: &Asked, limit: Duration) -> Reply {
        self.try_wait(asked, limit)
            .unwrap_or_else(|| panic!("{}: no answer in {limit:?} to {}", self.name, asked.text))
    }

    /// The answer to a command, within [`ANSWER_LIMIT`].
    pub fn wait(&self, asked: &Asked) -> Reply {
        self.wait_within(asked, ANSWER_LIMIT)
    }

    /// Whether a command has been answered.
    pub fn is_answered(&self, asked: &Asked) -> bool {
        self.board.lock().replies.contains_key(&asked.id)
    }

    /// Sends a command and waits for its answer.
    pub fn ask(&self, command: Value) -> Reply {
        let asked = self.send(command);
        self.wait(&asked)
    }

    /// Sends a command, waits, and asserts success.
    pub fn done(&self, command: Value) -> Reply {
        let text = command.to_string();
        self.ask(command).done(&text)
    }

    /// Sends a command, waits, and asserts that it is refused with this code.
    pub fn refused(&self, command: Value, code: &str) -> Reply {
        let text = command.to_string();
        self.ask(command).refused(&text, code)
    }

    /// Repeats a command whose answer was unknown, and waits for its first answer.
    pub fn settle(&self, asked: &Asked) -> Reply {
        self.ask(json!({"op": "settle", "of": asked.id}))
    }

    /// Ends the wait of an acquire.
    pub fn cancel(&self, asked: &Asked) -> Reply {
        self.ask(json!({"op": "cancel", "of": asked.id}))
    }

    // --- the words of the coursework, on the lock `default` ---

    /// `acquire default`, waiting for as long as it takes; the token.
    pub fn acquire(&self) -> u64 {
        self.done(json!({"op": "acquire", "lock": DEFAULT_LOCK}))
            .token()
    }

    /// `acquire default` with a lease that nothing but appends and `renew` extends; the token.
    pub fn acquire_for(&self, lease: Duration) -> u64 {
        self.done(acquire_for(lease)).token()
    }

    /// `acquire default` beside the rest.
    pub fn acquire_beside(&self) -> Asked {
        self.send(json!({"op": "acquire", "lock": DEFAULT_LOCK, "bg": true}))
    }

    /// Appends, and asserts success.
    pub fn append(&self, file: &str, data: &str) -> Reply {
        self.done(append(file, data))
    }

    /// Releases, and asserts success.
    pub fn release(&self) -> Reply {
        self.done(release())
    }

    /// A whole section: acquire, appends, release.
    pub fn section(&self, appends: &[(&str, &str)]) {
        self.acquire();
        for (file, data) in appends {
            self.append(file, data);
        }
        self.release();
    }

    // --- reads ---

    /// Asserts what a linearizable `cat` says.
    pub fn assert_cat(&self, file: &str, expected: &str) {
        let reply = self.done(json!({"op": "cat", "file": file}));
        assert_eq!(reply.data(), expected, "cat {file}");
    }

    /// Asserts what one replica says of its own state.
    pub fn assert_stale_cat(&self, id: u16, file: &str, expected: &str) {
        let command = json!({"op": "cat", "file": file, "endpoint": id.to_string(), "stale": true});
        let reply = self.done(command);
        assert_eq!(reply.data(), expected, "cat {file} of replica {id} alone");
    }

    /// Waits until `waiters` wait for the lock `default`.
    pub fn wait_for_queue(&self, waiters: usize) {
        let what = format!("{waiters} in the queue");
        super::patience::wait_for(&what, ANSWER_LIMIT, || {
            let reply = self.ask(json!({"op": "lock_status", "lock": DEFAULT_LOCK}));
            reply.0["queue"]
                .as_array()
                .is_some_and(|queue| queue.len() == waiters)
        });
    }

    // --- the process ---

    /// `kill -9`: nothing is closed.
    pub fn kill(&mut self) {
        self.process.kill();
    }

    /// A signal.
    pub fn signal(&mut self, signal: Signal) {
        self.process.signal(signal);
    }

    /// Ends its input and waits for its end; the exit code.
    pub fn finish(&mut self) -> Option<i32> {
        drop(
            self.stdin
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .take(),
        );
        self.process.exit_code(ANSWER_LIMIT)
    }

    /// Lines of its standard output so far, in order.
    pub fn output(&self) -> Vec<String> {
        self.process.stdout().all()
    }

    /// Its standard output so far and to come.
    pub fn output_lines(&self) -> Arc<Lines> {
        self.process.stdout()
    }

    /// Lines with `event`.
    pub fn events(&self) -> Vec<Value> {
        self.board.lock().events.clone()
    }
}

impl Drop for Shell {
    fn drop(&mut self) {
        self.process.kill();
        if std::thread::panicking() {
            let tail: Vec<String> = self.board.lock().tail.iter().cloned().collect();
            eprintln!("--- conversation of {}\n{}\n", self.name, tail.join("\n"));
        }
    }
}

/// An append, as a command.
pub fn append(file: &str, data: &str) -> Value {
    json!({"op": "append", "file": file, "data": data, "lock": DEFAULT_LOCK})
}

/// A release of `default`, as a command.
pub fn release() -> Value {
    json!({"op": "release", "lock": DEFAULT_LOCK})
}

/// An acquire of `default` whose lease only appends and `renew` extend, as a command.
pub fn acquire_for(lease: Duration) -> Value {
    let lease_ms = u64::try_from(lease.as_millis()).expect("a lease of a day at most");
    json!({"op": "acquire", "lock": DEFAULT_LOCK, "lease_ms": lease_ms, "renew": false})
}

/// The same command, run beside the rest.
pub fn beside(mut command: Value) -> Value {
    command["bg"] = json!(true);
    command
}

impl Reply {
    /// Whether it is a success.
    pub fn is_done(&self) -> bool {
        self.0["ok"] == true
    }

    /// The code of a refusal; empty for a success.
    pub fn code(&self) -> &str {
        self.0["code"].as_str().unwrap_or_default()
    }

    /// The coursework's return code.
    pub fn rc(&self) -> u64 {
        self.0["rc"].as_u64().unwrap_or(u64::MAX)
    }

    /// The token of a grant.
    pub fn token(&self) -> u64 {
        self.number("token")
    }

    /// The slot of a release.
    pub fn slot(&self) -> u64 {
        self.number("slot")
    }

    /// What `cat` read.
    pub fn data(&self) -> &str {
        self.0["data"]
            .as_str()
            .unwrap_or_else(|| panic!("an answer with data: {}", self.0))
    }

    fn number(&self, field: &str) -> u64 {
        self.0[field]
            .as_u64()
            .unwrap_or_else(|| panic!("an answer with {field}: {}", self.0))
    }

    /// Asserts success of `command`.
    ///
    /// # Panics
    ///
    /// If it is none.
    #[track_caller]
    pub fn done(self, command: &str) -> Reply {
        assert!(
            self.is_done() && self.rc() == 0,
            "{command}\n  expected success, got {}",
            self.0
        );
        self
    }

    /// Asserts that `command` is refused with this code, and with the return code that belongs to
    /// it (`semantics.md`, section 5).
    ///
    /// # Panics
    ///
    /// If it is not.
    #[track_caller]
    pub fn refused(self, command: &str, code: &str) -> Reply {
        let rc = return_code(code);
        assert!(
            self.0["ok"] == false && self.code() == code && self.rc() == rc,
            "{command}\n  expected {code} (rc {rc}), got {}",
            self.0
        );
        assert!(
            self.0["message"].is_string(),
            "a refusal has a message: {}",
            self.0
        );
        self
    }
}

fn return_code(code: &str) -> u64 {
    match code {
        "no_such_file" => 1,
        "not_held" | "session_expired" => 2,
        "busy" | "wait_timed_out" => 3,
        "unavailable" | "not_leader" => 5,
        "unknown" => 6,
        _ => 4,
    }
}

impl Board {
    fn lock(&self) -> MutexGuard<'_, Pinned> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads lines until the shell ends.
    fn read(&self, lines: &Lines, history: &History) {
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
    fn say(&mut self, history: &History, arrow: &str, text: &str) {
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
    fn note(&mut self, id: u64, client: &str, command: &Value, history: &History) {
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
