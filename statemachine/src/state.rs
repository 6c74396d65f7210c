//! The whole state, and the few elementary changes that keep its parts in step.
//!
//! Sessions, locks and files are the state; the rest follows from them and is kept so that no
//! change looks at more than it changes: who has which nonce, what is due when, what all weighs,
//! what a session holds and waits for. [`crate::apply`] decides, the methods here keep the books.

use std::sync::Arc;

use imbl::OrdMap;

use crate::deadline::{Deadlines, Due, Ending};
use crate::digest::{self, Kind, Sum};
use crate::ended::Ended;
use crate::file::File;
use crate::gift::{Gift, Gifts};
use crate::lock::{Holder, Lock, Waiter};
use crate::name::Name;
use crate::section::Pending;
use crate::session::{Presence, Session, Wait};
use crate::{ClusterTime, Fate, NotHeldWhy, Outcome, Seq, SessionId, Settings, Slot, Token};

/// Everything that replicas agree on.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct State {
    pub(crate) time: ClusterTime,
    pub(crate) applied: Slot,
    /// The last token given.
    pub(crate) token: Token,
    pub(crate) settings: Option<Settings>,
    /// Behind pointers, so that changing one session copies no other while a clone exists.
    sessions: OrdMap<SessionId, Arc<Session>>,
    locks: OrdMap<Name, Lock>,
    files: OrdMap<Name, File>,

    ended: Ended,
    /// What new leaders gave to sessions and leases, and is not part of their deadlines yet.
    gifts: Gifts,

    nonces: OrdMap<u128, SessionId>,
    dues: Deadlines,
    /// What sessions, locks and files weigh together, the ends of grants apart.
    weight: u64,
    /// Bytes of data pending in all sections.
    pending: u64,
    /// The hash of sessions, locks and files.
    sum: Sum,
}

/// Looking.
impl State {
    pub(crate) fn sessions(&self) -> &OrdMap<SessionId, Arc<Session>> {
        &self.sessions
    }

    pub(crate) fn locks(&self) -> &OrdMap<Name, Lock> {
        &self.locks
    }

    pub(crate) fn files(&self) -> &OrdMap<Name, File> {
        &self.files
    }

    pub(crate) fn dues(&self) -> &Deadlines {
        &self.dues
    }

    pub(crate) fn session_of(&self, nonce: u128) -> Option<SessionId> {
        self.nonces.get(&nonce).copied()
    }

    pub(crate) fn ended(&self) -> &Ended {
        &self.ended
    }

    pub(crate) fn gifts(&self) -> &Gifts {
        &self.gifts
    }

    /// When a session ends, unless it gives a sign of life.
    pub(crate) fn session_deadline(&self, session: &Session) -> ClusterTime {
        lifted(&self.gifts, session)
    }

    /// When the lease of a grant ends, unless it is renewed.
    pub(crate) fn lease_deadline(&self, holder: &Holder) -> ClusterTime {
        self.gifts.lift(holder.deadline, holder.lease_ms)
    }

    /// The limits in force: the agreed ones, or the documented ones until there are any.
    pub(crate) fn limits(&self) -> Settings {
        self.settings
            .clone()
            .unwrap_or_else(Settings::of_first_rules)
    }

    /// The version of the rules in force.
    pub(crate) fn rules(&self) -> u32 {
        self.settings.as_ref().map_or(1, |settings| settings.rules)
    }

    /// What the state weighs, in bytes of the agreed budget.
    pub(crate) fn weight(&self) -> u64 {
        self.weight + self.ended.bytes()
    }

    /// Bytes of data pending in all sections.
    pub(crate) fn pending(&self) -> u64 {
        self.pending
    }

    /// A number for the state: equal states have equal ones. Costs the same whatever the state's size.
    pub(crate) fn hash(&self) -> u64 {
        let settings = self.settings.as_ref().map(|s| (s, s.added()));
        let head = (self.applied, self.time, self.token, settings, &self.gifts);
        let parts = (self.sum.value(), self.ended.count(), self.ended.hash());
        let hash = digest::part(Kind::Head, &(head, parts));
        (hash >> 64) as u64 ^ hash as u64
    }

    /// Whether a session is there and has not ended. One that has may take some slots to clear away.
    pub(crate) fn lives(&self, id: SessionId) -> bool {
        let session = self.sessions.get(&id);
        session.is_some_and(|session| self.session_deadline(session) > self.time)
    }

    /// Whether a grant has not ended.
    pub(crate) fn holds(&self, holder: &Holder) -> bool {
        self.lease_deadline(holder) > self.time && self.lives(holder.session)
    }

    /// Whether an acquire that waits has not ended.
    pub(crate) fn waits(&self, waiter: &Waiter) -> bool {
        waiter.until.is_none_or(|until| until > self.time) && self.lives(waiter.session)
    }

