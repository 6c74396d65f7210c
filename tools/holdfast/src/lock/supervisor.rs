//! CMD from its start to its end: signals passed on, joiners served, the keeper told of each renewal.
//!
//! The keeper ends CMD in time. Only if it does not, because somebody has stopped it, does holdfast do so itself.

use std::ffi::OsString;
use std::time::Duration;

use client::LostWhy;
use client::clock::BootTime;
use rustix::process::Signal;
use statemachine::NotHeldWhy;

use super::channel::Report;
use super::command::{RunningCommand, Stop};
use super::keeper::Terms;
use super::{LOOK_AGAIN, release, watch};
use crate::context::Context;
use crate::exit::{self, End};
use crate::failure::Failure;
use crate::held::Held;
use crate::section::{self, SectionSocket};
use crate::signals::{self, Signals, is_ending};
use crate::timer::BootTimer;

/// How long after CMD should be gone holdfast waits for the keeper to see to it.
const KEEPER_PATIENCE: Duration = Duration::from_millis(200);

/// How CMD is told to end when its lock goes, as the user wants it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ending {
    /// The first signal; SIGKILL is the second.
    pub(super) warning: Signal,
    /// From the one to the other.
    pub(super) kill_after: Option<Duration>,
}

/// Runs CMD while the lock is held, and ends the section as CMD ended.
pub(super) async fn run(
    context: &Context,
    lock: &str,
    held: &Held,
    signals: &mut Signals,
    words: &[OsString],
    ending: Ending,
) -> Result<u8, Failure> {
    let socket = SectionSocket::open(lock, held.token().0)
        .map_err(|error| Failure::local("a socket for appends", &error))?;
    let timer = BootTimer::new().map_err(|error| Failure::local("a timer", &error))?;
    let mut changes = held.changes();
    let margin = watch::margin(held.lease(), ending.kill_after);
    let terms = Terms {
        deadline: held.deadline(),
        margin,
        warning: ending.warning,
        foreground: false,
    };
    let command = RunningCommand::start(words, &environment(context, lock, held, &socket), terms)
        .map_err(|error| Failure::local("starting the command", &error))?;
    command.catch_stops(signals)?;
    let mut supervisor = Supervisor {
        context,
        held,
        command,
        margin,
        warning: ending.warning,
        stopped: None,
        starved: false,
        told_to_end: false,
        warned: false,
        held_until: held.deadline(),
        lost_at: None,
    };
    let mut serving = std::pin::pin!(socket.serve(held));
    let code = loop {
        let until = supervisor.look();
        tokio::select! {
            report = supervisor.command.news() => {
                if let Some(code) = supervisor.on_report(report, signals) {
                    break code;
                }
            }
            signal = signals.next() => supervisor.pass_on(signal),
            _ = changes.changed(), if supervisor.lost_at.is_none() => {}
            () = timer.until(until) => {}
            never = &mut serving => never,
        }
    };
    // A joiner that CMD did not wait for may be half way; each append has a deadline of its own.
    while socket.is_appending() {
        tokio::select! {
            () = tokio::time::sleep(Duration::from_millis(5)) => {}
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

/// How the lock stands when CMD is warned, for people.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Told {
    /// Released by force.
    Taken,
    /// Its time is over.
    Expired,
    /// The service says that it is gone.
    Lost,
    /// Still held, but not for long.
    Unrenewed,
}

/// How the lock stands when the keeper's warning is read, given why it was lost, if it was.
fn standing(lost: Option<&LostWhy>, expired: bool) -> Told {
    match lost {
        Some(LostWhy::NotHeld(Some(NotHeldWhy::Forced { .. }))) => Told::Taken,
        // Whoever was stopped meanwhile reads of the warning when all is over.
        _ if expired => Told::Expired,
        Some(_) => Told::Lost,
        None => Told::Unrenewed,
    }
}

/// What people read when CMD was told to end.
fn warning(told: Told, signal: Signal, margin: Duration) -> String {
    let why = match told {
        Told::Expired => {
            return format!(
                "the lock has expired: the command got {}, and SIGKILL when its time was over",
                signals::name(signal)
            );
        }
        Told::Taken => "the lock was taken away",
        Told::Lost => "the lock is lost",
        Told::Unrenewed => "the lock is about to be lost, since it could not be renewed in time",
    };
    format!(
        "{why}: the command gets {} and has {} to end before SIGKILL",
        signals::name(signal),
        humantime::format_duration(Duration::from_millis(margin.as_millis() as u64)),
    )
}

struct Supervisor<'a> {
    context: &'a Context,
    held: &'a Held,
    command: RunningCommand,
    margin: Duration,
    warning: Signal,
    /// By which signal CMD was stopped, if it was and has not been continued.
    stopped: Option<Signal>,
    /// CMD is stopped until it can have the terminal.
    starved: bool,
    /// A signal that asks for an end was passed on.
    told_to_end: bool,
    /// The keeper has told CMD to end, so the lock counts as lost.
    warned: bool,
    /// Until when the lock was held for certain, as known before it was lost.
    held_until: BootTime,
    /// When the service said that the lock is gone.
    lost_at: Option<BootTime>,
}

impl Supervisor<'_> {
    /// Tells the keeper what is new and does what is due. Returns when to look again.
    fn look(&mut self) -> BootTime {
        let now = BootTime::now();
        if self.held.is_lost() {
            if self.lost_at.is_none() {
                self.lost_at = Some(now);
                self.command.lost();
            }
        } else {
            self.held_until = self.held.deadline();
            self.command.held_until(self.held_until);
        }
        if self.starved && self.command.can_be_fed() {
            self.starved = false;
            self.resume(now);
        }
        let over = match self.lost_at {
            Some(lost_at) => lost_at.after(self.margin),
            None => self.held.deadline(),
        };
        let overdue = over.after(KEEPER_PATIENCE);
        if now >= overdue {
            self.command.kill();
        }
        let again = now.after(LOOK_AGAIN);
        if self.starved || now >= overdue {
            again
        } else {
            overdue
        }
    }

    /// Returns the exit code if CMD has ended.
    fn on_report(&mut self, report: Report, signals: &Signals) -> Option<u8> {
        match report {
            Report::Started(_) => {}
            Report::Stopped(signal) => self.on_stop(signal, signals),
            Report::Warned => self.on_warning(),
            Report::OutOfReach(pid) => {
                let message = format!(
                    "process {pid} belongs to another user and cannot be ended: it may run on after the lock is lost"
                );
                self.context.output.notice("out_of_reach", &message);
            }
            Report::Exited(code) => return Some(code),
            Report::Killed(signal) => {
                return Some(exit::SIGNAL_BASE.saturating_add(signal as u8));
            }
        }
        None
    }

    fn on_stop(&mut self, signal: i32, signals: &Signals) {
        // Whoever sends SIGSTOP by hand wants CMD stopped, not the keeper of its lock.
        let Some(signal) = Signal::from_named_raw(signal)
            .filter(|signal| [Signal::TSTP, Signal::TTIN, Signal::TTOU].contains(signal))
        else {
            return;
        };
        self.stopped = Some(signal);
        match self.command.stop_along(signal, signals) {
            Stop::Over => self.resume(BootTime::now()),
            Stop::Starved => {
                self.starved = true;
                let message = "the command is stopped: it wants to read from the terminal, which belongs to another program";
                self.context.output.notice("stopped", message);
            }
        }
    }

    fn on_warning(&mut self) {
        self.warned = true;
        let expired = BootTime::now() >= self.held_until;
        let told = standing(self.held.lost().as_ref(), expired);
        let message = warning(told, self.warning, self.margin);
        self.context.output.notice("warned", &message);
    }

    /// Continues CMD. One that slept through the deadline must not work on: the keeper is about to end it.
    fn resume(&mut self, now: BootTime) {
        if now >= self.held.deadline() && !self.warned {
            return;
        }
        if let Some(signal) = self.stopped.take() {
            self.command.resume(signal);
        }
    }

    fn pass_on(&mut self, signal: Signal) {
        self.told_to_end |= is_ending(signal);
        self.command.pass_on(signal);
    }

    /// CMD has ended with `code`: applies its section or discards it.
    async fn finish(self, code: u8, socket: &SectionSocket) -> Result<u8, Failure> {
        if self.warned || self.held.is_lost() {
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
        let Err(failure) = release(self.held).await else {
            return Ok(code);
        };
        let output = self.context.output;
        match failure.end() {
            End::Unknown | End::Unavailable if socket.has_appended() => {
                let message = format!(
                    "the command ended with 0, but whether its appends were applied is unknown: {failure}"
                );
                output.failure(&Failure::new(failure.code, message));
                Ok(exit::LOCK_UNKNOWN)
            }
            End::Lost => Err(failure),
            _ if socket.has_appended() => Err(failure),
            _ => {
                // There was nothing to apply; the lock ends with the session, or at its deadline.
                let message =
                    format!("the lock could not be released and ends by itself: {failure}");
                output.notice("not_released", &message);
                Ok(code)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_whose_time_is_over_was_not_taken_and_leaves_no_time() {
        let words = |told| warning(told, Signal::TERM, Duration::from_millis(400));
        let over = words(Told::Expired);
        assert!(
            over.contains("expired") && !over.contains("400ms"),
            "{over}"
        );
        let taken = words(Told::Taken);
        assert!(
            taken.contains("taken away") && taken.contains("400ms"),
            "{taken}"
        );
    }

    /// A holdfast that was stopped learns of the end only afterwards, by a refusal that names no reason.
    #[test]
    fn only_a_forced_release_takes_a_lock_away() {
        let gone = LostWhy::NotHeld(Some(NotHeldWhy::LeaseEnded));
        let reason = "maintenance".to_owned();
        let forced = LostWhy::NotHeld(Some(NotHeldWhy::Forced { reason }));
        for (lost, expired, told) in [
            (Some(&forced), true, Told::Taken),
            (Some(&forced), false, Told::Taken),
            (Some(&gone), true, Told::Expired),
            (Some(&gone), false, Told::Lost),
            (None, true, Told::Expired),
            (None, false, Told::Unrenewed),
        ] {
            assert_eq!(standing(lost, expired), told, "{lost:?}, {expired}");
        }
    }
}
