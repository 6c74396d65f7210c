//! CMD as a process group: started, signalled, watched to its end.

use std::ffi::OsString;
use std::io;

use rustix::process::{Pid, Signal, WaitOptions, WaitStatus, kill_process_group, waitpid};

use super::launcher;
use super::terminal::Terminal;
use crate::exit::SIGNAL_BASE;

/// A running CMD. Its process group has its own process id.
pub(crate) struct RunningCommand {
    group: Pid,
    terminal: Option<Terminal>,
    ended: Option<u8>,
}

/// What the kernel has to tell about CMD.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Change {
    /// It ended: its exit code, or 128 + its signal.
    Ended(u8),
    /// It was stopped by the terminal (Ctrl-Z, or it read from the background).
    Stopped,
}

impl RunningCommand {
    /// Starts CMD with `environment` added to that of this process.
    ///
    /// # Errors
    ///
    /// Fails if no process can be made. That CMD itself is not there shows as its exit code, 127.
    pub(crate) fn start(words: &[OsString], environment: &[(&str, OsString)]) -> io::Result<Self> {
        let terminal = Terminal::in_foreground();
        let mut command = launcher::command(words)?;
        command.envs(environment.iter().map(|(name, value)| (name, value)));
        let child = command.spawn()?;
        let group = Pid::from_child(&child);
        if let Some(terminal) = &terminal {
            terminal.give_to(group);
        }
        Ok(RunningCommand {
            group,
            terminal,
            ended: None,
        })
    }

    /// Sends a signal to all of CMD's group. That nobody is left in it is no failure.
    pub(crate) fn signal(&self, signal: Signal) {
        _ = kill_process_group(self.group, signal);
    }

    /// Asks the kernel whether anything has changed. Never blocks; to be called after each SIGCHLD.
    pub(crate) fn poll(&mut self) -> Option<Change> {
        if let Some(code) = self.ended {
            return Some(Change::Ended(code));
        }
        let options = WaitOptions::NOHANG | WaitOptions::UNTRACED;
        let (_, status) = waitpid(Some(self.group), options).ok().flatten()?;
        let change = change(status)?;
        if let Change::Ended(code) = change {
            self.ended = Some(code);
            self.give_back_terminal(status.signaled());
        }
        Some(change)
    }

    /// Stops holdfast's own job too, so that the shell gets its prompt. Returns when it is continued.
    ///
    /// CMD stays stopped: the caller looks at the clock first, for the lock may be gone by now.
    pub(crate) fn stop_along(&self) {
        if let Some(terminal) = &self.terminal {
            terminal.stop_own_job();
        }
    }

    /// Lets a stopped CMD go on.
    pub(crate) fn resume(&self) {
        if let Some(terminal) = &self.terminal
            && terminal.is_home()
        {
            terminal.give_to(self.group);
        }
        self.signal(Signal::CONT);
    }

    fn give_back_terminal(&self, killed: bool) {
        if let Some(terminal) = &self.terminal {
            terminal.take_back();
            if killed {
                terminal.restore_modes();
            }
        }
    }
}

impl Drop for RunningCommand {
    /// Nothing of CMD stays behind, whatever path led here.
    fn drop(&mut self) {
        if self.ended.is_none() {
            self.signal(Signal::KILL);
            _ = waitpid(Some(self.group), WaitOptions::empty());
            self.give_back_terminal(true);
        }
    }
}

fn change(status: WaitStatus) -> Option<Change> {
    if let Some(code) = status.exit_status() {
        // An exit status is one byte; the kernel keeps no more.
        return Some(Change::Ended(code as u8));
    }
    if let Some(signal) = status.terminating_signal() {
        return Some(Change::Ended(SIGNAL_BASE.saturating_add(signal as u8)));
    }
    let stop = Signal::from_named_raw(status.stopping_signal()?)?;
    // Whoever sends SIGSTOP by hand wants CMD stopped, not the keeper of its lock.
    [Signal::TSTP, Signal::TTIN, Signal::TTOU]
        .contains(&stop)
        .then_some(Change::Stopped)
}
