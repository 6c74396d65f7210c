//! From a request to its ending: which call it is, and what its outcome means.

use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::time::Duration;

use client::clock::BootTime;
use client::raw::{LostWhy, Notice, Session};
use client::{Endpoint, Error};
use serde_json::{Value, json};
use statemachine::{LockMode, Op as Command, Outcome, Refusal, Token};
use tokio::sync::broadcast::error::RecvError;

use super::Shell;
use super::answer::{Ending, Fields, Trouble, fields};
use super::calls::Kept;
use super::request::{Id, Op, Request};
use super::session::ShellSession;
use crate::failure::Failure;
use crate::output;

/// A command under way: it has its number, and has been sent if a connection was there.
pub(crate) type Running = Pin<Box<dyn Future<Output = Ending>>>;

impl Shell {
    /// Begins a command. Waits only if a session must be opened first.
    pub(crate) async fn begin(self: Rc<Self>, request: Request) -> Running {
        let Request {
            id,
            timeout,
            session,
            endpoint,
            stale,
            op,
            ..
        } = request;
        let timeout = timeout.unwrap_or(self.context.timeout);
        let endpoint = match endpoint.map(|name| self.find_endpoint(&name)).transpose() {
            Ok(endpoint) => endpoint,
            Err(trouble) => return ended(trouble),
        };
        match op {
            Op::Sleep { time } => Box::pin(async move {
                tokio::time::sleep(time).await;
                Ending::Done(Fields::new())
            }),
            Op::Open { ttl, name } => {
                Box::pin(async move { self.open(session, ttl, name, timeout).await })
            }
            Op::Cat { .. } | Op::LockStatus { .. } | Op::Files | Op::Status => {
                Box::pin(async move { self.read(op, endpoint.as_ref(), stale, timeout).await })
            }
            Op::Settle { of } => {
                let kept = self.calls.borrow_mut().take_unknown(&of);
                let Some(kept) = kept else {
                    return ended(Trouble::bad_request(
                        "field of: no command of this id is unknown",
                    ));
                };
                Box::pin(async move { self.settle(kept, timeout).await })
            }
            Op::Cancel { of } => {
                let acquire = self.calls.borrow().acquire(&of);
                let Some(acquire) = acquire else {
                    return ended(Trouble::bad_request("field of: no acquire has this id"));
                };
                let cancel = Command::Cancel {
                    seq: acquire.call.seq(),
                };
                self.start(acquire.session, id, cancel, endpoint, timeout, false)
            }
            op => {
                let session = match self.session(session, timeout).await {
                    Ok(session) => session,
                    Err(trouble) => return ended(trouble),
                };
                self.begin_in(session, id, op, endpoint, timeout)
            }
        }
    }

    /// Begins a command of a session: numbered before this returns.
    fn begin_in(
        self: Rc<Self>,
        session: Rc<ShellSession>,
        id: Id,
        op: Op,
        endpoint: Option<Endpoint>,
        timeout: Duration,
    ) -> Running {
        if let Op::KeepAlive { auto } = op {
            return Box::pin(async move { keep_alive(&session, auto, timeout).await });
        }
        let renew = !matches!(op, Op::Acquire { renew: false, .. });
        match command(op, &session) {
            Some(command) => self.start(session, id, command, endpoint, timeout, renew),
            None => ended(Trouble::bad_request("this op is none of a session")),
        }
    }

    /// Gives a command its number and sends it.
    fn start(
        self: Rc<Self>,
        session: Rc<ShellSession>,
        id: Id,
        command: Command,
        endpoint: Option<Endpoint>,
        timeout: Duration,
        renew: bool,
    ) -> Running {
        let call = match endpoint {
            Some(endpoint) => session.raw.start_at(command, &endpoint),
            None => session.raw.start(command),
        };
        let kept = Kept {
            id,
            session,
            call,
            renew,
        };
        self.calls.borrow_mut().started(&kept);
        Box::pin(async move { self.wait(kept, timeout).await })
    }

    fn find_endpoint(&self, name: &str) -> Result<Endpoint, Trouble> {
        let endpoints = self.context.link.endpoints();
        let found = endpoints.find(name).cloned().or_else(|| name.parse().ok());
        found.ok_or_else(|| {
            Trouble::bad_request(format!(
                "field endpoint: {name:?} is neither in {endpoints} nor an address"
            ))
        })
    }

