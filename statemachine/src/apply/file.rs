//! Files as such: `create` and `remove`.

use crate::apply::Step;
use crate::apply::presence::check_room;
use crate::budget::{ANSWER_BYTES, FILE_BYTES};
use crate::file::File;
use crate::name::{Name, check_file_name, check_lock_name, shortened};
use crate::state::State;
use crate::{Event, FileId, FileOp, Outcome, Refusal};

/// Creates an empty file, guarded by the lock of its own name unless another is named.
pub(crate) fn create(
    state: &mut State,
    step: &mut Step,
    file: &str,
    guard: Option<&str>,
) -> Result<Outcome, Refusal> {
    check_file_name(file)?;
    let guard = guard.unwrap_or(file);
    check_lock_name(guard)?;
    if state.files().contains_key(file) {
        return Err(Refusal::Exists {
            file: file.to_owned(),
        });
    }
    let bytes = FILE_BYTES + ANSWER_BYTES + (file.len() + guard.len()) as u64;
    check_room(state, &state.limits(), bytes)?;
    let id = FileId(step.slot.0, 0);
    make(state, step, id, file, guard);
    Ok(Outcome::Created {
        id,
        guard: guard.to_owned(),
    })
}

/// Makes a file that is not there.
pub(crate) fn make(state: &mut State, step: &mut Step, id: FileId, file: &str, guard: &str) {
    state.insert_file(Name::from(file), File::new(id, Name::from(guard)));
    step.file(FileOp::Create {
        id,
        name: file.to_owned(),
    });
    step.event(Event::FileCreated {
        id,
        file: file.to_owned(),
    });
}

/// Removes a file that has no appends pending.
pub(crate) fn remove(state: &mut State, step: &mut Step, file: &str) -> Result<Outcome, Refusal> {
    let Some(known) = state.files().get(file) else {
        return Err(Refusal::NoSuchFile {
            file: shortened(file),
        });
    };
    // Only the holder of the guard can have appended to it.
    let holder = state
        .locks()
        .get(&known.guard)
        .and_then(|guard| guard.holder.as_ref());
    if holder.is_some_and(|holder| holder.section.touches(file)) {
        return Err(Refusal::PendingAppends {
            file: file.to_owned(),
        });
    }
    let id = known.id;
    state.remove_file(file);
    step.file(FileOp::Remove {
        id,
        name: file.to_owned(),
    });
    step.event(Event::FileRemoved {
        id,
        file: file.to_owned(),
    });
    Ok(Outcome::Removed)
}
