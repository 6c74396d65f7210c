//! One session: a client's presence, what it ran, what it holds and waits for.

use std::collections::VecDeque;

use imbl::OrdMap;
use serde::{Deserialize, Serialize};

use crate::budget::{RANGE_BYTES, SESSION_BYTES, answer_cost, lost_cost};
use crate::dedup::{self, Ran};
use crate::digest::{self, Kind, Sum};
use crate::name::Name;
use crate::{ClusterTime, Done, NotHeldWhy, Outcome, Seq, SessionId, Slot, Token};

/// Lost grants that a session remembers the reason of.
pub(crate) const LOST_MAX: usize = 8;

/// A session that lives.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Session {
    pub(crate) nonce: u128,
    pub(crate) name: Name,
    pub(crate) ttl_ms: u64,
    pub(crate) since: ClusterTime,
    pub(crate) since_wall_ms: u64,
    pub(crate) deadline: ClusterTime,
    pub(crate) presence: Presence,
    /// Commands that ran or were given up, those that wait included.
    pub(crate) ran: Ran,
    /// Answers not yet named as done. Invariant: their numbers are in `ran`.
    remembered: VecDeque<(Seq, Outcome)>,
    remembered_bytes: u64,
    /// The hash of `remembered`.
    answers: Sum,
    /// The share of this session in the state's hash, as of the last change.
    pub(crate) part: u128,
    /// The last grants lost and why, to say so to whoever shows their token.
    pub(crate) lost: Vec<(Token, NotHeldWhy)>,
    /// Acquires that wait, by number. Follows from the locks.
    waits: OrdMap<Seq, Wait>,
    /// The same by lock: a session waits for a lock but once.
    awaited: OrdMap<Name, Seq>,
    /// Locks held, by the acquire that got them. Follows from the locks.
    pub(crate) held: OrdMap<Seq, Name>,
}

/// Whether a session is being cleared away.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Presence {
    /// It is not, though it may be due.
    #[default]
    Here,
    /// It has expired, and more than one slot is needed to clear away what it had.
    Expired,
    /// It was closed, and more than one slot is needed to clear away what it had.
    Closed,
}

/// An acquire that waits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Wait {
    pub(crate) seq: Seq,
    pub(crate) lock: Name,
    /// The slot that queued it.
    pub(crate) slot: Slot,
}

impl Session {
    pub(crate) fn new(nonce: u128, name: Name, ttl_ms: u64) -> Session {
        Session {
            nonce,
            name,
            ttl_ms,
            since: ClusterTime::default(),
            since_wall_ms: 0,
            deadline: ClusterTime::default(),
            ran: Ran::default(),
            remembered: VecDeque::new(),
            remembered_bytes: 0,
            answers: Sum::default(),
            part: 0,
            lost: Vec::new(),
            waits: OrdMap::new(),
            awaited: OrdMap::new(),
            presence: Presence::Here,
            held: OrdMap::new(),
        }
    }

    /// The answer to a command that ran, if it is still known.
    pub(crate) fn remembered(&self, seq: Seq) -> Option<&Outcome> {
        let at = self
            .remembered
            .binary_search_by_key(&seq, |&(seq, _)| seq)
            .ok()?;
        Some(&self.remembered[at].1)
    }

    /// All answers still known, by number.
    pub(crate) fn all_remembered(&self) -> impl ExactSizeIterator<Item = &(Seq, Outcome)> {
        self.remembered.iter()
    }

    /// Commands whose answer is remembered.
    pub(crate) fn answered(&self) -> u64 {
        self.remembered.len() as u64
    }

