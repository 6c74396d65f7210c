//! How things end: what is due by itself, a session with all it has, a lock changing hands.
//!
//! Everything due has ended before any freed lock is granted, so that a lock never goes to a session
//! that ends in the same slot, whether that is cleared away already or waits for its turn.

use crate::apply::Step;
use crate::deadline::{Due, Ending};
use crate::lock::{Holder, Lock};
use crate::name::Name;
use crate::section::Section;
use crate::session::{Presence, Session, Wait};
use crate::state::State;
use crate::{
    ClusterTime, Event, Fate, LeftQueueWhy, LostWhy, NotHeldWhy, Outcome, Refusal, Seq, SessionId,
    Slot, Token,
};

/// Clears away what is due by now, in order, then grants what became free.
///
/// What is due has ended in any case: every command and question treats it so, and
/// [`end_due_grant`] clears a lock away that is asked for. So the work can be spread over slots; the
/// agreed limit says how much of it one slot does. A deadline that a new leader has lifted is moved
/// when it comes up, which is work, too.
pub(crate) fn expire(state: &mut State, step: &mut Step) {
    let mut room = state.limits().endings_max;
    while let Some(due) = state.dues().first() {
        if room == 0 || due.at > state.time {
            break;
        }
        let due = due.clone();
        if state.lift(&due) {
            room -= 1;
            continue;
        }
        room -= match due {
            Due {
                what: Ending::Session(id),
                at,
                ..
            } => expire_session(state, step, id, at, room),
            Due {
                what: Ending::Wait(lock),
                origin,
                ..
            } => {
                let why = LeftQueueWhy::TimedOut;
                leave_queue(state, step, &lock, origin, why, Refusal::WaitTimedOut);
                1
            }
            Due {
                what: Ending::Lease(_, lock),
                ..
            } => {
                free(state, step, &lock, LostWhy::LeaseExpired);
                1
            }
        };
    }
    state.retire_gifts();
    grant_freed(state, step);
}

/// Clears away a session that is due, as far as `room` goes; how much of it that took.
fn expire_session(
    state: &mut State,
    step: &mut Step,
    id: SessionId,
    deadline: ClusterTime,
    room: u64,
) -> u64 {
    if state.sessions()[&id].presence == Presence::Here {
        step.event(Event::SessionExpired {
            session: id,
            deadline,
        });
        if size(&state.sessions()[&id]) > room {
            state.end_session_now(id, Presence::Expired);
        }
    }
    clear_session(state, step, id, room)
}

/// Ends a session at the wish of its client. What one slot cannot clear away follows in its turn.
pub(crate) fn close_session(state: &mut State, step: &mut Step, id: SessionId) {
    state.end_session_now(id, Presence::Closed);
    let room = state.limits().endings_max;
    if size(&state.sessions()[&id]) <= room {
        clear_session(state, step, id, room);
    }
}

/// What there is to clear away of a session, itself included.
fn size(session: &Session) -> u64 {
    (session.held.len() + session.waits().len()) as u64 + 1
}

/// Frees a session's locks, ends its waits and takes it out, as far as `room` goes; how much that was.
fn clear_session(state: &mut State, step: &mut Step, id: SessionId, room: u64) -> u64 {
    for done in 0..room {
        let session = &state.sessions()[&id];
        let (why, left) = match session.presence {
            Presence::Closed => (LostWhy::SessionClosed, LeftQueueWhy::SessionClosed),
            _ => (LostWhy::SessionExpired, LeftQueueWhy::SessionExpired),
        };
        if let Some((_, lock)) = session.held.get_min() {
            let lock = lock.clone();
            free(state, step, &lock, why);
        } else if let Some((_, wait)) = session.waits().get_min() {
            let Wait { lock, slot, .. } = wait.clone();
            leave_queue(state, step, &lock, slot, left, Refusal::SessionExpired);
        } else {
            state.remove_session(id);
            return done + 1;
        }
    }
    room
}

/// Ends the grant of a lock if that is due and not cleared away yet, and grants the lock to the next.
pub(crate) fn end_due_grant(state: &mut State, step: &mut Step, lock: &str) {
    let Some((name, Lock { holder, .. })) = state.locks().get_key_value(lock) else {
        return;
    };
    let Some(holder) = holder.as_ref().filter(|holder| !state.holds(holder)) else {
        return;
    };
    let name = name.clone();
    let closed = state.sessions()[&holder.session].presence == Presence::Closed;
    let why = match state.ended_with_session(&name, holder) {
        true if closed => LostWhy::SessionClosed,
        true => LostWhy::SessionExpired,
        false => LostWhy::LeaseExpired,
    };
    free(state, step, &name, why);
    grant_freed(state, step);
}

