//! The table of open requests: which attempt is answered by which entry of the log.
//!
//! ```text
//! intake --propose--> proposed (by id) --placed--> placed (by slot) --applied--> answered
//!                                                                        \--> waiting (by session, seq)
//!                                                                               \--granted--> answered
//! ```
//!
//! An answer tells the stamp of the entry that carried the very attempt: from it and from the time of
//! sending the client counts how long it may believe in its lock. An attempt that has no entry of its
//! own is answered without a stamp, so that nobody counts from a sending that came later than the entry:
//!
//! - A retry of a command that is in flight here, byte for byte the same, joins its entry. Under overload
//!   retries would otherwise grow faster than they drain. The attempt whose entry it is is answered first.
//! - An acquire that waits now is attached to its place in the queue.
//!
//! Keep-alives join, too, from when they are gathered, those with the same bytes from the same connection. The outcome
//! goes to the first attempt alone; a refusal goes to both.
//!
//! Attempts that wait for a lock are no load and do not count towards the limits on open requests. Their
//! number is bounded by the queues of the state machine.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use net::ResponseBody;
use paxos::{Ballot, MonoTime, Slot};
use statemachine::{BeatAnswer, Outcome, Refusal, Reply, ReplyTo, Seq, SessionId, Token};

use super::gather::Part;
use super::homes::Homes;
use super::io::{ConnId, Origin, Output};

/// Attempts of one waiting acquire that one connection keeps open. Whoever waits for long asks again
/// every few seconds, so that without a bound the table would fill up; the newest count, one more in
/// case they arrive out of order.
const ATTEMPTS_MAX: usize = 2;
/// Attempts of one command, over all connections, that are answered together; those beyond are told to ask again.
const JOINED_MAX: usize = 8;

/// What a command is known by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Key {
    /// An `open`, by its nonce.
    Nonce(u128),
    /// Any command of a session.
    Command(SessionId, Seq),
    /// A `settle`, by its grant.
    Settle(Token),
}

/// For whom an entry was proposed.
#[derive(Debug)]
pub(super) enum Carried {
    /// A client's command.
    Command {
        /// The attempt that the entry was made for.
        origin: Origin,
        key: Key,
        /// As the attempt sent it.
        bytes: Bytes,
        /// Later attempts with the same bytes.
        joined: Vec<Origin>,
    },
    /// Gathered keep-alives: attempts in order.
    Beats(Vec<Part>),
    /// A commit that somebody wants measured.
    Health { origin: Origin, since: MonoTime },
    /// Nobody: the leader's own.
    Own,
}

/// An entry of ours in the log, not applied yet.
#[derive(Debug)]
pub(super) struct Placed {
    id: u64,
    stamp_ms: u64,
    ballot: Ballot,
    carried: Carried,
}

impl Placed {
    /// The connection that a single command came by.
    pub(super) fn conn(&self) -> Option<ConnId> {
        match &self.carried {
            Carried::Command { origin, .. } => Some(origin.conn),
            _ => None,
        }
    }

    /// Whether these are gathered keep-alives.
    pub(super) fn is_gathered(&self) -> bool {
        matches!(self.carried, Carried::Beats(_))
    }
}

/// An attempt of an acquire that waits in its queue.
#[derive(Clone, Copy, Debug)]
struct Waiter {
    origin: Origin,
    /// The stamp of the entry that carried this attempt, if there was one and it moved time.
    stamp_ms: Option<u64>,
}

#[derive(Debug, Default)]
struct Connection {
    /// Requests that are work: waiting acquires are not among them.
    open: usize,
    waits: BTreeSet<(SessionId, Seq)>,
}

