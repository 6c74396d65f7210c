//! `node demo`: the main job, with real processes, in under half a minute.
//!
//! ```text
//! three replicas ─► clients append under one lock ─► the leader is killed inside a section
//!    ─► the section goes on and is released ─► the leader comes back ─► more sections
//!    ─► all replicas hold the same files, and in them each acknowledged section exactly once
//! ```
//!
//! `story` is what happens, `worker` a client, `ledger` what the clients were told, `verdict`
//! the comparison of that with the files.

mod ledger;
mod story;
mod verdict;
mod worker;

use std::process::ExitCode;

use crate::failure::{Exit, Failure};

/// Shows it, on standard output.
///
/// # Errors
///
/// [`Failure`] if anything did not hold, or could not even be tried.
pub fn run() -> Result<ExitCode, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|e| Failure::new(Exit::Other, format!("runtime: {e}")))?;
    runtime.block_on(story::tell())
}
