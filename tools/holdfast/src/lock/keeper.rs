//! The keeper: a process between holdfast and CMD that ends CMD in time, whatever becomes of holdfast.
//!
//! ```text
//! shell ── holdfast lock …    keep-alives, signals, the terminal; may be stopped or killed like any job
//!             │  ▲  orders and reports, see `channel`
//!             ▼  │
//!          holdfast __keep …  a process group of its own: nothing that stops or ends the job reaches it
//!             │
//!          holdfast __launch …  ──exec──►  CMD, again a group of its own, and all that CMD starts
//! ```
//!
//! It holds the deadline as holdfast told it last and acts by itself: a warning a margin before, SIGKILL at it. If
//! holdfast is stopped, no more renewals come, and the deadline stands. If holdfast is gone, CMD is told to end now.
//!
//! The keeper stays in holdfast's session, since only the terminal's own session can use the terminal and be stopped
//! by Ctrl-Z. It is the "subreaper" of all that CMD starts, so that even a daemon that left CMD's group and session is
//! found and ended with it. Should the keeper itself be killed, the kernel kills CMD, and holdfast ends the rest.

use std::collections::{BTreeSet, VecDeque};
use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::Duration;

use client::clock::BootTime;
use rustix::io::Errno;
use rustix::process::{
    Pid, Signal, WaitOptions, WaitStatus, getpid, kill_process, kill_process_group,
    set_child_subreaper, test_kill_process, wait,
};
use tokio::signal::unix::{SignalKind, signal};

use super::channel::{self, End, Heard, Order, Report};
use super::launcher;
use super::sweep::end_descendants;
use super::watch::{Act, Standing, Watch};
use crate::exit;
use crate::output;
use crate::processes::Processes;
use crate::section;
use crate::signals::{self, is_ending};
use crate::timer::BootTimer;

/// The first argument that makes this program a keeper. No verb, so that no help mentions it.
const KEEP: &str = "__keep";

/// What cannot be killed is tried again this often.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// What a keeper is told at its start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Terms {
    /// Until when the lock is held, as known now.
    pub(crate) deadline: BootTime,
    /// From the warning to SIGKILL.
    pub(crate) margin: Duration,
    /// The warning.
    pub(crate) warning: Signal,
    /// CMD gets the terminal from the start.
    pub(crate) foreground: bool,
}

/// Starts a keeper that starts `words`, with `environment` added to that of this process. Returns it with the end of
/// the channel to it.
///
/// # Errors
///
/// Fails if no process can be made. That CMD itself is not there shows as its exit code, 127.
pub(crate) fn start(
    words: &[OsString],
    environment: &[(&str, OsString)],
    terms: Terms,
) -> io::Result<(Child, End)> {
    let (ours, theirs) = channel::pair()?;
    // The keeper's own standard input is the channel, so CMD's travels through it.
    channel::send_file(&ours, io::stdin().as_fd())?;
    let mut command = Command::new(launcher::this_program()?);
    command
        .arg0("holdfast")
        .arg(KEEP)
        .arg(terms.deadline.0.to_string())
        .arg(terms.margin.as_micros().to_string())
        .arg(terms.warning.as_raw().to_string())
        .arg(if terms.foreground { "1" } else { "0" })
        .args(words)
        .envs(environment.iter().map(|(name, value)| (name, value)))
        .stdin(Stdio::from(theirs))
        .process_group(0);
    let child = command.spawn()?;
    Ok((child, End::new(ours)?))
}

/// Acts as a keeper if the arguments after the program's name say so.
pub(crate) fn run_if_asked(arguments: &[OsString]) -> Option<ExitCode> {
    let [verb, deadline, margin, warning, foreground, words @ ..] = arguments else {
        return None;
    };
    if verb != KEEP || words.is_empty() {
        return None;
    }
    let terms = Terms {
        deadline: BootTime(number(deadline)?),
        margin: Duration::from_micros(number(margin)?),
        warning: Signal::from_named_raw(number(warning)?)?,
        foreground: foreground == "1",
    };
    Some(match keep(terms, words) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            output::tell(format_args!("watching over the command: {error}"));
            exit::code(exit::COMMAND_CANNOT_RUN)
        }
    })
}

