//! `node demo`: the main job, shown.
use std::process::ExitCode;
use crate::failure::Failure;
/// Shows it.
///
/// # Errors
///
/// [`Failure`] if anything did not hold.
pub fn run() -> Result<ExitCode, Failure> { Ok(ExitCode::SUCCESS) }
