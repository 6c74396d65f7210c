//! Being there: `open`, `keep_alive`, and the sign of life that every command of a session is.

use crate::apply::Step;
use crate::apply::hold;
use crate::budget::SESSION_BYTES;
use crate::name::{NAME_BYTES_MAX, Name};
use crate::session::Session;
use crate::state::State;
use crate::{
    Beat, BeatAnswer, BeatState, Event, FullPart, LockBeat, Measured, Outcome, Refusal, ReplyTo,
    SessionExpired, SessionId, Settings,
};

/// Opens a session, or finds the one that this nonce opened.
pub(crate) fn open(state: &mut State, step: &mut Step, nonce: u128, ttl_ms: u64, name: &str) {
    let known = state.session_of(nonce).filter(|id| state.lives(*id));
    let id = match known {
        Some(id) => Ok(id),
        None => open_new(state, step, nonce, ttl_ms, name),
    };
    let outcome = match id {
        Err(refusal) => Outcome::Refused(refusal),
        Ok(id) => {
            sign_of_life(state, id);
            let session = &state.sessions()[&id];
            let (ttl_ms, deadline) = (session.ttl_ms, state.session_deadline(session));
            Outcome::Opened {
                session: id,
                ttl_ms,
                deadline,
            }
        }
    };
    step.reply(ReplyTo::Nonce(nonce), outcome);
}

fn open_new(
    state: &mut State,
    step: &mut Step,
    nonce: u128,
    ttl_ms: u64,
    name: &str,
) -> Result<SessionId, Refusal> {
    let limits = state.limits();
    let ttl_ms = check_open(state, &limits, ttl_ms, name)?;
    let id = SessionId(step.slot.0);
    let mut session = Session::new(nonce, Name::from(name), ttl_ms);
    session.since = state.time;
    session.since_wall_ms = step.wall_ms;
    session.deadline = state.time.after(ttl_ms);
    state.insert_session(id, session);
    step.event(Event::SessionOpened {
        session: id,
        name: name.to_owned(),
    });
    Ok(id)
}

/// The agreed time to live of a session that may be opened.
fn check_open(state: &State, limits: &Settings, ttl_ms: u64, name: &str) -> Result<u64, Refusal> {
    let ttl_ms = if ttl_ms == 0 {
        limits.default_ttl_ms
    } else {
        ttl_ms
    };
    check_range(
        "a session ttl",
        ttl_ms,
        limits.ttl_ms_min,
        limits.ttl_ms_max,
    )?;
    let (limit, value) = (NAME_BYTES_MAX as u64, name.len() as u64);
    if value > limit {
        return Err(Refusal::TooLarge {
            what: Measured::SessionName,
            limit,
            value,
        });
    }
    let limit = limits.sessions_max;
    if state.sessions().len() as u64 >= limit {
        return Err(Refusal::TooManySessions { limit });
    }
    check_room(state, limits, SESSION_BYTES + value)?;
    Ok(ttl_ms)
}

/// Extends sessions, and the leases that each names with them.
pub(crate) fn keep_alive(state: &mut State, step: &mut Step, beats: &[Beat]) {
    let beats = beats
        .iter()
        .map(|beat| keep_one(state, step, beat))
        .collect();
    step.reply(ReplyTo::Beats, Outcome::Alive { beats });
}

fn keep_one(state: &mut State, step: &mut Step, beat: &Beat) -> BeatAnswer {
    let id = beat.session;
    if !state.lives(id) {
        return BeatAnswer {
            session: id,
            result: Err(SessionExpired),
        };
    }
    let deadline = state.extend_life(id);
    let renewed = beat.tokens.iter().map(|(lock, token)| {
        let renewed = hold::renew_lease(state, step, id, lock, *token);
        LockBeat {
            lock: lock.clone(),
            token: *token,
            deadline: renewed.ok().map(|lease| lease.min(deadline)),
        }
    });
    let locks = renewed.collect();
    BeatAnswer {
        session: id,
        result: Ok(BeatState { deadline, locks }),
    }
}

/// Starts the time to live of a session anew, if it still lives.
pub(crate) fn sign_of_life(state: &mut State, id: SessionId) {
    if state.lives(id) {
        state.extend_life(id);
    }
}

/// Refuses a time outside of its limits.
pub(crate) fn check_range(what: &str, ms: u64, min: u64, max: u64) -> Result<(), Refusal> {
    if min <= ms && ms <= max {
        return Ok(());
    }
    let reason = format!("{what} of {ms} ms is outside the limits of {min} to {max} ms");
    Err(Refusal::BadRequest { reason })
}

/// Refuses new work of `bytes` that the agreed budget has no room for.
pub(crate) fn check_room(state: &State, limits: &Settings, bytes: u64) -> Result<(), Refusal> {
    let limit = limits.state_bytes_max;
    if state.weight().saturating_add(bytes) > limit {
        return Err(Refusal::Full {
            what: FullPart::State,
            limit,
        });
    }
    Ok(())
}
