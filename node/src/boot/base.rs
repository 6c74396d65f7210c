//! Which snapshot the replay begins at, or the empty state.

use paxos::{ClusterClock, Slot};
use statemachine::{FileFact, Machine};
use wal::snapshot::SnapshotRef;
use wal::storage::{Disk, SharedDisk};
use wal::{Recovery, Writer};

use super::Refusal;
use crate::engine::SnapshotJob;
use crate::filestore::{FileStore, Inspection};

/// Where the replay begins.
#[derive(Debug)]
pub(super) struct Base {
    /// The state.
    pub(super) state: SnapshotJob,
    /// Its files.
    pub(super) facts: Vec<FileFact>,
    /// Why newer bases would not do.
    pub(super) passed_over: Vec<String>,
}

/// How closely to look at the files: at every byte if that is quick, or if damage was found lately.
pub(super) fn inspection(
    disk: &SharedDisk,
    at_once_bytes: u64,
    files: &FileStore,
) -> Result<Inspection, Refusal> {
    let listed = disk.list("files").map_err(|error| Refusal {
        exit: 6,
        message: format!("cannot list the folder files: {error}"),
        no_space: false,
    })?;
    let total: u64 = listed.iter().map(|entry| entry.len).sum();
    let all = total <= at_once_bytes || files.is_recheck_due()?;
    Ok(if all {
        Inspection::Checksums
    } else {
        Inspection::Lengths
    })
}

/// The newest base that the log reaches back to and whose files are all there.
pub(super) fn choose(
    disk: &SharedDisk,
    writer: &Writer,
    recovery: &Recovery,
    files: &mut FileStore,
    inspection: Inspection,
) -> Result<Base, Refusal> {
    let mut passed_over = Vec::new();
    let snapshots = recovery.snapshots.iter().map(Some).chain([None]);
    for snapshot in snapshots {
        let slot = snapshot.map_or(0, |snapshot| snapshot.slot);
        if !reaches_back(writer, slot) {
            passed_over.push(format!(
                "the log begins at slot {}, so it cannot be replayed from slot {slot}",
                writer.first_slot()
            ));
            continue;
        }
        let state = match load(disk.as_ref(), snapshot) {
            Ok(state) => state,
            Err(why) => {
                passed_over.push(why);
                continue;
            }
        };
        let facts: Vec<FileFact> = state.machine.files().collect();
        let faults = files.faults(&facts, inspection)?;
        if faults.is_empty() {
            return Ok(Base {
                state,
                facts,
                passed_over,
            });
        }
        passed_over.extend(faults.iter().map(ToString::to_string));
    }
    Err(Refusal::damaged(format!(
        "no snapshot can be started from: {}",
        passed_over.join("; ")
    )))
}

/// Whether every slot above `slot` is in the log, or there is none.
fn reaches_back(writer: &Writer, slot: u64) -> bool {
    writer.last_slot() <= slot || writer.first_slot() <= slot + 1
}

pub(super) fn load(disk: &dyn Disk, snapshot: Option<&SnapshotRef>) -> Result<SnapshotJob, String> {
    let Some(snapshot) = snapshot else {
        let clock = ClusterClock::default();
        return Ok(SnapshotJob {
            slot: Slot(0),
            machine: Machine::new(),
            clock,
        });
    };
    let (header, payload) =
        wal::snapshot::load(disk, snapshot).map_err(|error| error.to_string())?;
    if header.slot != snapshot.slot {
        return Err(format!(
            "the snapshot of slot {} says slot {}",
            snapshot.slot, header.slot
        ));
    }
    SnapshotJob::decode(Slot(snapshot.slot), &payload)
        .map_err(|error| format!("the snapshot of slot {}: {error}", snapshot.slot))
}
