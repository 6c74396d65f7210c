//! The program `node`: a replica, a local cluster, a demonstration.

use std::process::ExitCode;

/// Keep-alives are many small values, made on one thread and dropped on it: the system's allocator took half of
/// applying them.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    node::cli::run(std::env::args_os())
}
