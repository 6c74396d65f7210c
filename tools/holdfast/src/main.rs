//! The holdfast command: locks, files and clusters, for people and scripts.

mod args;
mod exit;
mod failure;
mod lock;
mod output;
mod section;
mod shell;

use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments: Vec<_> = std::env::args_os().skip(1).collect();
    if let Some(code) = lock::launcher::run_if_asked(&arguments) {
        return code;
    }
    ExitCode::SUCCESS
}
