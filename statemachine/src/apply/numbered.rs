//! Numbered commands: each runs at most once, and whoever asks again gets the first answer.

use crate::apply::{Step, acquire, expiry, file, hold, presence, section};
use crate::budget::{RANGE_BYTES, answer_cost};
use crate::dedup;
use crate::state::State;
use crate::{Done, Event, LeftQueueWhy, Op, Outcome, Refusal, ReplyTo, Seq, SessionId};

/// Gaps that a command may leave which frees a lock or a place in a queue: they take less.
const GAPS_FREE: u64 = 8;

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
    let ran = match admit(state, step, caller, done, &op) {
        Err(refusal) => Ran::WithoutTrace(refusal),
        Ok(()) => {
            expiry::end_due_wait(state, step, caller.session, caller.seq);
            match first_answer(state, step, caller) {
                Some(answer) => answer,
                None => run_new(state, step, caller, op),
            }
        }
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
fn admit(
    state: &mut State,
    step: &mut Step,
    caller: Caller,
    done: &Done,
    op: &Op,
) -> Result<(), Refusal> {
    if !state.lives(caller.session) {
        return Err(Refusal::SessionExpired);
    }
    presence::sign_of_life(state, caller.session);
    let limit = state.limits().in_flight_max;
    if caller.seq.0 == 0 || !dedup::is_sensible(done, limit) {
        let reason = "commands are numbered from 1, and done ranges ascend within the limit";
        return Err(Refusal::BadRequest {
            reason: reason.to_owned(),
        });
    }
    let mut ran = state.sessions()[&caller.session].ran.clone();
    ran.insert_done(done);
    if ran.ranges() > limit {
        return Err(Refusal::TooManyInFlight { limit });
    }
    check_gaps(state, caller, &ran, op)?;
    for wait in state.sessions()[&caller.session].given_up(done) {
        expiry::end_due_wait(state, step, caller.session, wait.seq);
    }
    for wait in state.sessions()[&caller.session].given_up(done) {
        let why = LeftQueueWhy::GivenUp;
        expiry::leave_queue(state, step, &wait.lock, wait.slot, why, Refusal::Forgotten);
    }
    state.edit_session(caller.session, |session| {
        session.ran = ran;
        session.forget(done);
    });
    Ok(())
}

/// Refuses numbers that leave more gaps than the budget has room for, as the session would remember
/// each. What frees more than it takes goes on.
fn check_gaps(state: &State, caller: Caller, ran: &dedup::Ran, op: &Op) -> Result<(), Refusal> {
    if state.rules() == 1 {
        return Ok(());
    }
    let mut with_this = ran.clone();
    with_this.insert(caller.seq);
    let before = state.sessions()[&caller.session].ran.ranges();
    let added = with_this.ranges().saturating_sub(before);
    let free = if frees(state, caller, op) {
        GAPS_FREE
    } else {
        0
    };
    if added <= free {
        return Ok(());
    }
    presence::check_room(state, &state.limits(), added * RANGE_BYTES)
}

/// Whether a command gives back a lock or a place in a queue, or ends the session.
fn frees(state: &State, caller: Caller, op: &Op) -> bool {
    let session = &state.sessions()[&caller.session];
    match op {
        Op::Close => true,
        Op::Release { lock, token, .. } | Op::Abort { lock, token } => {
            hold::held(state, caller.session, lock, *token).is_ok()
        }
        Op::Cancel { seq } => session.wait(*seq).is_some() || session.held.contains_key(seq),
        _ => false,
    }
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
    end_due(state, step, caller, &op);
    let ran = run_op(state, step, caller, op);
    match &ran {
        Ran::Answered(Outcome::Closed) | Ran::WithoutTrace(_) | Ran::Waits => {}
        Ran::Answered(outcome) if has_room_for(state, outcome) => {
            state.remember(caller.session, caller.seq, outcome.clone());
        }
        // The answer is not kept, but the number must not run later.
        Ran::Answered(_) => {
            state.edit_session(caller.session, |session| session.ran.insert(caller.seq));
        }
    }
    ran
}

/// Whether an answer may be remembered: where the budget is used up, not that of a command which
/// neither freed anything nor had its room checked.
fn has_room_for(state: &State, outcome: &Outcome) -> bool {
    let may_go_beyond = matches!(
        outcome,
        Outcome::Refused(_) | Outcome::Renewed { .. } | Outcome::Cancelled { given_back: false }
    );
    let bytes = answer_cost(outcome);
    let room = || presence::check_room(state, &state.limits(), bytes);
    state.rules() == 1 || !may_go_beyond || room().is_ok()
}

/// Does what is due and not done yet for the lock that a command is about.
fn end_due(state: &mut State, step: &mut Step, caller: Caller, op: &Op) {
    let session = &state.sessions()[&caller.session];
    match op {
        Op::Acquire { lock, .. } => match session.waits_for(lock) {
            Some(seq) => expiry::end_due_wait(state, step, caller.session, seq),
            None => expiry::end_due_grant(state, step, lock),
        },
        Op::Cancel { seq } => match session.held.get(seq).cloned() {
            Some(lock) => expiry::end_due_grant(state, step, &lock),
            None => expiry::end_due_wait(state, step, caller.session, *seq),
        },
        Op::Renew { lock, .. }
        | Op::Append { lock, .. }
        | Op::Release { lock, .. }
        | Op::Abort { lock, .. }
        | Op::ForceRelease { lock, .. } => expiry::end_due_grant(state, step, lock),
        Op::RemoveFile { file } => {
            if let Some(guard) = state.files().get(file.as_str()).map(|f| f.guard.clone()) {
                expiry::end_due_grant(state, step, &guard);
            }
        }
        Op::Close | Op::CreateFile { .. } => {}
    }
}

/// Refuses one more command in flight than a session may have.
///
/// What ends something has as much room again: a session with as many answers remembered as it may
/// have must be able to give back what it holds.
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
    // Under the first rules an acquire that waits counted as one in flight.
    let waits = if state.rules() == 1 {
        session.waits().len() as u64
    } else {
        0
    };
    if session.answered() + waits < room {
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
            expiry::close_session(state, step, caller.session);
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