fn number<T: std::str::FromStr>(text: &OsStr) -> Option<T> {
    text.to_str()?.parse().ok()
}

fn keep(terms: Terms, words: &[OsString]) -> io::Result<()> {
    let stdin = io::stdin();
    let end = stdin.as_fd().try_clone_to_owned()?;
    let input = channel::receive_file(end.as_fd())?;
    set_child_subreaper(Some(getpid()))?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        shrug_off_signals()?;
        let changes = signal(SignalKind::child())?;
        let mut command = launcher::command(words, terms.foreground)?;
        let child = command.stdin(Stdio::from(input)).spawn()?;
        // Both hold CMD's standard input, whose other end would wait for it to be closed.
        drop(command);
        let command = Pid::from_child(&child);
        let keeper = Keeper {
            end: End::new(end)?,
            timer: BootTimer::new()?,
            command,
            watch: Watch::new(terms.margin),
            warning: terms.warning,
            standing: Standing::Held(terms.deadline),
            told_to_end: false,
            out_of_reach: BTreeSet::new(),
            changes: VecDeque::new(),
            ended: false,
        };
        keeper.run(changes).await;
        Ok(())
    })
}

/// A keeper ends when CMD does, and not by a signal that a service manager sends to everything. Handlers, unlike
/// ignoring, are gone after `exec`, so that CMD starts with what holdfast was started with.
fn shrug_off_signals() -> io::Result<()> {
    let ignored = signals::Ignored::now();
    let stops = [Signal::TSTP, Signal::TTIN, Signal::TTOU];
    for shrugged in signals::PASSED_ON.into_iter().chain(stops) {
        if !ignored.has(shrugged) {
            // The handler outlives what would tell of its calls.
            drop(signal(SignalKind::from_raw(shrugged.as_raw()))?);
        }
    }
    Ok(())
}

struct Keeper {
    end: End,
    timer: BootTimer,
    command: Pid,
    watch: Watch,
    warning: Signal,
    standing: Standing,
    /// A signal that asks for an end was passed on.
    told_to_end: bool,
    /// Processes that could not be signalled, and were reported.
    out_of_reach: BTreeSet<i32>,
    /// What was learned of CMD and not told yet.
    changes: VecDeque<Change>,
    /// CMD has ended and its process id may belong to another.
    ended: bool,
}

/// How CMD ended, and its stop, as the kernel tells it.
enum Change {
    Stopped(i32),
    Ended(Report),
}

impl Keeper {
    async fn run(mut self, mut changes: tokio::signal::unix::Signal) {
        self.end.tell(Report::Started(raw(self.command)));
        loop {
            while let Some(change) = self.reap() {
                match change {
                    Change::Stopped(signal) => _ = self.end.tell(Report::Stopped(signal)),
                    Change::Ended(report) => return self.finish(report),
                }
            }
            // Renewals that have arrived count before the clock does.
            self.listen();
            let now = BootTime::now();
            let until = match self.watch.act(now, self.standing) {
                Act::WaitUntil(time) => time,
                Act::Warn => {
                    self.warn();
                    continue;
                }
                Act::Kill => {
                    self.kill_all();
                    if !self.changes.is_empty() {
                        continue;
                    }
                    now.after(LOOK_AGAIN)
                }
            };
            tokio::select! {
                _ = changes.recv() => {}
                () = self.end.readable(), if !matches!(self.standing, Standing::Forsaken(_)) => {}
                () = self.timer.until(until) => {}
            }
        }
    }

