//! One session: a client's presence, what it ran, what it holds and waits for.

use imbl::OrdMap;

use crate::budget::{RANGE_BYTES, SESSION_BYTES, answer_cost, lost_cost};
use crate::dedup::Ran;
use crate::name::Name;
use crate::{ClusterTime, Done, NotHeldWhy, Outcome, Seq, Slot, Token};

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
    /// Commands that ran or were given up, those that wait included.
    pub(crate) ran: Ran,
    /// Answers not yet named as done. Invariant: their numbers are in `ran`.
    remembered: OrdMap<Seq, Outcome>,
    remembered_bytes: u64,
    /// The last grants lost and why, to say so to whoever shows their token.
    pub(crate) lost: Vec<(Token, NotHeldWhy)>,
    /// Acquires that wait: the lock, and the slot that queued them. Follows from the locks.
    pub(crate) waiting: OrdMap<Seq, (Name, Slot)>,
    /// The same by lock: a session waits for a lock but once.
    pub(crate) waiting_for: OrdMap<Name, Seq>,
    /// Locks held, by the acquire that got them. Follows from the locks.
    pub(crate) held: OrdMap<Seq, Name>,
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
            remembered: OrdMap::new(),
            remembered_bytes: 0,
            lost: Vec::new(),
            waiting: OrdMap::new(),
            waiting_for: OrdMap::new(),
            held: OrdMap::new(),
        }
    }

    /// The answer to a command that ran, if it is still known.
    pub(crate) fn remembered(&self, seq: Seq) -> Option<&Outcome> {
        self.remembered.get(&seq)
    }

    /// All answers still known, by number.
    pub(crate) fn all_remembered(&self) -> impl ExactSizeIterator<Item = (&Seq, &Outcome)> {
        self.remembered.iter()
    }

    /// Commands that wait or whose answer is remembered.
    pub(crate) fn in_flight(&self) -> u64 {
        (self.remembered.len() + self.waiting.len()) as u64
    }

    /// Keeps the answer of a command that ran.
    pub(crate) fn remember(&mut self, seq: Seq, outcome: Outcome) {
        self.ran.insert(seq);
        self.remembered_bytes += answer_cost(&outcome);
        if let Some(old) = self.remembered.insert(seq, outcome) {
            self.remembered_bytes -= answer_cost(&old);
        }
    }

    /// Drops the answers that `done` names.
    pub(crate) fn forget(&mut self, done: &Done) {
        let gone = named(done, &self.remembered);
        for seq in gone {
            if let Some(old) = self.remembered.remove(&seq) {
                self.remembered_bytes -= answer_cost(&old);
            }
        }
    }

    /// The waiting acquires that `done` names.
    pub(crate) fn given_up(&self, done: &Done) -> Vec<Seq> {
        named(done, &self.waiting)
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

    /// What it takes of the budget.
    pub(crate) fn cost(&self) -> u64 {
        let lost: u64 = self.lost.iter().map(|(_, why)| lost_cost(why)).sum();
        let ranges = self.ran.ranges() * RANGE_BYTES;
        SESSION_BYTES + self.name.len() as u64 + self.remembered_bytes + ranges + lost
    }
}

/// The keys of `map` that `done` names, in order, without looking at the others.
fn named<V: Clone>(done: &Done, map: &OrdMap<Seq, V>) -> Vec<Seq> {
    if map.is_empty() {
        return Vec::new();
    }
    let mut found: Vec<Seq> = map.range(..=Seq(done.below)).map(|(&seq, _)| seq).collect();
    for &(start, end) in &done.also {
        found.extend(map.range(Seq(start)..=Seq(end)).map(|(&seq, _)| seq));
    }
    found.sort_unstable();
    found.dedup();
    found
}
