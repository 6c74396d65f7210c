//! A child that ends with its parent.
//!
//! The kernel is asked for a SIGKILL at the parent's death. What is acknowledged is durable at any
//! moment, so that is as good as any other end, and it is certain.

use rustix::process::{Pid, Signal, getppid, set_parent_process_death_signal};

/// The variable by which a parent asks for this, holding the parent's process id.
pub const VARIABLE: &str = "HOLDFAST_DIE_WITH";

/// Ties this process to its parent if the parent asked for it. Returns false if that parent is gone
/// already.
pub fn hold() -> bool {
    let asked = std::env::var(VARIABLE)
        .ok()
        .and_then(|text| text.parse::<i32>().ok());
    let Some(parent) = asked.and_then(Pid::from_raw) else {
        return true;
    };
    if let Err(error) = set_parent_process_death_signal(Some(Signal::KILL)) {
        tracing::warn!(%error, "this process will outlive its parent");
    }
    // Asked after the request, lest the parent died in between.
    getppid() == Some(parent)
}
