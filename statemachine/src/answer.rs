//! How questions are answered from the state.

use std::ops::Bound;

use imbl::OrdMap;

use crate::file::File;
use crate::lock::{Holder, Lock};
use crate::name::{Name, shortened};
use crate::session::Session;
use crate::state::State;
use crate::{
    Answer, FileFact, HolderFact, LockLine, LockStatus, PAGE_MAX, Page, Query, READ_BYTES_MAX,
    Refusal, SessionFact, SessionId, WaiterFact,
};

/// Answers a question. Costs no more than the page that is asked for.
pub(crate) fn answer(state: &State, query: &Query) -> Answer {
    match query {
        Query::LockStatus { lock } => Answer::Lock(lock_status(state, lock)),
        Query::Locks {
            prefix,
            after,
            limit,
        } => Answer::Locks(locks(state, prefix, after.as_deref(), *limit)),
        Query::Sessions { after, limit } => {
            let from = after.map_or(SessionId(0), |id| SessionId(id.0.saturating_add(1)));
            let facts = state
                .sessions()
                .range(from..)
                .map(|(&id, s)| session_fact(state, id, s));
            Answer::Sessions(page(facts, *limit))
        }
        Query::Files { after, limit } => {
            let facts = beyond(state.files(), after.as_deref()).map(|(n, f)| file_fact(n, f));
            Answer::Files(page(facts, *limit))
        }
        Query::Stat { file } => match state.files().get_key_value(file.as_str()) {
            Some((name, known)) => Answer::File(file_fact(name, known)),
            None => no_such_file(file),
        },
        Query::Read { file, offset, len } => read_plan(state, file, *offset, *len),
        Query::CheckToken { lock, token } => {
            let holder = state.holder(lock);
            Answer::Token {
                current: holder.is_some_and(|holder| holder.token == *token),
            }
        }
        Query::Session { id } => match state.sessions().get(id) {
            Some(session) if state.lives(*id) => Answer::Session(session_fact(state, *id, session)),
            _ => Answer::Refused(Refusal::SessionExpired),
        },
    }
}

/// What is known of a file.
pub(crate) fn file_fact(name: &Name, file: &File) -> FileFact {
    FileFact {
        id: file.id,
        name: name.to_string(),
        length: file.length,
        crc32: file.crc32,
        guard: file.guard.to_string(),
    }
}

fn lock_status(state: &State, name: &str) -> LockStatus {
    let known = state.locks().get(name);
    let waiting = known
        .into_iter()
        .flat_map(|lock| lock.queue.iter())
        .take(PAGE_MAX as usize);
    let queue = (1..)
        .zip(waiting)
        .map(|(position, (_, waiter))| WaiterFact {
            position,
            session: waiter.session,
            name: session_name(state, waiter.session),
            seq: waiter.seq,
            since: waiter.since,
            until: waiter.until,
        });
    LockStatus {
        lock: name.to_owned(),
        holder: state.holder(name).map(|h| holder_fact(state, h)),
        queue: queue.collect(),
        queue_len: known.map_or(0, |lock| lock.queue.len()),
    }
}

fn locks(state: &State, prefix: &str, after: Option<&str>, limit: u32) -> Page<LockLine> {
    // Names with the prefix follow one another, so the first without ends the list.
    let start = after.filter(|after| *after >= prefix);
    let from = start.unwrap_or(prefix);
    let found = state
        .locks()
        .range::<_, str>((Bound::Included(from), Bound::Unbounded));
    let lines = found
        .skip_while(|(name, _)| start == Some(&***name))
        .take_while(|(name, _)| name.starts_with(prefix))
        .filter_map(|(name, lock)| lock_line(state, name, lock));
    page(lines, limit)
}

fn lock_line(state: &State, name: &Name, lock: &Lock) -> Option<LockLine> {
    let holder = holder_fact(state, lock.holder.as_ref()?);
    Some(LockLine {
        lock: name.to_string(),
        holder,
        queue_len: lock.queue.len(),
    })
}

fn holder_fact(state: &State, holder: &Holder) -> HolderFact {
    let deadline = state.told(holder.session, state.lease_deadline(holder));
    HolderFact {
        session: holder.session,
        name: session_name(state, holder.session),
        token: holder.token,
        slot: holder.slot,
        since: holder.since,
        since_wall_ms: holder.since_wall_ms,
        lease_ms: holder.lease_ms,
        deadline,
        left_ms: deadline.left(state.time),
        pending_appends: holder.section.count(),
        pending_bytes: holder.section.bytes(),
    }
}

fn session_name(state: &State, id: SessionId) -> String {
    state
        .sessions()
        .get(&id)
        .map_or_else(String::new, |session| session.name.to_string())
}

fn session_fact(state: &State, id: SessionId, session: &Session) -> SessionFact {
    let deadline = state.session_deadline(session);
    SessionFact {
        session: id,
        name: session.name.to_string(),
        ttl_ms: session.ttl_ms,
        since: session.since,
        since_wall_ms: session.since_wall_ms,
        deadline,
        left_ms: deadline.left(state.time),
        held: session.held.len() as u64,
        waiting: session.waits().len() as u64,
    }
}

fn read_plan(state: &State, name: &str, offset: u64, len: u32) -> Answer {
    let Some(file) = state.files().get(name) else {
        return no_such_file(name);
    };
    let there = file.length.saturating_sub(offset);
    let len = u32::try_from(there)
        .unwrap_or(u32::MAX)
        .min(len)
        .min(READ_BYTES_MAX);
    Answer::ReadPlan {
        id: file.id,
        name: name.to_owned(),
        offset,
        len,
        file_len: file.length,
    }
}

fn no_such_file(file: &str) -> Answer {
    Answer::Refused(Refusal::NoSuchFile {
        file: shortened(file),
    })
}

/// The entries after the key `after`, or all.
fn beyond<'a, V: Clone>(
    map: &'a OrdMap<Name, V>,
    after: Option<&'a str>,
) -> impl Iterator<Item = (&'a Name, &'a V)> {
    let from = after.unwrap_or("");
    map.range::<_, str>((Bound::Included(from), Bound::Unbounded))
        .skip_while(move |(name, _)| after == Some(&***name))
}

/// The first `limit` of `items`.
fn page<T>(mut items: impl Iterator<Item = T>, limit: u32) -> Page<T> {
    let limit = limit.min(PAGE_MAX) as usize;
    let taken: Vec<T> = items.by_ref().take(limit).collect();
    let more = taken.len() == limit && items.next().is_some();
    Page { items: taken, more }
}
