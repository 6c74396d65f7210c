//! Many sessions that only hold locks and stay alive, kept by few tasks.
//!
//! Each session is one client's as far as the service can tell; only their signs of life travel together, some
//! sessions in a request, because a driver that sent each alone would need the processor more than the service does.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use client::Error;
use client::raw::{Link, Reply};
use futures::future::try_join_all;
use statemachine::{Beat, Command, Done, LockMode, Op, Outcome, Refusal, Seq, SessionId, Token};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

/// How long a session may take to be opened, and a lock to be granted.
const TIMEOUT: Duration = Duration::from_secs(30);
/// How often a request that nobody answered is repeated.
const ASKED_MAX: u32 = 5;
/// After a sign of life that nobody answered.
const REST: Duration = Duration::from_millis(50);
/// Connections that the crowd shares.
const LINKS: usize = 8;
/// Batches that are loaded at a time.
const LOADING: usize = 8;

/// What the crowd is to be.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Size {
    pub(crate) sessions: u64,
    pub(crate) locks: u64,
    pub(crate) ttl: Duration,
    /// Sessions whose signs of life share a request.
    pub(crate) batch: u64,
}

/// What became of the crowd so far.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    pub(crate) sessions: Cell<u64>,
    pub(crate) locks: Cell<u64>,
    /// Signs of life that were answered, by session.
    pub(crate) beats: Cell<u64>,
    /// Sessions that the service says have ended.
    pub(crate) sessions_lost: Cell<u64>,
    /// Locks that the service says are no longer theirs.
    pub(crate) locks_lost: Cell<u64>,
    /// Requests that had to be sent again.
    pub(crate) again: Cell<u64>,
    /// The longest time between two signs of life of a session that were answered.
    pub(crate) longest: Cell<Duration>,
    over: Cell<bool>,
}

fn add(count: &Cell<u64>, more: u64) {
    count.set(count.get() + more);
}

/// Sessions that are kept alive until told otherwise.
pub(crate) struct Crowd {
    pub(crate) counts: Rc<Counts>,
    keepers: JoinSet<()>,
}

impl Crowd {
    /// Opens all sessions and acquires all locks. Who is there is kept alive from the start.
    ///
    /// # Errors
    ///
    /// The first refusal.
    pub(crate) async fn gather(size: Size, link: impl Fn() -> Link) -> Result<Crowd, String> {
        let links: Vec<Link> = (0..LINKS).map(|_| link()).collect();
        let counts = Rc::new(Counts::default());
        let fault: Rc<RefCell<Option<String>>> = Rc::default();
        let mut keepers = JoinSet::new();
        let places = Arc::new(Semaphore::new(LOADING));
        for batch in 0..size.sessions.div_ceil(size.batch) {
            let place = places.clone().acquire_owned().await;
            if fault.borrow().is_some() {
                break;
            }
            let first = batch * size.batch;
            let members = first..(first + size.batch).min(size.sessions);
            let link = links[usize::try_from(batch).unwrap_or(0) % LINKS].clone();
            let (counts, fault) = (counts.clone(), fault.clone());
            keepers.spawn_local(async move {
                let joined = members.map(|member| join(&link, size, member, &counts));
                match try_join_all(joined).await {
                    Ok(beats) => {
                        drop(place);
                        let locks: usize = beats.iter().map(|beat| beat.tokens.len()).sum();
                        add(&counts.sessions, beats.len() as u64);
                        add(&counts.locks, locks as u64);
                        keep(link, size.ttl / 3, beats, counts).await;
                    }
                    Err(error) => {
                        fault.borrow_mut().get_or_insert(error.to_string());
                    }
                }
            });
        }
        // All are loaded once every place is free again.
        _ = places.acquire_many(LOADING as u32).await;
        match fault.take() {
            Some(fault) => Err(format!("loading the crowd: {fault}")),
            None => Ok(Crowd { counts, keepers }),
        }
    }

    /// From now on nobody of the crowd gives a sign of life.
    pub(crate) async fn fall_silent(mut self) -> Rc<Counts> {
        self.counts.over.set(true);
        self.keepers.shutdown().await;
        self.counts
    }
}

