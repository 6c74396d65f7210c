//! The lockbench program: puts load on a Holdfast cluster and says what it bore.
//!
//! One thread and one runtime drive all clients, so that the driver takes little of the machine that it measures.
//! `args` says what may be asked; `target` is the cluster; `crew` are the clients; `run` opens the window in which
//! `cycle`, `append` or `failover` count; `report` tells. `scale` has a `crowd` of sessions beside the crew.

mod append;
mod args;
mod cluster;
mod crew;
mod crowd;
mod cycle;
mod exclusion;
mod failover;
mod files;
mod holders;
mod latency;
mod report;
mod run;
mod scale;
mod sync_loop;
mod target;
mod usage;
mod window;
mod worker;

use std::process::ExitCode;

use clap::Parser;
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::LocalSet;

use crate::args::{Cli, Locks, Work};
use crate::run::Told;

/// Two clients held one lock at a time.
const NOT_EXCLUSIVE: u8 = 3;

/// A signal ended the run.
const INTERRUPTED: u8 = 130;

fn main() -> ExitCode {
    let work = Cli::parse().work;
    if let Err(message) = check(&work) {
        return fail(2, &message);
    }
    let fewer_clients = match files::take(&work) {
        Ok(fewer_clients) => fewer_clients,
        Err(message) => return fail(1, &message),
    };
    let runtime = match tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => return fail(1, &format!("starting the runtime: {error}")),
    };
    let local = LocalSet::new();
    let result = runtime.block_on(local.run_until(async {
        tokio::select! {
            report = run::run(&work, fewer_clients) => Some(report),
            // Dropping the run takes its cluster down.
            () = told_to_end() => None,
        }
    }));
    match result {
        Some(Ok(told)) => tell(&told),
        Some(Err(message)) => fail(1, &message),
        None => fail(INTERRUPTED, "interrupted"),
    }
}

fn check(work: &Work) -> Result<(), String> {
    let load = work.load();
    load.check()?;
    match work {
        Work::Failover(_) if load.endpoints.is_some() => Err(
            "failover kills replicas, so it needs a cluster of its own, not --endpoints".to_owned(),
        ),
        Work::Failover(_) if load.replicas < 3 => {
            Err("failover needs at least --replicas 3".to_owned())
        }
        Work::Append(_) if load.locks == Locks::One && load.clients > 1 => Err(
            "append holds its lock, so with --locks 1 there is room for one client only".to_owned(),
        ),
        _ => Ok(()),
    }
}

async fn told_to_end() {
    let (interrupt, terminate) = (
        signal(SignalKind::interrupt()),
        signal(SignalKind::terminate()),
    );
    let (Ok(mut interrupt), Ok(mut terminate)) = (interrupt, terminate) else {
        return std::future::pending().await;
    };
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
}

fn tell(told: &Told) -> ExitCode {
    println!("{}", told.text);
    if told.exclusion_violations > 0 {
        return fail(NOT_EXCLUSIVE, "two clients held one lock at a time");
    }
    ExitCode::SUCCESS
}

fn fail(code: u8, message: &str) -> ExitCode {
    eprintln!("lockbench: {message}");
    ExitCode::from(code)
}
