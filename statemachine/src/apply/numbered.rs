//! Numbered commands: each runs at most once, and whoever asks again gets the first answer.

use crate::apply::{Step, acquire, expiry, file, hold, presence, section};
use crate::dedup;
use crate::state::State;
use crate::{Done, Event, LeftQueueWhy, LostWhy, Op, Outcome, Refusal, ReplyTo, Seq, SessionId};

/// Which command of which session.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Caller {
    pub(crate) session: SessionId,
    pub(crate) seq: Seq,
}

/// What a command came to.
#[derive(Debug)]
pub(crate) enum Ran {
    /// It has its answer, which is kept until the client names it as done.
    Answered(Outcome),
    /// It is as if it had never come; the same number may run later.
    WithoutTrace(Refusal),
    /// It waits, and is answered in a later slot.
    Waits,
}

impl From<Result<Outcome, Refusal>> for Ran {
    fn from(result: Result<Outcome, Refusal>) -> Ran {
        match result {
            Ok(outcome) => Ran::Answered(outcome),
            Err(refusal @ Refusal::OutOfOrder { .. }) => Ran::WithoutTrace(refusal),
            Err(refusal) => Ran::Answered(Outcome::Refused(refusal)),
        }
    }
}

/// Runs a command of a session, or answers it as before.
pub(crate) fn run(state: &mut State, step: &mut Step, caller: Caller, done: &Done, op: Op) {
    let ran = match admit(state, step, caller, done) {
        Err(refusal) => Ran::WithoutTrace(refusal),
        Ok(()) => match first_answer(state, step, caller) {
            Some(answer) => answer,
            None => run_new(state, step, caller, op),
        },
    };
    let to = ReplyTo::Command(caller.session, caller.seq);
    match ran {
        Ran::Answered(outcome) => step.reply(to, outcome),
        Ran::WithoutTrace(refusal) => step.reply(to, Outcome::Refused(refusal)),
        Ran::Waits => {}
    }
    expiry::grant_freed(state, step);
}

/// Counts the sign of life and what the client names as done, if the command makes sense.
fn admit(state: &mut State, step: &mut Step, caller: Caller, done: &Done) -> Result<(), Refusal> {
    presence::sign_of_life(state, caller.session);
    let Some(session) = state.sessions().get(&caller.session) else {
        return Err(Refusal::SessionExpired);
    };
    let limit = state.limits().in_flight_max;
    if caller.seq.0 == 0 || !dedup::is_sensible(done, limit) {
        let reason = "commands are numbered from 1, and done ranges ascend within the limit";
        return Err(Refusal::BadRequest {
            reason: reason.to_owned(),
        });
    }
    let mut ran = session.ran.clone();
    ran.insert_done(done);
    if ran.ranges() > limit {
        return Err(Refusal::TooManyInFlight { limit });
    }
    for wait in session.given_up(done) {
        let why = LeftQueueWhy::GivenUp;
        expiry::leave_queue(state, step, &wait.lock, wait.slot, why, Refusal::Forgotten);
    }
    state.edit_session(caller.session, |session| {
        session.ran = ran;
        session.forget(done);
    });
    Ok(())
}

/// The answer to a command that ran or was given up.
fn first_answer(state: &State, step: &mut Step, caller: Caller) -> Option<Ran> {
    let Caller { session: id, seq } = caller;
    let session = &state.sessions()[&id];
    if !session.ran.contains(seq) {
        return None;
    }
    // A waiting acquire is its own remembered answer.
    if session.wait(seq).is_some() {
        step.event(Event::DedupHit {
            session: id,
            seq,
            forgotten: false,
        });
        return Some(Ran::Waits);
    }
    let known = session.remembered(seq).cloned();
    step.event(Event::DedupHit {
        session: id,
        seq,
        forgotten: known.is_none(),
    });
    Some(known.map_or(Ran::WithoutTrace(Refusal::Forgotten), Ran::Answered))
}

/// Runs a command that never ran.
fn run_new(state: &mut State, step: &mut Step, caller: Caller, op: Op) -> Ran {
    if !matches!(op, Op::Close)
        && let Err(refusal) = check_in_flight(state, caller, &op)
    {
        return Ran::WithoutTrace(refusal);
    }
    let ran = run_op(state, step, caller, op);
    if let Ran::Answered(outcome) = &ran {
        state.remember(caller.session, caller.seq, outcome.clone());
    }
    ran
}

/// Refuses one more command in flight than a session may have.
///
/// What ends something has as much room again: a session that waits for as many locks as
/// it may must be able to give back those that it holds.
fn check_in_flight(state: &mut State, caller: Caller, op: &Op) -> Result<(), Refusal> {
    let limit = state.limits().in_flight_max;
    let session = &state.sessions()[&caller.session];
    let mut ran = session.ran.clone();
    ran.insert(caller.seq);
    if ran.ranges() > limit {
        return Err(Refusal::TooManyInFlight { limit });
    }
    let room = match op {
        Op::Release { .. } | Op::Abort { .. } | Op::Cancel { .. } => 2 * limit,
        _ => limit,
    };
    if session.in_flight() < room {
        return Ok(());
    }
    // No room for the answer, but the refusal is one: this number must not run later.
    state.edit_session(caller.session, |session| session.ran = ran);
    Err(Refusal::TooManyInFlight { limit })
}

fn run_op(state: &mut State, step: &mut Step, caller: Caller, op: Op) -> Ran {
    match op {
        Op::Close => {
            step.event(Event::SessionClosed {
                session: caller.session,
            });
            expiry::end_session(state, step, caller.session, &LostWhy::SessionClosed);
            Ran::Answered(Outcome::Closed)
        }
        Op::Acquire {
            lock,
            lease_ms,
            wait_ms,
            mode: _,
        } => acquire::acquire(state, step, caller, &lock, lease_ms, wait_ms),
        Op::Cancel { seq } => acquire::cancel(state, step, caller, seq).into(),
        Op::Renew { lock, token } => hold::renew(state, step, caller, &lock, token).into(),
        Op::Append {
            lock,
            token,
            place,
            file,
            data,
        } => section::append(state, step, caller, &lock, token, place, &file, data).into(),
        Op::Release { lock, token, count } => {
            section::release(state, step, caller, &lock, token, count).into()
        }
        Op::Abort { lock, token } => hold::abort(state, step, caller, &lock, token).into(),
        Op::CreateFile { file, guard } => file::create(state, step, &file, guard.as_deref()).into(),
        Op::RemoveFile { file } => file::remove(state, step, &file).into(),
        Op::ForceRelease {
            lock,
            token,
            reason,
        } => hold::force_release(state, step, caller, &lock, token, reason).into(),
    }
}
