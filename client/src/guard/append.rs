//! One append under way.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use statemachine::{Op, Outcome};
use tokio::sync::{oneshot, watch};

use crate::Error;
use crate::guard::Guard;
use crate::raw::{Call, Hold, HoldState, Session};

/// An append that has been sent. Await it to know that it is durable: it gives the bytes now pending
/// in the section. Dropped, it goes on.
#[derive(Debug)]
pub struct Append {
    answer: oneshot::Receiver<Result<u64, Error>>,
}

impl Append {
    pub(super) fn start(guard: &Guard, file: &str, data: Bytes) -> Append {
        let (send, answer) = oneshot::channel();
        guard.open.send_modify(|count| *count += 1);
        let opened = Opened {
            open: guard.open.clone(),
        };
        let (session, hold, timeout) = (guard.session.clone(), guard.hold.clone(), guard.timeout);
        let op = Op::Append {
            lock: hold.lock().to_owned(),
            token: hold.token(),
            place: 0,
            file: file.to_owned(),
            data,
        };
        let (call, turn) = guard.turns.start(&session, op);
        guard.session.link().inner.background.spawn(async move {
            let _turn = turn.await;
            drive(&call, &session, &hold, timeout, send).await;
            drop(opened);
        });
        Append { answer }
    }
}

/// Counts as under way until dropped.
struct Opened {
    open: watch::Sender<usize>,
}

impl Drop for Opened {
    fn drop(&mut self) {
        self.open.send_modify(|count| *count -= 1);
    }
}

/// Sees an append through. Its owner hears after one timeout that it is unknown; what came of it is
/// found out all the same, since the places of others depend on it.
async fn drive(
    call: &Call,
    session: &Session,
    hold: &Hold,
    timeout: std::time::Duration,
    send: oneshot::Sender<Result<u64, Error>>,
) {
    let mut send = Some(send);
    let mut tell = |answer| {
        if let Some(send) = send.take() {
            // Whoever dropped the future does not want to know.
            let _ = send.send(answer);
        }
    };
    while session.is_open() && matches!(hold.state(), HoldState::Held(_)) {
        match call.wait(timeout).await {
            Ok(reply) => {
                return tell(match reply.outcome {
                    Outcome::Appended { pending_bytes, .. } => Ok(pending_bytes),
                    _ => Err(Error::BadRequest(
                        "the answer to append is of another kind".into(),
                    )),
                });
            }
            Err(error @ Error::Unknown(_)) => {
                if session.is_open() {
                    tell(Err(error));
                }
            }
            Err(error) => {
                // For good, or certainly not done: dropping the call gives its place to the next.
                return tell(Err(error));
            }
        }
    }
    tell(Err(match call.answer() {
        Some(Err(refusal)) => Error::Refused(refusal),
        // The release may have taken it along.
        _ if hold.is_releasing() => call.unknown("the lock was released meanwhile"),
        _ => Error::Refused(not_held(hold)),
    }));
}

/// The lock was lost while nobody knew whether the append had arrived: it never counts now.
fn not_held(hold: &Hold) -> statemachine::Refusal {
    let why = statemachine::NotHeldWhy::Unknown;
    statemachine::Refusal::NotHeld {
        lock: hold.lock().to_owned(),
        token: hold.token(),
        why,
    }
}

impl Future for Append {
    type Output = Result<u64, Error>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let answer = ready!(Pin::new(&mut self.answer).poll(context));
        Poll::Ready(answer.unwrap_or_else(|_| {
            Err(Error::Unavailable {
                reason: "the runtime has ended".to_owned(),
            })
        }))
    }
}
