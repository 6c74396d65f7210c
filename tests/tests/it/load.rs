//! Clients at work: one section after the other, each append a line that no other repeats.
//!
//! A worker never gives up: it settles what is unknown, opens a new session if its own has ended, and
//! goes on. What it was told stands in the test's history, for the checks at the end.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use serde_json::{Value, json};
use tests::harness::words::DEFAULT_LOCK;
use tests::harness::{Reply, Shell};

/// How long a worker lets one call take. Longer than the replicas are ever away.
const CALL_LIMIT: Duration = Duration::from_secs(15);
/// Longer than that by what the shell and a busy machine need.
const WAIT_LIMIT: Duration = Duration::from_secs(40);
/// How often an unknown outcome is asked for again before the worker leaves it unknown.
const SETTLES_MAX: usize = 3;

/// How a worker behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Manner {
    /// Acquires, appends, releases.
    Normal,
    /// The same, each section in a session of its own.
    ManySessions,
    /// Acquires and appends, and leaves the rest to the lease.
    NeverReleases,
    /// Sleeps past its lease before it releases.
    Sleeps,
}

/// Workers that run until they are stopped.
#[derive(Debug)]
pub(crate) struct Load {
    stop: Arc<AtomicBool>,
    done: Arc<AtomicU64>,
    workers: Vec<JoinHandle<()>>,
}

/// What one worker does, over and over.
#[derive(Clone, Debug)]
pub(crate) struct Job {
    manner: Manner,
    lock: String,
    files: Vec<String>,
}

/// Lines to each file in a section.
const LINES: usize = 2;
/// The lease of those who lose it on purpose.
const SHORT_LEASE_MS: u64 = 1_000;

impl Job {
    /// Sections over the first so many of the coursework's files, all under one lock.
    pub(crate) fn shared(manner: Manner, files: usize) -> Job {
        let files = (0..files).map(|file| format!("file_{file}")).collect();
        Job {
            manner,
            lock: DEFAULT_LOCK.to_owned(),
            files,
        }
    }

    /// Sections over one file under a lock of its own; the file must have been made.
    pub(crate) fn own(manner: Manner, file: &str) -> Job {
        Job {
            manner,
            lock: file.to_owned(),
            files: vec![file.to_owned()],
        }
    }
}

impl Load {
    /// Starts one worker for each shell. Its lines begin with its place in the list.
    pub(crate) fn start<S>(shells: Vec<(S, Job)>) -> Load
    where
        S: std::ops::Deref<Target = Shell> + Send + 'static,
    {
        let (stop, done) = (
            Arc::new(AtomicBool::new(false)),
            Arc::new(AtomicU64::new(0)),
        );
        let workers = shells
            .into_iter()
            .enumerate()
            .map(|(number, (shell, job))| {
                let (stop, done) = (Arc::clone(&stop), Arc::clone(&done));
                std::thread::spawn(move || {
                    let mut worker = Worker::new(number, &shell, job);
                    while !stop.load(Ordering::SeqCst) {
                        done.fetch_add(u64::from(worker.section()), Ordering::SeqCst);
                    }
                })
            })
            .collect();
        Load {
            stop,
            done,
            workers,
        }
    }

    /// Sections acknowledged so far.
    pub(crate) fn done(&self) -> u64 {
        self.done.load(Ordering::SeqCst)
    }

    /// Lets each worker end its section, and waits for them.
    ///
    /// # Panics
    ///
    /// If a worker did.
    pub(crate) fn stop(mut self) {
        self.stop.store(true, Ordering::SeqCst);
        for worker in self.workers.drain(..) {
            worker
                .join()
                .expect("a worker fails only if a call was never answered");
        }
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
    }
}

struct Worker<'a> {
    number: usize,
    shell: &'a Shell,
    job: Job,
    sections: u64,
    /// The name of the session in use; `None` is the shell's first.
    session: Option<String>,
}

impl<'a> Worker<'a> {
    fn new(number: usize, shell: &'a Shell, job: Job) -> Self {
        Worker {
            number,
            shell,
            job,
            sections: 0,
            session: None,
        }
    }

    /// One section; whether it was acknowledged.
    fn section(&mut self) -> bool {
        self.sections += 1;
        if self.job.manner == Manner::ManySessions {
            self.new_session();
        }
        let done = self.acquire() && self.append_all() && self.end();
        if self.job.manner == Manner::ManySessions && self.session.is_some() {
            self.call(json!({"op": "close"}));
        }
        done
    }

    fn acquire(&mut self) -> bool {
        let lease_ms = match self.job.manner {
            Manner::Normal | Manner::ManySessions => json!(null),
            Manner::NeverReleases | Manner::Sleeps => json!(SHORT_LEASE_MS),
        };
        let renew = lease_ms.is_null();
        let reply = self.call(json!(
            {"op": "acquire", "lock": self.job.lock, "lease_ms": lease_ms, "renew": renew}
        ));
        match reply.code() {
            "" => return true,
            "session_expired" => self.new_session(),
            // An acquire left unknown was granted after all, or still waits.
            "already_held" => {
                self.call(json!(
                    {"op": "abort", "lock": self.job.lock, "token": reply.0["token"]}
                ));
            }
            "already_waiting" => self.new_session(),
            _ => {}
        }
        false
    }

    fn append_all(&mut self) -> bool {
        let (number, section) = (self.number, self.sections);
        for file in &self.job.files {
            for line in 0..LINES {
                let data = format!("worker {number} section {section} line {line}\n");
                let reply = self.call(json!(
                    {"op": "append", "file": file, "data": data, "lock": self.job.lock}
                ));
                if !reply.is_done() {
                    // What there is of the section goes; if it is not held any more, it has gone.
                    self.call(json!({"op": "abort", "lock": self.job.lock}));
                    return false;
                }
            }
        }
        true
    }

    /// Ends the section in this worker's manner.
    fn end(&mut self) -> bool {
        match self.job.manner {
            Manner::NeverReleases => {
                self.wait_until_lost();
                false
            }
            Manner::Sleeps => {
                self.wait_until_lost();
                self.release()
            }
            Manner::Normal | Manner::ManySessions => self.release(),
        }
    }

    fn release(&mut self) -> bool {
        self.call(json!({"op": "release", "lock": self.job.lock}))
            .is_done()
    }

    /// The shell sleeps a little longer than the lease; a session that then still holds is no
    /// failure here, because time stands still while nobody leads.
    fn wait_until_lost(&mut self) {
        self.call(json!({"op": "sleep", "ms": SHORT_LEASE_MS + 200}));
    }

    fn new_session(&mut self) {
        let name = format!("s{}", self.sections);
        self.session = None;
        let opened = self.call(json!({"op": "open", "session": name}));
        if opened.is_done() {
            self.session = Some(name);
        }
    }

    /// One call in this worker's session, settled if its outcome is unknown.
    fn call(&self, mut command: Value) -> Reply {
        command["timeout_ms"] = json!(u64::try_from(CALL_LIMIT.as_millis()).expect("short"));
        if let Some(session) = &self.session
            && command.get("session").is_none()
            && command["op"] != "sleep"
        {
            command["session"] = json!(session);
        }
        if command["op"] == "sleep" {
            command
                .as_object_mut()
                .expect("an object")
                .remove("timeout_ms");
        }
        let asked = self.shell.send(command);
        let mut reply = self.shell.wait_within(&asked, WAIT_LIMIT);
        for _ in 0..SETTLES_MAX {
            if reply.code() != "unknown" {
                break;
            }
            reply = self.shell.settle(&asked);
        }
        reply
    }
}
