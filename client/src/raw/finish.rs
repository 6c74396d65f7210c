//! Calls that must reach their end although nobody waits for them any more.
//!
//! A lock that nobody wants must not stay held until its lease ends, nor a place in a queue until it
//! is granted. So what gives them back is repeated in the background until the service has answered,
//! or the session is given up, and the service ends all that it had.

use std::time::Duration;

use crate::Error;
use crate::clock::BootTime;
use crate::raw::{Call, Session};

/// Between two waits for an answer.
const PAUSE: Duration = Duration::from_millis(50);

/// A call that is seen through in the background if it is dropped unanswered.
#[derive(Debug)]
pub(crate) struct Finish<K: Send + 'static> {
    /// Absent once it has ended.
    work: Option<Work<K>>,
}

#[derive(Debug)]
struct Work<K> {
    session: Session,
    call: Call,
    timeout: Duration,
    /// Kept until the call has ended.
    kept: K,
}

impl<K: Send + 'static> Finish<K> {
    /// `kept` is dropped when the call has ended, and not before.
    pub(crate) fn new(session: Session, call: Call, timeout: Duration, kept: K) -> Finish<K> {
        let work = Work {
            session,
            call,
            timeout,
            kept,
        };
        Finish { work: Some(work) }
    }

    /// Waits for the call as its owner does, for one timeout. What has no certain answer then goes on in the
    /// background.
    pub(crate) async fn wait(mut self) -> Result<(), Error> {
        let work = self.work.as_ref().expect("it ends here");
        let answer = work.call.wait(work.timeout).await.map(drop);
        if is_certain(&answer) {
            self.work = None;
        }
        answer
    }
}

impl<K: Send + 'static> Drop for Finish<K> {
    fn drop(&mut self) {
        if let Some(work) = self.work.take().filter(|it| it.session.is_open()) {
            let background = work.session.link().inner.background.clone();
            background.spawn(see_through(work));
        }
    }
}

async fn see_through<K>(work: Work<K>) {
    let Work {
        session,
        call,
        timeout,
        kept,
    } = work;
    while session.is_open() && !is_certain(&call.wait(timeout).await) {
        tokio::time::sleep(PAUSE).await;
        let deadline = session.deadline();
        if deadline.after(session.ttl()) < BootTime::now() {
            tracing::debug!(session = %session.id(), "session given up: the service is not reached");
            session.give_up();
        }
    }
    drop((call, kept));
}

/// Whether asking again cannot tell more.
fn is_certain<T>(answer: &Result<T, Error>) -> bool {
    !matches!(
        answer,
        Err(Error::Unavailable { .. } | Error::Unknown(_) | Error::NotLeader { .. })
    )
}
