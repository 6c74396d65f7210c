//! Who may read from the terminal: CMD while it runs, holdfast before and after.
//!
//! CMD lives in a process group of its own, and only the foreground group of a terminal may read from it and gets
//! Ctrl-C and Ctrl-Z. So holdfast, if it is in the foreground, hands that on, and takes it back in the end. It takes
//! back only what CMD still has: after Ctrl-Z and `bg` the terminal is the shell's.

use std::fs::File;
use std::io;

use nix::sys::signal::{SigSet, SigmaskHow, Signal as NixSignal};
use rustix::io::Errno;
use rustix::process::{
    Pid, Signal, getpgrp, getpid, kill_current_process_group, test_kill_process_group,
};
use rustix::termios::{OptionalActions, Termios, tcgetattr, tcgetpgrp, tcsetattr, tcsetpgrp};

use crate::processes::Processes;

/// The controlling terminal of this process.
#[derive(Debug)]
pub(crate) struct Terminal {
    tty: File,
    home: Pid,
    modes: Option<Termios>,
}

impl Terminal {
    /// The controlling terminal, if there is one.
    pub(crate) fn open() -> Option<Terminal> {
        let tty = File::options()
            .read(true)
            .write(true)
            .open("/dev/tty")
            .ok()?;
        let modes = tcgetattr(&tty).ok();
        let home = getpgrp();
        Some(Terminal { tty, home, modes })
    }

    /// Whether this process's group is the foreground group.
    pub(crate) fn is_home(&self) -> bool {
        tcgetpgrp(&self.tty).is_ok_and(|group| group == self.home)
    }

    /// Whether other programs of the same job may want the terminal as well, as in `holdfast lock … | less`.
    pub(crate) fn is_shared(&self) -> bool {
        Processes::read().has_siblings(self.home, getpid())
    }

    /// Makes `group` the foreground group. Failing, CMD runs in the background, where it can do all but read.
    pub(crate) fn give_to(&self, group: Pid) {
        _ = undisturbed(|| tcsetpgrp(&self.tty, group));
    }

    /// Makes this process's group the foreground group again, if it was given to `group`. Returns whether it is now.
    pub(crate) fn take_back_from(&self, group: Pid) -> bool {
        let theirs = tcgetpgrp(&self.tty).is_ok_and(|now| {
            // CMD may have handed it on to one of its own jobs, which is gone by now.
            now == group || test_kill_process_group(now) == Err(Errno::SRCH)
        });
        if theirs {
            self.give_to(self.home);
        }
        self.is_home()
    }

    /// Sets the modes back to what they were, for a CMD that was killed before it could.
    pub(crate) fn restore_modes(&self) {
        if let Some(modes) = &self.modes {
            _ = undisturbed(|| tcsetattr(&self.tty, OptionalActions::Drain, modes));
        }
    }

    /// Stops this process's own job by `signal` and comes back once it is continued. Returns `false` at once if no
    /// shell looks after the job: the kernel does not stop it then, since nobody could continue it.
    pub(crate) fn stop_own_job(&self, signal: Signal) -> bool {
        !Processes::read().is_orphaned(self.home) && kill_current_process_group(signal).is_ok()
    }
}

/// Does something to the terminal from the background too, where an unblocked SIGTTOU would stop the caller.
fn undisturbed(work: impl FnOnce() -> rustix::io::Result<()>) -> io::Result<()> {
    let mut blocked = SigSet::empty();
    blocked.add(NixSignal::SIGTTOU);
    let before = blocked.thread_swap_mask(SigmaskHow::SIG_BLOCK)?;
    let result = work();
    before.thread_set_mask()?;
    Ok(result?)
}
