//! Making a snapshot beside everything else, and letting the log go that it makes needless.
//!
//! ```text
//! job from the engine ─► sync the files ─► encode, write, verify ─► superblock names it ─► engine
//!                        └────────── another thread ──────────┘    └ the log's thread ┘
//! ```

use std::sync::Arc;

use bytes::Bytes;
use wal::{Log, SharedDisk};
use wal::snapshot::{SnapshotHeader, SnapshotRef};

use crate::engine::SnapshotJob;
use crate::failure::{Exit, Failure, with_causes};
use crate::filestore::SyncSet;
use crate::server::inbox::{Event, Inbox};
use crate::server::wal_bridge::write_failed;

/// What came of a job.
#[derive(Debug)]
pub(crate) struct Done {
    /// The job, whose manifest the file store needs.
    pub(crate) job: SnapshotJob,
    /// The snapshot on the disk; or why there is none, which is no reason to stop.
    pub(crate) result: Result<SnapshotRef, String>,
    /// Set if nobody knows what the disk holds, which is one.
    pub(crate) fatal: Option<Failure>,
}

/// Where snapshots go and what they bear.
#[derive(Clone, Debug)]
pub(crate) struct Snapshots {
    /// The data folder.
    pub(crate) disk: SharedDisk,
    /// The cluster's id.
    pub(crate) cluster: u128,
    /// The membership, the same bytes on every replica.
    pub(crate) membership: Bytes,
    /// Where the result is reported.
    pub(crate) inbox: Arc<Inbox>,
}

impl Snapshots {
    /// Starts the job on a thread for blocking work; its end is an [`Event::Snapshot`].
    pub(crate) fn start(&self, job: SnapshotJob, files: SyncSet, log: Arc<Log>) {
        let this = self.clone();
        tracing::info!(slot = job.slot.0, "taking a snapshot");
        tokio::task::spawn_blocking(move || {
            let done = this.make(job, files, &log);
            drop(log);
            this.inbox.push(Event::Snapshot(done));
        });
    }

    fn make(&self, job: SnapshotJob, files: SyncSet, log: &Log) -> Done {
        if let Err(error) = files.run() {
            let fatal = Failure::new(Exit::WriteFailed, with_causes(&error));
            return Done { job, result: Err(fatal.message.clone()), fatal: Some(fatal) };
        }
        let result = self.write(&job);
        let named = result.as_ref().ok().map(|saved| log.snapshot_saved(*saved));
        match named {
            Some(Err(error)) => Done { job, result, fatal: Some(write_failed(&error)) },
            Some(Ok(())) | None => Done { job, result, fatal: None },
        }
    }

    fn write(&self, job: &SnapshotJob) -> Result<SnapshotRef, String> {
        let mut payload = Vec::new();
        job.encode(&mut payload).map_err(|error| with_causes(&error))?;
        let header = SnapshotHeader { cluster: self.cluster, slot: job.slot.0, membership: self.membership.clone() };
        wal::snapshot::save(&*self.disk, &header, &mut payload.as_slice()).map_err(|error| with_causes(&error))
    }
}

/// What the log's mark says of a snapshot, for people and tools: length and digest, little-endian.
pub(crate) fn mark_of(saved: &SnapshotRef) -> Bytes {
    let mut mark = saved.length.to_le_bytes().to_vec();
    mark.extend(saved.digest.to_le_bytes());
    Bytes::from(mark)
}