    /// The session of this name. The first one is opened when it is first needed; the others by `open` only.
    async fn session(
        self: &Rc<Self>,
        name: Option<String>,
        timeout: Duration,
    ) -> Result<Rc<ShellSession>, Trouble> {
        if let Some(session) = self.sessions.get(name.as_deref()) {
            return Ok(session);
        }
        if let Some(name) = name {
            return Err(Trouble::bad_request(format!(
                "field session: there is no {name:?}; open makes it"
            )));
        }
        self.open_raw(None, None, None, timeout).await
    }

    async fn open(
        self: &Rc<Self>,
        session: Option<String>,
        ttl: Option<Duration>,
        name: Option<String>,
        timeout: Duration,
    ) -> Ending {
        let before = self.sessions.get(session.as_deref());
        if before.is_some_and(|before| before.raw.is_open()) {
            return Ending::Failed(Trouble::bad_request("this session is open; close it first"));
        }
        match self.open_raw(session, ttl, name, timeout).await {
            Ok(session) => {
                let ttl_ms = u64::try_from(session.raw.ttl().as_millis()).unwrap_or(u64::MAX);
                Ending::Done(fields(
                    json!({"session_id": session.raw.id().0, "ttl_ms": ttl_ms}),
                ))
            }
            Err(trouble) => Ending::Failed(trouble),
        }
    }

    async fn open_raw(
        self: &Rc<Self>,
        session: Option<String>,
        ttl: Option<Duration>,
        name: Option<String>,
        timeout: Duration,
    ) -> Result<Rc<ShellSession>, Trouble> {
        if self.sessions.is_full() {
            return Err(Trouble::bad_request(
                "the shell keeps as many sessions as it may",
            ));
        }
        let name = name.unwrap_or_else(|| self.context.name.clone());
        let raw = Session::open(&self.context.link, ttl.or(self.ttl), &name, timeout).await?;
        let session = self.sessions.put(session, raw);
        tokio::task::spawn_local(self.clone().tell_losses(session.clone()));
        Ok(session)
    }

    async fn settle(&self, kept: Kept, timeout: Duration) -> Ending {
        let reply = kept.call.settle(timeout).await;
        self.understand_reply(kept, reply.map(|reply| reply.outcome))
    }

    async fn wait(&self, kept: Kept, timeout: Duration) -> Ending {
        let call = kept.call.clone();
        let mut positions = call.positions();
        let mut waiting = std::pin::pin!(call.wait(timeout));
        let reply = loop {
            tokio::select! {
                reply = &mut waiting => break reply,
                Ok(()) = positions.changed() => {
                    let position = *positions.borrow_and_update();
                    if let Some(position) = position {
                        self.event(&kept.id, "waiting", &fields(json!({"position": position}))).await;
                    }
                }
            }
        };
        self.understand_reply(kept, reply.map(|reply| reply.outcome))
    }

    /// Ctrl-C at a command: if it waits for a lock, it shall not.
    pub(crate) fn cancel_by_hand(self: &Rc<Self>, id: &Id) {
        let Some(kept) = self.calls.borrow().acquire(id) else {
            return;
        };
        let (cancel, timeout) = (kept.session.raw.cancel(&kept.call), self.context.timeout);
        tokio::task::spawn_local(async move { cancel.wait(timeout).await });
    }

    /// Ends all waits for locks, so that none is granted when other sessions end.
    pub(crate) async fn cancel_all(&self, timeout: Duration) {
        let waiting = self.calls.borrow().waiting();
        let cancels = waiting
            .into_iter()
            .map(|kept| kept.session.raw.cancel(&kept.call));
        futures::future::join_all(cancels.map(|cancel| async move { cancel.wait(timeout).await }))
            .await;
    }

    fn understand_reply(&self, kept: Kept, reply: Result<Outcome, Error>) -> Ending {
        match reply {
            Ok(outcome) => Ending::Done(told(&kept, outcome)),
            Err(error) => {
                if matches!(error, Error::Unknown(_)) {
                    self.calls.borrow_mut().is_unknown(&kept);
                }
                Ending::Failed(error.into())
            }
        }
    }

    /// Says which locks of a session are lost, until it is dropped: as an event if these are wanted, else in words
    /// beside the answers.
    async fn tell_losses(self: Rc<Self>, session: Rc<ShellSession>) {
        let mut notices = session.raw.notices();
        loop {
            match notices.recv().await {
                Ok(Notice::Lost { lock, token, why }) => {
                    if !self.events {
                        output::tell(format_args!("lock {lock} was lost: {why}"));
                    }
                    let id = session.granted_to(token).unwrap_or(Id::NONE);
                    let lost = json!({"lock": lock, "token": token.0, "code": code_of(&why), "message": why.to_string()});
                    self.event(&id, "lost", &fields(lost)).await;
                }
                Ok(Notice::Expired) | Err(RecvError::Lagged(_)) => {}
                Err(RecvError::Closed) => return,
            }
        }
    }
}

