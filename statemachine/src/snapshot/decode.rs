//! Reading a snapshot back: bounds first, then meaning, then in through the doors of the state.

use std::collections::BTreeSet;

use serde::de::DeserializeOwned;

use super::{FilePart, Head, LockPart, SessionPart, VERSION_NEWEST, WaiterPart};
use crate::codec::{self, DecodeError};
use crate::ended::Ended;
use crate::file::File;
use crate::gift::Gifts;
use crate::lock::{Holder, Waiter};
use crate::name::{self, Name};
use crate::section::{Pending, Section};
use crate::session::{LOST_MAX, Presence, Session};
use crate::state::State;
use crate::{Fate, NotHeldWhy, Outcome, Seq, SessionId, Token};

/// Reads a state back.
pub(crate) fn decode(bytes: &[u8]) -> Result<State, DecodeError> {
    let (&version, rest) = bytes.split_first().ok_or(DecodeError::Empty)?;
    if version == 0 || version > VERSION_NEWEST {
        return Err(DecodeError::Version {
            found: version,
            newest: VERSION_NEWEST,
        });
    }
    let mut input = Input { rest };
    let mut head: Head = input.take()?;
    let mut gifts = Gifts::default();
    if version > 1 {
        let added = input.take()?;
        head.settings = head.settings.map(|settings| settings.with_added(added));
        let rules = head.settings.as_ref().map_or(1, |settings| settings.rules);
        require(rules > 1, "a snapshot of version 2 follows later rules")?;
        gifts = input.take()?;
        let sound = gifts.is_sound(head.time);
        require(sound, "new leaders made few gifts, in their order")?;
    }
    if let Some(settings) = &head.settings {
        settings.check().map_err(DecodeError::Invalid)?;
    }
    let mut state = State::default();
    state.applied = head.applied;
    state.time = head.time;
    state.settings = head.settings;
    state.set_gifts(gifts);
    decode_sessions(&mut input, &mut state, version)?;
    // Files before locks in memory, so that sections find theirs; on disk they come last.
    let locks = decode_locks(&mut input, &state, head.token)?;
    decode_files(&mut input, &mut state)?;
    for lock in locks {
        put_lock(&mut state, lock)?;
    }
    state.token = head.token;
    if version > 1 {
        decode_ended(&mut input, &mut state)?;
    }
    match input.rest.len() {
        0 => Ok(state),
        bytes => Err(DecodeError::LeftOver { bytes }),
    }
}

fn decode_sessions(
    input: &mut Input<'_>,
    state: &mut State,
    version: u8,
) -> Result<(), DecodeError> {
    let mut last = SessionId(0);
    for _ in 0..input.take::<u64>()? {
        let part: SessionPart = input.take()?;
        let id = part.id;
        require(
            id > last && id.0 <= state.applied.0,
            "session ids ascend below the slot",
        )?;
        require(part.ran.is_sound(), "the commands that ran are ranges")?;
        let known = state.session_of(part.nonce);
        require(
            known.is_none_or(|known| !state.lives(known)),
            "each nonce opened one session that lives",
        )?;
        require(
            part.name.len() <= name::NAME_BYTES_MAX,
            "a session's name is short",
        )?;
        last = id;
        let mut session = Session::new(part.nonce, part.name, part.ttl_ms);
        session.since = part.since;
        session.since_wall_ms = part.since_wall_ms;
        session.deadline = part.deadline;
        session.ran = part.ran;
        let mut answered = Seq(0);
        for _ in 0..input.take::<u64>()? {
            let (seq, answer): (Seq, Outcome) = input.take()?;
            require(
                session.ran.contains(seq),
                "an answer belongs to a command that ran",
            )?;

            require(answered < seq, "answers ascend by number")?;
            answered = seq;
            session.remember(seq, answer);
        }
        for _ in 0..input.take::<u64>()? {
            let (token, why): (Token, NotHeldWhy) = input.take()?;
            require(
                session.lost.len() < LOST_MAX,
                "few lost grants are remembered",
            )?;
            session.note_lost(token, why);
        }
        if version > 1 {
            session.presence = input.take()?;
        }
        require(
            session.presence == Presence::Here || session.deadline <= state.time,
            "a session that is cleared away has ended",
        )?;
        state.insert_session(id, session);
    }
    Ok(())
}

/// A lock as read, not yet put into the state.
struct LockRead {
    part: LockPart,
    appends: Vec<Pending>,
    waiters: Vec<WaiterPart>,
}

fn decode_locks(
    input: &mut Input<'_>,
    state: &State,
    token: Token,
) -> Result<Vec<LockRead>, DecodeError> {
    let mut locks: Vec<LockRead> = Vec::new();
    let mut tokens = BTreeSet::new();
    for _ in 0..input.take::<u64>()? {
        let part: LockPart = input.take()?;
        let sorted = locks.last().is_none_or(|last| last.part.name < part.name);
        require(sorted, "locks ascend by name")?;
        require(
            name::lock_name_fault(&part.name).is_none(),
            "a lock has a proper name",
        )?;
        require(part.token <= token, "tokens are below the counter")?;
        require(
            part.token.0 == 0 || tokens.insert(part.token),
            "each token was given once",
        )?;
        require(
            part.slot <= state.applied,
            "a grant was made in a slot applied",
        )?;
        let mut appends = Vec::new();
        for _ in 0..input.take::<u64>()? {
            appends.push(input.take()?);
        }
        let mut waiters: Vec<WaiterPart> = Vec::new();
        for _ in 0..input.take::<u64>()? {
            let waiter: WaiterPart = input.take()?;
            let sorted = waiters.last().is_none_or(|last| last.slot < waiter.slot);
            require(
                sorted && waiter.slot <= state.applied,
                "waiters ascend by slot",
            )?;
            waiters.push(waiter);
        }
        locks.push(LockRead {
            part,
            appends,
            waiters,
        });
    }
    Ok(locks)
}

