//! A lock that this process holds: taken, appended to, given back.

use std::time::Duration;

use bytes::Bytes;
use client::LostWhy;
use client::clock::BootTime;
use client::raw::{Hold, HoldState, Session};
use statemachine::{Outcome, Token};
use tokio::sync::watch;

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
    /// Takes a lock, standing in its queue for `wait`, or for ever. `moved` hears of each place there.
    ///
    /// Dropping the future leaves the session in the queue until it is closed.
    pub(crate) async fn take(
        session: &Session,
        lock: &str,
        lease: Option<Duration>,
        wait: Option<Duration>,
        timeout: Duration,
        mut moved: impl AsyncFnMut(u64),
    ) -> Result<Held, Failure> {
        let call = session.acquire(lock, lease, wait);
        let mut positions = call.positions();
        let following = async {
            while positions.changed().await.is_ok() {
                let position = *positions.borrow_and_update();
                if let Some(position) = position {
                    moved(position).await;
                }
            }
            std::future::pending().await
        };
        let reply = tokio::select! {
            biased;
            reply = call.wait(timeout) => reply?,
            never = following => never,
        };
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
        self.lost().is_some()
    }

    /// Why it is no longer held, once that is so.
    pub(crate) fn lost(&self) -> Option<LostWhy> {
        match self.hold.state() {
            HoldState::Lost(why) => Some(why),
            _ => None,
        }
    }

    /// Follows renewals and the loss.
    pub(crate) fn changes(&self) -> watch::Receiver<HoldState> {
        self.hold.watch()
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

    /// Applies the section and frees the lock. If no answer comes in time, asks once more what came of it.
    pub(crate) async fn release(&self) -> Result<Receipt, Failure> {
        let call = self.session.release(self.hold.lock(), self.token());
        let mut answer = call.wait(self.timeout).await;
        if let Err(client::Error::Unknown(unknown)) = &answer {
            let unknown = unknown.clone();
            answer = unknown.settle(self.timeout).await;
        }
        let reply = answer?;
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
