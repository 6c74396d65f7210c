//! What a holder does besides appending: `renew` and `abort`; and what befalls one:
//! `force_release`.

use crate::apply::Step;
use crate::apply::expiry;
use crate::apply::numbered::Caller;
use crate::lock::Holder;
use crate::name::{Name, shortened};
use crate::state::State;
use crate::{
    ClusterTime, Event, LostWhy, Measured, NotHeldWhy, Outcome, Refusal, ReplyTo, SessionId, Token,
};

/// Bytes that the reason of a forced release may have.
const REASON_BYTES_MAX: u64 = 1_024;

/// Starts the lease anew.
pub(crate) fn renew(
    state: &mut State,
    step: &mut Step,
    caller: Caller,
    lock: &str,
    token: Token,
) -> Result<Outcome, Refusal> {
    let deadline = renew_lease(state, step, caller.session, lock, token)?;
    let deadline = state.told(caller.session, deadline);
    Ok(Outcome::Renewed { deadline })
}

/// Starts a lease anew; its deadline.
pub(crate) fn renew_lease(
    state: &mut State,
    step: &mut Step,
    session: SessionId,
    lock: &str,
    token: Token,
) -> Result<ClusterTime, Refusal> {
    let (name, _) = held(state, session, lock, token)?;
    let deadline = state.extend_lease(&name);
    step.event(Event::Renewed {
        lock: lock.to_owned(),
        token,
        deadline,
    });
    Ok(deadline)
}

/// Discards the section and frees the lock.
pub(crate) fn abort(
    state: &mut State,
    step: &mut Step,
    caller: Caller,
    lock: &str,
    token: Token,
) -> Result<Outcome, Refusal> {
    let (name, _) = held(state, caller.session, lock, token)?;
    expiry::free(state, step, &name, LostWhy::Aborted);
    Ok(Outcome::Aborted)
}

/// Takes the lock from whoever holds it under `token`.
pub(crate) fn force_release(
    state: &mut State,
    step: &mut Step,
    caller: Caller,
    lock: &str,
    token: Token,
    reason: String,
) -> Result<Outcome, Refusal> {
    let (limit, value) = (REASON_BYTES_MAX, reason.len() as u64);
    if value > limit {
        return Err(Refusal::TooLarge {
            what: Measured::Reason,
            limit,
            value,
        });
    }
    let holder = state
        .locks()
        .get(lock)
        .and_then(|lock| lock.holder.as_ref());
    let Some(holder) = holder.filter(|holder| holder.token == token) else {
        return Err(not_held(state, caller.session, lock, token));
    };
    let (holder, name) = (holder.session, state.lock_name(lock));
    debug_assert!(state.sessions().contains_key(&holder));
    expiry::free(
        state,
        step,
        &name,
        LostWhy::Forced {
            by: caller.session,
            reason,
        },
    );
    Ok(Outcome::ForceReleased)
}

/// Tells how a grant ended. One that is still held is ended first, and its section discarded: only
/// then is it certain that a release on its way will not be applied.
pub(crate) fn settle(state: &mut State, step: &mut Step, lock: &str, token: Token) {
    expiry::end_due_grant(state, step, lock);
    let known = state.locks().get_key_value(lock);
    let held = known.filter(|(_, lock)| {
        let holder = lock.holder.as_ref();
        holder.is_some_and(|holder| holder.token == token)
    });
    // Under the first rules no ends are remembered, so nothing could be told of this one.
    if state.rules() > 1
        && let Some(name) = held.map(|(name, _)| name.clone())
    {
        expiry::free(state, step, &name, LostWhy::Aborted);
    }
    let fate = state.ended().fate(token);
    step.reply(ReplyTo::Settle(token), Outcome::Settled { fate });
    expiry::grant_freed(state, step);
}

/// The lock and its holder, if that is this session under this token.
pub(crate) fn held<'a>(
    state: &'a State,
    session: SessionId,
    lock: &str,
    token: Token,
) -> Result<(Name, &'a Holder), Refusal> {
    let known = state.locks().get_key_value(lock);
    let holder = known.and_then(|(name, lock)| Some((name.clone(), lock.holder.as_ref()?)));
    holder
        .filter(|(_, holder)| holder.session == session && holder.token == token)
        .filter(|(_, holder)| state.holds(holder))
        .ok_or_else(|| not_held(state, session, lock, token))
}

/// The refusal of a token that is not the current one, with what is known of the reason.
fn not_held(state: &State, session: SessionId, lock: &str, token: Token) -> Refusal {
    let holder = state
        .locks()
        .get(lock)
        .and_then(|lock| lock.holder.as_ref());
    let why = match holder {
        Some(holder) if holder.token == token => NotHeldWhy::OtherSession,
        _ => state
            .sessions()
            .get(&session)
            .map_or(NotHeldWhy::Unknown, |s| s.why_lost(token)),
    };
    Refusal::NotHeld {
        lock: shortened(lock),
        token,
        why,
    }
}