impl Connection {
    fn is_idle(&self) -> bool {
        self.open == 0 && self.waits.is_empty()
    }
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Requests {
    next_id: u64,
    proposed: BTreeMap<u64, Carried>,
    placed: BTreeMap<Slot, Placed>,
    /// Where each id of `placed` stands.
    slots: BTreeMap<u64, Slot>,
    /// The newest id of each command in `proposed` and `placed`.
    flying: BTreeMap<Key, u64>,
    /// Keep-alives gathered or in flight, by connection and bytes, and the newest attempt that joined them.
    beating: BTreeMap<(ConnId, Bytes), Option<Origin>>,
    waiting: BTreeMap<(SessionId, Seq), Vec<Waiter>>,
    /// Connections with open requests or waits; the sum of their `open` is `open`.
    connections: BTreeMap<ConnId, Connection>,
    open: usize,
    /// Whom to tell what a session loses.
    homes: Homes,
}

impl Requests {
    /// Requests open on one connection, and in all.
    pub(super) fn open(&self, conn: ConnId) -> (usize, usize) {
        (self.connections.get(&conn).map_or(0, |c| c.open), self.open)
    }

    /// Counts a request as open until [`Requests::close`] or until it is answered.
    pub(super) fn admit(&mut self, origin: Origin) {
        self.connections.entry(origin.conn).or_default().open += 1;
        self.open += 1;
    }

    /// Counts a request as answered. Says whether anybody still waits for the answer.
    pub(super) fn close(&mut self, origin: Origin) -> bool {
        let Some(connection) = self.connections.get_mut(&origin.conn) else {
            return false;
        };
        connection.open -= 1;
        self.open -= 1;
        if connection.is_idle() {
            self.connections.remove(&origin.conn);
        }
        true
    }

    /// Attempts of waiting acquires.
    #[cfg(test)]
    pub(super) fn waiters(&self) -> usize {
        self.waiting.values().map(Vec::len).sum()
    }

    /// Forgets a connection. What it proposed goes its way, with nobody to be told.
    pub(super) fn gone(&mut self, conn: ConnId) {
        self.homes.gone(conn);
        let Some(connection) = self.connections.remove(&conn) else {
            return;
        };
        self.open -= connection.open;
        let beating = self.beating.range((conn, Bytes::new())..);
        let beating: Vec<_> = beating
            .map(|(key, _)| key.clone())
            .take_while(|key| key.0 == conn)
            .collect();
        for key in beating {
            self.beating.remove(&key);
        }
        for key in connection.waits {
            if let Some(waiters) = self.waiting.get_mut(&key) {
                waiters.retain(|waiter| waiter.origin.conn != conn);
                if waiters.is_empty() {
                    self.waiting.remove(&key);
                }
            }
        }
    }

    /// Takes a proposal into the table; the id is the one to propose it under.
    pub(super) fn propose(&mut self, carried: Carried) -> u64 {
        self.next_id += 1;
        if let Carried::Command { key, .. } = &carried {
            self.flying.insert(*key, self.next_id);
        }
        self.proposed.insert(self.next_id, carried);
        self.next_id
    }

    /// Joins an attempt to the entry in flight that carries the same command in the same bytes.
    /// False if there is none.
    pub(super) fn join(
        &mut self,
        key: Key,
        bytes: &Bytes,
        origin: Origin,
        out: &mut Output,
    ) -> bool {
        let Some(id) = self.flying.get(&key) else {
            return false;
        };
        let carried = match self.slots.get(id) {
            Some(slot) => self.placed.get_mut(slot).map(|placed| &mut placed.carried),
            None => self.proposed.get_mut(id),
        };
        let Some(Carried::Command {
            bytes: first,
            joined,
            ..
        }) = carried
        else {
            return false;
        };
        if first != bytes {
            return false;
        }
        // The newest attempt of a connection stands for the older ones.
        let same = joined.iter().position(|it| it.conn == origin.conn);
        let oldest = (joined.len() >= JOINED_MAX).then_some(0);
        let replaced = same.or(oldest).map(|at| joined.remove(at));
        joined.push(origin);
        if let Some(replaced) = replaced
            && self.close(replaced)
            && replaced.conn != origin.conn
        {
            out.reply(replaced, crowded_out());
        }
        true
    }

    /// Joins an attempt to the same keep-alives of its connection, if these are gathered or in flight. If not it is
    /// to be gathered, and later ones join it.
    pub(super) fn join_beats(&mut self, bytes: &Bytes, origin: Origin) -> bool {
        let key = (origin.conn, bytes.clone());
        let Some(joined) = self.beating.get_mut(&key) else {
            self.beating.insert(key, None);
            return false;
        };
        if let Some(replaced) = joined.replace(origin) {
            self.close(replaced);
        }
        true
    }

