//! The users' files, as ordinary files that any Unix tool can read.
//!
//! ```text
//! files/NAME                    what this replica has applied
//! removed/<slot:016x>.<n>       removed files, by the id of their creation, while a kept snapshot
//!                               names them
//! recheck                       an empty mark: verify every checksum at the next start
//! ```
//!
//! The files are derived: the log and the last snapshot decide what is in them. So nothing is synced
//! when it is written; a snapshot syncs what it names ([`SyncSet`]), and a restart cuts every file back
//! to its length in the snapshot ([`FileStore::cut_back`]) and replays the log from there. A crash
//! between two steps can therefore double or lose nothing.
//!
//! A file that was removed after a snapshot is moved aside, not unlinked: the snapshot names it, and a
//! restart puts it back. One made later under its name is another file.
//!
//! Whoever must not wait for the disk uses [`FileStore::begin`] and [`FileStore::finish`]: writes go to the page cache at
//! once, and what creates, moves or syncs is a [`FileJob`] for another thread. Every read is checked against the checksums
//! of the pieces that it touches. A file that fails is refused until it is written again from the log, while the replica
//! runs ([`FileStore::next_rebuild`]) or at the next start, which says so if it cannot.

mod check;
mod handles;
mod jobs;
mod rebuild;
mod restore;
mod sums;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io;

use bytes::Bytes;
use statemachine::{FileFact, FileId, FileOp};
use wal::storage::{SharedDisk, SharedFile, is_no_space};

use crate::engine::{FileRead, SnapshotJob};

pub use check::CheckStep;
pub use jobs::{FileDone, FileJob, Needless, ReadJob, RecheckMark, SyncSet};
pub use rebuild::{Rebuild, Rebuilt};
pub use restore::{FileFault, Inspection};

use check::{Checker, Slice};
use handles::Handles;
use jobs::Dirty;
use sums::Sums;

const FILES: &str = "files";
const REMOVED: &str = "removed";
const RECHECK: &str = "recheck";

/// Snapshots that the log keeps, and with them the removed files that they name.
const SNAPSHOTS_KEPT: usize = 2;

/// Files held open because they are not synced; then some are synced before another is written.
const DIRTY_MAX: usize = 1024;
/// So many are synced then.
const DIRTY_SYNCED: usize = 128;

/// Why a file operation failed.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// No space. The operation may be done again, whole, once there is some.
    #[error("no space for file {file}")]
    Full {
        /// The file's name.
        file: String,
    },
    /// The bytes are not those that were written: the disk changed them, or somebody else did.
    #[error("{path}: bytes {from} to {to} are not what was written")]
    Rotten {
        /// The file, in the data folder.
        path: String,
        /// Where the damaged piece begins.
        from: u64,
        /// Where it ends.
        to: u64,
    },
    /// Anything else. Nobody knows what the disk holds; the replica stops.
    #[error("cannot {what} {path}")]
    Failed {
        /// What was tried.
        what: &'static str,
        /// On what, in the data folder.
        path: String,
        /// What the disk said.
        #[source]
        source: io::Error,
    },
}

impl FileError {
    /// Whether only room on the disk is missing.
    #[must_use]
    pub fn is_no_space(&self) -> bool {
        match self {
            FileError::Full { .. } => true,
            FileError::Rotten { .. } => false,
            FileError::Failed { source, .. } => is_no_space(source),
        }
    }
}

/// Why a part of a file cannot be read now.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// Its checksum is not verified yet; it is next. Read again after [`CheckStep::Checked`].
    #[error("the file is still being verified")]
    Unchecked,
    /// It is damaged, as found earlier.
    #[error("the file is damaged on this replica: {what}")]
    Damaged {
        /// What was found.
        what: String,
        /// It could not be written again from the log: it stays damaged while the replica runs.
        lasting: bool,
    },
    /// The disk failed.
    #[error(transparent)]
    Failed(#[from] FileError),
}

/// What is known of a file that is not what was written.
#[derive(Debug)]
struct Bad {
    what: String,
    /// It could not be written again while the replica runs.
    lasting: bool,
}

