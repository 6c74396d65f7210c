//! A client as a pure model: what it asks, repeats, gives up, and believes.
//!
//! It follows the rules of the client library and no more: one number per command, every attempt
//! remembered with the time it was sent, the conservative deadline. It runs on its own clock.

mod belief;
mod outcomes;
mod script;

use std::collections::BTreeMap;

use bytes::Bytes;
use net::{Request, RequestBody, ResponseBody};
use statemachine::{Answer, Beat, Command, Done, Op, Outcome, Seq, SessionId, Token};

use super::check::history::What;
use super::check::sections::Section;
use super::dice::Dice;
use super::plan::{MS, Plan, SECOND};

/// Allowance for a clock's rate, in parts of a hundred: (1 - rho) / (1 + rho) > 1 - 2 rho.
const KEEP_PERCENT: i64 = 98;
/// Cut off the local deadline: a stamp is rounded down to a millisecond.
const MARGIN_US: i64 = 2_000;

/// What a client does to the world.
#[derive(Debug)]
pub(crate) enum Act {
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
    /// Lost a lock that it went on asking for: no keep-alive of it was answered from one time of its own
    /// clock to another.
    LoseLease {
        /// The lock.
        lock: String,
        /// When it was told last that it holds it.
        since_us: i64,
        /// When its belief ended.
        until_us: i64,
        /// The lease or the session's term, whichever is shorter.
        term_us: u64,
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
    /// Of the lease, or of the session where that is shorter.
    term_us: u64,
    /// When the client was told last that it holds the lock.
    told_at: i64,
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
pub(crate) struct Client {
    index: usize,
    dice: Dice,
    replicas: usize,
    locks: usize,
    files: u32,
    term_ms: (u64, u64),
    patience_us: u64,
    /// Renews and asks again when the library would.
    steady: bool,
    /// Attempts in a row that were not answered.
    silences: u32,
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
    /// Grants of which the service was asked how they ended: the call and the token.
    settling: BTreeMap<u64, Token>,
    /// Chance for that alone.
    settle_dice: Dice,
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
    pub(crate) fn new(index: usize, plan: &Plan) -> Client {
        let mut dice = Dice::new(plan.seed, 100 + index as u64);
        Client {
            index,
            target: dice.between(0, u64::from(plan.replicas) - 1) as usize,
            replicas: usize::from(plan.replicas),
            locks: plan.locks,
            files: plan.files,
            term_ms: plan.term_ms,
            steady: plan.steady_clients(),
            silences: 0,
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
            settling: BTreeMap::new(),
            settle_dice: Dice::new(plan.seed, 200 + index as u64),
            idle_until: 0,
            paused_until: 0,
            stopped: false,
            sections: Vec::new(),
            acts: Vec::new(),
            dice,
        }
    }

    /// Takes what the client wants done.
    pub(crate) fn take_acts(&mut self) -> Vec<Act> {
        std::mem::take(&mut self.acts)
    }

    /// Every section that ever began, for the final check.
    pub(crate) fn sections(&self) -> impl Iterator<Item = &Section> {
        self.sections
            .iter()
            .chain(self.guard.as_ref().map(|guard| &guard.section))
    }

    /// Begins nothing new from now on, but ends what it has begun.
    pub(crate) fn stop(&mut self) {
        self.stopped = true;
        self.paused_until = 0;
    }

    /// Does nothing until `until`, of its own clock.
    pub(crate) fn pause(&mut self, until: i64) {
        self.paused_until = until;
        if let Some(guard) = &mut self.guard {
            guard.told_at = i64::MAX;
        }
    }

    /// Until when it does nothing.
    pub(crate) fn paused_until(&self) -> i64 {
        self.paused_until
    }

    /// Whether no call but a keep-alive is under way, and no lock held.
    pub(crate) fn is_idle(&self) -> bool {
        self.calls
            .values()
            .all(|call| matches!(call.what, What::Beat))
            && self.guard.is_none()
    }

    /// Makes one more commit, whatever else goes on.
    pub(crate) fn probe(&mut self, now: i64) {
        let name = format!("probe{}", self.index);
        self.open(now, name);
    }

    /// When it has something to do next.
    pub(crate) fn next_wake(&self) -> i64 {
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
    pub(crate) fn wake(&mut self, now: i64) {
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
    pub(crate) fn on_response(&mut self, now: i64, request: u64, body: ResponseBody) {
        self.expire_belief(now);
        if let ResponseBody::Lost { session, bytes, .. } = &body {
            return self.on_loss(now, *session, bytes);
        }
        let Some(&(id, sent_at)) = self.attempts.get(&request) else {
            return;
        };
        self.silences = 0;
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
    pub(crate) fn on_broken(&mut self, now: i64, request: u64) {
        let Some(&(id, _)) = self.attempts.get(&request) else {
            return;
        };
        self.target = (self.target + 1) % self.replicas;
        let longest = if self.steady { 20 * MS } else { 100 * MS };
        let pause = self.dice.between(5 * MS, longest) as i64;
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
        if again && !call.waiting {
            self.silences += 1;
            let elsewhere = match self.steady {
                true => self.silences >= 2,
                false => self.dice.permille(300),
            };
            if elsewhere {
                self.silences = 0;
                self.target = (self.target + 1) % self.replicas;
            }
        }
        call.attempts.push(request);
        call.retry_at = now
            + if self.steady {
                silence_us(&self.guard, &self.session)
            } else {
                (self.patience_us + self.dice.between(0, self.patience_us)) as i64
            };
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
        let mut calls = self.calls.values();
        let is_asking = calls.any(|call| matches!(call.what, What::Beat));
        let Some(session) = &mut self.session else {
            return;
        };
        session.beat_at = now
            + match &self.guard {
                Some(guard) if self.steady => guard.term_us as i64 / 4,
                _ => session.ttl_ms as i64 * 1_000 / 3,
            };
        if self.steady && is_asking {
            // It is asked again after silence; a late answer to an early attempt is as good as any.
            return;
        }
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
            self.silences += 1;
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
}

/// How long the library waits for an answer: a sixteenth of the lease, 100 ms to 1 s.
fn silence_us(guard: &Option<Guard>, session: &Option<Session>) -> i64 {
    let term_us = match (guard, session) {
        (Some(guard), _) => guard.term_us,
        (None, Some(session)) => session.ttl_ms * MS,
        (None, None) => 0,
    };
    (term_us / 16).clamp(100 * MS, SECOND) as i64
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