    /// The holder of a lock, unless its grant has ended.
    pub(crate) fn holder(&self, lock: &str) -> Option<&Holder> {
        let holder = self.locks.get(lock)?.holder.as_ref()?;
        self.holds(holder).then_some(holder)
    }

    /// Whether a grant that has ended did so with its session, rather than before.
    pub(crate) fn ended_with_session(&self, lock: &Name, holder: &Holder) -> bool {
        let session = &self.sessions[&holder.session];
        let deadline = self.session_deadline(session);
        let with_session = session_due(holder.session, deadline);
        let lease = Due {
            at: self.lease_deadline(holder),
            ..lease_due(lock, holder)
        };
        deadline <= self.time && with_session < lease
    }

    /// The deadline of `session` that a client is told, if `deadline` is that of a lease.
    pub(crate) fn told(&self, session: SessionId, deadline: ClusterTime) -> ClusterTime {
        self.sessions
            .get(&session)
            .map_or(deadline, |s| self.session_deadline(s).min(deadline))
    }

    /// The place of a waiting acquire in its queue.
    pub(crate) fn position(&self, session: SessionId, seq: Seq) -> Option<u64> {
        let Wait { lock, slot, .. } = self.sessions.get(&session)?.wait(seq)?;
        self.locks.get(lock)?.queue.position(*slot)
    }
}

/// When a session ends, with what new leaders have given.
fn lifted(gifts: &Gifts, session: &Session) -> ClusterTime {
    match session.presence {
        Presence::Here => gifts.lift(session.deadline, session.ttl_ms),
        // It has ended.
        Presence::Expired | Presence::Closed => session.deadline,
    }
}

/// Sessions.
impl State {
    /// Adds a session, which is new.
    pub(crate) fn insert_session(&mut self, id: SessionId, mut session: Session) {
        self.weight += session.cost();
        session.part = session.hash(id);
        self.sum.add(session.part);
        self.nonces.insert(session.nonce, id);
        self.dues.insert(session_due(id, session.deadline));
        let old = self.sessions.insert(id, Arc::new(session));
        assert!(old.is_none(), "session {id} is there already");
    }

    /// Takes out a session that holds nothing and waits for nothing.
    pub(crate) fn remove_session(&mut self, id: SessionId) {
        let session = self.sessions.remove(&id).expect("the session is there");
        assert!(
            session.held.is_empty() && session.waits().is_empty(),
            "session {id} is bare"
        );
        self.weight -= session.cost();
        self.sum.remove(session.part);
        // Its client may have opened another one with the same number since it ended.
        if self.nonces.get(&session.nonce) == Some(&id) {
            self.nonces.remove(&session.nonce);
        }
        self.dues.remove(&session_due(id, session.deadline));
    }

    /// Changes a session, if there is one.
    pub(crate) fn edit_session<R>(
        &mut self,
        id: SessionId,
        edit: impl FnOnce(&mut Session) -> R,
    ) -> Option<R> {
        let session = Arc::make_mut(self.sessions.get_mut(&id)?);
        self.weight -= session.cost();
        self.sum.remove(session.part);
        let result = edit(session);
        session.part = session.hash(id);
        self.sum.add(session.part);
        self.weight += session.cost();
        Some(result)
    }

    /// Starts the time to live of a session that lives anew; the deadline to tell.
    pub(crate) fn extend_life(&mut self, id: SessionId) -> ClusterTime {
        let now = self.time;
        self.extend_session(id, |session| now.after(session.ttl_ms))
            .expect("the session lives")
    }

    /// Lifts the deadline of a session to `until`, if that is later. Returns the deadline to tell; nothing if there is
    /// no such session.
    fn extend_session(
        &mut self,
        id: SessionId,
        until: impl FnOnce(&Session) -> ClusterTime,
    ) -> Option<ClusterTime> {
        let session = self.sessions.get_mut(&id)?;
        let deadline = until(session);
        if session.deadline < deadline {
            self.dues.remove(&session_due(id, session.deadline));
            self.dues.insert(session_due(id, deadline));
            let session = Arc::make_mut(session);
            self.sum.remove(session.part);
            session.deadline = deadline;
            session.part = session.hash(id);
            self.sum.add(session.part);
        }
        Some(lifted(&self.gifts, session))
    }

    /// Ends a session now; what it has is cleared away in its turn.
    pub(crate) fn end_session_now(&mut self, id: SessionId, presence: Presence) {
        let session = &self.sessions[&id];
        let deadline = self.session_deadline(session).min(self.time);
        self.dues.remove(&session_due(id, session.deadline));
        self.dues.insert(session_due(id, deadline));
        self.edit_session(id, |session| {
            session.deadline = deadline;
            session.presence = presence;
        });
    }

