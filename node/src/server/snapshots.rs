//! Making a snapshot beside everything else, and letting the log go that it makes needless.
//!
//! ```text
//! job from the engine ─► sync the files ─► encode, write, verify ─► superblock names it ─► engine
//!                        └────────── another thread ──────────┘    └ the log's thread ┘
//! ```

use std::sync::Arc;

use bytes::Bytes;
use wal::snapshot::{SnapshotHeader, SnapshotRef};
use wal::{Log, SharedDisk};

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
        tokio::task::spawn_blocking(move || this.make(job, files, &log));
    }

    fn make(self, job: SnapshotJob, files: SyncSet, log: &Log) {
        if let Err(error) = files.run() {
            let fatal = Failure::new(Exit::WriteFailed, with_causes(&error));
            return self.inbox.push(Event::Failed(fatal));
        }
        match self.write(&job) {
            Err(why) => self.inbox.push(Event::Snapshot(Box::new(Done {
                job,
                result: Err(why),
            }))),
            // In the superblock before anything else speaks of it.
            Ok(saved) => log.snapshot_saved(saved, move |named| {
                self.inbox.push(match named {
                    Ok(()) => Event::Snapshot(Box::new(Done {
                        job,
                        result: Ok(saved),
                    })),
                    Err(error) => Event::Failed(write_failed(&error)),
                });
            }),
        }
    }

    fn write(&self, job: &SnapshotJob) -> Result<SnapshotRef, String> {
        let mut payload = Vec::new();
        job.encode(&mut payload)
            .map_err(|error| with_causes(&error))?;
        let header = SnapshotHeader {
            cluster: self.cluster,
            slot: job.slot.0,
            membership: self.membership.clone(),
        };
        wal::snapshot::save(&*self.disk, &header, &mut payload.as_slice())
            .map_err(|error| with_causes(&error))
    }
}
