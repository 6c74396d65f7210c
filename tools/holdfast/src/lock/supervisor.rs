//! CMD from its start to its end: signals passed on, joiners served, the clock kept in view.

use std::ffi::OsString;

use client::clock::BootTime;
use rustix::process::Signal;
use tokio::signal::unix::{SignalKind, signal};

use super::command::{Change, RunningCommand};
use super::watch::{Act, Watch};
use super::{LOOK_AGAIN, release};
use crate::context::Context;
use crate::exit;
use crate::failure::Failure;
use crate::held::Held;
use crate::section::{self, SectionSocket};
use crate::signals::{Signals, is_ending};

/// Runs CMD while the lock is held, and ends the section as CMD ended.
pub(super) async fn run(
    context: &Context,
    lock: &str,
    held: &Held,
    signals: &mut Signals,
    words: &[OsString],
) -> Result<u8, Failure> {
    let socket = SectionSocket::open(lock)
        .map_err(|error| Failure::local("a socket for appends", &error))?;
    let mut changes =
        signal(SignalKind::child()).map_err(|error| Failure::local("catching signals", &error))?;
    let command = RunningCommand::start(words, &environment(context, lock, held, &socket));
    let command = command.map_err(|error| Failure::local("starting the command", &error))?;
    let mut supervisor = Supervisor {
        held,
        command,
        watch: Watch::new(held.lease()),
        stopped: false,
        told_to_end: false,
    };
    let mut serving = std::pin::pin!(socket.serve(held));
    let code = loop {
        let until = match supervisor.step() {
            Step::Ended(code) => break code,
            Step::Wait(until) => until,
        };
        tokio::select! {
            _ = changes.recv() => {}
            signal = signals.next() => supervisor.pass_on(signal),
            () = held.lost(), if !supervisor.watch.warned() => {}
            () = tokio::time::sleep(until.left(BootTime::now()).min(LOOK_AGAIN)) => {}
            never = &mut serving => never,
        }
    };
    // A joiner that CMD did not wait for may be half way; each append has a deadline of its own.
    while socket.is_appending() {
        tokio::select! {
            () = tokio::time::sleep(std::time::Duration::from_millis(5)) => {}
            never = &mut serving => never,
        }
    }
    supervisor.finish(code, &socket).await
}

fn environment(
    context: &Context,
    lock: &str,
    held: &Held,
    socket: &SectionSocket,
) -> [(&'static str, OsString); 4] {
    let mut sockets = socket.path().into_os_string();
    if let Some(around) = std::env::var_os(section::VARIABLE).filter(|around| !around.is_empty()) {
        sockets.push(":");
        sockets.push(around);
    }
    [
        ("HOLDFAST_LOCK", lock.into()),
        ("HOLDFAST_TOKEN", held.token().0.to_string().into()),
        (
            "HOLDFAST_ENDPOINTS",
            context.link.endpoints().to_string().into(),
        ),
        (section::VARIABLE, sockets),
    ]
}

struct Supervisor<'a> {
    held: &'a Held,
    command: RunningCommand,
    watch: Watch,
    /// CMD was stopped by the terminal and has not been continued.
    stopped: bool,
    /// A signal that asks for an end was passed on.
    told_to_end: bool,
}

enum Step {
    Ended(u8),
    Wait(BootTime),
}

impl Supervisor<'_> {
    /// Looks at CMD, then at the clock, and does what is due.
    fn step(&mut self) -> Step {
        match self.command.poll() {
            Some(Change::Ended(code)) => return Step::Ended(code),
            Some(Change::Stopped) => {
                self.command.stop_along();
                self.stopped = true;
            }
            None => {}
        }
        let now = BootTime::now();
        match self
            .watch
            .act(now, self.held.deadline(), self.held.is_lost())
        {
            Act::WaitUntil(time) => {
                self.resume();
                Step::Wait(time)
            }
            Act::Warn => {
                self.command.signal(Signal::TERM);
                self.stopped = true;
                self.resume();
                Step::Wait(now)
            }
            Act::Kill => {
                self.command.signal(Signal::KILL);
                Step::Wait(now.after(LOOK_AGAIN))
            }
        }
    }

    /// Only after a look at the clock: one who slept through the deadline must not work on.
    fn resume(&mut self) {
        if std::mem::take(&mut self.stopped) {
            self.command.resume();
        }
    }

    fn pass_on(&mut self, signal: Signal) {
        self.told_to_end |= is_ending(signal);
        self.command.signal(signal);
    }

    /// CMD has ended with `code`: applies its section or discards it.
    async fn finish(self, code: u8, socket: &SectionSocket) -> Result<u8, Failure> {
        let lost = self.watch.warned() || self.held.is_lost();
        if lost || self.told_to_end {
            // Whoever CMD left behind in its group works without the lock, or was to end as well.
            self.command.signal(Signal::KILL);
        }
        if lost {
            return Err(self.held.lost_why());
        }
        if code != 0 {
            // The session is closed next, which frees the lock and discards what is pending.
            return Ok(code);
        }
        if socket.is_torn() {
            let message =
                "an append went in only in part or its end is unknown, so the section is discarded";
            return Err(Failure::new("section_torn", message));
        }
        match release(self.held).await {
            Err(failure) if failure.end() != exit::End::Lost && !socket.has_appended() => {
                // There was nothing to apply; the lock ends with the session, or at its deadline.
                warn(&failure);
                Ok(code)
            }
            result => result.map(|()| code),
        }
    }
}

fn warn(failure: &Failure) {
    eprintln!("holdfast: the lock could not be released and ends by itself: {failure}");
}