    /// Keeps the answer of a command, if its session still lives.
    pub(crate) fn remember(&mut self, id: SessionId, seq: Seq, outcome: Outcome) {
        self.edit_session(id, |session| session.remember(seq, outcome));
    }
}

/// Locks.
impl State {
    /// Gives a free lock to a session that lives, under the next token.
    pub(crate) fn grant(&mut self, name: Name, mut holder: Holder) -> Token {
        self.token = Token(self.token.0 + 1);
        holder.token = self.token;
        self.dues.insert(lease_due(&name, &holder));
        let (session, seq) = (holder.session, holder.seq);
        self.edit_session(session, |s| s.held.insert(seq, name.clone()))
            .expect("a grant is never given to a session that has ended");
        self.edit_lock(name, |lock| {
            assert!(lock.holder.is_none(), "one holder at a time");
            lock.holder = Some(holder);
        });
        self.token
    }

    /// Takes a lock from its holder, with what is pending. [`State::drop_if_free`] must follow.
    pub(crate) fn take_holder(&mut self, name: &Name, why: NotHeldWhy) -> Holder {
        let holder = self
            .edit_lock(name.clone(), |lock| lock.holder.take())
            .expect("only a held lock is taken");
        self.dues.remove(&lease_due(name, &holder));
        self.pending -= holder.section.bytes();
        self.edit_session(holder.session, |session| {
            session.held.remove(&holder.seq);
            session.note_lost(holder.token, why);
        });
        holder
    }

    /// Lets an acquire wait, at the end of the queue.
    pub(crate) fn enqueue(&mut self, name: &Name, slot: Slot, waiter: Waiter) {
        if let Some(until) = waiter.until {
            self.dues.insert(wait_due(name, slot, until));
        }
        let seq = waiter.seq;
        let wait = Wait {
            seq,
            lock: name.clone(),
            slot,
        };
        self.edit_session(waiter.session, |session| session.start_wait(wait));
        self.sum.add(waiter.hash(name, slot));
        self.edit_lock(name.clone(), |lock| lock.queue.push(slot, waiter));
    }

    /// Takes an acquire that waits out of its queue.
    pub(crate) fn dequeue(&mut self, name: &Name, slot: Slot) -> Waiter {
        let waiter = self
            .edit_lock(name.clone(), |lock| lock.queue.remove(slot))
            .expect("the acquire waits");
        if let Some(until) = waiter.until {
            self.dues.remove(&wait_due(name, slot, until));
        }
        self.edit_session(waiter.session, |session| session.end_wait(waiter.seq));
        self.sum.remove(waiter.hash(name, slot));
        waiter
    }

    /// Counts the lease of a held lock from now, if it ends later so; its deadline.
    pub(crate) fn extend_lease(&mut self, name: &Name) -> ClusterTime {
        let now = self.time;
        self.set_lease(name, |gifts, holder| {
            let lifted = gifts.lift(holder.deadline, holder.lease_ms);
            lifted.max(now.after(holder.lease_ms))
        })
    }

    /// Moves the end of a held lock's lease.
    fn set_lease(
        &mut self,
        name: &Name,
        until: impl FnOnce(&Gifts, &Holder) -> ClusterTime,
    ) -> ClusterTime {
        let lock = self.locks.get_mut(name).expect("the lock is held");
        let holder = lock.holder.as_mut().expect("the lock is held");
        self.dues.remove(&lease_due(name, holder));
        holder.deadline = until(&self.gifts, holder);
        let deadline = holder.deadline;
        self.dues.insert(lease_due(name, holder));
        self.sum.remove(lock.part);
        lock.part = lock.hash(name);
        self.sum.add(lock.part);
        deadline
    }

    /// Adds to the section of a held lock; its bytes pending.
    pub(crate) fn append(&mut self, name: &Name, append: Pending) -> u64 {
        self.pending += append.data.len() as u64;
        self.edit_lock(name.clone(), |lock| {
            let holder = lock.holder.as_mut().expect("the lock is held");
            holder.section.push(append);
            holder.section.bytes()
        })
    }

    /// Lets a lock that nobody holds or waits for cease to exist.
    pub(crate) fn drop_if_free(&mut self, name: &Name) {
        let Some(lock) = self.locks.get(name) else {
            return;
        };
        if lock.holder.is_none() && lock.queue.len() == 0 {
            self.weight -= lock.cost() + name.len() as u64;
            self.locks.remove(name);
        }
    }

    /// The stored name of a lock that is held or waited for, or a new one.
    pub(crate) fn lock_name(&self, name: &str) -> Name {
        self.locks
            .get_key_value(name)
            .map_or_else(|| Name::from(name), |(known, _)| known.clone())
    }

