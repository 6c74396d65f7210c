//! One child process: its signals, its two outputs, its end.
//!
//! Standard output is read line by line by a thread, so that the child never blocks on it; standard
//! error goes to a file, whose tail is shown when the test fails.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use super::patience::until;

/// Lines of a log that a failed test shows.
const TAIL_LINES: usize = 25;

/// A child process. Killed when dropped.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    stdin: Option<ChildStdin>,
    stdout: Arc<Lines>,
    stderr: PathBuf,
}

/// What a child has written to its standard output so far.
#[derive(Debug, Default)]
pub struct Lines {
    seen: Mutex<Seen>,
    moved: Condvar,
}

#[derive(Debug, Default)]
struct Seen {
    lines: Vec<String>,
    ended: bool,
}

impl Process {
    /// Starts `command`; its standard error is added to `folder/NAME.stderr`.
    ///
    /// # Panics
    ///
    /// If it cannot be started.
    pub fn spawn(name: &str, command: &mut Command, folder: &Path) -> Process {
        let stderr = folder.join(format!("{name}.stderr"));
        let log = std::fs::File::options()
            .create(true)
            .append(true)
            .open(&stderr)
            .expect("the test's folder takes a log file");
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .unwrap_or_else(|error| panic!("cannot start {command:?}: {error}"));
        let stdin = child.stdin.take();
        let stdout = Arc::new(Lines::default());
        let pipe = child.stdout.take().expect("standard output is piped");
        let sink = Arc::clone(&stdout);
        std::thread::spawn(move || sink.fill(BufReader::new(pipe)));
        Process {
            name: name.to_owned(),
            child,
            stdin,
            stdout,
            stderr,
        }
    }

    /// The process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Its standard input, once: whoever takes it may close it.
    pub fn take_stdin(&mut self) -> Option<ChildStdin> {
        self.stdin.take()
    }

    /// Its standard output so far and to come.
    pub fn stdout(&self) -> Arc<Lines> {
        Arc::clone(&self.stdout)
    }

    /// All that it has written to standard error.
    pub fn stderr(&self) -> String {
        let bytes = std::fs::read(&self.stderr).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// The last lines of standard error, with a title.
    pub fn stderr_tail(&self) -> String {
        let text = self.stderr();
        let lines: Vec<&str> = text.lines().collect();
        let tail = &lines[lines.len().saturating_sub(TAIL_LINES)..];
        format!("--- standard error of {}\n{}\n", self.name, tail.join("\n"))
    }

    /// Sends a signal; to an ended process, none.
    pub fn signal(&mut self, signal: Signal) {
        if self.exited().is_some() {
            return;
        }
        let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw);
        kill_process(pid.expect("a child has a process id"), signal)
            .unwrap_or_else(|error| panic!("cannot signal {}: {error}", self.name));
    }

    /// `kill -9`, and waits until it is gone.
    pub fn kill(&mut self) {
        // A process that has just ended by itself is as dead.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// How it ended, if it has.
    pub fn exited(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().expect("a child can be waited for")
    }

    /// Waits for it to end by itself.
    ///
    /// # Panics
    ///
    /// If it runs on beyond `limit`.
    pub fn wait_exit(&mut self, limit: Duration) -> ExitStatus {
        let what = format!("the end of {}", self.name);
        until(&what, limit, || self.exited())
    }

    /// Waits for its end and returns its exit code; `None` if a signal ended it.
    ///
    /// # Panics
    ///
    /// If it runs on beyond `limit`.
    pub fn exit_code(&mut self, limit: Duration) -> Option<i32> {
        self.wait_exit(limit).code()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
        if std::thread::panicking() {
            eprintln!("{}", self.stderr_tail());
        }
    }
}

impl Lines {
    fn fill(&self, reader: impl BufRead) {
        for line in reader.lines() {
            let Ok(line) = line else { break };
            self.lock().lines.push(line);
            self.moved.notify_all();
        }
        self.lock().ended = true;
        self.moved.notify_all();
    }

    /// All lines so far.
    pub fn all(&self) -> Vec<String> {
        self.lock().lines.clone()
    }

    /// The line of that number, from 0. `None` if the output ended or the deadline passed first.
    pub fn wait_line(&self, number: usize, deadline: Instant) -> Option<String> {
        let mut seen = self.lock();
        loop {
            if let Some(line) = seen.lines.get(number) {
                return Some(line.clone());
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if seen.ended || left.is_zero() {
                return None;
            }
            seen = self
                .moved
                .wait_timeout(seen, left)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
