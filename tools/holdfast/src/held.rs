//! A lock that this process holds: taken, appended to, given back.

use std::time::Duration;

use bytes::Bytes;
use client::clock::BootTime;
use client::raw::{Hold, HoldState, Session};
use statemachine::{Outcome, Token};

use crate::context::unexpected;
use crate::failure::Failure;
use crate::section::Appender;

/// A grant, with the session that has it.
#[derive(Debug, Clone)]
pub(crate) struct Held {
    session: Session,
    hold: Hold,
    timeout: Duration,
}

/// What a release did.
#[derive(Debug)]
pub(crate) struct Receipt {
    /// The slot in which the section was applied.
    pub(crate) slot: u64,
    /// The new length of each file.
    pub(crate) lengths: Vec<(String, u64)>,
}

impl Held {
    /// Takes a lock, standing in its queue for `wait`, or for ever.
    ///
    /// Dropping the future leaves the session in the queue until it is closed.
    pub(crate) async fn take(
        session: &Session,
        lock: &str,
        lease: Option<Duration>,
        wait: Option<Duration>,
        timeout: Duration,
    ) -> Result<Held, Failure> {
        let reply = session.acquire(lock, lease, wait).wait(timeout).await?;
        let Outcome::Granted { token, .. } = reply.outcome else {
            return Err(unexpected("acquire"));
        };
        let hold = session.hold(lock, token);
        let hold = hold.ok_or_else(|| {
            Failure::new("lost", format_args!("lock {lock}: lost as soon as granted"))
        })?;
        Ok(Held {
            session: session.clone(),
            hold,
            timeout,
        })
    }

    pub(crate) fn token(&self) -> Token {
        self.hold.token()
    }

    /// The agreed lease.
    pub(crate) fn lease(&self) -> Duration {
        self.hold.lease()
    }

    /// Until when, by this machine's clock, the lock is certainly held, as known now. After it was lost, the last
    /// such time is gone, and this is long past.
    pub(crate) fn deadline(&self) -> BootTime {
        self.session.hold_deadline(&self.hold)
    }

    /// Whether the service has said that it is no longer held.
    pub(crate) fn is_lost(&self) -> bool {
        matches!(self.hold.state(), HoldState::Lost(_))
    }

    /// Resolves once the service has said so.
    pub(crate) async fn lost(&self) {
        let mut state = self.hold.watch();
        // The sender lives as long as the hold, which this has.
        _ = state
            .wait_for(|state| matches!(state, HoldState::Lost(_)))
            .await;
    }

    /// Why it was lost, for people.
    pub(crate) fn lost_why(&self) -> Failure {
        let why = match self.hold.state() {
            HoldState::Lost(why) => why.to_string(),
            _ => "no sign of the service before its deadline".to_owned(),
        };
        Failure::new(
            "lost",
            format_args!("lock {} was lost: {why}", self.hold.lock()),
        )
    }

    /// Applies the section and frees the lock.
    pub(crate) async fn release(&self) -> Result<Receipt, Failure> {
        let call = self.session.release(self.hold.lock(), self.token());
        let reply = call.wait(self.timeout).await?;
        match reply.outcome {
            Outcome::Released { slot, lengths } => Ok(Receipt {
                slot: slot.0,
                lengths,
            }),
            _ => Err(unexpected("release")),
        }
    }
}

impl Appender for Held {
    async fn append(&self, file: &str, data: Bytes) -> Result<(), Failure> {
        let call = self
            .session
            .append(self.hold.lock(), self.token(), file, data);
        call.wait(self.timeout).await?;
        Ok(())
    }
}

/// Ends a session, and with it whatever it holds or waits for, without making anybody wait for long.
pub(crate) async fn close(session: &Session) {
    const PATIENCE: Duration = Duration::from_secs(1);
    // It would end by itself; nothing depends on hearing that it did.
    _ = session.close(PATIENCE).await;
}
