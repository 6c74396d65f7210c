//! What the state weighs: an agreed estimate, the same on every replica.
//!
//! Each kind of thing has a fixed weight, about what it takes in memory with its share of the
//! maps and indexes, plus the length of its strings and data. Whoever changes a weight changes
//! which commands are refused as `full`, and so the format of the log: these are part of it.

use crate::{Fate, NotHeldWhy, Outcome, Refusal};

/// A session.
pub(crate) const SESSION_BYTES: u64 = 512;
/// A remembered answer.
pub(crate) const ANSWER_BYTES: u64 = 160;
/// A range of command numbers.
pub(crate) const RANGE_BYTES: u64 = 16;
/// A held lock.
pub(crate) const LOCK_BYTES: u64 = 512;
/// An acquire that waits.
pub(crate) const WAITER_BYTES: u64 = 384;
/// An append, its data apart.
pub(crate) const PENDING_BYTES: u64 = 96;
/// A file; its content lies outside of the state.
pub(crate) const FILE_BYTES: u64 = 256;
/// A grant that a session remembers to have lost.
pub(crate) const LOST_BYTES: u64 = 48;

/// A grant that the state remembers the end of.
pub(crate) const ENDED_BYTES: u64 = 96;

/// The weight of a grant that the state remembers the end of.
pub(crate) fn fate_cost(fate: &Fate) -> u64 {
    let lengths = match fate {
        Fate::Done {
            lengths: Some(lengths),
            ..
        } => lengths_strings(lengths),
        _ => 0,
    };
    ENDED_BYTES + lengths as u64
}

/// The weight of a remembered answer.
pub(crate) fn answer_cost(outcome: &Outcome) -> u64 {
    ANSWER_BYTES + outcome_strings(outcome) as u64
}

/// The weight of the reason for which a session lost a grant.
pub(crate) fn lost_cost(why: &NotHeldWhy) -> u64 {
    LOST_BYTES + why_strings(why) as u64
}

fn outcome_strings(outcome: &Outcome) -> usize {
    match outcome {
        Outcome::Released { lengths, .. } => lengths_strings(lengths),
        Outcome::Created { guard, .. } => guard.len(),
        Outcome::Refused(refusal) => refusal_strings(refusal),
        _ => 0,
    }
}

fn lengths_strings(lengths: &[(String, u64)]) -> usize {
    lengths
        .iter()
        .map(|(name, _)| name.len() + size_of::<(String, u64)>())
        .sum()
}

fn refusal_strings(refusal: &Refusal) -> usize {
    match refusal {
        Refusal::Busy {
            lock, holder_name, ..
        } => lock.len() + holder_name.len(),
        Refusal::NotHeld { lock, why, .. } => lock.len() + why_strings(why),
        Refusal::NoSuchFile { file }
        | Refusal::Exists { file }
        | Refusal::PendingAppends { file } => file.len(),
        Refusal::WrongGuard { guard } => guard.len(),
        Refusal::BadName { name, .. } => name.len(),
        Refusal::BadRequest { reason } => reason.len(),
        _ => 0,
    }
}

fn why_strings(why: &NotHeldWhy) -> usize {
    match why {
        NotHeldWhy::Forced { reason } => reason.len(),
        _ => 0,
    }
}
