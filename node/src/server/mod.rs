//! A replica as a process: sockets, log, clock and signals around an engine.
//!
//! ```text
//! bind ─► open folder ─► birth ─► boot ─► reactor ─► end
//!  3          4            4       4,5       6          exit code if it fails there
//! ```
//!
//! One thread runs all of it: a tokio runtime that accepts, reads, writes, and the `reactor`, the
//! only place where the engine is called. The log has a thread of its own; what takes long (boot,
//! snapshots, reading old entries) runs on threads for blocking work.
//!
//! In reading order: `start`, with [`listeners`] and `births`; `reactor`, with its `inbox` and
//! its `actions`; what it drives: `peers`, `wal_bridge`, `effects`, `clients`; its jobs:
//! `snapshots`, `loads`, `standing`; and what others see: [`desk`].

mod actions;
mod births;
mod clients;
mod commit_timer;
pub mod desk;
mod files;
mod inbox;
pub mod listeners;
mod loads;
mod notes;
mod peers;
mod reactor;
mod rebuilds;
mod signals;
mod snapshots;
mod standing;
pub(crate) mod start;
mod throttle;
mod wal_bridge;

#[cfg(test)]
mod tests;

use std::io::Write;
use std::sync::Arc;

use tokio::task::LocalSet;

use crate::config::ServeConfig;
use crate::failure::{Exit, Failure};
use inbox::Inbox;
use listeners::Addresses;
use signals::Signals;
use start::Replica;

/// Runs one replica until a signal ends it, with the ready line on standard output.
///
/// # Errors
///
/// [`Failure`] with the exit code of the process.
pub fn serve(config: ServeConfig) -> Result<(), Failure> {
    let id = config.id;
    run_local(async move {
        let inbox = Arc::new(Inbox::default());
        let mut signals = Signals::catch()?;
        let replica = tokio::select! {
            started = Replica::start(config, inbox.clone()) => started?,
            name = signals.next() => {
                // Nothing was promised to anybody yet.
                tracing::info!(signal = name, "ended before the start was complete");
                return Ok(());
            }
        };
        say_ready(id, &replica.addresses)?;
        tokio::task::spawn_local(signals.forward(inbox));
        replica.run().await
    })
}

/// Runs a future of one thread to its end, with a runtime of its own.
fn run_local<T>(future: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|e| Failure::new(Exit::Other, format!("runtime: {e}")))?;
    let result = LocalSet::new().block_on(&runtime, future);
    // A blocking job may still run; its result counts for nothing any more.
    runtime.shutdown_background();
    result
}

/// The one line that a starter waits for. That nobody reads it is no reason to stop.
fn say_ready(id: u16, at: &Addresses) -> Result<(), Failure> {
    let mut out = std::io::stdout().lock();
    let line = format!(
        "ready id={id} client={} peer={} http={}\n",
        at.client, at.peer, at.http
    );
    if let Err(error) = out.write_all(line.as_bytes()).and_then(|()| out.flush()) {
        tracing::warn!(%error, "the ready line could not be written");
    }
    Ok(())
}
