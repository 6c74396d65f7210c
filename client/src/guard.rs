//! A held lock: appends, renewal, release; and knowing when it is lost.

mod append;
mod turns;

use std::time::{Duration, Instant};

use bytes::Bytes;
use statemachine::{Outcome, Refusal, Token};
use tokio::sync::watch;

use crate::Error;
use crate::clock::{BootTime, sleep_until};
use crate::raw::{Finish, Hold, HoldState, LostWhy, Session};

pub(crate) use turns::Turns;

pub use append::Append;

/// A lock that is held. Dropped, it is given back in the background and what was appended is
/// discarded.
#[derive(Debug)]
pub struct Guard {
    session: Session,
    hold: Hold,
    timeout: Duration,
    turns: Turns,
    /// How many appends have no answer yet.
    open: watch::Sender<usize>,
    /// Whether dropping gives it back.
    armed: bool,
}

/// What a release did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Receipt {
    /// The slot in which the section was applied.
    pub slot: u64,
    /// Each file appended to, with its new length in bytes.
    pub lengths: Vec<(String, u64)>,
}

impl Guard {
    pub(crate) fn new(session: Session, turns: Turns, hold: Hold, timeout: Duration) -> Guard {
        Guard {
            session,
            hold,
            timeout,
            turns,
            open: watch::Sender::new(0),
            armed: true,
        }
    }

    /// The lock's name.
    pub fn lock(&self) -> &str {
        self.hold.lock()
    }

    /// The number of the grant; it only ever grows, so that whoever is written to can refuse an
    /// older one.
    pub fn token(&self) -> Token {
        self.hold.token()
    }

    /// Until when the lock is certainly held, the earlier of lease and session, by this machine's
    /// clock. It moves on with appends, renewals and the signs of life sent in the background.
    pub fn deadline(&self) -> Instant {
        let now = Instant::now();
        now.checked_add(self.left()).unwrap_or(now)
    }

    /// How long the lock is certainly held from now on; zero if that cannot be said.
    pub fn left(&self) -> Duration {
        self.session.hold_deadline(&self.hold).left(BootTime::now())
    }

    /// Whether the lock is certainly held now.
    pub fn is_valid(&self) -> bool {
        !self.left().is_zero()
    }

    /// Resolves once the lock is, or may be, lost: its deadline has passed by our own clock, or the
    /// service said that it or the session has ended.
    pub fn lost(&self) -> impl Future<Output = LostWhy> + Send + use<> {
        lost(self.session.clone(), self.hold.clone())
    }

    /// Adds to the section: sent now, in the order of the calls; applied by [`Guard::release`]. Await
    /// it to know that it is durable. Several may be under way; a refused one does not spoil the
    /// others.
    ///
    /// # Errors
    ///
    /// [`Error`]; refused as `no_such_file`, `wrong_guard`, `too_large`, `not_held` among others.
    pub fn append(&self, file: &str, data: impl AsRef<[u8]>) -> Append {
        let data = Bytes::copy_from_slice(data.as_ref());
        Append::start(self, file, data)
    }

    /// Starts the lease anew.
    ///
    /// # Errors
    ///
    /// [`Error`]; refused as `not_held` if the lock is lost.
    pub async fn renew(&self) -> Result<(), Error> {
        let call = self.session.renew(self.lock(), self.token());
        call.wait(self.timeout).await.map(drop)
    }

    /// Applies all that was appended, in order, in one slot, and gives the lock back. Appends that
    /// are under way are waited for; refused ones are not part of it.
    ///
    /// # Errors
    ///
    /// [`Error`]; refused as `not_held` if the lock was lost: then nothing was applied, ever. After
    /// [`Error::Unknown`] its `settle` asks again, also after the lease and the session have ended. After any other error, and if
    /// the future is dropped before the service has the release, the section is discarded.
    pub async fn release(mut self) -> Result<Receipt, Error> {
        self.appends_answered().await;
        let call = self.session.release(self.lock(), self.token());
        let answer = call.wait(self.timeout).await;
        self.armed = match &answer {
            Ok(_) | Err(Error::Refused(Refusal::NotHeld { .. } | Refusal::SessionExpired)) => false,
            Err(Error::Unknown(_)) => {
                // Whether it is applied is for `settle` to find out, or for the lease's end.
                self.hold.set_renew(false);
                false
            }
            Err(_) => true,
        };
        match answer?.outcome {
            Outcome::Released { slot, lengths } => Ok(Receipt {
                slot: slot.0,
                lengths,
            }),
            _ => Err(Error::BadRequest(
                "the answer to release is of another kind".to_owned(),
            )),
        }
    }

    /// Discards all that was appended and gives the lock back. It is not renewed any more, and the
    /// abort is repeated in the background until it is certain, also if the future is dropped.
    ///
    /// # Errors
    ///
    /// [`Error`]; refused as `not_held` if the lock was lost: then nothing was applied either.
    pub async fn abort(mut self) -> Result<(), Error> {
        let finish = self.finish();
        self.armed = false;
        finish.wait().await
    }

    /// The session that holds it.
    pub fn session(&self) -> &Session {
        &self.session
    }

    /// Starts an abort that goes on until it is certain, also if nobody waits for it.
    fn finish(&self) -> Finish<()> {
        self.hold.set_unwanted();
        let call = self.session.abort(self.lock(), self.token());
        Finish::new(self.session.clone(), call, self.timeout, ())
    }

    async fn appends_answered(&self) {
        let mut open = self.open.subscribe();
        // Not for longer than an answer may take: a release that overtakes is refused and repeated.
        let answered = open.wait_for(|&count| count == 0);
        let _ = tokio::time::timeout(self.timeout, answered).await;
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        if !self.armed || !matches!(self.hold.state(), HoldState::Held(_)) {
            return;
        }
        drop(self.finish());
    }
}

async fn lost(session: Session, hold: Hold) -> LostWhy {
    let mut state = hold.watch();
    loop {
        let deadline = match state.borrow_and_update().clone() {
            HoldState::Held(_) => session.hold_deadline(&hold),
            HoldState::Lost(why) => return why,
            // Given back: nothing is left to lose, so whoever still asks learns that it is over.
            HoldState::Ended => return LostWhy::NotHeld(None),
        };
        if deadline <= BootTime::now() {
            return LostWhy::Deadline;
        }
        tokio::select! {
            () = sleep_until(deadline) => {}
            changed = state.changed() => drop(changed),
        }
    }
}