/// The data files of one replica.
#[derive(Debug)]
pub struct FileStore {
    disk: SharedDisk,
    handles: Handles,
    /// Written to since the last [`SyncSet`] was taken.
    dirty: BTreeMap<FileId, Dirty>,
    /// Names whose file was moved aside, with the move not known to be durable. A new file of that name has to wait for
    /// that: were the move lost and the new file kept, a restart could not tell one from the other.
    moved: BTreeSet<String>,
    /// Checksums of what reads may touch.
    sums: BTreeMap<FileId, Sums>,
    /// What the last look at every byte of a file summed, for [`FileStore::cut_back`].
    inspected: BTreeMap<FileId, Sums>,
    /// Files that are not what was written, and why.
    bad: BTreeMap<FileId, Bad>,
    /// Those of them that are still to be written again.
    to_rebuild: VecDeque<(FileId, String)>,
    /// What lies in `removed/`, with its length in bytes.
    removed: BTreeMap<FileId, u64>,
    /// The files that each kept snapshot names, newest first; at most [`SNAPSHOTS_KEPT`].
    kept: VecDeque<BTreeSet<FileId>>,
    checker: Checker,
}

impl FileStore {
    /// Opens the folders, making them if need be.
    ///
    /// # Errors
    ///
    /// [`FileError::Failed`].
    pub fn open(disk: SharedDisk) -> Result<FileStore, FileError> {
        for dir in [FILES, REMOVED] {
            disk.create_dir(dir)
                .map_err(failed("create the folder", dir))?;
        }
        disk.sync_dir("").map_err(failed("sync the folder", "."))?;
        let listed = disk
            .list(REMOVED)
            .map_err(failed("list the folder", REMOVED))?;
        let removed = listed
            .iter()
            .filter_map(|entry| Some((removed_id(&entry.name)?, entry.len)))
            .collect();
        Ok(FileStore {
            handles: Handles::new(disk.clone()),
            disk,
            dirty: BTreeMap::new(),
            moved: BTreeSet::new(),
            sums: BTreeMap::new(),
            inspected: BTreeMap::new(),
            bad: BTreeMap::new(),
            to_rebuild: VecDeque::new(),
            removed,
            kept: VecDeque::new(),
            checker: Checker::default(),
        })
    }

    /// Carries out one operation of the state machine. Not durable. May wait for the disk.
    ///
    /// # Errors
    ///
    /// [`FileError::Full`]: do the same again later. [`FileError::Failed`]: stop.
    pub fn apply(&mut self, op: &FileOp) -> Result<(), FileError> {
        while let Some(job) = self.begin(op)? {
            if self.finish(job.run())? {
                break;
            }
        }
        Ok(())
    }

    /// Carries out an operation if that needs no waiting, else returns what has to be run elsewhere and given to
    /// [`FileStore::finish`] before anything else is begun.
    ///
    /// # Errors
    ///
    /// As [`FileStore::apply`].
    pub fn begin(&mut self, op: &FileOp) -> Result<Option<FileJob>, FileError> {
        let (FileOp::Create { id, name }
        | FileOp::Write { id, name, .. }
        | FileOp::Remove { id, name }) = op;
        if self.dirty.len() >= DIRTY_MAX && !self.dirty.contains_key(id) {
            let some: Vec<FileId> = self.dirty.keys().copied().take(DIRTY_SYNCED).collect();
            let sync = some.iter().filter_map(|id| self.dirty.remove(id)).collect();
            return Ok(Some(self.job(sync, false, None)));
        }
        match op {
            FileOp::Write { offset, data, .. } => {
                self.write(*id, name, *offset, data)?;
                Ok(None)
            }
            FileOp::Create { .. } => {
                let names = self.moved.contains(name);
                Ok(Some(self.job(Vec::new(), names, Some(op.clone()))))
            }
            FileOp::Remove { .. } => {
                self.handles.forget(&path_of(name));
                // Bounded, however many names are used.
                let names = self.moved.len() >= DIRTY_MAX;
                Ok(Some(self.job(Vec::new(), names, Some(op.clone()))))
            }
        }
    }

    fn job(&self, sync: Vec<Dirty>, names: bool, op: Option<FileOp>) -> FileJob {
        FileJob {
            disk: self.disk.clone(),
            names,
            sync,
            op,
        }
    }

