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
mod section;
mod shell;
mod signals;
mod survey;
mod verbs;

use std::ffi::OsString;
use std::process::ExitCode;

use clap::{CommandFactory, Parser};

use crate::args::{Cli, Format, Glance, Verb};
use crate::context::Context;
use crate::failure::Failure;
use crate::output::Output;

fn main() -> ExitCode {
    let arguments: Vec<OsString> = std::env::args_os().skip(1).collect();
    if let Some(code) = lock::launcher::run_if_asked(&arguments) {
        return code;
    }
    match Cli::try_parse() {
        Ok(cli) => exit::code(run(cli)),
        Err(error) => not_parsed(&error, &Glance::at(&arguments)),
    }
}

/// Help and version are no errors; everything else is usage, in the form and with the code of the verb.
fn not_parsed(error: &clap::Error, glance: &Glance) -> ExitCode {
    if !error.use_stderr() {
        _ = error.print();
        return ExitCode::SUCCESS;
    }
    let failure = Failure::usage(
        error
            .render()
            .to_string()
            .trim()
            .trim_start_matches("error: "),
    );
    if glance.json {
        Output::new(Format::Json).failure(&failure);
    } else {
        _ = error.print();
    }
    exit::code(if glance.lock {
        failure.end().of_lock(exit::LOCK_BUSY)
    } else {
        failure.end().of_verb()
    })
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
