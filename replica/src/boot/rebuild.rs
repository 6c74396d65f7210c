//! Replaying the log for one damaged file, beside a running replica.
//!
//! The log and a snapshot decide what is in a file, as at a start. So the newest snapshot that does not itself name
//! damaged bytes of the file is loaded a second time, and the log replayed from there; of all that comes of it only the
//! writes to this file are carried out.

use paxos::Slot;
use wal::snapshot::SnapshotRef;
use wal::storage::Disk;
use wal::{Reader, snapshot};

use super::base::load;
use crate::causes::with_causes;
use crate::engine::{SnapshotJob, apply_entry};
use crate::filestore::{Rebuild, Rebuilt};
use crate::records;
use statemachine::FileOp;

/// Writes a damaged file again. `applied` is the last slot that the replica has applied; its log
/// must be durable up to there. Reads and writes the disk.
///
/// # Errors
///
/// Why that cannot be done, for the operator.
pub fn rebuild(reader: &Reader, applied: Slot, file: Rebuild) -> Result<Rebuilt, String> {
    let mut passed_over = Vec::new();
    for base in bases(&**file.disk())? {
        let slot = base.map_or(0, |base| base.slot);
        if reader.first_slot() > slot + 1 {
            let first = reader.first_slot();
            passed_over.push(format!(
                "the log begins at slot {first}, so it cannot be replayed from slot {slot}"
            ));
            continue;
        }
        let loaded = load(&**file.disk(), base.as_ref());
        let state = match loaded.unwrap_or_else(|refusal| Err(refusal.to_string())) {
            Ok(state) => state,
            Err(why) => {
                passed_over.push(why);
                continue;
            }
        };
        let known = state.machine.files().find(|fact| fact.id == file.id());
        let length = known.as_ref().map_or(0, |fact| fact.length);
        if known.is_some_and(|fact| !file.begins_with(&fact)) {
            passed_over.push(format!(
                "its first {length} bytes, which the snapshot of slot {slot} names, are damaged too"
            ));
            continue;
        }
        return replay(reader, state, length, applied, file);
    }
    Err(passed_over.join("; "))
}

/// Where a replay may begin, newest first; at last the empty state.
fn bases(disk: &dyn Disk) -> Result<Vec<Option<SnapshotRef>>, String> {
    let slots = snapshot::list(disk).map_err(|error| with_causes(&error))?;
    let sound = |slot: &u64| snapshot::inspect(disk, *slot).ok();
    let mut bases: Vec<_> = slots.iter().rev().filter_map(sound).map(Some).collect();
    bases.push(None);
    Ok(bases)
}

fn replay(
    reader: &Reader,
    base: SnapshotJob,
    mut length: u64,
    applied: Slot,
    file: Rebuild,
) -> Result<Rebuilt, String> {
    let SnapshotJob {
        slot: base,
        mut machine,
        mut clock,
    } = base;
    let mut slot = base;
    while length < file.end() && slot < applied {
        slot = slot.next();
        let entry = read(reader, slot)?;
        let moved = clock.observe(slot, &entry);
        for op in apply_entry(&mut machine, slot, &entry, moved).files {
            if let FileOp::Write {
                id, offset, data, ..
            } = op
                && id == file.id()
            {
                file.write(offset, &data)
                    .map_err(|error| with_causes(&error))?;
                length = offset + data.len() as u64;
            }
        }
    }
    let fact = machine.files().find(|fact| fact.id == file.id());
    let fact = fact.ok_or("it was removed meanwhile")?;
    file.finish(&fact).map_err(|error| with_causes(&error))
}

/// The entry of a slot that was applied.
fn read(reader: &Reader, slot: Slot) -> Result<paxos::Entry, String> {
    match records::read(reader, slot) {
        Ok(Some((_, entry, _))) => Ok(entry),
        Ok(None) => Err(format!("slot {slot} of the log is unreadable")),
        Err(error) => Err(with_causes(&error)),
    }
}