fn decode_files(input: &mut Input<'_>, state: &mut State) -> Result<(), DecodeError> {
    let mut last: Option<Name> = None;
    for _ in 0..input.take::<u64>()? {
        let FilePart {
            name,
            id,
            guard,
            length,
            crc32,
        } = input.take()?;
        require(last.is_none_or(|last| last < name), "files ascend by name")?;
        require(
            name::file_name_fault(&name).is_none(),
            "a file has a proper name",
        )?;
        require(
            name::lock_name_fault(&guard).is_none(),
            "a guard has a proper name",
        )?;
        require(
            length <= i64::MAX as u64,
            "a file has a length that a disk can hold",
        )?;
        last = Some(name.clone());
        let file = File {
            length,
            crc32,
            ..File::new(id, guard)
        };
        state.insert_file(name, file);
    }
    Ok(())
}

fn decode_ended(input: &mut Input<'_>, state: &mut State) -> Result<(), DecodeError> {
    let (count, kept): (u64, u64) = (input.take()?, input.take()?);
    require(
        kept <= count && kept <= state.limits().tokens_max,
        "the ends kept are some of all",
    )?;
    let mut held = BTreeSet::new();
    held.extend(
        state
            .locks()
            .values()
            .filter_map(|lock| Some(lock.holder.as_ref()?.token)),
    );
    let mut ended = Ended::after(count - kept);
    for _ in 0..kept {
        let (token, fate): (Token, Fate) = input.take()?;
        let sound = token <= state.token && !held.contains(&token) && !ended.contains(token);
        require(sound, "a grant that was given ended once")?;
        require(fate != Fate::Unknown, "an end that is kept is known")?;
        ended.append(token, fate);
    }
    state.set_ended(ended);
    Ok(())
}

/// Puts a lock into the state through the doors by which its parts came.
fn put_lock(state: &mut State, lock: LockRead) -> Result<(), DecodeError> {
    let LockRead {
        part,
        appends,
        waiters,
    } = lock;
    if part.token.0 == 0 {
        let bare = LockPart {
            name: part.name.clone(),
            ..LockPart::default()
        };
        let empty = part == bare && appends.is_empty() && !waiters.is_empty();
        require(
            empty,
            "a lock that nobody holds has no section, and others wait",
        )?;
        return put_waiters(state, &part.name, waiters, false);
    }
    let name = part.name;
    check_party(state, &name, part.session, part.seq)?;
    let holder = Holder {
        session: part.session,
        seq: part.seq,
        token: part.token,
        slot: part.slot,
        since: part.since,
        since_wall_ms: part.since_wall_ms,
        lease_ms: part.lease_ms,
        deadline: part.deadline,
        section: Section::default(),
    };
    // The door gives the next token, so the counter is set to make that the right one.
    state.token = Token(part.token.0 - 1);
    state.grant(name.clone(), holder);
    for append in appends {
        let guard = state
            .files()
            .get(&append.file)
            .map(|file| file.guard.clone());
        require(
            guard.as_ref() == Some(&name),
            "a section appends to files that the lock guards",
        )?;
        let (file, _) = state
            .files()
            .get_key_value(&append.file)
            .expect("just found");
        let append = Pending {
            file: file.clone(),
            ..append
        };
        state.append(&name, append);
    }
    put_waiters(state, &name, waiters, true)
}

/// Lets acquires wait for a lock. Where nobody holds it, all of them have ended.
fn put_waiters(
    state: &mut State,
    name: &Name,
    waiters: Vec<WaiterPart>,
    is_held: bool,
) -> Result<(), DecodeError> {
    for waiter in waiters {
        check_party(state, name, waiter.session, waiter.seq)?;
        let WaiterPart {
            slot,
            session,
            seq,
            lease_ms,
            since,
            until,
        } = waiter;
        let waiter = Waiter {
            session,
            seq,
            lease_ms,
            since,
            until,
        };
        require(
            is_held || !state.waits(&waiter),
            "nobody who lives waits for a lock that nobody holds",
        )?;
        state.enqueue(name, slot, waiter);
    }
    Ok(())
}

/// Whoever holds or waits has a session that lives, and does so once for each lock and number.
fn check_party(state: &State, lock: &Name, id: SessionId, seq: Seq) -> Result<(), DecodeError> {
    let Some(session) = state.sessions().get(&id) else {
        return Err(DecodeError::Invalid(format!(
            "lock {lock}: there is no session {id}"
        )));
    };
    require(
        session.ran.contains(seq),
        "an acquire that holds or waits ran",
    )?;
    let new = !session.held.contains_key(&seq) && session.wait(seq).is_none();
    require(new, "an acquire holds or waits for one lock")?;
    let known = state
        .locks()
        .get(lock)
        .and_then(|lock| lock.holder.as_ref());
    require(
        known.is_none_or(|holder| holder.session != id),
        "nobody waits for what it holds",
    )?;
    require(session.waits_for(lock).is_none(), "nobody waits twice")
}

/// Reads parts one by one.
struct Input<'a> {
    rest: &'a [u8],
}

impl Input<'_> {
    fn take<T: DeserializeOwned>(&mut self) -> Result<T, DecodeError> {
        let (part, used) = codec::decode_prefix(self.rest)?;
        self.rest = &self.rest[used..];
        Ok(part)
    }
}

fn require(holds: bool, what: &str) -> Result<(), DecodeError> {
    if holds {
        Ok(())
    } else {
        Err(DecodeError::Invalid(format!("not so: {what}")))
    }
}
