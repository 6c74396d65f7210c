//! A client as a pure model: what it asks, repeats, gives up, and believes.
//!
//! It follows the rules of the client library and no more: one number per command, every attempt
//! remembered with the time it was sent, the conservative deadline. It runs on its own clock.

use std::collections::BTreeMap;

use bytes::Bytes;
use net::{Request, RequestBody, ResponseBody};
use statemachine::{
    Answer, Beat, Command, Done, LockMode, Op, Outcome, Query, Refusal, Seq, SessionId, Token,
};

use super::check::history::What;
use super::check::sections::{Fate, Section};
use super::dice::Dice;
use super::plan::{MS, Plan};

/// Allowance for a clock's rate, in parts of a hundred: (1 - rho) / (1 + rho) > 1 - 2 rho.
const KEEP_PERCENT: i64 = 98;
/// Cut off the local deadline: a stamp is rounded down to a millisecond.
const MARGIN_US: i64 = 2_000;

/// What a client does to the world.
#[derive(Debug)]
pub enum Act {
    /// Sends an attempt.
    Send {
        /// To which replica.
        replica: usize,
        /// The attempt; its id is unique over all clients.
        request: Request,
        /// The call it belongs to; unique over all clients.
        call: (usize, u64),
        /// What it asks, for the check of its answer.
        what: What,
    },
    /// Believes to hold a lock until some time of its own clock, or no more.
    Believe {
        /// The lock.
        lock: String,
        /// The token.
        token: u64,
        /// Until when.
        until_us: Option<i64>,
    },
}

#[derive(Debug)]
struct Call {
    what: What,
    body: RequestBody,
    op: Option<Op>,
    attempts: Vec<u64>,
    retry_at: i64,
    waiting: bool,
    born_at: i64,
}

#[derive(Debug)]
struct Session {
    id: SessionId,
    ttl_ms: u64,
    deadline_ms: u64,
    next_seq: u64,
    /// Commands above `below` that are done.
    done: Done,
    beat_at: i64,
    /// The best pair of the time an attempt was sent and the stamp it got, as one number.
    anchor: Option<i64>,
}

#[derive(Debug)]
struct Guard {
    lock: String,
    token: Token,
    deadline_ms: u64,
    /// Until when the client believes; `None` once it does no more.
    until: Option<i64>,
    section: Section,
    /// Appends not sent yet.
    left: u32,
    next_place: u32,
    in_flight: BTreeMap<u64, (String, u32)>,
    ending: bool,
    idle_until: i64,
}

/// See the module.
#[derive(Debug)]
pub struct Client {
    index: usize,
    dice: Dice,
    replicas: usize,
    locks: usize,
    files: u32,
    term_ms: (u64, u64),
    patience_us: u64,
    target: usize,
    next_request: u64,
    next_call: u64,
    next_section: u64,
    session: Option<Session>,
    opening: bool,
    /// A close is under way: the session is not used any more.
    closing: bool,
    calls: BTreeMap<u64, Call>,
    /// Each attempt under way: its call and when it was sent.
    attempts: BTreeMap<u64, (u64, i64)>,
    acquiring: Option<u64>,
    guard: Option<Guard>,
    idle_until: i64,
    paused_until: i64,
    stopped: bool,
    sections: Vec<Section>,
    acts: Vec<Act>,
}

/// Calls of a session are numbered by their seq; all others from here on.
const FIRST_OTHER_CALL: u64 = 1 << 40;

impl Client {
    /// Client `index` of a plan.
    pub fn new(index: usize, plan: &Plan) -> Client {
        let mut dice = Dice::new(plan.seed, 100 + index as u64);
        Client {
            index,
            target: dice.between(0, u64::from(plan.replicas) - 1) as usize,
            replicas: usize::from(plan.replicas),
            locks: plan.locks,
            files: plan.files,
            term_ms: plan.term_ms,
            patience_us: 20 * plan.latency_us.1 + 4 * plan.disk_us.1 + 20 * MS,
            next_request: (index as u64 + 1) << 32,
            next_call: FIRST_OTHER_CALL,
            next_section: 0,
            session: None,
            opening: false,
            closing: false,
            calls: BTreeMap::new(),
            attempts: BTreeMap::new(),
            acquiring: None,
            guard: None,
            idle_until: 0,
            paused_until: 0,
            stopped: false,
            sections: Vec::new(),
            acts: Vec::new(),
            dice,
        }
    }

