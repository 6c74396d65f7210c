//! Asking for a lock, and no longer asking: `acquire` and `cancel`.

use crate::apply::Step;
use crate::apply::expiry;
use crate::apply::numbered::{Caller, Ran};
use crate::apply::presence::{check_range, check_room};
use crate::budget::{ANSWER_BYTES, LOCK_BYTES, RANGE_BYTES, WAITER_BYTES, answer_cost};
use crate::lock::{Holder, Lock, Waiter};
use crate::name::check_lock_name;
use crate::state::State;
use crate::{Event, LeftQueueWhy, LostWhy, Outcome, Refusal, Seq, Settings};

/// Grants a free lock, queues for one that is held, or says why neither.
pub(crate) fn acquire(
    state: &mut State,
    step: &mut Step,
    caller: Caller,
    lock: &str,
    lease_ms: Option<u64>,
    wait_ms: Option<u64>,
) -> Ran {
    let limits = state.limits();
    let lease_ms = lease_ms.unwrap_or(limits.default_lease_ms);
    if let Err(refusal) = check(state, &limits, caller, lock, lease_ms, wait_ms) {
        return Ran::Answered(Outcome::Refused(refusal));
    }
    let name = state.lock_name(lock);
    let Caller { session, seq } = caller;
    let known = state.locks().get(lock);
    if known.is_none_or(|lock| lock.holder.is_none()) {
        return Ran::Answered(expiry::grant(state, step, name, session, seq, lease_ms, 0));
    }
    let until = wait_ms.map(|ms| state.time.after(ms));
    let waiter = Waiter {
        session,
        seq,
        lease_ms,
        since: state.time,
        until,
    };
    state.enqueue(&name, step.slot, waiter);
    let position = state.locks()[lock].queue.len();
    step.event(Event::Queued {
        lock: lock.to_owned(),
        session,
        seq,
        position,
    });
    Ran::Waits
}

/// Refuses an acquire that can neither be granted nor wait.
fn check(
    state: &State,
    limits: &Settings,
    caller: Caller,
    lock: &str,
    lease_ms: u64,
    wait_ms: Option<u64>,
) -> Result<(), Refusal> {
    check_lock_name(lock)?;
    check_range(
        "a lease",
        lease_ms,
        limits.lease_ms_min,
        limits.lease_ms_max,
    )?;
    let Some(Lock {
        holder: Some(holder),
        queue,
        ..
    }) = state.locks().get(lock)
    else {
        return check_room(state, limits, LOCK_BYTES + ANSWER_BYTES + lock.len() as u64);
    };
    if holder.session == caller.session {
        return Err(Refusal::AlreadyHeld {
            token: holder.token,
        });
    }
    if let Some(seq) = state.sessions()[&caller.session].waits_for(lock) {
        return Err(Refusal::AlreadyWaiting { seq });
    }
    if wait_ms == Some(0) {
        return Err(busy(state, lock, holder));
    }
    if queue.len() >= limits.queue_max {
        return Err(Refusal::QueueFull {
            limit: limits.queue_max,
        });
    }
    check_room(state, limits, WAITER_BYTES + ANSWER_BYTES)
}

fn busy(state: &State, lock: &str, holder: &Holder) -> Refusal {
    Refusal::Busy {
        lock: lock.to_owned(),
        holder: holder.session,
        holder_name: state.sessions()[&holder.session].name.to_string(),
    }
}

/// Ends an acquire, in whatever state it is: waiting, granted, over, or not even here yet.
pub(crate) fn cancel(
    state: &mut State,
    step: &mut Step,
    caller: Caller,
    target: Seq,
) -> Result<Outcome, Refusal> {
    if target.0 == 0 || target == caller.seq {
        let reason = "a cancel names an acquire of its session by number".to_owned();
        return Err(Refusal::BadRequest { reason });
    }
    let session = &state.sessions()[&caller.session];
    if let Some(wait) = session.wait(target).cloned() {
        let why = LeftQueueWhy::Cancelled;
        expiry::leave_queue(state, step, &wait.lock, wait.slot, why, Refusal::Cancelled);
    } else if let Some(lock) = session.held.get(&target).cloned() {
        expiry::free(state, step, &lock, LostWhy::GivenBack);
        return Ok(Outcome::Cancelled { given_back: true });
    } else if !session.ran.contains(target) {
        forestall(state, caller, target)?;
    }
    Ok(Outcome::Cancelled { given_back: false })
}

/// The cancel has overtaken its acquire, which must find itself cancelled when it comes.
fn forestall(state: &mut State, caller: Caller, target: Seq) -> Result<(), Refusal> {
    let limit = state.limits().in_flight_max;
    let mut ran = state.sessions()[&caller.session].ran.clone();
    ran.insert(caller.seq);
    ran.insert(target);
    if ran.ranges() > limit {
        return Err(Refusal::TooManyInFlight { limit });
    }
    let before = state.sessions()[&caller.session].ran.ranges();
    let gaps = ran.ranges().saturating_sub(before);
    if state.rules() > 1 && gaps > 0 {
        check_room(state, &state.limits(), gaps * RANGE_BYTES)?;
    }
    let cancelled = Outcome::Refused(Refusal::Cancelled);
    let room = check_room(state, &state.limits(), 2 * answer_cost(&cancelled));
    if state.rules() == 1 || room.is_ok() {
        state.remember(caller.session, target, cancelled);
    } else {
        // It will find that it must not run, though not why.
        state.edit_session(caller.session, |session| session.ran = ran);
    }
    Ok(())
}
