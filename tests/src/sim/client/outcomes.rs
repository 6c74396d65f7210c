//! What a client makes of the answers.

use std::collections::BTreeMap;

use statemachine::{Done, Op, Outcome, Refusal, Token};

use super::{Client, Guard, Session};
use crate::sim::check::history::What;
use crate::sim::check::sections::{Fate, Section};
use crate::sim::plan::MS;

impl Client {
    pub(super) fn on_outcome(&mut self, now: i64, id: u64, outcome: Outcome) {
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
            (None, Outcome::Settled { fate }) => self.on_settled(now, id, &fate),
            (None, _) if self.settling.remove(&id).is_some() => {}
            (None, _) => self.opening = false,
            (Some(op), outcome) => self.on_command_outcome(now, id, op, outcome),
        }
    }

    pub(super) fn on_alive(&mut self, now: i64, beats: Vec<statemachine::BeatAnswer>) {
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

    pub(super) fn on_command_outcome(&mut self, now: i64, id: u64, op: Op, outcome: Outcome) {
        match (op, outcome) {
            (
                Op::Acquire { lock, lease_ms, .. },
                Outcome::Granted {
                    token, deadline, ..
                },
            ) => {
                self.acquiring = None;
                self.hold(now, lock, token, deadline.0, lease_ms.unwrap_or(u64::MAX));
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
                let fate = match outcome {
                    Outcome::Released { .. } => Fate::Applied,
                    Outcome::Refused(Refusal::NotHeld { .. }) => Fate::Discarded,
                    // Said of this attempt alone, or of nothing any more.
                    _ => Fate::Unknown,
                };
                self.end(now, fate);
            }
            (Op::Abort { token, .. }, _) if self.holds(token) => self.end(now, Fate::Discarded),
            (Op::Close, Outcome::Closed) => {
                self.session = None;
                self.abandon(now);
            }
            _ => {}
        }
    }

    /// What the service told unasked.
    pub(super) fn on_loss(&mut self, now: i64, session: u64, bytes: &[u8]) {
        if self.session.as_ref().is_none_or(|it| it.id.0 != session) {
            return;
        }
        match Outcome::decode(bytes).expect("the service encodes it") {
            Outcome::Refused(Refusal::SessionExpired) => self.lose_session(now),
            Outcome::Refused(Refusal::NotHeld { token, .. }) if self.holds(token) => {
                self.stop_believing();
            }
            _ => {}
        }
    }

    pub(super) fn holds(&self, token: Token) -> bool {
        self.guard
            .as_ref()
            .is_some_and(|guard| guard.token == token)
    }

    pub(super) fn hold(
        &mut self,
        now: i64,
        lock: String,
        token: Token,
        deadline_ms: u64,
        lease_ms: u64,
    ) {
        if self.guard.is_some() {
            return;
        }
        let term_us = match &mut self.session {
            Some(session) => {
                let term_us = lease_ms.min(session.ttl_ms) * MS;
                if self.steady {
                    session.beat_at = session.beat_at.min(now + term_us as i64 / 4);
                }
                term_us
            }
            None => 0,
        };
        self.next_section += 1;
        let name = format!("{}.{}", self.index, self.next_section);
        self.guard = Some(Guard {
            lock,
            token,
            deadline_ms: 0,
            term_us,
            told_at: now,
            until: Some(i64::MIN),
            section: Section {
                name,
                token,
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

    pub(super) fn on_appended(&mut self, now: i64, id: u64, outcome: Outcome) {
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
    pub(super) fn end(&mut self, now: i64, fate: Fate) {
        self.stop_believing();
        if let Some(mut guard) = self.guard.take() {
            guard.section.fate = fate;
            for id in guard.in_flight.keys() {
                self.close(*id);
            }
            self.sections.push(guard.section);
            if fate == Fate::Unknown && self.settle_dice.permille(500) {
                self.settle(now, guard.lock, guard.token);
            }
        }
        self.rest(now);
    }

    /// The service says how a grant ended.
    pub(super) fn on_settled(&mut self, now: i64, id: u64, fate: &statemachine::Fate) {
        let Some(token) = self.settling.remove(&id) else {
            return;
        };
        let fate = match fate {
            statemachine::Fate::Done { .. } => Fate::Applied,
            statemachine::Fate::Never => Fate::Discarded,
            statemachine::Fate::Unknown => return,
        };
        if self.holds(token) {
            return self.end(now, fate);
        }
        let same = |section: &&mut Section| section.token == token;
        if let Some(section) = self.sections.iter_mut().find(same)
            && section.fate == Fate::Unknown
        {
            section.fate = fate;
        }
    }

    pub(super) fn lose_session(&mut self, now: i64) {
        self.session = None;
        self.abandon(now);
    }

    /// Everything of the session is void; an unanswered release remains unknown.
    pub(super) fn abandon(&mut self, now: i64) {
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
}