    /// Takes what the client wants done.
    pub fn take_acts(&mut self) -> Vec<Act> {
        std::mem::take(&mut self.acts)
    }

    /// Every section that ever began, for the final check.
    pub fn sections(&self) -> impl Iterator<Item = &Section> {
        self.sections
            .iter()
            .chain(self.guard.as_ref().map(|guard| &guard.section))
    }

    /// Begins nothing new from now on, but ends what it has begun.
    pub fn stop(&mut self) {
        self.stopped = true;
        self.paused_until = 0;
    }

    /// Does nothing until `until`, of its own clock.
    pub fn pause(&mut self, until: i64) {
        self.paused_until = until;
    }

    /// Until when it does nothing.
    pub fn paused_until(&self) -> i64 {
        self.paused_until
    }

    /// Whether no call but a keep-alive is under way, and no lock held.
    pub fn is_idle(&self) -> bool {
        self.calls
            .values()
            .all(|call| matches!(call.what, What::Beat))
            && self.guard.is_none()
    }

    /// Makes one more commit, whatever else goes on.
    pub fn probe(&mut self, now: i64) {
        let name = format!("probe{}", self.index);
        self.open(now, name);
    }

    /// When it has something to do next.
    pub fn next_wake(&self) -> i64 {
        let retry = self.calls.values().map(|call| call.retry_at).min();
        let beat = self.session.as_ref().map(|session| session.beat_at);
        let script = match &self.guard {
            Some(guard) if !guard.ending => Some(guard.idle_until),
            Some(_) => None,
            None if self.acquiring.is_some() || self.opening || self.closing => None,
            None if self.stopped => None,
            None => Some(self.idle_until),
        };
        let next = [retry, beat, script]
            .into_iter()
            .flatten()
            .min()
            .unwrap_or(i64::MAX);
        next.max(self.paused_until)
    }

    /// Does what is due.
    pub fn wake(&mut self, now: i64) {
        if now < self.paused_until {
            return;
        }
        self.expire_belief(now);
        let due: Vec<u64> = self
            .calls
            .iter()
            .filter(|(_, call)| call.retry_at <= now)
            .map(|(id, _)| *id)
            .collect();
        for id in due {
            self.attempt(id, now, true);
        }
        if self
            .session
            .as_ref()
            .is_some_and(|session| session.beat_at <= now)
        {
            self.beat(now);
        }
        self.script(now);
    }

    /// An answer to an attempt.
    pub fn on_response(&mut self, now: i64, request: u64, body: ResponseBody) {
        self.expire_belief(now);
        let Some(&(id, sent_at)) = self.attempts.get(&request) else {
            return;
        };
        match body {
            ResponseBody::Waiting { .. } => {
                if let Some(call) = self.calls.get_mut(&id) {
                    call.waiting = true;
                    call.retry_at = now + self.dice.between(300, 1_000) as i64 * 1_000;
                }
            }
            ResponseBody::NotLeader {
                leader: Some(leader),
            } => {
                self.target = usize::from(leader.id) - 1;
                let pause = self.dice.between(0, 20 * MS) as i64;
                self.retry(id, request, now + pause);
            }
            ResponseBody::NotLeader { leader: None }
            | ResponseBody::Unavailable { .. }
            | ResponseBody::Unknown { .. } => self.on_broken(now, request),
            ResponseBody::Outcome {
                stamp_ms, bytes, ..
            } => {
                self.anchor(sent_at, stamp_ms);
                let outcome = Outcome::decode(&bytes).expect("the history has checked it");
                self.on_outcome(now, id, outcome);
            }
            ResponseBody::Answer { bytes, .. } => {
                let _ = Answer::decode(&bytes);
                self.close(id);
            }
            _ => {
                self.close(id);
            }
        }
    }

