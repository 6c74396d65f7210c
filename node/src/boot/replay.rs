//! Replaying the log from a base.

use paxos::{Ballot, ClusterClock, Entry, Slot};
use statemachine::Machine;
use wal::{RecordKind, StoredEntry, Writer};

use super::Refusal;
use crate::engine::{SnapshotJob, apply_entry};
use crate::filestore::FileStore;

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
    writer: &Writer,
    base: SnapshotJob,
    chosen: Slot,
    files: &mut FileStore,
) -> Result<Replayed, Refusal> {
    let SnapshotJob { slot: base, mut machine, mut clock } = base;
    for slot in (base.0 + 1..=chosen.0).map(Slot) {
        let (_, entry, _) = read(writer, slot)?;
        let moved = clock.observe(&entry);
        for op in apply_entry(&mut machine, slot, &entry, moved).files {
            files.apply(&op)?;
        }
    }
    Ok(Replayed { machine, clock })
}

/// Everything above `chosen`.
pub(super) fn accepted(writer: &Writer, chosen: Slot, last: Slot) -> Result<Above, Refusal> {
    let mut above = Above::default();
    for slot in (chosen.0 + 1..=last.0).map(Slot) {
        let (ballot, entry, is_chosen) = read(writer, slot)?;
        above.entries.push((slot, ballot, entry));
        if is_chosen {
            above.chosen_marks.push(slot);
        }
    }
    Ok(above)
}

fn read(writer: &Writer, slot: Slot) -> Result<(Ballot, Entry, bool), Refusal> {
    let stored = writer.read(slot.0)?.ok_or_else(|| {
        Refusal::damaged(format!(
            "slot {slot} is not in the log, which holds {} to {}",
            writer.first_slot(),
            writer.last_slot()
        ))
    })?;
    let StoredEntry { kind, ballot, payload, .. } = stored;
    let entry = Entry::decode(payload)
        .map_err(|error| Refusal::damaged(format!("slot {slot} does not decode: {error}")))?;
    Ok((Ballot::from_raw(ballot), entry, kind == RecordKind::Chosen))
}
