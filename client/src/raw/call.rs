//! One numbered call of a session, from its first attempt to its answer.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use net::RequestBody;
use statemachine::{
    ClusterTime, Command, Fate, NotHeldWhy, Op, Outcome, Refusal, Seq, Slot, Token,
};
use tokio::sync::watch;

use crate::Error;
use crate::clock::BootTime;
use crate::error::UnknownCall;
use crate::raw::exchange::{Ended, Exchange};
use crate::raw::link::{Link, Route};
use crate::raw::pace::Pace;
use crate::raw::session::{self, Session, decode_outcome};

/// Wait before a call that was out of order is sent again.
const OVERTAKEN: Duration = Duration::from_millis(3);
/// Out of order so often with nothing open before it: the count itself is wrong.
const OUT_OF_ORDER_MAX: u32 = 5;

/// A success of the service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    /// The slot that decided it.
    pub slot: Slot,
    /// What came of it; never a refusal.
    pub outcome: Outcome,
}

/// A call under way or answered. Clones share it.
///
/// It has been sent when it is made, if a connection was there; nothing more happens until somebody
/// waits. When the last clone is dropped unanswered, the call is given up: the service is told
/// with the next command that it is never to run (a waiting acquire leaves its queue then).
#[derive(Clone, Debug)]
pub struct Call {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    session: Arc<session::Inner>,
    seq: Seq,
    op: Op,
    position: watch::Sender<Option<u64>>,
    running: tokio::sync::Mutex<Exchange>,
    answer: Mutex<Option<Result<Reply, Refusal>>>,
}

impl Call {
    pub(crate) fn start(session: &Session, route: Route, op: Op) -> Call {
        let _leaving = session
            .inner
            .leaving
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let call = Call::prepare(session, route, op);
        call.send();
        call
    }

    pub(crate) fn prepare(session: &Session, route: Route, op: Op) -> Call {
        let session = session.inner.clone();
        let pace = session.pace(&op);
        let inner = Inner {
            seq: session.number(&op),
            op,
            position: watch::Sender::new(None),
            running: tokio::sync::Mutex::new(Exchange::new(&session.link, route, pace)),
            answer: Mutex::new(None),
            session,
        };
        Call {
            inner: Arc::new(inner),
        }
    }

    /// Sends it from this very thread, if a connection is there and nobody waits for it yet.
    pub(crate) fn send(&self) {
        if let Ok(mut exchange) = self.inner.running.try_lock() {
            exchange.send_now(|| self.inner.body());
        }
    }

    /// Its number in the session.
    pub fn seq(&self) -> Seq {
        self.inner.seq
    }

    /// What it asks for.
    pub fn op(&self) -> &Op {
        &self.inner.op
    }

    /// The place in a lock's queue as told last, 1 for the next.
    pub fn position(&self) -> Option<u64> {
        *self.inner.position.borrow()
    }

    /// Follows the place in a lock's queue.
    pub fn positions(&self) -> watch::Receiver<Option<u64>> {
        self.inner.position.subscribe()
    }

    /// That nobody knows what became of it.
    pub(crate) fn unknown(&self, reason: &str) -> Error {
        Error::Unknown(UnknownCall {
            reason: reason.to_owned(),
            call: Some(self.clone()),
        })
    }

