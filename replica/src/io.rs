//! What goes into a replica and what comes out.
//!
//! ```text
//! handle(input) handle(input) ... finish()           one batch
//!        |            |            |
//!        v            v            v
//!      sends   ->  log appends  ->  replies  ->  jobs         what its driver then does, in this order
//!                      |                          |
//!                      v                          v
//!             Input::Engine(Durable)          Input::Done     what the driver then tells it, truly
//! ```

use paxos::{Envelope, LoadLog, Memories, Remember, RoleChange, WalAppend};
use statemachine::Event;
use wal::{NextSnapshots, SnapshotRef};

use crate::effects::{PartDone, PartRead, RebuildDone};
use crate::engine::{self, ConnId, SnapshotJob};
use crate::filestore::{FileDone, FileJob, Needless, Rebuild, RecheckMark, SyncSet};

/// One thing that happened.
#[derive(Debug)]
pub enum Input {
    /// Something for agreement and the state machine.
    Engine(engine::Input),
    /// A job was done.
    Done(Done),
    /// The disk was looked at.
    Space(Space),
    /// Bytes of log and snapshots that two more snapshots would let go of, as [`Output::reclaimable`] asked.
    Reclaimable(u64),
    /// Whether clients leave so many answers unread that no large ones should be added to them.
    ReadersSlow(bool),
}

impl From<engine::Input> for Input {
    fn from(input: engine::Input) -> Input {
        Input::Engine(input)
    }
}

/// How the disk stands.
#[derive(Clone, Copy, Debug)]
pub struct Space {
    /// Whether the log finds it nearly full.
    pub low: bool,
    /// Bytes free; `None` if the file system does not tell.
    pub free: Option<u64>,
    /// Bytes of log on it.
    pub log_bytes: u64,
}

/// Something that may wait for the disk, to be done beside everything else.
#[derive(Debug)]
pub enum Job {
    /// Run it. At most one is out at a time.
    File(FileJob),
    /// Make it, after the [`Job::File`]s before it.
    Mark(RecheckMark),
    /// Run it.
    Read(PartRead),
    /// Write a damaged file again by [`crate::boot::rebuild`], once the log is durable through `applied`.
    Rebuild {
        /// The file.
        file: Rebuild,
        /// The last slot applied.
        applied: paxos::Slot,
    },
    /// Make a snapshot: sync `files`, write what `job` encodes, have the superblock name it.
    Snapshot {
        /// The state.
        job: Box<SnapshotJob>,
        /// What must be on the disk before.
        files: SyncSet,
    },
    /// Unlink them.
    Unlink(Needless),
    /// Read entries back by [`crate::records::load`]; its result is an input for the engine.
    Load(LoadLog),
}

/// What came of a job.
#[derive(Debug)]
pub enum Done {
    /// Of [`Job::File`].
    File(Box<FileDone>),
    /// Of [`Job::Read`].
    Read(PartDone),
    /// Of [`Job::Rebuild`].
    Rebuilt(Box<RebuildDone>),
    /// Of [`Job::Snapshot`].
    Snapshot(Box<SnapshotDone>),
}

/// What came of a snapshot.
#[derive(Debug)]
pub struct SnapshotDone {
    /// As handed out.
    pub job: SnapshotJob,
    /// The snapshot on the disk, named by the superblock; or why there is none, which is no reason to stop.
    pub result: Result<SnapshotRef, String>,
    /// The files, if there was no room to sync them.
    pub unsynced: Option<SyncSet>,
}

/// The part of the log that may go.
#[derive(Clone, Copy, Debug)]
pub struct Release {
    /// A snapshot holds everything up to this slot.
    pub snapshot: u64,
    /// A peer needs the log from this slot on, as long as it is not longer than `keep_bytes`.
    pub needed: u64,
    /// Bytes of log that are kept for peers at most.
    pub keep_bytes: u64,
}

/// Why a replica must stop.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stop {
    /// What it holds cannot be what was agreed.
    Damaged(String),
    /// A data file could not be written, so that nobody knows what the disk holds.
    WriteFailed(String),
}

impl Stop {
    /// The reason in words.
    pub fn why(&self) -> &str {
        match self {
            Stop::Damaged(why) | Stop::WriteFailed(why) => why,
        }
    }
}

/// Something that an operator may want to see in the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Note {
    /// Of agreement and the state machine.
    Engine(engine::Note),
    /// Of the users' files.
    Files(FileNote),
    /// Of a snapshot.
    Snapshot(SnapshotNote),
    /// Whether the log's disk is nearly full.
    LowSpace(bool),
}

/// Of the users' files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FileNote {
    /// A write found no room: nothing is applied until there is.
    NoRoom {
        /// The error.
        why: String,
    },
    /// There is room again.
    RoomAgain,
    /// A file is not what was written.
    Damaged {
        /// Which file and bytes, and what to do.
        told: String,
    },
    /// A damaged file is whole again.
    Rebuilt {
        /// Its name.
        file: String,
    },
    /// A damaged file stays as it is.
    NotRebuilt {
        /// Its name.
        file: String,
        /// Why.
        why: String,
    },
}

/// Of a snapshot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SnapshotNote {
    /// One is being made.
    Begun {
        /// Its slot.
        slot: u64,
    },
    /// One was made.
    Taken {
        /// Its slot.
        slot: u64,
        /// Its size.
        bytes: u64,
    },
    /// One could not be made; another is tried later.
    Failed {
        /// Its slot.
        slot: u64,
        /// Why.
        why: String,
    },
}

/// What is to be done, in the order of the fields.
#[derive(Debug, Default)]
pub struct Output {
    /// Messages to peers; each may be lost.
    pub sends: Vec<Envelope>,
    /// For the log in this order; each counts as one `Durable` position.
    pub wal: Vec<WalAppend>,
    /// Answers to clients, each to the connection that it belongs to.
    pub replies: Vec<(ConnId, net::Response)>,
    /// To write to the superblock with whatever is written there next.
    pub remember_later: Option<Memories>,
    /// To write to the superblock at once, answered by `Remembered`; also if the replica must stop.
    pub remember: Option<Remember>,
    /// To be done on threads that may wait.
    pub jobs: Vec<Job>,
    /// What of the log may go, answered by `LogTrimmed`.
    pub release: Option<Release>,
    /// Find out what two more snapshots like this would let go of, and answer by [`Input::Reclaimable`].
    pub reclaimable: Option<NextSnapshots>,
    /// What the state machine did, for metrics.
    pub events: Vec<Event>,
    /// For the operator's log.
    pub notes: Vec<Note>,
    /// The newest change of role in this batch.
    pub role: Option<RoleChange>,
    /// The replica must stop.
    pub stop: Option<Stop>,
}

impl Output {
    /// Whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.sends.is_empty()
            && self.wal.is_empty()
            && self.replies.is_empty()
            && self.remember_later.is_none()
            && self.remember.is_none()
            && self.jobs.is_empty()
            && self.release.is_none()
            && self.reclaimable.is_none()
            && self.events.is_empty()
            && self.notes.is_empty()
            && self.role.is_none()
            && self.stop.is_none()
    }

    pub(crate) fn reply(&mut self, conn: ConnId, response: net::Response) {
        self.replies.push((conn, response));
    }
}
