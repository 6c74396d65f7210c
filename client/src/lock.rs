//! Acquiring a lock: at once, in time, or whenever it is free.

use std::fmt;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use futures::future::BoxFuture;
use statemachine::{Op, Outcome, Refusal};

use crate::Error;
use crate::client::Client;
use crate::clock::BootTime;
use crate::guard::Guard;
use crate::lines::Turn;
use crate::pool::Seated;
use crate::raw::{Call, Finish, Hold, Place, Reply, Session};

/// Grants and waits left from others that one acquire clears away.
const STALE_MAX: u32 = 3;

/// A lock by name, and how it is wanted.
#[derive(Clone, Debug)]
pub struct LockRequest {
    client: Client,
    lock: String,
    lease: Option<Duration>,
}

impl LockRequest {
    pub(crate) fn new(client: Client, name: &str) -> LockRequest {
        LockRequest {
            client,
            lock: name.to_owned(),
            lease: None,
        }
    }

    /// How long the lock is held without an append, a renewal or a sign of life of this client.
    /// Default: the cluster's (20 s).
    #[must_use]
    pub fn lease(mut self, lease: Duration) -> LockRequest {
        self.lease = Some(lease);
        self
    }

    /// Waits in the queue for as long as the session lives, also while the service has no leader.
    /// Dropping the future leaves the queue.
    ///
    /// Tasks of one client queue for a lock behind each other. Locks are not reentrant: a task that asks
    /// for what its client holds waits until that is given back.
    ///
    /// # Errors
    ///
    /// [`Error`]; as `queue_full` or `session_expired`, for example.
    pub fn acquire(self) -> Acquire {
        self.start(None)
    }

    /// Acquires the lock if it is free now.
    ///
    /// # Errors
    ///
    /// [`Error`]; refused as `busy` if it is not.
    pub fn try_acquire(self) -> Acquire {
        self.start(Some(Duration::ZERO))
    }

    /// Waits in the queue for so long. The service keeps the time.
    ///
    /// # Errors
    ///
    /// [`Error`]; refused as `wait_timed_out` if the lock was not free in time.
    pub fn acquire_within(self, wait: Duration) -> Acquire {
        self.start(Some(wait))
    }

    fn start(self, wait: Option<Duration>) -> Acquire {
        let started = Started::default();
        let future = Box::pin(run(self, wait, started.clone()));
        Acquire { future, started }
    }
}

/// The call, once it has been sent.
type Started = Arc<Mutex<Option<Call>>>;

/// An acquire under way. Await it for the [`Guard`]; dropped before, it leaves the queue, and a
/// grant that was on its way is given back.
#[must_use = "an acquire does nothing unless awaited"]
pub struct Acquire {
    future: BoxFuture<'static, Result<Guard, Error>>,
    started: Started,
}

impl Acquire {
    /// The place in the queue as told last, 1 for the next; nothing while not waiting.
    pub fn queue_position(&self) -> Option<u64> {
        let started = self.started.lock().unwrap_or_else(PoisonError::into_inner);
        started.as_ref().and_then(Call::position)
    }
}

impl Future for Acquire {
    type Output = Result<Guard, Error>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        self.future.as_mut().poll(context)
    }
}

impl fmt::Debug for Acquire {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Acquire")
            .field("position", &self.queue_position())
            .finish_non_exhaustive()
    }
}

async fn run(
    request: LockRequest,
    mut wait: Option<Duration>,
    started: Started,
) -> Result<Guard, Error> {
    let turn = turn(&request, &mut wait).await?;
    let Seated {
        session,
        turns,
        seat,
    } = request.client.seat().await?;
    turn.by(session.id());
    let place = Place {
        _turn: turn,
        _seat: seat,
    };
    let timeout = request.client.options().timeout;
    let (hold, place) = ask(&request, wait, &session, place, started).await?;
    hold.occupy(place);
    Ok(Guard::new(session, turns, hold, timeout))
}