    /// The connection of an attempt broke, or nobody could take it.
    pub fn on_broken(&mut self, now: i64, request: u64) {
        let Some(&(id, _)) = self.attempts.get(&request) else {
            return;
        };
        self.target = (self.target + 1) % self.replicas;
        let pause = self.dice.between(5 * MS, 100 * MS) as i64;
        self.retry(id, request, now + pause);
    }

    fn retry(&mut self, id: u64, request: u64, at: i64) {
        if let Some(call) = self.calls.get_mut(&id)
            && call.attempts.last() == Some(&request)
        {
            call.waiting = false;
            call.retry_at = at;
        }
    }

    fn attempt(&mut self, id: u64, now: i64, again: bool) {
        self.next_request += 1;
        let request = self.next_request;
        let Some(call) = self.calls.get_mut(&id) else {
            return;
        };
        if again && !call.waiting && self.dice.permille(300) {
            self.target = (self.target + 1) % self.replicas;
        }
        call.attempts.push(request);
        let jitter = self.dice.between(0, self.patience_us) as i64;
        call.retry_at = now + self.patience_us as i64 + jitter;
        self.attempts.insert(request, (id, now));
        let (body, what) = (call.body.clone(), call.what.clone());
        let stale = matches!(what, What::Query(_, true));
        let replica = if stale {
            self.dice.between(0, self.replicas as u64 - 1) as usize
        } else {
            self.target
        };
        let request = Request { id: request, body };
        self.acts.push(Act::Send {
            replica,
            request,
            call: (self.index, id),
            what,
        });
    }

    fn start(&mut self, now: i64, id: u64, what: What, body: RequestBody, op: Option<Op>) {
        let call = Call {
            what,
            body,
            op,
            attempts: Vec::new(),
            retry_at: now,
            waiting: false,
            born_at: now,
        };
        self.calls.insert(id, call);
        self.attempt(id, now, false);
    }

    fn other_call(&mut self) -> u64 {
        self.next_call += 1;
        self.next_call
    }

    fn open(&mut self, now: i64, name: String) {
        let nonce = u128::from(self.dice.word()) << 64 | u128::from(self.dice.word());
        let ttl_ms = self.dice.between(self.term_ms.0, self.term_ms.1);
        let body = Bytes::from(
            Command::Open {
                nonce,
                ttl_ms,
                name,
            }
            .encode(),
        );
        let id = self.other_call();
        self.start(now, id, What::Open(nonce), RequestBody::Command(body), None);
        self.opening = true;
    }

    fn command(&mut self, now: i64, op: Op) -> Option<u64> {
        let session = self.session.as_mut()?;
        let seq = session.next_seq;
        session.next_seq += 1;
        let (id, done) = (session.id, session.done.clone());
        let command = Command::Session {
            session: id,
            seq: Seq(seq),
            done,
            op: op.clone(),
        };
        let body = RequestBody::Command(Bytes::from(command.encode()));
        self.start(now, seq, What::Command(id, Seq(seq)), body, Some(op));
        Some(seq)
    }

    fn beat(&mut self, now: i64) {
        let Some(session) = &mut self.session else {
            return;
        };
        session.beat_at = now + session.ttl_ms as i64 * 1_000 / 3;
        let tokens = self
            .guard
            .iter()
            .map(|guard| (guard.lock.clone(), guard.token))
            .collect();
        let beats = vec![Beat {
            session: session.id,
            tokens,
        }];
        // An older keep-alive says nothing that this one does not.
        let old: Vec<u64> = self
            .calls
            .iter()
            .filter(|(_, call)| matches!(call.what, What::Beat))
            .map(|(id, _)| *id)
            .collect();
        for id in old {
            self.close(id);
        }
        let body = RequestBody::Command(Bytes::from(Command::KeepAlive { beats }.encode()));
        let id = self.other_call();
        self.start(now, id, What::Beat, body, None);
    }