/// Opens one session and acquires its share of the locks. One that ends before all are there was never of the
/// crowd: a driver that is overloaded while it loads must not count as a loss.
async fn join(link: &Link, size: Size, member: u64, counts: &Counts) -> Result<Beat, Error> {
    loop {
        match join_once(link, size, member, counts).await {
            Err(Error::Refused(Refusal::SessionExpired)) => add(&counts.again, 1),
            joined => return joined,
        }
    }
}

async fn join_once(link: &Link, size: Size, member: u64, counts: &Counts) -> Result<Beat, Error> {
    let open = Command::Open {
        nonce: rand::random(),
        ttl_ms: u64::try_from(size.ttl.as_millis()).unwrap_or(u64::MAX),
        name: format!("crowd {member}"),
    };
    let reply = ask(link, &open, size.ttl, counts).await?;
    let Outcome::Opened { session, .. } = reply.outcome else {
        return Err(Error::BadRequest("no session in the answer".to_owned()));
    };
    let mut tokens = Vec::new();
    let share = member * size.locks / size.sessions..(member + 1) * size.locks / size.sessions;
    for (seq, number) in (1..).zip(share) {
        let lock = format!("crowd-{number}");
        let token = acquire(link, session, seq, &lock, size.ttl, counts).await?;
        tokens.push((lock, token));
    }
    Ok(Beat { session, tokens })
}

/// Asks until there is an answer: a command that comes twice runs once.
async fn ask(
    link: &Link,
    command: &Command,
    term: Duration,
    counts: &Counts,
) -> Result<Reply, Error> {
    for _ in 0..ASKED_MAX {
        match link.command(command, term, TIMEOUT).await {
            Err(Error::Unknown(_) | Error::Unavailable { .. }) => add(&counts.again, 1),
            answer => return answer,
        }
    }
    link.command(command, term, TIMEOUT).await
}

async fn acquire(
    link: &Link,
    session: SessionId,
    seq: u64,
    lock: &str,
    lease: Duration,
    counts: &Counts,
) -> Result<Token, Error> {
    let done = Done {
        below: seq - 1,
        also: Vec::new(),
    };
    let op = Op::Acquire {
        lock: lock.to_owned(),
        lease_ms: u64::try_from(lease.as_millis()).ok(),
        wait_ms: None,
        mode: LockMode::Exclusive,
    };
    let seq = Seq(seq);
    let command = Command::Session {
        session,
        seq,
        done,
        op,
    };
    match ask(link, &command, lease, counts).await?.outcome {
        Outcome::Granted { token, .. } => Ok(token),
        _ => Err(Error::BadRequest("no grant in the answer".to_owned())),
    }
}

/// Keeps some sessions and their locks alive.
async fn keep(link: Link, every: Duration, mut beats: Vec<Beat>, counts: Rc<Counts>) {
    // Not all at once: clients did not start together either.
    let mut last = Instant::now();
    tokio::time::sleep(every.mul_f64(rand::random())).await;
    while !counts.over.get() && !beats.is_empty() {
        let sent = Instant::now();
        let command = Command::KeepAlive {
            beats: beats.clone(),
        };
        let Ok(reply) = link.command(&command, 3 * every, 3 * every).await else {
            add(&counts.again, 1);
            tokio::time::sleep(REST).await;
            continue;
        };
        let Outcome::Alive { beats: answers } = reply.outcome else {
            add(&counts.again, 1);
            continue;
        };
        counts.longest.set(counts.longest.get().max(last.elapsed()));
        last = sent;
        add(&counts.beats, answers.len() as u64);
        for answer in answers {
            match answer.result {
                Err(_) => {
                    add(&counts.sessions_lost, 1);
                    let locks = take_out(&mut beats, answer.session);
                    add(&counts.locks_lost, locks);
                }
                Ok(state) => {
                    let lost = state.locks.iter().filter(|lock| lock.deadline.is_none());
                    let lost: Vec<Token> = lost.map(|lock| lock.token).collect();
                    add(&counts.locks_lost, lost.len() as u64);
                    if lost.is_empty() {
                        continue;
                    }
                    for beat in &mut beats {
                        beat.tokens.retain(|(_, token)| !lost.contains(token));
                    }
                }
            }
        }
        tokio::time::sleep_until((sent + every).into()).await;
    }
}

/// Takes a session out; how many locks it had.
fn take_out(beats: &mut Vec<Beat>, session: SessionId) -> u64 {
    let gone = beats.iter().position(|beat| beat.session == session);
    gone.map_or(0, |at| beats.swap_remove(at).tokens.len() as u64)
}
