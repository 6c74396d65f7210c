//! Sections: `append` keeps data under the grant, `release` applies it all in one slot.

use bytes::Bytes;

use crate::apply::Step;
use crate::apply::expiry;
use crate::apply::hold::held;
use crate::apply::numbered::Caller;
use crate::apply::presence::check_room;
use crate::budget::{ANSWER_BYTES, PENDING_BYTES};
use crate::name::{Name, shortened};
use crate::section::{Pending, Section};
use crate::state::State;
use crate::{Event, Fate, FileOp, FullPart, LostWhy, Measured, Outcome, Refusal, Token};

/// Adds to the section and starts the lease anew.
#[allow(clippy::too_many_arguments, reason = "the fields of one command")]
pub(crate) fn append(
    state: &mut State,
    step: &mut Step,
    caller: Caller,
    lock: &str,
    token: Token,
    place: u32,
    file: &str,
    data: Bytes,
) -> Result<Outcome, Refusal> {
    let (name, holder) = held(state, caller.session, lock, token)?;
    let expected = holder.section.count() + 1;
    if place != expected {
        return Err(Refusal::OutOfOrder { expected });
    }
    let bytes = data.len() as u64;
    let file = check_append(state, lock, &holder.section, file, bytes)?;
    step.event(Event::Appended {
        lock: lock.to_owned(),
        token,
        file: file.to_string(),
        bytes,
    });
    let pending_bytes = state.append(&name, Pending { file, data });
    let deadline = state.extend_lease(&name);
    Ok(Outcome::Appended {
        pending_bytes,
        deadline: state.told(caller.session, deadline),
    })
}

/// The stored name of a file that the holder of `lock` may append so much to.
fn check_append(
    state: &State,
    lock: &str,
    section: &Section,
    file: &str,
    bytes: u64,
) -> Result<Name, Refusal> {
    let Some((name, known)) = state.files().get_key_value(file) else {
        return Err(Refusal::NoSuchFile {
            file: shortened(file),
        });
    };
    if &*known.guard != lock {
        return Err(Refusal::WrongGuard {
            guard: known.guard.to_string(),
        });
    }
    let limits = state.limits();
    if bytes > limits.append_bytes_max {
        let limit = limits.append_bytes_max;
        return Err(Refusal::TooLarge {
            what: Measured::Append,
            limit,
            value: bytes,
        });
    }
    section.check(file, bytes, &limits)?;
    let limit = limits.all_sections_bytes_max;
    if state.pending() + bytes > limit {
        return Err(Refusal::Full {
            what: FullPart::Sections,
            limit,
        });
    }
    check_room(state, &limits, PENDING_BYTES + ANSWER_BYTES + bytes)?;
    Ok(name.clone())
}

/// Applies the section, in order and each file's part in one piece, and frees the lock.
pub(crate) fn release(
    state: &mut State,
    step: &mut Step,
    caller: Caller,
    lock: &str,
    token: Token,
    count: u32,
) -> Result<Outcome, Refusal> {
    let (name, holder) = held(state, caller.session, lock, token)?;
    let expected = holder.section.count();
    if count != expected {
        return Err(Refusal::OutOfOrder { expected });
    }
    let holder = expiry::take(state, step, &name, LostWhy::Released);
    for Pending { file, data } in holder.section.iter() {
        let (id, offset) = state.append_to_file(file, data);
        step.file(FileOp::Write {
            id,
            name: file.to_string(),
            offset,
            data: data.clone(),
        });
    }
    let length = |file: &Name| (file.to_string(), state.files()[file].length);
    let lengths: Vec<_> = holder.section.files().map(length).collect();
    let fate = Fate::Done {
        slot: step.slot,
        lengths: Some(lengths.clone()),
    };
    state.note_end(token, fate);
    Ok(Outcome::Released {
        slot: step.slot,
        lengths,
    })
}