    /// The answer, once it is there.
    pub fn answer(&self) -> Option<Result<Reply, Refusal>> {
        self.inner
            .answer
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Waits for the answer, asking again as needed: at most for `timeout` after the last sign that
    /// the service has the call. A place in a queue is such a sign, so that an acquire waits on.
    ///
    /// Dropping the future loses nothing, and waiting again goes on.
    ///
    /// # Errors
    ///
    /// [`Error::Refused`] for good. [`Error::Unavailable`] and [`Error::Unknown`] if time is up;
    /// then it can be waited for again.
    pub async fn wait(&self, timeout: Duration) -> Result<Reply, Error> {
        let mut exchange = self.inner.running.lock().await;
        if let Some(answer) = self.answer() {
            return answer.map_err(Error::Refused);
        }
        let answer = self.inner.run(&mut exchange, timeout).await;
        answer.map_err(|ended| match ended {
            Failure::Error(error) => error,
            Failure::Unknown(reason) => Error::Unknown(UnknownCall {
                reason,
                call: Some(self.clone()),
            }),
        })
    }

    /// As [`Call::wait`], but an answer is waited for as long as the session lives, also while there
    /// is no leader.
    ///
    /// # Errors
    ///
    /// [`Error::Refused`] for good; [`Error::Unknown`] if the session has ended.
    pub async fn wait_while_open(&self, timeout: Duration) -> Result<Reply, Error> {
        loop {
            match self.wait(timeout).await {
                Err(Error::Unavailable { .. } | Error::Unknown(_))
                    if !self.inner.session.is_over() => {}
                answer => return answer,
            }
        }
    }

    /// As [`Call::wait`], but sends the same request again at once.
    ///
    /// # Errors
    ///
    /// As [`Call::wait`].
    pub async fn settle(&self, timeout: Duration) -> Result<Reply, Error> {
        self.inner.running.lock().await.repeat();
        self.wait(timeout).await
    }
}

/// What an outcome says of the call, over all its attempts.
#[derive(Debug, PartialEq, Eq)]
enum Meaning {
    /// It is the call's one answer.
    Answer,
    /// Nothing is remembered of this attempt, and it may be sent again.
    OutOfOrder,
    /// It speaks of this attempt alone, and another one may have been done.
    Nothing,
}

/// What an answer to one attempt says of the call. `doubt`: another attempt may have been done.
///
/// The service remembers what a numbered command came to, and repeats it to every attempt. These
/// refusals alone are given without looking at what it remembers.
fn meaning(outcome: &Outcome, doubt: bool) -> Meaning {
    match outcome {
        Outcome::Refused(Refusal::OutOfOrder { .. }) => Meaning::OutOfOrder,
        // Some attempt ran, or the call was given up; with which result is no longer known.
        Outcome::Refused(Refusal::Forgotten) => Meaning::Nothing,
        Outcome::Refused(
            Refusal::SessionExpired | Refusal::TooManyInFlight { .. } | Refusal::BadRequest { .. },
        ) if doubt => Meaning::Nothing,
        _ => Meaning::Answer,
    }
}

enum Failure {
    Error(Error),
    Unknown(String),
}

impl Inner {
    async fn run(&self, exchange: &mut Exchange, timeout: Duration) -> Result<Reply, Failure> {
        let body = || self.body();
        let waiting = |position| {
            self.position.send_replace(Some(position));
        };
        let until = BootTime::now().after(timeout);
        let mut out_of_order = 0;
        loop {
            let left = until.left(BootTime::now()).max(Duration::from_millis(1));
            let patience = if self.waits() { timeout } else { left };
            let (body, mail) = exchange
                .ask(patience, &body, &waiting)
                .await
                .map_err(failure)?;
            let (reply, stamp) = decode_outcome(body).map_err(Failure::Error)?;
            self.session.heard(mail.sent, stamp);
            let doubt = exchange.perhaps_done() && !self.is_void_after(&reply.outcome);
            match meaning(&reply.outcome, doubt) {
                Meaning::Answer => return self.finish(reply, mail.sent),
                Meaning::Nothing => return self.doubt(&reply.outcome, left).await,
                Meaning::OutOfOrder => {}
            }
            // Nothing is remembered of it, so that the same number may be sent again.
            exchange.repeat();
            let overtook = self.let_pass(exchange).await;
            out_of_order = if overtook { 0 } else { out_of_order + 1 };
            if out_of_order > OUT_OF_ORDER_MAX {
                return self.finish(reply, mail.sent);
            }
            if BootTime::now() >= until {
                return Err(Failure::Unknown(
                    "an earlier append has no answer".to_owned(),
                ));
            }
        }
    }

    /// Out of order: waits for what comes before, and sends it again. Returns whether there was
    /// anything to wait for.
    async fn let_pass(&self, exchange: &mut Exchange) -> bool {
        let (lock, token, seq) = match &self.op {
            Op::Append { lock, token, .. } => (lock, *token, Some(self.seq)),
            Op::Release { lock, token, .. } => (lock, *token, None),
            _ => return false,
        };
        let Some(hold) = self.session.find(lock, token) else {
            return false;
        };
        let overtook = hold.section(|section| section.open_before(seq));
        hold.move_section(|section| section.out_of_order(self.seq));
        hold.turn(seq).await;
        if !overtook {
            tokio::time::sleep(OVERTAKEN).await;
        }
        exchange.send_now(|| self.body());
        hold.move_section(|section| section.sent_again(self.seq));
        overtook
    }

    /// The service cannot say what became of an earlier attempt.
    async fn doubt(&self, outcome: &Outcome, timeout: Duration) -> Result<Reply, Failure> {
        let Outcome::Refused(refusal) = outcome else {
            unreachable!("only refusals say nothing of earlier attempts");
        };
        if *refusal == Refusal::SessionExpired {
            self.session.expired();
            if let Op::Release { lock, token, .. } = &self.op {
                return self.by_token(lock, *token, timeout).await;
            }
        }
        Err(Failure::Unknown(format!(
            "an attempt was sent and not answered, and a later one was refused: {refusal}"
        )))
    }

