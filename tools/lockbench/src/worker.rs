//! One client: a session, its lock and its file.

use std::rc::Rc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use client::Error;
use client::clock::BootTime;
use client::raw::{Call, Hold, Link, Session};
use statemachine::{Op, Outcome, Refusal, Token};

use crate::exclusion::Witness;

/// How long a call may go unanswered before it counts as failed.
const TIMEOUT: Duration = Duration::from_secs(10);

/// After a failure, lest a broken cluster be hammered.
const REST: Duration = Duration::from_millis(10);

pub(crate) struct Worker {
    link: Link,
    session: Session,
    pub(crate) lock: String,
    pub(crate) file: String,
    pub(crate) payload: Bytes,
    witness: Rc<Witness>,
}

/// How long the parts of a cycle took.
pub(crate) struct CycleTook {
    pub(crate) acquire: Duration,
    pub(crate) append: Duration,
    pub(crate) release: Duration,
}

impl Worker {
    pub(crate) async fn connect(
        link: Link,
        lock: String,
        file: String,
        payload: Bytes,
        witness: Rc<Witness>,
    ) -> Result<Worker, Error> {
        let session = Session::open(&link, None, "lockbench", TIMEOUT).await?;
        Ok(Worker {
            link,
            session,
            lock,
            file,
            payload,
            witness,
        })
    }

    /// Makes its file, guarded by its lock, unless it is there.
    pub(crate) async fn create_file(&self) -> Result<(), Error> {
        let op = Op::CreateFile {
            file: self.file.clone(),
            guard: Some(self.lock.clone()),
        };
        match self.session.start(op).wait(TIMEOUT).await {
            Ok(_) | Err(Error::Refused(Refusal::Exists { .. })) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Acquire, append, release.
    pub(crate) async fn cycle(&self) -> Result<CycleTook, Error> {
        let start = Instant::now();
        let token = self.acquire().await?;
        let acquired = Instant::now();
        let appended = self
            .start_append(token)
            .wait(TIMEOUT)
            .await
            .map(|_| Instant::now());
        let released = match appended {
            Ok(_) => self.release(token).await,
            Err(_) => {
                self.witness.leave(token.0);
                Ok(())
            }
        };
        let ended = Instant::now();
        let appended = appended?;
        released?;
        Ok(CycleTook {
            acquire: acquired - start,
            append: appended - acquired,
            release: ended - appended,
        })
    }

    /// Takes the lock, waiting for as long as it takes.
    pub(crate) async fn acquire(&self) -> Result<Token, Error> {
        let reply = self
            .session
            .acquire(&self.lock, None, None)
            .wait(TIMEOUT)
            .await?;
        let Outcome::Granted { token, .. } = reply.outcome else {
            return Err(Error::BadRequest(
                "the answer to acquire is of another kind".to_owned(),
            ));
        };
        self.enter(token);
        Ok(token)
    }

    fn enter(&self, token: Token) {
        let hold = self.session.hold(&self.lock, token);
        let session = self.session.clone();
        let believes = move |hold: &Hold| session.hold_deadline(hold) > BootTime::now();
        self.witness.enter(
            token.0,
            Box::new(move || hold.as_ref().is_some_and(&believes)),
        );
    }

    pub(crate) fn start_append(&self, token: Token) -> Call {
        self.session
            .append(&self.lock, token, &self.file, self.payload.clone())
    }

    pub(crate) async fn wait(&self, call: &Call) -> Result<(), Error> {
        call.wait(TIMEOUT).await.map(drop)
    }

    /// Applies the section.
    pub(crate) async fn release(&self, token: Token) -> Result<(), Error> {
        self.witness.leave(token.0);
        self.session
            .release(&self.lock, token)
            .wait(TIMEOUT)
            .await
            .map(drop)
    }

    /// After a failure: nothing is held any more, and there is a session again.
    pub(crate) async fn recover(&mut self) {
        tokio::time::sleep(REST).await;
        // Whatever the old one held, and whatever is unknown about it, ends with it.
        _ = self.session.close(TIMEOUT).await;
        if let Ok(session) = Session::open(&self.link, None, "lockbench", TIMEOUT).await {
            self.session = session;
        }
    }

    pub(crate) async fn close(self) {
        _ = self.session.close(Duration::from_secs(1)).await;
    }
}
