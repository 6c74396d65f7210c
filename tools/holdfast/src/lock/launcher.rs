//! How CMD comes to life: by way of this very program, so that CMD never outlives the holder of its lock.
//!
//! ```text
//! holdfast lock …  --spawn, new process group-->  holdfast __launch PID CMD ARGS…  --exec-->  CMD ARGS…
//! ```
//!
//! Between the two the launcher asks the kernel for SIGKILL at the death of its parent, which `exec` keeps. To do
//! that between `fork` and `exec` of one program would take unsafe code.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, ExitCode};

use rustix::process::{Pid, Signal, getppid, set_parent_process_death_signal};

use crate::exit;

/// The first argument that makes this program a launcher. No verb, so that no help mentions it.
const LAUNCH: &str = "__launch";

/// A command that runs `words` by way of the launcher, to be spawned by the thread that will live the longest.
///
/// # Errors
///
/// Fails if the path of this program cannot be told.
pub(crate) fn command(words: &[OsString]) -> io::Result<Command> {
    let mut command = Command::new(this_program()?);
    command
        .arg(LAUNCH)
        .arg(std::process::id().to_string())
        .args(words)
        .process_group(0);
    Ok(command)
}

/// The running program itself, even if its file was replaced since.
fn this_program() -> io::Result<PathBuf> {
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
        [verb, parent, program, rest @ ..] if verb == LAUNCH => Some(launch(parent, program, rest)),
        _ => None,
    }
}

fn launch(parent: &OsStr, program: &OsStr, arguments: &[OsString]) -> ExitCode {
    if let Err(error) = die_with(parent) {
        eprintln!(
            "holdfast: cannot tie {} to its lock: {error}",
            program.display()
        );
        return exit::code(exit::COMMAND_CANNOT_RUN);
    }
    let error = Command::new(program).args(arguments).exec();
    eprintln!("holdfast: {}: {error}", program.display());
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