    /// Takes note of what a job did. Whether the operation that it was begun for is done; if not, begin it again.
    ///
    /// # Errors
    ///
    /// As [`FileStore::apply`].
    pub fn finish(&mut self, done: FileDone) -> Result<bool, FileError> {
        let FileDone { job, result } = done;
        let made = match result {
            Ok(made) => made,
            Err(error) => {
                self.suspect(job.sync);
                return Err(error);
            }
        };
        if job.names {
            self.moved.clear();
        }
        match job.op {
            None => return Ok(false),
            Some(FileOp::Create { id, name }) => {
                let path = path_of(&name);
                if let Some(file) = made {
                    self.handles.insert(&path, file.clone());
                    self.note_dirty(id, path, file);
                }
                self.sums.insert(id, Sums::from(0));
                self.bad.remove(&id);
            }
            Some(FileOp::Remove { id, name }) => {
                self.moved.insert(name);
                let length = self.sums.get(&id).map_or(0, Sums::end);
                self.removed.insert(id, length);
                if let Some(dirty) = self.dirty.get_mut(&id) {
                    dirty.path = removed_path(id);
                }
                self.checker.forget(id);
                self.sums.remove(&id);
                self.bad.remove(&id);
            }
            Some(FileOp::Write { .. }) => {}
        }
        Ok(true)
    }

    fn write(
        &mut self,
        id: FileId,
        name: &str,
        offset: u64,
        data: &Bytes,
    ) -> Result<(), FileError> {
        let path = path_of(name);
        let file = self.handles.get(&path).map_err(failed("open", &path))?;
        file.write_at(data, offset)
            .map_err(|error| written(error, "write to", name))?;
        let sums = self.sums.entry(id).or_insert_with(|| Sums::from(offset));
        if sums.end() == offset {
            sums.append(data);
        }
        self.note_dirty(id, path, file);
        Ok(())
    }

    fn note_dirty(&mut self, id: FileId, path: String, file: SharedFile) {
        self.dirty.entry(id).or_insert(Dirty {
            id,
            path,
            file,
            suspect: None,
        });
    }

    /// A sync found no room. Nobody knows how much of these files the disk holds, but the bytes are in the cache and
    /// their checksums are known: the next sync writes them again.
    fn suspect(&mut self, files: Vec<Dirty>) {
        for mut dirty in files {
            let sums = self.sums.get(&dirty.id);
            dirty.suspect =
                Some(sums.map_or(Vec::new(), |sums| sums.cover(sums.start()..sums.end())));
            self.dirty.insert(dirty.id, dirty);
        }
    }

    /// Takes back what could not be synced for want of room.
    pub fn sync_failed(&mut self, set: SyncSet) {
        self.suspect(set.files);
    }

    /// A read of a part of a file, to be run on any thread.
    ///
    /// # Errors
    ///
    /// [`ReadError::Unchecked`] until the file's checksum is verified; it is then verified next.
    pub fn read_job(&mut self, read: &FileRead) -> Result<ReadJob, ReadError> {
        if let Some(bad) = self.bad.get(&read.id) {
            return Err(ReadError::Damaged {
                what: bad.what.clone(),
                lasting: bad.lasting,
            });
        }
        if self.checker.prefer(read.id) {
            return Err(ReadError::Unchecked);
        }
        let path = path_of(&read.name);
        let file = self.handles.get(&path).map_err(failed("open", &path))?;
        let sums = self.sums.get(&read.id);
        Ok(ReadJob {
            file,
            path,
            offset: read.offset,
            len: read.len,
            pieces: sums.map_or(Vec::new(), |sums| {
                sums.cover(read.offset..read.offset + u64::from(read.len))
            }),
        })
    }

    /// [`FileStore::read_job`] and [`ReadJob::run`] in one.
    ///
    /// # Errors
    ///
    /// [`ReadError`].
    pub fn read(&mut self, read: &FileRead) -> Result<Bytes, ReadError> {
        Ok(self.read_job(read)?.run()?)
    }

