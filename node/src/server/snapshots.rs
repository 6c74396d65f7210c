//! Making a snapshot beside everything else, and letting the log go that it makes needless.
//!
//! ```text
//! job from the engine ─► sync the files ─► encode, write, verify ─► superblock names it ─► engine
//!                        └────────── another thread ──────────┘    └ the log's thread ┘
//! ```

use std::io::{self, Read, Write};
use std::sync::{Arc, mpsc};

use bytes::Bytes;
use wal::snapshot::{SnapshotHeader, SnapshotRef};
use wal::{Log, SharedDisk};

use crate::failure::{Exit, Failure};
use crate::server::inbox::{Event, Inbox};
use crate::server::wal_bridge::write_failed;
use replica::causes::with_causes;
use replica::engine::SnapshotJob;
use replica::filestore::SyncSet;
use replica::{Done, SnapshotDone};

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
    /// Starts the job on a thread for blocking work; it ends as [`Done::Snapshot`].
    pub(crate) fn start(&self, job: SnapshotJob, files: SyncSet, log: Arc<Log>) {
        let this = self.clone();
        tokio::task::spawn_blocking(move || this.make(job, files, &log));
    }

    /// Bytes free on the disk, from what the system keeps in memory; `None` if it does not tell.
    pub(crate) fn free_bytes(&self) -> Option<u64> {
        self.disk.free_bytes().ok().flatten()
    }

    fn make(self, job: SnapshotJob, files: SyncSet, log: &Log) {
        if let Err(error) = files.run() {
            if error.is_no_space() {
                return self.report(job, Err(with_causes(&error)), Some(files));
            }
            let fatal = Failure::new(Exit::WriteFailed, with_causes(&error));
            return self.inbox.push(Event::Failed(fatal));
        }
        match self.write(&job) {
            Err(why) => self.report(job, Err(why), None),
            // In the superblock before anything else speaks of it.
            Ok(saved) => log.snapshot_saved(saved, move |named| match named {
                Ok(()) => self.report(job, Ok(saved), None),
                Err(error) => self.inbox.push(Event::Failed(write_failed(&error))),
            }),
        }
    }

    fn report(
        &self,
        job: SnapshotJob,
        result: Result<SnapshotRef, String>,
        unsynced: Option<SyncSet>,
    ) {
        let done = SnapshotDone {
            job,
            result,
            unsynced,
        };
        self.inbox.push(Event::Done(Done::Snapshot(Box::new(done))));
    }

    fn write(&self, job: &SnapshotJob) -> Result<SnapshotRef, String> {
        let header = SnapshotHeader {
            cluster: self.cluster,
            slot: job.slot.0,
            membership: self.membership.clone(),
        };
        // Encoded while it is written: a large state is never in memory a second time.
        let (pieces, mut payload) = pipe();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let mut pieces = pieces;
                if let Err(error) = job.encode(&mut pieces).and_then(|()| pieces.flush()) {
                    pieces.fail(error);
                }
            });
            let saved = wal::snapshot::save(&*self.disk, &header, &mut payload);
            // The encoder ends when nobody takes its pieces any more.
            drop(payload);
            saved
        })
        .map_err(|error| with_causes(&error))
    }
}

/// Bytes handed over at a time, and how many such pieces may wait.
const PIECE_BYTES: usize = 256 << 10;
const PIECES_MAX: usize = 4;

/// The writing end of a pipe between two threads.
struct Pieces {
    piece: Vec<u8>,
    to: mpsc::SyncSender<io::Result<Vec<u8>>>,
}

/// Its reading end.
struct Payload {
    piece: io::Cursor<Vec<u8>>,
    from: mpsc::Receiver<io::Result<Vec<u8>>>,
}

fn pipe() -> (Pieces, Payload) {
    let (to, from) = mpsc::sync_channel(PIECES_MAX);
    let pieces = Pieces {
        piece: Vec::with_capacity(PIECE_BYTES),
        to,
    };
    let payload = Payload {
        piece: io::Cursor::default(),
        from,
    };
    (pieces, payload)
}

impl Pieces {
    /// Has the reader fail: what was written so far is not all.
    fn fail(&self, error: io::Error) {
        // If the reader is gone it failed first.
        let _ = self.to.send(Err(error));
    }
}

impl Write for Pieces {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.piece.extend_from_slice(bytes);
        if self.piece.len() >= PIECE_BYTES {
            self.flush()?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        let piece = std::mem::replace(&mut self.piece, Vec::with_capacity(PIECE_BYTES));
        let sent = self.to.send(Ok(piece));
        sent.map_err(|_| io::ErrorKind::BrokenPipe.into())
    }
}

impl Read for Payload {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        loop {
            let count = self.piece.read(buf)?;
            if count > 0 || buf.is_empty() {
                return Ok(count);
            }
            match self.from.recv() {
                Ok(piece) => self.piece = io::Cursor::new(piece?),
                Err(mpsc::RecvError) => return Ok(0),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pipe_passes_on_all_bytes_and_every_failure() {
        let content: Vec<u8> = (0..3 * PIECE_BYTES + 17).map(|n| (n / 3) as u8).collect();
        for fails in [false, true] {
            let (mut pieces, mut payload) = pipe();
            let mut read = Vec::new();
            let result = std::thread::scope(|scope| {
                scope.spawn(|| {
                    let pieces = pieces.by_ref();
                    content
                        .chunks(1000)
                        .try_for_each(|part| pieces.write_all(part))
                        .and_then(|()| pieces.flush())
                        .expect("it is read");
                    if fails {
                        pieces.fail(io::Error::other("stopped"));
                    }
                    // The end of the sender is the end of the payload.
                    pieces.to = mpsc::sync_channel(1).0;
                });
                payload.read_to_end(&mut read)
            });
            assert_eq!(result.is_err(), fails);
            assert!(read == content);
        }
    }
}
