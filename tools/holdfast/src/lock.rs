//! `lock`: a lock held while a command runs, or until a signal.
//!
//! ```text
//! open a session (TTL = lease) ── take the lock ──┬── CMD runs ── exit 0: release, else abort ──┬── close
//!                                                 └── no CMD: print the token, wait, release  ──┘
//! ```
//!
//! Keep-alives go on beside it. `watch` decides when CMD must go, `command` is its process group, `terminal` hands the
//! keyboard over, `launcher` ties CMD's life to this process's.

mod command;
pub(crate) mod launcher;
mod supervisor;
mod terminal;
mod watch;

use std::time::Duration;

use client::clock::BootTime;
use client::raw::Session;
use rustix::process::Signal;
use serde::Serialize;

use self::watch::{Act, Watch};
use crate::args::LockArgs;
use crate::context::Context;
use crate::failure::Failure;
use crate::held::{self, Held};
use crate::signals::{Signals, exit_code, is_ending};

/// A deadline is looked at again this often, since timers stand still while the machine sleeps.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// Does it all and returns the exit code.
pub(crate) async fn run(context: &Context, arguments: LockArgs) -> Result<u8, Failure> {
    let mut signals = Signals::catch(!arguments.command.is_empty())?;
    let session = tokio::select! {
        session = context.session(Some(arguments.lease)) => session?,
        signal = ending(&mut signals) => return Ok(exit_code(signal)),
    };
    let result = with_session(context, &session, &mut signals, &arguments).await;
    held::close(&session).await;
    result
}

async fn with_session(
    context: &Context,
    session: &Session,
    signals: &mut Signals,
    arguments: &LockArgs,
) -> Result<u8, Failure> {
    let LockArgs {
        lock,
        lease,
        patience,
        command,
        ..
    } = arguments;
    let held = tokio::select! {
        held = Held::take(session, lock, Some(*lease), patience.limit(), context.timeout) => held?,
        signal = ending(signals) => return Ok(exit_code(signal)),
    };
    if command.is_empty() {
        hold(context, lock, &held, signals).await
    } else {
        supervisor::run(context, lock, &held, signals, command).await
    }
}

async fn ending(signals: &mut Signals) -> Signal {
    loop {
        let signal = signals.next().await;
        if is_ending(signal) {
            return signal;
        }
    }
}

#[derive(Serialize)]
struct Granted<'a> {
    lock: &'a str,
    token: u64,
    lease_ms: u64,
}

/// Without a command: the token goes to standard output, and the lock stays until a signal.
async fn hold(
    context: &Context,
    lock: &str,
    held: &Held,
    signals: &mut Signals,
) -> Result<u8, Failure> {
    let token = held.token().0;
    let lease_ms = u64::try_from(held.lease().as_millis()).unwrap_or(u64::MAX);
    context.output.one(
        Granted {
            lock,
            token,
            lease_ms,
        },
        &token.to_string(),
    )?;
    tokio::select! {
        () = until_lost(held) => return Err(held.lost_why()),
        _ = ending(signals) => {}
    }
    release(held).await.map(|()| 0)
}

/// Until the lock is lost, or must be taken for lost by this machine's clock.
async fn until_lost(held: &Held) {
    // Nobody needs time to tidy up, so there is no margin.
    let mut watch = Watch::new(Duration::ZERO);
    while let Act::WaitUntil(time) = watch.act(BootTime::now(), held.deadline(), held.is_lost()) {
        tokio::select! {
            () = held.lost() => return,
            () = tokio::time::sleep(time.left(BootTime::now()).min(LOOK_AGAIN)) => {}
        }
    }
}

/// Applies the section. A lock that turns out not to be held was lost.
async fn release(held: &Held) -> Result<(), Failure> {
    match held.release().await {
        Ok(_) => Ok(()),
        Err(failure) if ["not_held", "session_expired"].contains(&failure.code.as_str()) => {
            Err(Failure::new("lost", failure.message))
        }
        Err(failure) => Err(failure),
    }
}