    /// Verifies up to `bytes_max` more bytes of what the last snapshot names.
    pub fn check_slice(&mut self, bytes_max: usize) -> CheckStep {
        match self.checker.slice(&mut self.handles, bytes_max) {
            Slice::Idle => CheckStep::Idle,
            Slice::Working => CheckStep::Working,
            Slice::Checked(id, sums) => {
                match self.sums.get_mut(&id) {
                    Some(later) => later.complete(sums),
                    None => {
                        self.sums.insert(id, sums);
                    }
                }
                CheckStep::Checked(id)
            }
            Slice::Damaged(fact, what) => {
                let what = format!("its first {} bytes {what}", fact.length);
                CheckStep::Damaged(self.note_damage(fact.id, &fact.name, &what))
            }
        }
    }

    /// From now on this file is not read. The text is for the operator. Have [`FileStore::recheck_mark`] made, too.
    pub fn note_damage(&mut self, id: FileId, name: &str, what: &str) -> String {
        let bad = Bad {
            what: what.to_owned(),
            lasting: false,
        };
        if self.bad.insert(id, bad).is_none() {
            self.to_rebuild.push_back((id, name.to_owned()));
        }
        format!(
            "file {name}: {what}. Reads of it are refused until it is written again from the log"
        )
    }

    /// Number of files that are known to be damaged.
    pub fn damaged(&self) -> u32 {
        u32::try_from(self.bad.len()).unwrap_or(u32::MAX)
    }

    /// Whether a file is known to be damaged: the log that may rebuild it should stay.
    pub fn is_damaged(&self) -> bool {
        !self.bad.is_empty()
    }

    /// What makes the next start look at every byte and rebuild what is damaged, or say that it cannot.
    pub fn recheck_mark(&self) -> RecheckMark {
        RecheckMark {
            disk: self.disk.clone(),
        }
    }

    /// Whether every file has been verified.
    pub fn is_checked(&self) -> bool {
        self.checker.is_done()
    }

    /// What must be synced before a snapshot of the present, or of an earlier slot, is recorded.
    pub fn sync_set(&mut self) -> SyncSet {
        SyncSet {
            disk: self.disk.clone(),
            files: std::mem::take(&mut self.dirty).into_values().collect(),
        }
    }

    /// The snapshot is recorded: what no kept snapshot names any more goes.
    pub fn on_snapshot_saved(&mut self, job: &SnapshotJob) {
        self.needless(job).unlink();
    }

    /// The snapshot is recorded: what no kept snapshot names any more is to be unlinked, on any thread.
    pub fn needless(&mut self, job: &SnapshotJob) -> Needless {
        self.keep(job.machine.files());
        let mut ids = BTreeSet::new();
        // Until there are two, it is not known what an earlier snapshot names.
        if self.kept.len() == SNAPSHOTS_KEPT {
            let kept = &self.kept;
            let named = |id: &FileId| kept.iter().any(|names| names.contains(id));
            ids = self
                .removed
                .keys()
                .copied()
                .filter(|id| !named(id))
                .collect();
            self.removed.retain(|id, _| named(id));
        }
        Needless {
            disk: self.disk.clone(),
            ids,
        }
    }

    /// Bytes of removed files that are kept for a snapshot: two more snapshots let go of them.
    pub fn reclaimable_bytes(&self) -> u64 {
        self.removed.values().sum()
    }

    fn keep(&mut self, facts: impl Iterator<Item = FileFact>) {
        self.kept.push_front(facts.map(|fact| fact.id).collect());
        self.kept.truncate(SNAPSHOTS_KEPT);
    }
}

fn path_of(name: &str) -> String {
    format!("{FILES}/{name}")
}

fn removed_path(id: FileId) -> String {
    format!("{REMOVED}/{:016x}.{}", id.0, id.1)
}

fn removed_id(name: &str) -> Option<FileId> {
    let (slot, ordinal) = name.split_once('.')?;
    Some(FileId(
        u64::from_str_radix(slot, 16).ok()?,
        ordinal.parse().ok()?,
    ))
}

fn failed(what: &'static str, path: &str) -> impl FnOnce(io::Error) -> FileError + use<> {
    let path = path.to_owned();
    move |source| FileError::Failed { what, path, source }
}

fn written(error: io::Error, what: &'static str, name: &str) -> FileError {
    if is_no_space(&error) {
        return FileError::Full {
            file: name.to_owned(),
        };
    }
    failed(what, &path_of(name))(error)
}

#[cfg(test)]
mod tests;
