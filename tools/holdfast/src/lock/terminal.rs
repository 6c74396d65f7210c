//! Who may read from the terminal: CMD while it runs, holdfast before and after.
//!
//! CMD lives in a process group of its own, and only the foreground group of a terminal may read from it and gets
//! Ctrl-C and Ctrl-Z. So holdfast, if it is in the foreground, hands that on, and takes it back in the end.

use std::fs::File;
use std::io;

use nix::sys::signal::{SigSet, Signal as NixSignal};
use rustix::process::{Pid, Signal, getpgrp, kill_current_process_group};
use rustix::termios::{OptionalActions, Termios, tcgetattr, tcgetpgrp, tcsetattr, tcsetpgrp};

/// The terminal that holdfast was started in the foreground of.
pub(crate) struct Terminal {
    tty: File,
    home: Pid,
    modes: Option<Termios>,
}

impl Terminal {
    /// The controlling terminal, if there is one and this process is in its foreground.
    pub(crate) fn in_foreground() -> Option<Terminal> {
        let tty = File::options()
            .read(true)
            .write(true)
            .open("/dev/tty")
            .ok()?;
        let home = getpgrp();
        if tcgetpgrp(&tty).ok()? != home {
            return None;
        }
        let modes = tcgetattr(&tty).ok();
        Some(Terminal { tty, home, modes })
    }

    /// Makes `group` the foreground group. Failing, CMD runs in the background, where it can do all but read.
    pub(crate) fn give_to(&self, group: Pid) {
        _ = set_foreground(&self.tty, group);
    }

    /// Makes this process's group the foreground group again.
    pub(crate) fn take_back(&self) {
        _ = set_foreground(&self.tty, self.home);
    }

    /// Sets the modes back to what they were, for a CMD that was killed before it could.
    pub(crate) fn restore_modes(&self) {
        if let Some(modes) = &self.modes {
            _ = tcsetattr(&self.tty, OptionalActions::Drain, modes);
        }
    }

    /// Stops this process's own job, as Ctrl-Z would, and comes back once it is continued.
    ///
    /// Returns at once if no shell looks after the job, since then nobody could continue it: the kernel sees to that.
    pub(crate) fn stop_own_job(&self) {
        self.take_back();
        _ = kill_current_process_group(Signal::TSTP);
    }

    /// Whether this process's group, or none other than it, is what the user sees.
    pub(crate) fn is_home(&self) -> bool {
        tcgetpgrp(&self.tty).is_ok_and(|group| group == self.home)
    }
}

/// Sets the foreground group, from the background too, where an unblocked SIGTTOU would stop the caller.
fn set_foreground(tty: &File, group: Pid) -> io::Result<()> {
    let mut blocked = SigSet::empty();
    blocked.add(NixSignal::SIGTTOU);
    let before = blocked.thread_swap_mask(nix::sys::signal::SigmaskHow::SIG_BLOCK)?;
    let result = tcsetpgrp(tty, group);
    before.thread_set_mask()?;
    Ok(result?)
}