    /// Keep-alives are in flight no more. Returns the attempt that joined them.
    fn beats_landed(&mut self, part: &Part) -> Option<Origin> {
        let key = (part.origin.conn, part.bytes.clone());
        self.beating.remove(&key)?
    }

    /// The attempts to answer.
    pub(super) fn origins(&mut self, carried: Carried) -> Vec<Origin> {
        match carried {
            Carried::Command { origin, joined, .. } => {
                std::iter::once(origin).chain(joined).collect()
            }
            Carried::Health { origin, .. } => vec![origin],
            Carried::Beats(parts) => parts
                .iter()
                .flat_map(|part| std::iter::once(part.origin).chain(self.beats_landed(part)))
                .collect(),
            Carried::Own => Vec::new(),
        }
    }

    /// A command is in flight no more.
    fn landed(&mut self, id: u64, carried: &Carried) {
        if let Carried::Command { key, .. } = carried
            && self.flying.get(key) == Some(&id)
        {
            self.flying.remove(key);
        }
    }

    /// The core put a proposal into the log.
    pub(super) fn on_placed(&mut self, id: u64, slot: Slot, stamp_ms: u64, ballot: Ballot) {
        if let Some(carried) = self.proposed.remove(&id) {
            self.slots.insert(id, slot);
            self.placed.insert(
                slot,
                Placed {
                    id,
                    stamp_ms,
                    ballot,
                    carried,
                },
            );
        }
    }

    /// Takes out a proposal that the core gave back.
    pub(super) fn take_rejected(&mut self, id: u64) -> Option<Carried> {
        let carried = match self.slots.remove(&id) {
            Some(slot) => self.placed.remove(&slot).map(|placed| placed.carried),
            None => self.proposed.remove(&id),
        }?;
        self.landed(id, &carried);
        Some(carried)
    }

    /// Takes out every attempt whose entry stands in the log and is not applied yet.
    pub(super) fn take_all_placed(&mut self) -> Vec<Origin> {
        let placed = std::mem::take(&mut self.placed).into_values();
        let mut origins = Vec::new();
        for Placed { id, carried, .. } in placed {
            self.slots.remove(&id);
            self.landed(id, &carried);
            origins.extend(self.origins(carried));
        }
        origins
    }

    /// Proposals that are neither applied nor given back.
    pub(super) fn in_flight(&self) -> usize {
        self.proposed.len() + self.placed.len()
    }

    /// Takes out what stood in `slot`, if the entry chosen there is the one that was placed.
    pub(super) fn take_placed(&mut self, slot: Slot, birth: Ballot) -> Option<Placed> {
        if self.placed.get(&slot)?.ballot != birth {
            return None;
        }
        let placed = self.placed.remove(&slot)?;
        self.slots.remove(&placed.id);
        self.landed(placed.id, &placed.carried);
        Some(placed)
    }

    /// Attaches an attempt to an acquire that waits, in place of the connection's oldest one if there
    /// are too many. From now on it counts as open no more. Says whether anybody still waits for the
    /// answer.
    pub(super) fn attach(
        &mut self,
        key: (SessionId, Seq),
        origin: Origin,
        stamp_ms: Option<u64>,
        out: &mut Output,
    ) -> bool {
        let Some(connection) = self.connections.get_mut(&origin.conn) else {
            return false;
        };
        connection.open -= 1;
        self.open -= 1;
        connection.waits.insert(key);
        let waiters = self.waiting.entry(key).or_default();
        let same = |waiter: &Waiter| waiter.origin.conn == origin.conn;
        if waiters.iter().filter(|waiter| same(waiter)).count() >= ATTEMPTS_MAX
            && let Some(oldest) = waiters.iter().position(same)
        {
            waiters.remove(oldest);
        } else if waiters.len() >= JOINED_MAX {
            let Waiter { origin: oldest, .. } = waiters.remove(0);
            if !waiters.iter().any(|it| it.origin.conn == oldest.conn) {
                self.forget_wait(oldest.conn, key);
            }
            out.reply(oldest, crowded_out());
        }
        let waiters = self.waiting.entry(key).or_default();
        waiters.push(Waiter { origin, stamp_ms });
        true
    }