/// Does for an acquire that waits what is due and not done yet: its time to wait is over, or the
/// lock is free.
pub(crate) fn end_due_wait(state: &mut State, step: &mut Step, id: SessionId, seq: Seq) {
    let session = state.sessions().get(&id);
    let Some(Wait { lock, slot, .. }) = session.and_then(|session| session.wait(seq)).cloned()
    else {
        return;
    };
    let waiter = state.locks()[&lock].queue.get(slot);
    if waiter.is_some_and(|waiter| !state.waits(waiter)) {
        let why = LeftQueueWhy::TimedOut;
        leave_queue(state, step, &lock, slot, why, Refusal::WaitTimedOut);
    } else {
        end_due_grant(state, step, &lock);
    }
}

/// Takes a lock from its holder and discards what is pending.
pub(crate) fn free(state: &mut State, step: &mut Step, lock: &Name, why: LostWhy) {
    let holder = take(state, step, lock, why);
    debug_assert!(holder.token <= state.token);
    state.note_end(holder.token, Fate::Never);
}

/// Takes a lock from its holder. The caller has to deal with what was pending, and to note how the
/// grant ended.
pub(crate) fn take(state: &mut State, step: &mut Step, lock: &Name, why: LostWhy) -> Holder {
    let holder = state.take_holder(lock, told_why(&why));
    let discarded_appends = match why {
        LostWhy::Released => 0,
        _ => holder.section.count(),
    };
    step.event(Event::Lost {
        lock: lock.to_string(),
        session: holder.session,
        token: holder.token,
        why,
        held_ms: state.time.left(holder.since),
        discarded_appends,
    });
    step.freed.push(lock.clone());
    holder
}

/// Takes an acquire out of its queue; `refusal` is its answer, now and when it asks again.
pub(crate) fn leave_queue(
    state: &mut State,
    step: &mut Step,
    lock: &Name,
    slot: Slot,
    why: LeftQueueWhy,
    refusal: Refusal,
) {
    let waiter = state.dequeue(lock, slot);
    step.event(Event::LeftQueue {
        lock: lock.to_string(),
        session: waiter.session,
        seq: waiter.seq,
        why,
        waited_ms: state.time.left(waiter.since),
    });
    let outcome = Outcome::Refused(refusal);
    if why != LeftQueueWhy::GivenUp {
        state.remember(waiter.session, waiter.seq, outcome.clone());
        step.push(waiter.session, waiter.seq, outcome);
    }
    state.drop_if_free(lock);
}

/// Gives each freed lock to the one who waited longest and has not ended, or lets it cease to exist.
pub(crate) fn grant_freed(state: &mut State, step: &mut Step) {
    for lock in std::mem::take(&mut step.freed) {
        // The last one who waited may have left since, and the lock with it.
        let Some(Lock { queue, .. }) = state.locks().get(&lock) else {
            continue;
        };
        let next = queue.iter().find(|(_, waiter)| state.waits(waiter));
        let Some(slot) = next.map(|(slot, _)| slot) else {
            state.drop_if_free(&lock);
            continue;
        };
        let waiter = state.dequeue(&lock, slot);
        let waited_ms = state.time.left(waiter.since);
        let (session, seq) = (waiter.session, waiter.seq);
        let outcome = grant(state, step, lock, session, seq, waiter.lease_ms, waited_ms);
        state.remember(session, seq, outcome.clone());
        step.push(session, seq, outcome);
    }
}

/// Grants a free lock, the lease counted from now.
pub(crate) fn grant(
    state: &mut State,
    step: &mut Step,
    lock: Name,
    session: SessionId,
    seq: Seq,
    lease_ms: u64,
    waited_ms: u64,
) -> Outcome {
    let deadline = state.time.after(lease_ms);
    let holder = Holder {
        session,
        seq,
        token: Token::default(),
        slot: step.slot,
        since: state.time,
        since_wall_ms: step.wall_ms,
        lease_ms,
        deadline,
        section: Section::default(),
    };
    let name = lock.to_string();
    let token = state.grant(lock, holder);
    let queue_len = state.locks()[name.as_str()].queue.len();
    step.event(Event::Granted {
        lock: name,
        session,
        seq,
        token,
        waited_ms,
        queue_len,
    });
    Outcome::Granted {
        token,
        deadline: state.told(session, deadline),
        lease_ms,
    }
}

/// What a client is told that shows the token of a lost grant.
fn told_why(why: &LostWhy) -> NotHeldWhy {
    match why {
        LostWhy::Released => NotHeldWhy::Released,
        LostWhy::Aborted => NotHeldWhy::Aborted,
        LostWhy::GivenBack => NotHeldWhy::GivenBack,
        LostWhy::LeaseExpired => NotHeldWhy::LeaseEnded,
        LostWhy::Forced { reason, .. } => NotHeldWhy::Forced {
            reason: reason.clone(),
        },
        // Whose session is gone is told that, and not asked for tokens any more.
        LostWhy::SessionExpired | LostWhy::SessionClosed => NotHeldWhy::Unknown,
    }
}
