//! `lock`: a lock held while a command runs, or until a signal.
//!
//! ```text
//! open a session (TTL = lease) ── take the lock ──┬── CMD runs ── exit 0: release, else abort ──┬── close
//!                                                 └── no CMD: print the token, wait, release  ──┘
//! ```
//!
//! Keep-alives go on beside it. `watch` decides when CMD must go, and `keeper` sees to it in a process of its own;
//! `channel` is between the two, `command` this side of it. `terminal` hands the keyboard over, `launcher` ties CMD's
//! life to the keeper's.

mod around;
mod channel;
mod command;
pub(crate) mod keeper;
pub(crate) mod launcher;
mod supervisor;
mod sweep;
mod terminal;
mod waiting;
mod watch;

use std::time::Duration;

use client::clock::BootTime;
use client::raw::Session;
use rustix::process::Signal;
use serde::Serialize;

use self::supervisor::Ending;
use self::waiting::Waiting;
use crate::args::LockArgs;
use crate::context::Context;
use crate::exit::{End, LOCK_UNKNOWN};
use crate::failure::Failure;
use crate::held::{self, Held};
use crate::signals::{Signals, exit_code, is_ending};
use crate::timer::BootTimer;

/// What cannot be done now is tried again this often.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// Does it all and returns the exit code.
pub(crate) async fn run(context: &Context, arguments: LockArgs) -> Result<u8, Failure> {
    let mut signals = Signals::catch(!arguments.command.is_empty())?;
    let session = tokio::select! {
        session = open(context, arguments.lease) => session?,
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
        kill_after,
        warn_signal,
        ..
    } = arguments;
    if patience.limit() != Some(Duration::ZERO) {
        around::refuse_own(context, lock).await?;
    }
    let mut waiting = Waiting::new(context, lock);
    let held = tokio::select! {
        held = Held::take(session, lock, *lease, patience.limit(), context.timeout, async |place| {
            waiting.moved(place).await;
        }) => held,
        signal = ending(signals) => return Ok(exit_code(signal)),
    };
    let held = match held {
        Ok(held) => held,
        Err(failure) if failure.code == "wait_timed_out" => {
            return Err(waiting.over(patience.limit()).await);
        }
        Err(failure) => return Err(failure),
    };
    waiting.granted();
    if command.is_empty() {
        hold(context, lock, &held, signals).await
    } else {
        let ending = Ending {
            warning: *warn_signal,
            kill_after: *kill_after,
        };
        supervisor::run(context, lock, &held, signals, command, ending).await
    }
}

/// Opens the session that holds the lock, and lives as long as the lease is.
async fn open(context: &Context, lease: Option<Duration>) -> Result<Session, Failure> {
    let opened = context.session(lease).await;
    opened.map_err(|failure| match (failure.code.as_str(), lease) {
        // The session's time to live is never named by the user.
        ("bad_request", Some(lease)) => Failure::new(
            failure.code,
            format!(
                "a lease of {} is not possible: {}",
                humantime::format_duration(lease),
                failure.message.replace("a session ttl", "a lease")
            ),
        ),
        _ => failure,
    })
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
        lost = until_lost(held) => return Err(lost.err().unwrap_or_else(|| held.lost_why())),
        _ = ending(signals) => {}
    }
    match release(held).await {
        Err(failure) if matches!(failure.end(), End::Unknown | End::Unavailable) => {
            context.output.failure(&failure);
            Ok(LOCK_UNKNOWN)
        }
        released => released.map(|()| 0),
    }
}

/// Until the lock is lost, or must be taken for lost by this machine's clock.
async fn until_lost(held: &Held) -> Result<(), Failure> {
    let timer = BootTimer::new().map_err(|error| Failure::local("a timer", &error))?;
    let mut changes = held.changes();
    while !held.is_lost() && held.deadline() > BootTime::now() {
        tokio::select! {
            _ = changes.changed() => {}
            () = timer.until(held.deadline()) => {}
        }
    }
    Ok(())
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