    /// Forgets a call. Attempts that are still under way will find nobody.
    fn close(&mut self, id: u64) -> Option<Call> {
        let call = self.calls.remove(&id)?;
        for request in &call.attempts {
            self.attempts.remove(request);
        }
        if id < FIRST_OTHER_CALL
            && let Some(session) = &mut self.session
        {
            mark_done(&mut session.done, id);
        }
        Some(call)
    }

    /// Any pair of a sending time and the stamp of that very attempt serves; the best is kept.
    fn anchor(&mut self, sent_at: i64, stamp_ms: Option<u64>) {
        if let (Some(stamp_ms), Some(session)) = (stamp_ms, &mut self.session) {
            let anchor = sent_at * 100 - stamp_ms as i64 * 1_000 * KEEP_PERCENT;
            session.anchor = Some(session.anchor.map_or(anchor, |best| best.max(anchor)));
        }
    }

    /// The client's own deadline for its lock, from what it was told last of lease and session.
    fn believe(&mut self, now: i64) {
        let (Some(session), Some(guard)) = (&self.session, &mut self.guard) else {
            return;
        };
        let (Some(anchor), Some(_)) = (session.anchor, guard.until) else {
            return;
        };
        let deadline_ms = guard.deadline_ms.min(session.deadline_ms) as i64;
        let until = (anchor + deadline_ms * 1_000 * KEEP_PERCENT) / 100 - MARGIN_US;
        if until <= now {
            return;
        }
        guard.until = Some(until);
        let (lock, token) = (guard.lock.clone(), guard.token.0);
        self.acts.push(Act::Believe {
            lock,
            token,
            until_us: Some(until),
        });
    }

    /// Past its own deadline the lock is lost for the client, whatever the service thinks.
    fn expire_belief(&mut self, now: i64) {
        if let Some(guard) = &mut self.guard
            && guard
                .until
                .is_some_and(|until| until != i64::MIN && until <= now)
        {
            guard.until = None;
        }
    }

    fn stop_believing(&mut self) {
        if let Some(guard) = &mut self.guard {
            guard.until = None;
            let (lock, token) = (guard.lock.clone(), guard.token.0);
            self.acts.push(Act::Believe {
                lock,
                token,
                until_us: None,
            });
        }
    }

    fn told(&mut self, now: i64, deadline_ms: u64) {
        if let Some(session) = &mut self.session {
            // A lock's deadline is never above its session's.
            session.deadline_ms = session.deadline_ms.max(deadline_ms);
        }
        if let Some(guard) = &mut self.guard {
            guard.deadline_ms = guard.deadline_ms.max(deadline_ms);
        }
        self.believe(now);
    }

    fn on_outcome(&mut self, now: i64, id: u64, outcome: Outcome) {
        if let Outcome::Refused(Refusal::OutOfOrder { .. }) = outcome {
            // It overtook another; it left no trace and is asked again.
            if let Some(call) = self.calls.get_mut(&id) {
                call.retry_at = now + self.dice.between(MS, 20 * MS) as i64;
            }
            return;
        }
        let Some(call) = self.close(id) else { return };
        if let Outcome::Refused(Refusal::SessionExpired) = outcome {
            return self.lose_session(now);
        }
        match (call.op, outcome) {
            (
                None,
                Outcome::Opened {
                    session,
                    ttl_ms,
                    deadline,
                },
            ) => {
                self.opening = false;
                if self.session.is_none() {
                    self.session = Some(Session {
                        id: session,
                        ttl_ms,
                        deadline_ms: deadline.0,
                        next_seq: 1,
                        done: Done::default(),
                        beat_at: now + ttl_ms as i64 * 1_000 / 3,
                        anchor: None,
                    });
                }
            }
            (None, Outcome::Alive { beats }) => self.on_alive(now, beats),
            (None, _) => self.opening = false,
            (Some(op), outcome) => self.on_command_outcome(now, id, op, outcome),
        }
    }

