//! Replaying the log from a base.

use paxos::{Ballot, ClusterClock, Entry, Slot};
use statemachine::Machine;
use wal::Reader;

use super::Refusal;
use crate::engine::{SnapshotJob, apply_entry};
use crate::filestore::FileStore;
use crate::records;

/// The state after the replay.
#[derive(Debug)]
pub(super) struct Replayed {
    pub(super) machine: Machine,
    pub(super) clock: ClusterClock,
}

/// Entries above what is known to be chosen.
#[derive(Debug, Default)]
pub(super) struct Above {
    pub(super) entries: Vec<(Slot, Ballot, Entry)>,
    /// Those of them that are held as chosen.
    pub(super) chosen_marks: Vec<Slot>,
}

/// Applies everything from the base up to and including `chosen`. Nobody waits for an answer now, so
/// only the file operations are carried out.
pub(super) fn replay(
    reader: &Reader,
    base: SnapshotJob,
    chosen: Slot,
    files: &mut FileStore,
) -> Result<Replayed, Refusal> {
    let SnapshotJob {
        slot: base,
        mut machine,
        mut clock,
    } = base;
    for slot in (base.0 + 1..=chosen.0).map(Slot) {
        let (_, entry, _) = read(reader, slot)?;
        let moved = clock.observe(slot, &entry);
        for op in apply_entry(&mut machine, slot, &entry, moved).files {
            files.apply(&op)?;
        }
    }
    Ok(Replayed { machine, clock })
}

/// Everything above `chosen`.
pub(super) fn accepted(reader: &Reader, chosen: Slot, last: Slot) -> Result<Above, Refusal> {
    let mut above = Above::default();
    for slot in (chosen.0 + 1..=last.0).map(Slot) {
        let (ballot, entry, is_chosen) = read(reader, slot)?;
        above.entries.push((slot, ballot, entry));
        if is_chosen {
            above.chosen_marks.push(slot);
        }
    }
    Ok(above)
}

fn read(reader: &Reader, slot: Slot) -> Result<(Ballot, Entry, bool), Refusal> {
    records::read(reader, slot)?.ok_or_else(|| {
        let (first, last) = (reader.first_slot(), reader.last_slot());
        let message =
            format!("slot {slot} of the log, which holds {first} to {last}, is unreadable");
        Refusal::damaged(message)
    })
}
