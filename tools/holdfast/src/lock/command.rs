//! CMD as holdfast sees it: a process group, reached through its keeper.

use std::ffi::OsString;
use std::io;
use std::process::Child;

use client::clock::BootTime;
use rustix::process::{Pid, Signal, getpid, kill_process, kill_process_group, set_child_subreaper};

use super::channel::{End, Order, Report};
use super::keeper::{self, Terms};
use super::sweep::end_descendants;
use super::terminal::Terminal;
use crate::failure::Failure;
use crate::processes::Processes;
use crate::signals::Signals;

/// A running CMD.
pub(crate) struct RunningCommand {
    keeper: Child,
    end: End,
    /// Told once CMD runs.
    group: Option<Pid>,
    terminal: Option<Terminal>,
    /// The terminal belongs to CMD whenever it is in the foreground, and not only when CMD asks for it.
    owns_terminal: bool,
    /// The deadline that the keeper knows.
    told: Option<BootTime>,
    ended: bool,
}

/// What became of a CMD that stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stop {
    /// It goes on, or may as soon as somebody has looked at the clock.
    Over,
    /// It wants the terminal, which is another's, and no shell can stop this job and bring it to the foreground.
    Starved,
}

impl RunningCommand {
    /// Starts CMD with `environment` added to that of this process.
    ///
    /// # Errors
    ///
    /// Fails if no process can be made. That CMD itself is not there shows as its exit code, 127.
    pub(crate) fn start(
        words: &[OsString],
        environment: &[(&str, OsString)],
        terms: Terms,
    ) -> io::Result<Self> {
        let terminal = Terminal::open();
        let owns_terminal = terminal.as_ref().is_some_and(|it| !it.is_shared());
        let foreground = owns_terminal && terminal.as_ref().is_some_and(Terminal::is_home);
        // Should the keeper be killed, what CMD started becomes ours.
        set_child_subreaper(Some(getpid()))?;
        let (keeper, end) = keeper::start(
            words,
            environment,
            Terms {
                foreground,
                ..terms
            },
        )?;
        Ok(RunningCommand {
            keeper,
            end,
            group: None,
            terminal,
            owns_terminal,
            told: Some(terms.deadline),
            ended: false,
        })
    }

    /// Catches what the terminal sends to this job instead of to CMD.
    pub(crate) fn catch_stops(&self, signals: &Signals) -> Result<(), Failure> {
        if self.terminal.is_some() && !self.owns_terminal {
            signals.also(Signal::TSTP)?;
        }
        Ok(())
    }

    /// The keeper's next news. Dropping the future loses nothing.
    pub(crate) async fn news(&mut self) -> Report {
        let report = match self.end.hear().await {
            Some(report) => report,
            None => self.without_keeper(),
        };
        match report {
            Report::Started(pid) => self.group = Pid::from_raw(pid),
            Report::Exited(_) | Report::Killed(_) => self.ended(report),
            Report::Stopped(_) | Report::Warned | Report::OutOfReach(_) => {}
        }
        report
    }

    /// Says until when the lock is held, if the keeper does not know yet.
    pub(crate) fn held_until(&mut self, deadline: BootTime) {
        if self.told != Some(deadline) && self.end.tell(Order::HeldUntil(deadline)) {
            self.told = Some(deadline);
        }
    }

    /// Says that the service has taken the lock away.
    pub(crate) fn lost(&mut self) {
        self.end.tell(Order::Lost);
    }

    /// Passes a signal on to all of CMD's group.
    pub(crate) fn pass_on(&self, signal: Signal) {
        self.end.tell(Order::PassOn(signal.as_raw()));
    }

    /// Ends CMD without the keeper, which has not done it in time: somebody has stopped it.
    pub(crate) fn kill(&self) {
        let keeper = Pid::from_child(&self.keeper);
        if let Some(group) = self.group {
            _ = kill_process_group(group, Signal::KILL);
        }
        for pid in Processes::read().descendants(getpid()) {
            if pid != keeper {
                _ = kill_process(pid, Signal::KILL);
            }
        }
        // So that it tells us how CMD ended.
        _ = kill_process(keeper, Signal::CONT);
    }

    /// CMD was stopped by the terminal. Stops holdfast's own job too, so that the shell gets its prompt, and returns
    /// when it is continued; unless CMD only wanted the terminal and can have it.
    ///
    /// CMD stays stopped: the caller looks at the clock first, for the lock may be gone by now.
    pub(crate) fn stop_along(&self, signal: Signal, signals: &Signals) -> Stop {
        let (Some(terminal), Some(group)) = (&self.terminal, self.group) else {
            return Stop::Over;
        };
        let wants_terminal = wants_terminal(signal);
        if wants_terminal && terminal.is_home() {
            terminal.give_to(group);
            return Stop::Over;
        }
        terminal.take_back_from(group);
        // Where Ctrl-Z is caught in order to pass it on, another signal must do.
        let own = match signal {
            Signal::TSTP if !self.owns_terminal => Signal::TTIN,
            signal => signal,
        };
        if !signals.ignores(own) && terminal.stop_own_job(own) {
            return Stop::Over;
        }
        if wants_terminal {
            Stop::Starved
        } else {
            Stop::Over
        }
    }

    /// Whether a starved CMD could have the terminal now.
    pub(crate) fn can_be_fed(&self) -> bool {
        self.terminal.as_ref().is_some_and(Terminal::is_home)
    }

    /// Lets a stopped CMD go on, with the terminal if that is ours to give.
    pub(crate) fn resume(&self, stopped_by: Signal) {
        let Some(group) = self.group else { return };
        if let Some(terminal) = &self.terminal
            && (self.owns_terminal || wants_terminal(stopped_by))
            && terminal.is_home()
        {
            terminal.give_to(group);
        }
        _ = kill_process_group(group, Signal::CONT);
    }

    /// The keeper was killed. The kernel killed CMD with it; what CMD started is ended here.
    fn without_keeper(&mut self) -> Report {
        // Waited for by its handle, which must know that the process id is free.
        _ = self.keeper.kill();
        _ = self.keeper.wait();
        end_descendants(|_, _| {});
        Report::Killed(Signal::KILL.as_raw())
    }

    fn ended(&mut self, report: Report) {
        self.ended = true;
        // It has said its last word, or was killed.
        _ = self.keeper.kill();
        _ = self.keeper.wait();
        if let (Some(terminal), Some(group)) = (&self.terminal, self.group)
            && terminal.take_back_from(group)
            && matches!(report, Report::Killed(_))
        {
            terminal.restore_modes();
        }
    }
}

impl Drop for RunningCommand {
    /// Nothing of CMD stays behind, whatever path led here.
    fn drop(&mut self) {
        if !self.ended {
            let report = self.without_keeper();
            self.ended(report);
        }
    }
}

fn wants_terminal(stop: Signal) -> bool {
    [Signal::TTIN, Signal::TTOU].contains(&stop)
}