    /// The session is gone, and with it the answer to the release. How the grant ended is remembered for
    /// longer.
    async fn by_token(
        &self,
        lock: &str,
        token: Token,
        timeout: Duration,
    ) -> Result<Reply, Failure> {
        let (lock, unknown) = (lock.to_owned(), |why: String| Err(Failure::Unknown(why)));
        let command = Command::Settle {
            lock: lock.clone(),
            token,
        };
        let pace = Pace::of(self.session.ttl());
        let bytes = command.encode().into();
        let (reply, sent, _) = match ask_once(&self.session.link, pace, bytes, timeout).await {
            Ok(answer) => answer,
            Err(error) => return unknown(format!("how the grant ended is not answered: {error}")),
        };
        let outcome = match reply.outcome {
            Outcome::Settled {
                fate: Fate::Done { slot, lengths },
            } => Outcome::Released {
                slot,
                lengths: lengths.unwrap_or_default(),
            },
            Outcome::Settled { fate: Fate::Never } => Outcome::Refused(Refusal::NotHeld {
                lock,
                token,
                why: NotHeldWhy::Unknown,
            }),
            _ => return unknown("the service no longer remembers how the grant ended".to_owned()),
        };
        let slot = reply.slot;
        self.finish(Reply { slot, outcome }, sent)
    }

    fn body(&self) -> RequestBody {
        RequestBody::Command(self.session.command(self.seq, &self.op))
    }

    fn finish(&self, reply: Reply, sent: BootTime) -> Result<Reply, Failure> {
        self.session
            .settled(self.seq, &self.op, &reply.outcome, sent);
        let answer = match reply.outcome {
            Outcome::Refused(refusal) => Err(refusal),
            outcome => Ok(Reply {
                slot: reply.slot,
                outcome,
            }),
        };
        *self.answer.lock().unwrap_or_else(PoisonError::into_inner) = Some(answer.clone());
        self.position.send_replace(None);
        self.session.done(self.seq);
        answer.map_err(|refusal| Failure::Error(Error::Refused(refusal)))
    }

    /// Whether nothing can be left of this call, even if an attempt was done: what an acquire was
    /// granted, or where it waited, ended with its session.
    fn is_void_after(&self, outcome: &Outcome) -> bool {
        matches!(&self.op, Op::Acquire { .. })
            && matches!(outcome, Outcome::Refused(Refusal::SessionExpired))
    }

    fn waits(&self) -> bool {
        matches!(&self.op, Op::Acquire { wait_ms, .. } if *wait_ms != Some(0))
    }

    /// Unanswered and not wanted any more: from now on it will not run.
    fn give_up(&self) {
        let answered = self
            .answer
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .is_some();
        if !answered {
            self.session.given_up(self.seq, &self.op);
        }
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.give_up();
    }
}

fn failure(ended: Ended) -> Failure {
    match ended {
        Ended::Timeout {
            perhaps_done: true,
            reason,
        } => Failure::Unknown(reason),
        Ended::Timeout {
            perhaps_done: false,
            reason,
        } => Failure::Error(Error::Unavailable { reason }),
        Ended::NotLeader(leader) => Failure::Error(Error::NotLeader { leader }),
        Ended::Bad(reason) => Failure::Error(Error::BadRequest(reason)),
    }
}

/// As an error of a request that has no number.
pub(crate) fn unnumbered(ended: Ended) -> Error {
    match failure(ended) {
        Failure::Error(error) => error,
        Failure::Unknown(reason) => Error::Unknown(UnknownCall { reason, call: None }),
    }
}

/// Asks an unnumbered command until it is answered. Returns the answer with its attempt's sending
/// time and stamp.
pub(crate) async fn ask_once(
    link: &Link,
    pace: Pace,
    command: Bytes,
    timeout: Duration,
) -> Result<(Reply, BootTime, Option<ClusterTime>), Error> {
    let mut exchange = Exchange::new(link, link.route(), pace);
    let body = || RequestBody::Command(command.clone());
    let (body, mail) = exchange
        .ask(timeout, &body, &|_| ())
        .await
        .map_err(unnumbered)?;
    let (reply, stamp) = decode_outcome(body)?;
    match reply.outcome {
        Outcome::Refused(refusal) => Err(Error::Refused(refusal)),
        outcome => Ok((
            Reply {
                slot: reply.slot,
                outcome,
            },
            mail.sent,
            stamp,
        )),
    }
}
