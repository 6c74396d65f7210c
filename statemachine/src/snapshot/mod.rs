//! The whole state as bytes: the same on every replica that applied the same slots.
//!
//! ```text
//! | version = 1 | head | n: u64 | session … | n: u64 | lock … | n: u64 | file … |
//! | version = 2 | head | rules | gifts | as in version 1 … | ended: u64 | n: u64 | end … |
//!
//! session:  id and facts, ranges of commands run | n: u64 | (seq, answer) … | n: u64 | lost … | presence
//! lock:     name, holder                         | n: u64 | append …        | n: u64 | waiter …
//! file:     name, identity, guard, length, checksum
//! rules:    their version, endings_max, tokens_max
//! gifts:    n: u64 | (time, grace) … of new leaders
//! end:      token, fate
//! ```
//!
//! `presence` is new in version 2, and so are locks that nobody holds, whose token is 0: all who wait
//! for them have ended.
//!
//! The version follows the rules in force: a state that still follows the first rules is written as
//! the first program wrote it.
//!
//! Each part is a value in the encoding of [`crate::codec`], sorted by its key. Only what cannot
//! be had from the rest is written: indexes, deadlines in order and weights are made anew by
//! putting each part in through the same doors as when it came.

mod decode;

use std::io;

use serde::{Deserialize, Serialize};

use crate::codec;
use crate::dedup::Ran;
use crate::lock::{Lock, Waiter};
use crate::name::Name;
use crate::session::Session;
use crate::state::State;
use crate::{ClusterTime, FileId, Seq, SessionId, Settings, Slot, Token};

pub(crate) use decode::decode;

/// The newest version of the layout.
const VERSION_NEWEST: u8 = 2;

#[derive(Serialize, Deserialize)]
struct Head {
    applied: Slot,
    time: ClusterTime,
    token: Token,
    settings: Option<Settings>,
}

#[derive(Serialize, Deserialize)]
struct SessionPart {
    id: SessionId,
    nonce: u128,
    name: Name,
    ttl_ms: u64,
    since: ClusterTime,
    since_wall_ms: u64,
    deadline: ClusterTime,
    ran: Ran,
}

#[derive(Default, PartialEq, Serialize, Deserialize)]
struct LockPart {
    name: Name,
    session: SessionId,
    seq: Seq,
    token: Token,
    slot: Slot,
    since: ClusterTime,
    since_wall_ms: u64,
    lease_ms: u64,
    deadline: ClusterTime,
}

#[derive(Serialize, Deserialize)]
struct WaiterPart {
    slot: Slot,
    session: SessionId,
    seq: Seq,
    lease_ms: u64,
    since: ClusterTime,
    until: Option<ClusterTime>,
}

#[derive(Serialize, Deserialize)]
struct FilePart {
    name: Name,
    id: FileId,
    guard: Name,
    length: u64,
    crc32: u32,
}

/// Writes the state.
pub(crate) fn encode(state: &State, out: &mut impl io::Write) -> io::Result<()> {
    let mut out = Parts {
        out,
        buffer: Vec::new(),
    };
    let version = if state.rules() == 1 {
        1
    } else {
        VERSION_NEWEST
    };
    out.out.write_all(&[version])?;
    out.put(&Head {
        applied: state.applied,
        time: state.time,
        token: state.token,
        settings: state.settings.clone(),
    })?;
    if version > 1 {
        out.put(&state.limits().added())?;
        out.put(state.gifts())?;
    }
    out.count(state.sessions().len())?;
    for (id, session) in state.sessions() {
        encode_session(&mut out, *id, session)?;
        if version > 1 {
            out.put(&session.presence)?;
        }
    }
    out.count(state.locks().len())?;
    for (name, lock) in state.locks() {
        encode_lock(&mut out, name, lock)?;
    }
    out.count(state.files().len())?;
    for (name, file) in state.files() {
        let (name, guard) = (name.clone(), file.guard.clone());
        out.put(&FilePart {
            name,
            id: file.id,
            guard,
            length: file.length,
            crc32: file.crc32,
        })?;
    }
    if version > 1 {
        let ended = state.ended();
        out.put(&ended.count())?;
        out.count(ended.iter().len())?;
        ended.iter().try_for_each(|end| out.put(end))?;
    }
    Ok(())
}

fn encode_session(
    out: &mut Parts<'_, impl io::Write>,
    id: SessionId,
    session: &Session,
) -> io::Result<()> {
    out.put(&SessionPart {
        id,
        nonce: session.nonce,
        name: session.name.clone(),
        ttl_ms: session.ttl_ms,
        since: session.since,
        since_wall_ms: session.since_wall_ms,
        deadline: session.deadline,
        ran: session.ran.clone(),
    })?;
    let remembered = session.all_remembered();
    out.count(remembered.len())?;
    for answer in remembered {
        out.put(answer)?;
    }
    out.count(session.lost.len())?;
    session.lost.iter().try_for_each(|lost| out.put(lost))
}

fn encode_lock(out: &mut Parts<'_, impl io::Write>, name: &Name, lock: &Lock) -> io::Result<()> {
    let holder = lock.holder.clone().unwrap_or_default();
    out.put(&LockPart {
        name: name.clone(),
        session: holder.session,
        seq: holder.seq,
        token: holder.token,
        slot: holder.slot,
        since: holder.since,
        since_wall_ms: holder.since_wall_ms,
        lease_ms: holder.lease_ms,
        deadline: holder.deadline,
    })?;
    let appends = holder.section.iter();
    out.count(appends.len())?;
    for append in appends {
        out.put(append)?;
    }
    out.count(usize::try_from(lock.queue.len()).expect("it is in memory"))?;
    for (slot, waiter) in lock.queue.iter() {
        let Waiter {
            session,
            seq,
            lease_ms,
            since,
            until,
        } = waiter.clone();
        out.put(&WaiterPart {
            slot,
            session,
            seq,
            lease_ms,
            since,
            until,
        })?;
    }
    Ok(())
}

/// Writes parts one by one.
struct Parts<'a, W> {
    out: &'a mut W,
    buffer: Vec<u8>,
}

impl<W: io::Write> Parts<'_, W> {
    fn put<T: Serialize>(&mut self, part: &T) -> io::Result<()> {
        self.buffer.clear();
        codec::encode_into(part, &mut self.buffer);
        self.out.write_all(&self.buffer)
    }

    fn count(&mut self, parts: usize) -> io::Result<()> {
        self.put(&(parts as u64))
    }
}