    /// Keeps the answer of a command that ran.
    pub(crate) fn remember(&mut self, seq: Seq, outcome: Outcome) {
        self.ran.insert(seq);
        self.remembered_bytes += answer_cost(&outcome);
        self.answers
            .add(digest::part(Kind::Answer, &(seq, &outcome)));
        // Numbers count up, so that the place is nearly always the end.
        match self.remembered.binary_search_by_key(&seq, |&(seq, _)| seq) {
            Err(at) => self.remembered.insert(at, (seq, outcome)),
            Ok(at) => {
                let (_, old) = std::mem::replace(&mut self.remembered[at], (seq, outcome));
                self.remembered_bytes -= answer_cost(&old);
                self.answers
                    .remove(digest::part(Kind::Answer, &(seq, &old)));
            }
        }
    }

    /// Drops the answers that `done` names.
    pub(crate) fn forget(&mut self, done: &Done) {
        for (start, end) in dedup::ranges(done) {
            let from = self.remembered.partition_point(|&(seq, _)| seq < start);
            let to = self.remembered.partition_point(|&(seq, _)| seq <= end);
            for (seq, old) in self.remembered.drain(from..to) {
                self.remembered_bytes -= answer_cost(&old);
                self.answers
                    .remove(digest::part(Kind::Answer, &(seq, &old)));
            }
        }
    }

    /// The waiting acquires that `done` names, in order of their numbers.
    pub(crate) fn given_up(&self, done: &Done) -> Vec<Wait> {
        let named = |seq| dedup::ranges(done).any(|(start, end)| start <= seq && seq <= end);
        self.waits
            .values()
            .filter(|wait| named(wait.seq))
            .cloned()
            .collect()
    }

    /// The acquires that wait, in order of their numbers.
    pub(crate) fn waits(&self) -> &OrdMap<Seq, Wait> {
        &self.waits
    }

    /// The acquire of that number, if it waits.
    pub(crate) fn wait(&self, seq: Seq) -> Option<&Wait> {
        self.waits.get(&seq)
    }

    /// The acquire that waits for `lock`. A session waits for a lock but once.
    pub(crate) fn waits_for(&self, lock: &str) -> Option<Seq> {
        self.awaited.get(lock).copied()
    }

    /// Counts an acquire among those that wait.
    pub(crate) fn start_wait(&mut self, wait: Wait) {
        self.ran.insert(wait.seq);
        self.awaited.insert(wait.lock.clone(), wait.seq);
        self.waits.insert(wait.seq, wait);
    }

    /// Counts an acquire no longer among those that wait.
    pub(crate) fn end_wait(&mut self, seq: Seq) {
        if let Some(wait) = self.waits.remove(&seq) {
            self.awaited.remove(&wait.lock);
        }
    }

    /// Keeps in mind why a grant was lost.
    pub(crate) fn note_lost(&mut self, token: Token, why: NotHeldWhy) {
        if self.lost.len() == LOST_MAX {
            self.lost.remove(0);
        }
        self.lost.push((token, why));
    }

    /// Why a grant was lost, if that is known.
    pub(crate) fn why_lost(&self, token: Token) -> NotHeldWhy {
        let known = self.lost.iter().find(|(lost, _)| *lost == token);
        known.map_or(NotHeldWhy::Unknown, |(_, why)| why.clone())
    }

    /// The hash of what is written of the session; locks held and waited for are hashed with the
    /// locks.
    pub(crate) fn hash(&self, id: SessionId) -> u128 {
        let times = (self.ttl_ms, self.since, self.since_wall_ms, self.deadline);
        let (name, answers) = (&*self.name, self.answers.value());
        digest::part(
            Kind::Session,
            &(
                (id, self.nonce, name, times, self.presence),
                (&self.ran, answers, &self.lost),
            ),
        )
    }

    /// What it takes of the budget.
    pub(crate) fn cost(&self) -> u64 {
        let lost: u64 = self.lost.iter().map(|(_, why)| lost_cost(why)).sum();
        let ranges = self.ran.ranges() * RANGE_BYTES;
        SESSION_BYTES + self.name.len() as u64 + self.remembered_bytes + ranges + lost
    }
}
