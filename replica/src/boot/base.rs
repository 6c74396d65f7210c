//! Which snapshot the replay begins at, or the empty state.

use paxos::{ClusterClock, Slot};
use statemachine::{FileFact, Machine};
use wal::Judged;
use wal::snapshot::SnapshotRef;
use wal::storage::{Disk, SharedDisk, is_bad_medium};

use super::Refusal;
use crate::engine::SnapshotJob;
use crate::filestore::{FileFault, FileStore, Inspection};

/// Damaged files that a message describes one by one.
const FAULTS_TOLD: usize = 3;

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
    let listed = disk
        .list("files")
        .map_err(|error| Refusal::unreadable("the folder files", &error))?;
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
    log: &Judged,
    files: &mut FileStore,
    inspection: Inspection,
) -> Result<Base, Refusal> {
    let mut passed_over = Vec::new();
    let snapshots = log.snapshots().iter().map(Some).chain([None]);
    for snapshot in snapshots {
        let slot = snapshot.map_or(0, |snapshot| snapshot.slot);
        if !reaches_back(log, slot) {
            passed_over.push(format!(
                "the log begins at slot {}, so it cannot be replayed from slot {slot}",
                log.first_slot()
            ));
            continue;
        }
        let state = match load(disk.as_ref(), snapshot)? {
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
        passed_over.extend(tell(&faults));
    }
    Err(Refusal::damaged(format!(
        "no snapshot can be started from: {}",
        passed_over.join("; ")
    )))
}

/// The first faults in full; of the others, how many there are.
fn tell(faults: &[FileFault]) -> Vec<String> {
    let mut told: Vec<String> = faults
        .iter()
        .take(FAULTS_TOLD)
        .map(ToString::to_string)
        .collect();
    if let Some(others) = faults
        .len()
        .checked_sub(FAULTS_TOLD)
        .filter(|count| *count > 0)
    {
        told.push(format!(
            "and {others} more files, which `walinspect explain` names"
        ));
    }
    told
}

/// Whether every slot above `slot` is in the log, or there is none.
fn reaches_back(log: &Judged, slot: u64) -> bool {
    log.last_slot() <= slot || log.first_slot() <= slot + 1
}

/// The state of a snapshot, or what is wrong with it.
///
/// # Errors
///
/// If the system does not let it be read: that is no reason to take an older one.
pub(super) fn load(
    disk: &dyn Disk,
    snapshot: Option<&SnapshotRef>,
) -> Result<Result<SnapshotJob, String>, Refusal> {
    let Some(snapshot) = snapshot else {
        let clock = ClusterClock::default();
        return Ok(Ok(SnapshotJob {
            slot: Slot(0),
            machine: Machine::new(),
            clock,
        }));
    };
    let slot = snapshot.slot;
    let (header, payload) = match wal::snapshot::load(disk, snapshot) {
        Ok(loaded) => loaded,
        Err(wal::Error::Io { source, .. }) if !is_bad_medium(&source) => {
            let path = wal::layout::snapshot_path(slot);
            return Err(Refusal::unreadable(&path, &source));
        }
        Err(error) => return Ok(Err(error.to_string())),
    };
    if header.slot != slot {
        let what = format!("the snapshot of slot {slot} says slot {}", header.slot);
        return Ok(Err(what));
    }
    Ok(SnapshotJob::decode(Slot(slot), &payload)
        .map_err(|error| format!("the snapshot of slot {slot}: {error}")))
}
