//! How things end: what is due by itself, a session with all it has, a lock changing hands.
//!
//! Within a slot, everything due ends first and only then are freed locks granted, so that a lock
//! never goes to a session that ends in the same slot.

use crate::apply::Step;
use crate::deadline::Ending;
use crate::lock::Holder;
use crate::name::Name;
use crate::section::Section;
use crate::session::Wait;
use crate::state::State;
use crate::{
    Event, Fate, LeftQueueWhy, LostWhy, NotHeldWhy, Outcome, Refusal, Seq, SessionId, Slot, Token,
};

/// Ends whatever is due by now, in order, then grants what became free.
pub(crate) fn expire(state: &mut State, step: &mut Step) {
    while let Some(due) = state
        .dues()
        .first()
        .filter(|due| due.at <= state.time)
        .cloned()
    {
        match due.what {
            Ending::Session(id) => {
                step.event(Event::SessionExpired {
                    session: id,
                    deadline: due.at,
                });
                end_session(state, step, id, &LostWhy::SessionExpired);
            }
            Ending::Wait(lock) => {
                let refusal = Refusal::WaitTimedOut;
                leave_queue(
                    state,
                    step,
                    &lock,
                    due.origin,
                    LeftQueueWhy::TimedOut,
                    refusal,
                );
            }
            Ending::Lease(_, lock) => free(state, step, &lock, LostWhy::LeaseExpired),
        }
    }
    grant_freed(state, step);
}

/// Ends a session, expired or closed: its locks become free, its waits end, its answers go.
pub(crate) fn end_session(state: &mut State, step: &mut Step, id: SessionId, why: &LostWhy) {
    let session = &state.sessions()[&id];
    let held: Vec<Name> = session.held.values().cloned().collect();
    let waits: Vec<Wait> = session.waits().to_vec();
    let left = match why {
        LostWhy::SessionClosed => LeftQueueWhy::SessionClosed,
        _ => LeftQueueWhy::SessionExpired,
    };
    for lock in &held {
        free(state, step, lock, why.clone());
    }
    for wait in &waits {
        leave_queue(
            state,
            step,
            &wait.lock,
            wait.slot,
            left,
            Refusal::SessionExpired,
        );
    }
    state.remove_session(id);
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
}

/// Gives each freed lock to the one who waited longest, or lets it cease to exist.
pub(crate) fn grant_freed(state: &mut State, step: &mut Step) {
    for lock in std::mem::take(&mut step.freed) {
        let Some(slot) = state.locks()[&lock].queue.first().map(|(slot, _)| slot) else {
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