/// Waits behind the client's other tasks that want the lock.
async fn turn(request: &LockRequest, wait: &mut Option<Duration>) -> Result<Turn, Error> {
    let LockRequest { client, lock, .. } = request;
    match wait {
        None => Ok(client.lines().wait(lock).await),
        Some(Duration::ZERO) => client.lines().try_take(lock).map_err(|holder| {
            Error::Refused(Refusal::Busy {
                lock: lock.clone(),
                holder,
                holder_name: client.options().name.clone(),
            })
        }),
        Some(wait) => {
            let until = BootTime::now().after(*wait);
            let turn = client.lines().wait_for(lock, *wait).await;
            let turn = turn.ok_or(Error::Refused(Refusal::WaitTimedOut))?;
            // Whoever has waited here waits so much less there, but is not told that the lock is busy.
            *wait = until.left(BootTime::now()).max(Duration::from_millis(1));
            Ok(turn)
        }
    }
}

/// Asks the service. The place is handed back with the grant.
async fn ask(
    request: &LockRequest,
    wait: Option<Duration>,
    session: &Session,
    place: Place,
    started: Started,
) -> Result<(Hold, Place), Error> {
    let LockRequest {
        client,
        lock,
        lease,
    } = request;
    let timeout = client.options().timeout;
    let mut place = Some(place);
    for _ in 0..STALE_MAX {
        let call = session.acquire(lock, *lease, wait);
        *started.lock().unwrap_or_else(PoisonError::into_inner) = Some(call.clone());
        let mut leave = Leave {
            session: session.clone(),
            call: call.clone(),
            timeout,
            place: place.take(),
            armed: true,
        };
        let answer = match wait {
            None => call.wait_while_open(timeout).await,
            Some(wait) => wait_within(&call, wait, timeout).await,
        };
        if let Ok(_) | Err(Error::Refused(_)) = &answer {
            leave.armed = false;
        }
        match answer {
            // Left from a guard that was dropped or is taken for lost; the service does not know yet.
            Err(Error::Refused(Refusal::AlreadyHeld { token }))
                if !session.is_wanted(lock, token) =>
            {
                place = leave.place.take();
                let _ = session.abort(lock, token).wait(timeout).await;
            }
            // Left from an acquire that was dropped, likewise.
            Err(Error::Refused(Refusal::AlreadyWaiting { seq })) if session.is_leaving(seq) => {
                place = leave.place.take();
                let _ = session.start(Op::Cancel { seq }).wait(timeout).await;
            }
            answer => {
                let Outcome::Granted { token, .. } = answer?.outcome else {
                    return Err(Error::BadRequest(
                        "the answer to acquire is of another kind".into(),
                    ));
                };
                let place = leave.place.take().expect("it was put there");
                let hold = session.hold(lock, token);
                let hold = hold.ok_or_else(|| Error::Refused(gone(lock, token)))?;
                return Ok((hold, place));
            }
        }
    }
    Err(Error::Unavailable {
        reason: format!("lock {lock} is not free of earlier calls of this session"),
    })
}

/// The service keeps the time in its queue. An outage in between is waited out as long as the answer may
/// still be a grant.
async fn wait_within(call: &Call, wait: Duration, timeout: Duration) -> Result<Reply, Error> {
    let until = BootTime::now().after(wait);
    loop {
        match call.wait(timeout).await {
            Err(Error::Unavailable { .. } | Error::Unknown(_)) if BootTime::now() < until => {}
            answer => return answer,
        }
    }
}

/// The grant came together with the news that it is over.
fn gone(lock: &str, token: statemachine::Token) -> statemachine::Refusal {
    let why = statemachine::NotHeldWhy::Unknown;
    statemachine::Refusal::NotHeld {
        lock: lock.to_owned(),
        token,
        why,
    }
}

/// Leaves the queue when dropped, unless the acquire has been answered.
struct Leave {
    session: Session,
    call: Call,
    timeout: Duration,
    place: Option<Place>,
    armed: bool,
}

impl Drop for Leave {
    fn drop(&mut self) {
        if !self.armed || !self.session.is_open() {
            return;
        }
        let cancel = self.session.cancel(&self.call);
        // The acquire is given up only then: until the cancel is answered, that is what ends it.
        let kept = self.call.clone();
        self.session.leave(self.call.seq());
        drop(Finish::new(
            self.session.clone(),
            cancel,
            self.timeout,
            kept,
        ));
    }
}
