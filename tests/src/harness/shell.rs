//! A client that speaks nothing but the JSON lines of `holdfast shell`.
//!
//! Each command is sent with a number of its own; a thread reads the answers, in whatever order they
//! come. Every acquire, renew, append, release and abort is noted in the test's history, with the
//! token that the shell must be using.

use std::io::Write;
use std::path::Path;
use std::process::ChildStdin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::{Value, json};

use super::binaries::command;
use super::board::Board;
use super::process::{Lines, Process};
use super::reply::Reply;
use super::words::{DEFAULT_LOCK, acquire_for, append, release};
use crate::history::History;

/// How long an answer may take if a test says nothing else: the 5 s of `--timeout`, and room for a
/// busy machine.
pub const ANSWER_LIMIT: Duration = Duration::from_secs(20);

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

impl Shell {
    /// Starts one.
    pub fn start(
        name: &str,
        endpoints: &str,
        folder: &Path,
        flags: &[&str],
        history: Arc<History>,
    ) -> Shell {
        let mut command = command("holdfast");
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