    fn forget_wait(&mut self, conn: ConnId, key: (SessionId, Seq)) {
        if let Some(connection) = self.connections.get_mut(&conn) {
            connection.waits.remove(&key);
            if connection.is_idle() {
                self.connections.remove(&conn);
            }
        }
    }

    /// An acquire left its queue because its client wants it no more. Nobody listens, as a rule.
    pub(super) fn give_up(&mut self, key: (SessionId, Seq), slot: Slot, out: &mut Output) {
        if self.waiting.contains_key(&key) {
            let outcome = Outcome::Refused(Refusal::Forgotten);
            self.push(key, slot, &Bytes::from(outcome.encode()), out);
        }
    }

    /// Takes out every waiting attempt: leadership is lost, and with it whoever would answer.
    pub(super) fn take_waiting(&mut self) -> Vec<Origin> {
        self.homes = Homes::default();
        let waiting = std::mem::take(&mut self.waiting);
        self.connections.retain(|_, connection| {
            connection.waits.clear();
            !connection.is_idle()
        });
        waiting
            .into_values()
            .flatten()
            .map(|waiter| waiter.origin)
            .collect()
    }

    /// Sends what applying one entry gave out. `own` is what was placed there; `counts` tells whether
    /// the entry moved time. An attempt that got no reply is given back: its acquire waits.
    pub(super) fn answer(
        &mut self,
        slot: Slot,
        own: Option<Placed>,
        counts: bool,
        replies: Vec<Reply>,
        out: &mut Output,
    ) -> Option<Unanswered> {
        let mut own = own.map(|placed| Own {
            stamp_ms: counts.then_some(placed.stamp_ms),
            carried: placed.carried,
        });
        for Reply { to, outcome, .. } in replies {
            match to {
                ReplyTo::Command(session, seq) => {
                    self.note_holder(own.as_ref(), session, &outcome);
                    let bytes = Bytes::from(outcome.encode());
                    self.push((session, seq), slot, &bytes, out);
                    self.answer_own(&mut own, Key::Command(session, seq), slot, &bytes, out);
                }
                ReplyTo::Nonce(nonce) => {
                    let bytes = Bytes::from(outcome.encode());
                    self.answer_own(&mut own, Key::Nonce(nonce), slot, &bytes, out);
                }
                ReplyTo::Settle(token) => {
                    let bytes = Bytes::from(outcome.encode());
                    self.answer_own(&mut own, Key::Settle(token), slot, &bytes, out);
                }
                ReplyTo::Beats => self.answer_beats(&mut own, slot, outcome, out),
            }
        }
        own.map(|Own { stamp_ms, carried }| Unanswered { stamp_ms, carried })
    }

    /// Tells a session's connection what it lost in this slot, unless that very connection `asked` for it.
    pub(super) fn tell_loss(
        &mut self,
        session: SessionId,
        refusal: Refusal,
        asked: Option<ConnId>,
        slot: Slot,
        out: &mut Output,
    ) {
        let home = self.homes.of(session);
        if refusal == Refusal::SessionExpired {
            self.homes.ended(session);
        }
        if let Some(conn) = home.filter(|_| home != asked) {
            let origin = Origin {
                conn,
                request: net::Response::UNASKED,
            };
            let bytes = Bytes::from(Outcome::Refused(refusal).encode());
            let (session, slot) = (session.0, slot.0);
            out.reply(
                origin,
                ResponseBody::Lost {
                    session,
                    slot,
                    bytes,
                },
            );
        }
    }

    /// Only of a connection that is still there.
    fn note_home(&mut self, session: SessionId, conn: ConnId) {
        if self.connections.contains_key(&conn) {
            self.homes.note(session, conn);
        }
    }

