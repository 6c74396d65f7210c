//! The program `node`: a replica, a local cluster, a demonstration.

use std::process::ExitCode;

fn main() -> ExitCode {
    node::cli::run(std::env::args_os())
}