    fn on_alive(&mut self, now: i64, beats: Vec<statemachine::BeatAnswer>) {
        for beat in beats {
            let Some(session) = &mut self.session else {
                return;
            };
            if session.id != beat.session {
                continue;
            }
            let Ok(state) = beat.result else {
                return self.lose_session(now);
            };
            session.deadline_ms = session.deadline_ms.max(state.deadline.0);
            for lock in state.locks {
                let Some(guard) = &mut self.guard else {
                    continue;
                };
                if guard.token == lock.token {
                    match lock.deadline {
                        Some(deadline) => guard.deadline_ms = guard.deadline_ms.max(deadline.0),
                        None => guard.deadline_ms = 0,
                    }
                }
            }
            self.believe(now);
        }
    }

    fn on_command_outcome(&mut self, now: i64, id: u64, op: Op, outcome: Outcome) {
        match (op, outcome) {
            (
                Op::Acquire { lock, .. },
                Outcome::Granted {
                    token, deadline, ..
                },
            ) => {
                self.acquiring = None;
                self.hold(now, lock, token, deadline.0);
            }
            (Op::Acquire { lock, .. }, Outcome::Refused(Refusal::AlreadyHeld { token })) => {
                // Left over from a section that was forgotten.
                self.acquiring = None;
                self.command(now, Op::Abort { lock, token });
                self.rest(now);
            }
            (Op::Acquire { .. }, _) => {
                self.acquiring = None;
                self.rest(now);
            }
            (Op::Append { .. }, outcome) => self.on_appended(now, id, outcome),
            (Op::Renew { .. }, Outcome::Renewed { deadline }) => self.told(now, deadline.0),
            (Op::Release { token, .. }, outcome) if self.holds(token) => {
                let applied = matches!(outcome, Outcome::Released { .. });
                self.end(
                    now,
                    if applied {
                        Fate::Applied
                    } else {
                        Fate::Discarded
                    },
                );
            }
            (Op::Abort { token, .. }, _) if self.holds(token) => self.end(now, Fate::Discarded),
            (Op::Close, Outcome::Closed) => {
                self.session = None;
                self.abandon(now);
            }
            _ => {}
        }
    }

    fn holds(&self, token: Token) -> bool {
        self.guard
            .as_ref()
            .is_some_and(|guard| guard.token == token)
    }

    fn hold(&mut self, now: i64, lock: String, token: Token, deadline_ms: u64) {
        if self.guard.is_some() {
            return;
        }
        self.next_section += 1;
        let name = format!("{}.{}", self.index, self.next_section);
        self.guard = Some(Guard {
            lock,
            token,
            deadline_ms: 0,
            until: Some(i64::MIN),
            section: Section {
                name,
                appends: Vec::new(),
                fate: Fate::Discarded,
            },
            left: self.dice.between(0, 5) as u32,
            next_place: 1,
            in_flight: BTreeMap::new(),
            ending: false,
            idle_until: now,
        });
        self.told(now, deadline_ms);
        if let Some(guard) = &mut self.guard
            && guard.until == Some(i64::MIN)
        {
            // The grant came too late: born lost.
            guard.until = None;
        }
    }

    fn on_appended(&mut self, now: i64, id: u64, outcome: Outcome) {
        let Some(guard) = &mut self.guard else { return };
        let Some((file, place)) = guard.in_flight.remove(&id) else {
            return;
        };
        match outcome {
            Outcome::Appended { deadline, .. } => {
                guard.section.appends.push((file, place));
                guard.section.appends.sort_by_key(|(_, place)| *place);
                self.told(now, deadline.0);
            }
            Outcome::Refused(Refusal::NoSuchFile { file }) => {
                // Its place is free for another append; here the section simply ends.
                guard.left = 0;
                let lock = guard.lock.clone();
                self.command(
                    now,
                    Op::CreateFile {
                        file,
                        guard: Some(lock),
                    },
                );
                self.end_section(now, true);
            }
            _ => self.end_section(now, true),
        }
    }

    /// The section is over for the client.
    fn end(&mut self, now: i64, fate: Fate) {
        self.stop_believing();
        if let Some(mut guard) = self.guard.take() {
            guard.section.fate = fate;
            for id in guard.in_flight.keys() {
                self.close(*id);
            }
            self.sections.push(guard.section);
        }
        self.rest(now);
    }