    /// To everyone attached to a waiting acquire.
    fn push(&mut self, key: (SessionId, Seq), slot: Slot, bytes: &Bytes, out: &mut Output) {
        for Waiter { origin, stamp_ms } in self.waiting.remove(&key).unwrap_or_default() {
            self.forget_wait(origin.conn, key);
            out.reply(
                origin,
                ResponseBody::Outcome {
                    slot: slot.0,
                    stamp_ms,
                    bytes: bytes.clone(),
                },
            );
        }
    }

    /// What only a holder is told shows where it is; anybody may close a session.
    fn note_holder(&mut self, own: Option<&Own>, session: SessionId, outcome: &Outcome) {
        if let Some(Own {
            carried: Carried::Command { origin, .. },
            ..
        }) = own
            && let Outcome::Granted { .. } | Outcome::Appended { .. } | Outcome::Renewed { .. } =
                outcome
        {
            let conn = origin.conn;
            self.note_home(session, conn);
        }
    }

    fn answer_own(
        &mut self,
        own: &mut Option<Own>,
        to: Key,
        slot: Slot,
        bytes: &Bytes,
        out: &mut Output,
    ) {
        let Some(Own {
            stamp_ms,
            carried:
                Carried::Command {
                    origin,
                    key,
                    joined,
                    ..
                },
        }) = own
        else {
            return;
        };
        if *key == to {
            self.send(*origin, slot, *stamp_ms, bytes.clone(), out);
            for later in joined {
                // Sent after the entry was made: its sending must not be paired with that stamp.
                self.send(*later, slot, None, bytes.clone(), out);
            }
            *own = None;
        }
    }

    /// The gathered keep-alives get their shares of the answer, in the order they were gathered in.
    fn answer_beats(
        &mut self,
        own: &mut Option<Own>,
        slot: Slot,
        outcome: Outcome,
        out: &mut Output,
    ) {
        let Some(Own {
            stamp_ms,
            carried: Carried::Beats(parts),
        }) = own
        else {
            return;
        };
        let (stamp_ms, parts) = (*stamp_ms, std::mem::take(parts));
        *own = None;
        let mut beats = match outcome {
            Outcome::Alive { beats } => beats.into_iter(),
            refusal => {
                let bytes = Bytes::from(refusal.encode());
                for part in parts {
                    self.send_to_part(&part, slot, stamp_ms, &bytes, out);
                }
                return;
            }
        };
        for part in parts {
            let share: Vec<BeatAnswer> = beats.by_ref().take(part.beats).collect();
            for beat in share.iter().filter(|beat| beat.result.is_ok()) {
                self.note_home(beat.session, part.origin.conn);
            }
            let bytes = Bytes::from(Outcome::Alive { beats: share }.encode());
            self.send_to_part(&part, slot, stamp_ms, &bytes, out);
        }
    }

    fn send_to_part(
        &mut self,
        part: &Part,
        slot: Slot,
        stamp_ms: Option<u64>,
        bytes: &Bytes,
        out: &mut Output,
    ) {
        let joined = self.beats_landed(part);
        self.send(part.origin, slot, stamp_ms, bytes.clone(), out);
        if let Some(later) = joined {
            // Not answered: it may have been sent when a later slot had been answered already, elsewhere. Who asked
            // twice has the answer; who asks anew asks again, and gets an entry of its own.
            self.close(later);
        }
    }

    fn send(
        &mut self,
        origin: Origin,
        slot: Slot,
        stamp_ms: Option<u64>,
        bytes: Bytes,
        out: &mut Output,
    ) {
        if self.close(origin) {
            out.reply(
                origin,
                ResponseBody::Outcome {
                    slot: slot.0,
                    stamp_ms,
                    bytes,
                },
            );
        }
    }
}

/// What an attempt is told that gives way to others of the same command.
fn crowded_out() -> ResponseBody {
    ResponseBody::Unknown {
        reason: format!("more than {JOINED_MAX} connections ask for the same command; ask again"),
    }
}

#[derive(Debug)]
struct Own {
    stamp_ms: Option<u64>,
    carried: Carried,
}

/// An attempt whose entry was applied without a reply to it.
#[derive(Debug)]
pub(super) struct Unanswered {
    /// The stamp of its entry, if that moved time.
    pub(super) stamp_ms: Option<u64>,
    /// For whom the entry was.
    pub(super) carried: Carried,
}