fn ended(trouble: Trouble) -> Running {
    Box::pin(std::future::ready(Ending::Failed(trouble)))
}

fn code_of(why: &LostWhy) -> &'static str {
    match why {
        LostWhy::Deadline => "deadline",
        LostWhy::NotHeld(_) => "not_held",
        LostWhy::SessionExpired => "session_expired",
    }
}

/// The command of the service that an op of a session stands for, if it is one of these.
fn command(op: Op, session: &ShellSession) -> Option<Command> {
    Some(match op {
        Op::Acquire {
            lock,
            lease_ms,
            wait_ms,
            ..
        } => Command::Acquire {
            lock,
            lease_ms,
            wait_ms,
            mode: LockMode::Exclusive,
        },
        Op::Append {
            file,
            data,
            lock,
            token,
        } => {
            let token = session.token(&lock, token);
            Command::Append {
                lock,
                token,
                place: 0,
                file,
                data: data.into(),
            }
        }
        Op::Renew { lock, token } => {
            let token = session.token(&lock, token);
            Command::Renew { lock, token }
        }
        Op::Release { lock, token } => {
            let token = session.token(&lock, token);
            Command::Release {
                lock,
                token,
                count: 0,
            }
        }
        Op::Abort { lock, token } => {
            let token = session.token(&lock, token);
            Command::Abort { lock, token }
        }
        Op::Close => Command::Close,
        _ => return None,
    })
}

async fn keep_alive(session: &ShellSession, auto: Option<bool>, timeout: Duration) -> Ending {
    if let Some(auto) = auto {
        session.raw.set_keep_alive(auto);
        return Ending::Done(fields(json!({"auto": auto})));
    }
    match session.raw.keep_alive(timeout).await {
        Ok(()) => Ending::Done(fields(json!({"left_ms": left_ms(session.raw.deadline())}))),
        Err(error) => Ending::Failed(error.into()),
    }
}

/// The fields that a success adds to its answer.
fn told(kept: &Kept, outcome: Outcome) -> Fields {
    let session = &kept.session;
    let value = match (kept.call.op(), outcome) {
        (
            Command::Acquire { lock, .. },
            Outcome::Granted {
                token, lease_ms, ..
            },
        ) => {
            session.granted(lock, token, &kept.id);
            if !kept.renew {
                session.raw.set_renew(lock, token, false);
            }
            json!({"token": token.0, "lease_ms": lease_ms})
        }
        (Command::Renew { lock, token }, Outcome::Renewed { .. }) => {
            json!({"left_ms": hold_left_ms(session, lock, *token)})
        }
        (_, Outcome::Appended { pending_bytes, .. }) => json!({"pending_bytes": pending_bytes}),
        (_, Outcome::Released { slot, lengths }) => {
            let lengths: Fields = lengths
                .into_iter()
                .map(|(file, length)| (file, length.into()))
                .collect();
            json!({"slot": slot.0, "lengths": Value::Object(lengths)})
        }
        (_, Outcome::Cancelled { given_back }) => json!({"given_back": given_back}),
        _ => json!({}),
    };
    fields(value)
}

fn hold_left_ms(session: &ShellSession, lock: &str, token: Token) -> u64 {
    let hold = session.raw.hold(lock, token);
    hold.map_or(0, |hold| left_ms(session.raw.hold_deadline(&hold)))
}

fn left_ms(deadline: BootTime) -> u64 {
    u64::try_from(deadline.left(BootTime::now()).as_millis()).unwrap_or(u64::MAX)
}

impl From<Error> for Trouble {
    fn from(error: Error) -> Self {
        let more = match &error {
            Error::NotLeader { leader } => {
                let (id, address) = leader
                    .as_ref()
                    .map(|leader| (leader.id, &leader.address))
                    .unzip();
                json!({"leader": id, "leader_address": address})
            }
            Error::Refused(Refusal::AlreadyHeld { token }) => json!({"token": token.0}),
            _ => json!({}),
        };
        Trouble {
            rc: error.rc(),
            failure: Failure::from(error),
            more: Box::new(fields(more)),
        }
    }
}

impl From<Failure> for Trouble {
    /// Of what was read only: whatever happened, nothing was done.
    fn from(failure: Failure) -> Self {
        match failure.code.as_str() {
            "unavailable" => Trouble::unavailable(failure.message),
            _ => Trouble::bad_request(failure.message),
        }
    }
}