    fn lose_session(&mut self, now: i64) {
        self.session = None;
        self.abandon(now);
    }

    /// Everything of the session is void; an unanswered release remains unknown.
    fn abandon(&mut self, now: i64) {
        let ids: Vec<u64> = self
            .calls
            .iter()
            .filter(|(_, call)| matches!(call.what, What::Command(..) | What::Beat))
            .map(|(id, _)| *id)
            .collect();
        for id in ids {
            self.close(id);
        }
        self.acquiring = None;
        self.closing = false;
        if let Some(guard) = &self.guard {
            let fate = guard.section.fate;
            self.end(now, fate);
        }
        self.rest(now);
    }

    fn rest(&mut self, now: i64) {
        let long = if self.dice.permille(100) {
            300 * MS
        } else {
            10 * MS
        };
        self.idle_until = now + self.dice.between(0, long) as i64;
    }

    fn script(&mut self, now: i64) {
        if self.guard.is_some() {
            return self.script_section(now);
        }
        if let Some(id) = self.acquiring {
            return self.maybe_cancel(now, id);
        }
        if self.stopped || self.opening || self.closing || now < self.idle_until {
            return;
        }
        self.rest(now);
        if self.session.is_none() {
            let name = format!("client{}", self.index);
            return self.open(now, name);
        }
        match self.dice.between(0, 99) {
            0..15 => self.read(now),
            15..18 => {
                self.command(now, Op::Close);
                self.closing = true;
            }
            18..21 => self.churn(now),
            21..23 => {
                let id = self.other_call();
                self.start(now, id, What::Health, RequestBody::Health, None);
            }
            _ => self.acquire(now),
        }
    }

    fn acquire(&mut self, now: i64) {
        let lock = lock_name(self.dice.between(0, self.locks as u64 - 1) as usize);
        let wait_ms = match self.dice.between(0, 3) {
            0 => Some(0),
            1 => Some(self.dice.between(20, 800)),
            _ => None,
        };
        let lease_ms = Some(self.dice.between(self.term_ms.0, self.term_ms.1));
        let op = Op::Acquire {
            lock,
            lease_ms,
            wait_ms,
            mode: LockMode::Exclusive,
        };
        self.acquiring = self.command(now, op);
    }

    /// Now and then a waiter loses patience. From then on no grant of that acquire counts: the cancel may
    /// have given it back already.
    fn maybe_cancel(&mut self, now: i64, id: u64) {
        let waits = self
            .calls
            .get(&id)
            .is_some_and(|call| now - call.born_at > 700_000);
        if (waits && self.dice.permille(300)) || self.stopped {
            if self.dice.permille(500) {
                // Given up before, so that the cancel itself says so.
                self.close(id);
            }
            self.command(now, Op::Cancel { seq: Seq(id) });
            self.close(id);
            self.acquiring = None;
            self.rest(now);
        }
    }

    /// Files that come and go.
    fn churn(&mut self, now: i64) {
        let file = format!("temp_{}", self.dice.between(0, 1));
        let op = if self.dice.permille(500) {
            Op::CreateFile {
                file,
                guard: Some(lock_name(0)),
            }
        } else {
            Op::RemoveFile { file }
        };
        self.command(now, op);
    }

    fn read(&mut self, now: i64) {
        let lock = lock_name(self.dice.between(0, self.locks as u64 - 1) as usize);
        let file = self.file_of(&lock);
        let query = match self.dice.between(0, 5) {
            0 => Query::LockStatus { lock },
            1 => Query::Read {
                file,
                offset: self.dice.between(0, 40),
                len: 1_000,
            },
            2 => Query::Stat { file },
            3 => Query::Sessions {
                after: None,
                limit: 10,
            },
            4 => Query::Files {
                after: None,
                limit: 10,
            },
            _ => Query::CheckToken {
                lock,
                token: Token(self.dice.between(1, 50)),
            },
        };
        let stale = self.dice.permille(200);
        let body = RequestBody::Query {
            stale,
            bytes: Bytes::from(query.encode()),
        };
        let id = self.other_call();
        self.start(now, id, What::Query(query, stale), body, None);
    }

