//! The holdfast command: locks, files and clusters, for people and scripts.
//!
//! `args` says what may be asked, `verbs`, `lock` and `shell` do it, `output` and `exit` tell how it went. One thread
//! does it all, so that it lives as long as the process: the kernel ties a command under a lock to that thread.

mod args;
mod context;
mod exit;
mod facts;
mod failure;
mod held;
mod lock;
mod output;
mod processes;
mod section;
mod shell;
mod signals;
mod survey;
mod timer;
mod verbs;

use std::ffi::OsString;
use std::process::ExitCode;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{CommandFactory, Parser};

use crate::args::{Cli, Format, Glance, Verb};
use crate::context::Context;
use crate::failure::Failure;
use crate::output::Output;

fn main() -> ExitCode {
    let arguments: Vec<OsString> = std::env::args_os().skip(1).collect();
    let hidden = lock::keeper::run_if_asked(&arguments);
    if let Some(code) = hidden.or_else(|| lock::launcher::run_if_asked(&arguments)) {
        return code;
    }
    match Cli::try_parse() {
        Ok(cli) if cli.lacks_command(&arguments) => {
            let failure = Failure::usage(
                "there is no command after `--`; without `--` the lock is held until a signal",
            );
            Output::new(cli.global.output).failure(&failure);
            exit::code(failure.end().of_lock(exit::LOCK_BUSY))
        }
        Ok(cli) => exit::code(run(cli)),
        Err(error) => not_parsed(error, &Glance::at(&arguments)),
    }
}

/// Help and version are no errors; everything else is usage, in the form and with the code of the verb.
fn not_parsed(mut error: clap::Error, glance: &Glance) -> ExitCode {
    if !error.use_stderr() {
        _ = error.print();
        return ExitCode::SUCCESS;
    }
    let advice = advice(&error, glance);
    if advice.is_some() {
        // The parser's tip is another one: to pass the word on behind `--`.
        error.remove(ContextKind::Suggested);
    }
    let text = error.render().to_string();
    let mut failure = Failure::usage(text.trim().trim_start_matches("error: "));
    if let Some(advice) = &advice {
        failure.message += &format!("; {advice}");
    }
    if glance.json {
        Output::new(Format::Json).failure(&failure);
    } else {
        _ = error.print();
        if let Some(advice) = &advice {
            output::advise(advice);
        }
    }
    exit::code(if glance.lock {
        failure.end().of_lock(exit::LOCK_BUSY)
    } else {
        failure.end().of_verb()
    })
}

/// What to write instead, where a habit from another tool is plain to see.
fn advice(error: &clap::Error, glance: &Glance) -> Option<String> {
    let wrong = match error.get(ContextKind::InvalidArg)? {
        ContextValue::String(wrong) => wrong,
        _ => return None,
    };
    if error.kind() != ErrorKind::UnknownArgument {
        return None;
    }
    if glance.lock && wrong == "-c" {
        return Some(
            "run a shell line as a command: holdfast lock NAME -- sh -c 'SHELL LINE'".to_owned(),
        );
    }
    if glance.lock && !wrong.starts_with('-') {
        return Some(format!(
            "put `--` before the command: holdfast lock NAME -- {wrong} ..."
        ));
    }
    None
}

/// Does what was asked and returns the exit code.
fn run(cli: Cli) -> u8 {
    let output = Output::new(cli.global.output);
    let conflict = match &cli.verb {
        Verb::Lock(lock) => Some(lock.conflict),
        _ => None,
    };
    match dispatch(cli, output) {
        Ok(code) => code,
        Err(failure) if failure.code == output::READER_GONE => 0,
        Err(failure) => {
            output.failure(&failure);
            match conflict {
                Some(conflict) => failure.end().of_lock(conflict),
                None => failure.end().of_verb(),
            }
        }
    }
}

fn dispatch(cli: Cli, output: Output) -> Result<u8, Failure> {
    if let Verb::Completion { shell } = cli.verb {
        let mut script = Vec::new();
        clap_complete::generate(shell, &mut Cli::command(), "holdfast", &mut script);
        return output::write_out(&script).map(|()| 0);
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::local("starting the runtime", &error))?;
    let code = runtime.block_on(async {
        let context = Context::new(&cli.global, output)?;
        match cli.verb {
            Verb::Lock(arguments) => lock::run(&context, arguments).await,
            Verb::Shell(arguments) => shell::run(&context, arguments).await.map(|()| 0),
            verb => verbs::run(&context, verb).await,
        }
    });
    // A thread that still reads standard input must not keep the process.
    runtime.shutdown_background();
    code
}