    /// Changes a lock, which comes into being if it was not there.
    fn edit_lock<R>(&mut self, name: Name, edit: impl FnOnce(&mut Lock) -> R) -> R {
        if !self.locks.contains_key(&name) {
            let lock = Lock::default();
            self.weight += lock.cost() + name.len() as u64;
            self.locks.insert(name.clone(), lock);
        }
        let lock = self.locks.get_mut(&name).expect("just made");
        self.weight -= lock.cost();
        self.sum.remove(lock.part);
        let result = edit(lock);
        lock.part = lock.hash(&name);
        self.sum.add(lock.part);
        self.weight += lock.cost();
        result
    }
}

/// The gifts of new leaders.
impl State {
    /// Leaves each session and lease that lives at least `grace_ms`, or its own term if that is shorter.
    /// Waits are not extended.
    pub(crate) fn give(&mut self, grace_ms: u64) {
        let gift = Gift {
            at: self.time,
            grace_ms,
        };
        if self.dues.first().is_none_or(|first| gift.end() <= first.at) {
            return;
        }
        // Logs of the first rules must be replayed to the same bytes.
        let at_once = self.rules() == 1 || self.gifts.is_full();
        self.gifts.push(gift);
        if at_once {
            self.lift_all();
        }
    }

    /// Moves a deadline to where the gifts of new leaders have lifted it; whether they have.
    pub(crate) fn lift(&mut self, due: &Due) -> bool {
        match &due.what {
            Ending::Session(id) => {
                let deadline = self.session_deadline(&self.sessions[id]);
                self.extend_session(*id, |_| deadline);
                due.at < deadline
            }
            Ending::Lease(_, lock) => {
                let holder = self.locks[lock].holder.as_ref();
                let deadline = self.lease_deadline(holder.expect("it has a lease"));
                if due.at < deadline {
                    self.set_lease(lock, |_, _| deadline);
                }
                due.at < deadline
            }
            Ending::Wait(_) => false,
        }
    }

    /// Moves all deadlines to where the gifts have lifted them.
    fn lift_all(&mut self) {
        let Some((start, end)) = self.gifts.span() else {
            return;
        };
        let dues: Vec<Due> = self.dues.between(start, end).cloned().collect();
        dues.iter().for_each(|due| {
            self.lift(due);
        });
        self.gifts = Gifts::default();
    }

    /// Forgets the gifts that lift nothing any more.
    pub(crate) fn retire_gifts(&mut self) {
        self.gifts.retire(self.dues.first().map(|due| due.at));
    }

    /// Takes over the gifts that another replica has not forgotten.
    pub(crate) fn set_gifts(&mut self, gifts: Gifts) {
        self.gifts = gifts;
    }
}

/// The ends of grants.
impl State {
    /// Remembers how a grant ended.
    pub(crate) fn note_end(&mut self, token: Token, fate: Fate) {
        let limits = self.limits();
        self.ended.push(token, fate, &limits);
    }

    /// Takes over what another replica remembered.
    pub(crate) fn set_ended(&mut self, ended: Ended) {
        self.ended = ended;
    }
}

/// Files.
impl State {
    /// Adds a file, which is new.
    pub(crate) fn insert_file(&mut self, name: Name, file: File) {
        self.weight += file.cost() + name.len() as u64;
        self.sum.add(file.hash(&name));
        let old = self.files.insert(name, file);
        assert!(old.is_none(), "the file is there already");
    }

    /// Takes out a file, if it is there.
    pub(crate) fn remove_file(&mut self, name: &str) -> Option<File> {
        let (name, file) = self.files.remove_with_key(name)?;
        self.weight -= file.cost() + name.len() as u64;
        self.sum.remove(file.hash(&name));
        Some(file)
    }

    /// Counts `data` as appended to a file that is there; its identity, and the offset.
    pub(crate) fn append_to_file(&mut self, name: &Name, data: &[u8]) -> (crate::FileId, u64) {
        let file = self
            .files
            .get_mut(name)
            .expect("a file with pending appends stays");
        self.sum.remove(file.hash(name));
        let offset = file.append(data);
        self.sum.add(file.hash(name));
        (file.id, offset)
    }
}

fn session_due(id: SessionId, at: ClusterTime) -> Due {
    Due {
        at,
        origin: Slot(id.0),
        what: Ending::Session(id),
    }
}

fn wait_due(lock: &Name, slot: Slot, at: ClusterTime) -> Due {
    Due {
        at,
        origin: slot,
        what: Ending::Wait(lock.clone()),
    }
}

fn lease_due(lock: &Name, holder: &Holder) -> Due {
    let what = Ending::Lease(holder.token, lock.clone());
    Due {
        at: holder.deadline,
        origin: holder.slot,
        what,
    }
}
