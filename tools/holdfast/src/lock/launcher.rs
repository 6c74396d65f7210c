//! How CMD comes to life: by way of this very program, so that CMD never outlives its keeper.
//!
//! ```text
//! the keeper  --spawn, new process group-->  holdfast __launch PID 1 CMD ARGS…  --exec-->  CMD ARGS…
//! ```
//!
//! Between the two the launcher asks the kernel for SIGKILL at the death of its parent, which `exec` keeps, and makes
//! its group the terminal's foreground group if it is to be. To do that between `fork` and `exec` of one program would
//! take unsafe code; doing it afterwards, from outside, CMD might already have been stopped for reading too early.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, ExitCode};

use rustix::process::{Pid, Signal, getpgrp, getppid, set_parent_process_death_signal};

use super::terminal::Terminal;
use crate::exit;
use crate::output;

/// The first argument that makes this program a launcher. No verb, so that no help mentions it.
const LAUNCH: &str = "__launch";

/// A command that runs `words` by way of the launcher, to be spawned by the thread that will live the longest.
///
/// # Errors
///
/// Fails if the path of this program cannot be told.
pub(crate) fn command(words: &[OsString], foreground: bool) -> io::Result<Command> {
    let mut command = Command::new(this_program()?);
    command
        .arg0("holdfast")
        .arg(LAUNCH)
        .arg(std::process::id().to_string())
        .arg(if foreground { "1" } else { "0" })
        .args(words)
        .process_group(0);
    Ok(command)
}

/// The running program itself, even if its file was replaced since.
pub(crate) fn this_program() -> io::Result<PathBuf> {
    let link = PathBuf::from("/proc/self/exe");
    if link.exists() {
        Ok(link)
    } else {
        std::env::current_exe()
    }
}

/// Acts as a launcher if the arguments after the program's name say so.
pub(crate) fn run_if_asked(arguments: &[OsString]) -> Option<ExitCode> {
    match arguments {
        [verb, parent, foreground, program, rest @ ..] if verb == LAUNCH => {
            Some(launch(parent, foreground == "1", program, rest))
        }
        _ => None,
    }
}

fn launch(parent: &OsStr, foreground: bool, program: &OsStr, arguments: &[OsString]) -> ExitCode {
    if let Err(error) = die_with(parent) {
        output::tell(format_args!(
            "cannot tie {} to its lock: {error}",
            program.display()
        ));
        return exit::code(exit::COMMAND_CANNOT_RUN);
    }
    if foreground && let Some(terminal) = Terminal::open() {
        terminal.give_to(getpgrp());
    }
    let error = Command::new(program).args(arguments).exec();
    output::tell(format_args!("{}: {error}", program.display()));
    exit::code(match error.kind() {
        io::ErrorKind::NotFound => exit::COMMAND_NOT_THERE,
        _ => exit::COMMAND_CANNOT_RUN,
    })
}

/// Has the kernel kill this process as soon as its parent, which must be `parent`, dies.
fn die_with(parent: &OsStr) -> io::Result<()> {
    set_parent_process_death_signal(Some(Signal::KILL))?;
    // The parent may have died before the request was made.
    let expected = parent
        .to_str()
        .and_then(|pid| pid.parse().ok())
        .and_then(Pid::from_raw);
    if expected.is_none() || getppid() != expected {
        return Err(io::Error::other("the holder of the lock is gone"));
    }
    Ok(())
}