    fn file_of(&mut self, lock: &str) -> String {
        match lock.strip_prefix("lock_") {
            Some(number) => format!("data_{number}"),
            None if self.dice.permille(100) => format!("temp_{}", self.dice.between(0, 1)),
            None => format!("file_{}", self.dice.between(0, u64::from(self.files) - 1)),
        }
    }

    fn script_section(&mut self, now: i64) {
        let Some(guard) = &self.guard else { return };
        if guard.ending || now < guard.idle_until {
            return;
        }
        // Pipelined as a rule; at times one after another.
        if guard.left > 0 {
            if guard.in_flight.is_empty() || self.dice.permille(700) {
                self.append(now);
            }
            return;
        }
        if guard.in_flight.is_empty() {
            self.end_section(now, false);
        } else if let Some(guard) = &mut self.guard {
            guard.idle_until = now + 5 * MS as i64;
        }
    }

    fn append(&mut self, now: i64) {
        let Some(guard) = &self.guard else { return };
        let (lock, token) = (guard.lock.clone(), guard.token);
        let place = guard.next_place;
        let file = self.file_of(&lock);
        let filler = if self.dice.permille(50) {
            self.dice.between(100, 6_000)
        } else {
            0
        };
        let pause = match self.dice.between(0, 19) {
            0 => self.dice.between(0, self.term_ms.1 * MS),
            1..5 => self.dice.between(0, 30 * MS),
            _ => 0,
        };
        let Some(guard) = &mut self.guard else { return };
        let data = Bytes::from(guard.section.record(place, filler as usize));
        guard.left -= 1;
        guard.next_place += 1;
        guard.idle_until = now + pause as i64;
        let op = Op::Append {
            lock,
            token,
            place,
            file: file.clone(),
            data,
        };
        if let Some(id) = self.command(now, op)
            && let Some(guard) = &mut self.guard
        {
            guard.in_flight.insert(id, (file, place));
        }
        if self.dice.permille(50)
            && let Some(guard) = &self.guard
        {
            let op = Op::Renew {
                lock: guard.lock.clone(),
                token: guard.token,
            };
            self.command(now, op);
        }
    }

    /// Releases as a rule; at times aborts, or forgets about it.
    fn end_section(&mut self, now: i64, spoiled: bool) {
        let choice = self.dice.between(0, 19);
        let Some(guard) = &mut self.guard else { return };
        if guard.ending {
            return;
        }
        guard.ending = true;
        let (lock, token) = (guard.lock.clone(), guard.token);
        if choice == 0 && !spoiled && !self.stopped {
            return self.end(now, Fate::Discarded);
        }
        if choice == 1 || spoiled {
            self.stop_believing();
            self.command(now, Op::Abort { lock, token });
            return;
        }
        guard.section.fate = Fate::Unknown;
        let count = guard.next_place - 1;
        self.stop_believing();
        self.command(now, Op::Release { lock, token, count });
    }
}

fn lock_name(index: usize) -> String {
    if index == 0 {
        "default".to_owned()
    } else {
        format!("lock_{index}")
    }
}

/// Adds a number to the ranges of what is done.
fn mark_done(done: &mut Done, id: u64) {
    done.also.push((id, id));
    done.also.sort_unstable();
    let mut also: Vec<(u64, u64)> = Vec::new();
    for &(low, high) in &done.also {
        if low == done.below + 1 {
            done.below = high;
        } else if let Some(last) = also.last_mut()
            && last.1 + 1 == low
        {
            last.1 = high;
        } else {
            also.push((low, high));
        }
    }
    done.also = also;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_of_what_is_done_join() {
        let mut done = Done::default();
        for id in [3, 1, 5, 2, 7, 6] {
            mark_done(&mut done, id);
        }
        assert_eq!(
            done,
            Done {
                below: 3,
                also: vec![(5, 7)]
            }
        );
    }
}