    /// Takes in all orders that are there.
    fn listen(&mut self) {
        loop {
            match (self.end.hear_now(), self.standing) {
                (Heard::Nothing, _) | (Heard::End, Standing::Forsaken(_) | Standing::Taken) => {
                    return;
                }
                (Heard::End, Standing::Held(deadline)) => {
                    self.standing = Standing::Forsaken(deadline);
                    return;
                }
                (Heard::Message(Order::HeldUntil(deadline)), Standing::Held(_)) => {
                    self.standing = Standing::Held(deadline);
                }
                (Heard::Message(Order::HeldUntil(_)), _) => {}
                (Heard::Message(Order::Lost), _) => self.standing = Standing::Taken,
                (Heard::Message(Order::PassOn(signal)), _) => self.pass_on(signal),
            }
        }
    }

    fn pass_on(&mut self, signal: i32) {
        if let Some(signal) = Signal::from_named_raw(signal) {
            self.told_to_end |= is_ending(signal);
            _ = kill_process_group(self.command, signal);
            self.report_out_of_reach(&Processes::read());
        }
    }

    /// Tells CMD and all that it started to end. A stopped one is continued, or it could not tidy up; it runs in the
    /// time that the lock is still held.
    fn warn(&mut self) {
        let processes = Processes::read();
        for signal in [self.warning, Signal::CONT] {
            _ = kill_process_group(self.command, signal);
            for pid in self.outside_of_the_group(&processes) {
                _ = kill_process(pid, signal);
            }
        }
        self.end.tell(Report::Warned);
        self.report_out_of_reach(&processes);
    }

    fn outside_of_the_group(&self, processes: &Processes) -> Vec<Pid> {
        let mut found = processes.descendants(getpid());
        found.retain(|&pid| !processes.is_in(pid, self.command));
        found
    }

    /// Kills CMD and all that it started, until nothing is left that can be killed.
    fn kill_all(&mut self) {
        if !self.ended {
            // All at once, since its members may be making more.
            _ = kill_process_group(self.command, Signal::KILL);
        }
        end_descendants(|pid, status| self.note(pid, status));
        self.report_out_of_reach(&Processes::read());
    }

    fn report_out_of_reach(&mut self, processes: &Processes) {
        for pid in processes.descendants(getpid()) {
            let refused = test_kill_process(pid) == Err(Errno::PERM);
            if refused && self.out_of_reach.insert(raw(pid)) {
                self.end.tell(Report::OutOfReach(raw(pid)));
            }
        }
    }

    /// What happened to CMD since the last time. Takes leave of all others that ended.
    fn reap(&mut self) -> Option<Change> {
        let options = WaitOptions::NOHANG | WaitOptions::UNTRACED;
        while self.changes.is_empty()
            && let Ok(Some((pid, status))) = wait(options)
        {
            self.note(pid, status);
        }
        self.changes.pop_front()
    }

    fn note(&mut self, pid: Pid, status: WaitStatus) {
        if pid == self.command
            && let Some(change) = change(status)
        {
            self.ended |= matches!(change, Change::Ended(_));
            self.changes.push_back(change);
        }
    }

    /// CMD has ended. What it left behind may stay if it ended by itself, as under any other program that runs
    /// commands; not if the lock is gone, or if CMD was told to end or was killed, and so may have left its work undone.
    fn finish(mut self, report: Report) {
        self.listen();
        let by_itself = matches!(report, Report::Exited(_))
            && matches!(self.standing, Standing::Held(_))
            && !self.watch.warned()
            && !self.told_to_end;
        if !by_itself {
            self.kill_all();
        }
        if matches!(self.standing, Standing::Forsaken(_)) {
            section::remove_left_behind();
        }
        self.end.tell(report);
    }
}

fn change(status: WaitStatus) -> Option<Change> {
    if let Some(code) = status.exit_status() {
        // An exit status is one byte; the kernel keeps no more.
        return Some(Change::Ended(Report::Exited(code as u8)));
    }
    if let Some(signal) = status.terminating_signal() {
        return Some(Change::Ended(Report::Killed(signal)));
    }
    Some(Change::Stopped(status.stopping_signal()?))
}

fn raw(pid: Pid) -> i32 {
    pid.as_raw_nonzero().get()
}
