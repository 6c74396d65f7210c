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

mod check;
mod handles;
mod restore;

use std::collections::{BTreeSet, VecDeque};
use std::io;

use bytes::Bytes;
use statemachine::{FileFact, FileId, FileOp};
use wal::storage::{SharedDisk, SharedFile, is_no_space};

use crate::engine::{FileRead, SnapshotJob};

pub use check::CheckStep;
pub use restore::{FileFault, Inspection};

use check::Checker;
use handles::Handles;

const FILES: &str = "files";
const REMOVED: &str = "removed";
const RECHECK: &str = "recheck";

/// Snapshots that the log keeps, and with them the removed files that they name.
const SNAPSHOTS_KEPT: usize = 2;

/// Why a file operation failed.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// No space. The operation may be done again, whole, once there is some.
    #[error("no space for file {file}")]
    Full {
        /// The file's name.
        file: String,
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
    /// The disk failed.
    #[error(transparent)]
    Failed(#[from] FileError),
}

/// The data files of one replica.
#[derive(Debug)]
pub struct FileStore {
    disk: SharedDisk,
    handles: Handles,
    /// Paths written to since the last [`SyncSet`] was taken.
    dirty: BTreeSet<String>,
    /// What lies in `removed/`.
    removed: BTreeSet<FileId>,
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
            .filter_map(|entry| removed_id(&entry.name))
            .collect();
        Ok(FileStore {
            handles: Handles::new(disk.clone()),
            disk,
            dirty: BTreeSet::new(),
            removed,
            kept: VecDeque::new(),
            checker: Checker::default(),
        })
    }

    /// Carries out one operation of the state machine. Not durable.
    ///
    /// # Errors
    ///
    /// [`FileError::Full`]: do the same again later. [`FileError::Failed`]: stop.
    pub fn apply(&mut self, op: &FileOp) -> Result<(), FileError> {
        match op {
            FileOp::Create { name, .. } => self.create(name),
            FileOp::Write {
                name, offset, data, ..
            } => self.write(name, *offset, data),
            FileOp::Remove { id, name } => self.remove(*id, name),
        }
    }

    /// A new file is empty, whatever an earlier life left under its name.
    fn create(&mut self, name: &str) -> Result<(), FileError> {
        let path = path_of(name);
        let file = match self.disk.create(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                let file = self.disk.open(&path).map_err(failed("open", &path))?;
                file.set_len(0).map_err(failed("empty", &path))?;
                file
            }
            Err(error) => return Err(written(error, "create", name)),
        };
        self.handles.insert(&path, file);
        self.dirty.insert(path);
        Ok(())
    }

    fn write(&mut self, name: &str, offset: u64, data: &Bytes) -> Result<(), FileError> {
        let path = path_of(name);
        let file = self.handles.get(&path).map_err(failed("open", &path))?;
        file.write_at(data, offset)
            .map_err(|error| written(error, "write to", name))?;
        if !self.dirty.contains(&path) {
            self.dirty.insert(path);
        }
        Ok(())
    }

    /// Moves the file aside. Synced at once: were the move lost and a later file of the same name
    /// kept, a restart could not tell one from the other.
    fn remove(&mut self, id: FileId, name: &str) -> Result<(), FileError> {
        let path = path_of(name);
        let file = self.handles.take(&path).map_err(failed("open", &path))?;
        file.sync().map_err(failed("sync", &path))?;
        drop(file);
        self.disk
            .rename(&path, &removed_path(id))
            .map_err(|error| written(error, "move aside", name))?;
        self.sync_names()?;
        self.dirty.remove(&path);
        self.removed.insert(id);
        self.checker.forget(id);
        Ok(())
    }

    /// A read of a part of a file, to be run on any thread.
    ///
    /// # Errors
    ///
    /// [`ReadError::Unchecked`] until the file's checksum is verified; it is then verified next.
    pub fn read_job(&mut self, read: &FileRead) -> Result<ReadJob, ReadError> {
        if self.checker.prefer(read.id) {
            return Err(ReadError::Unchecked);
        }
        let path = path_of(&read.name);
        let file = self.handles.get(&path).map_err(failed("open", &path))?;
        Ok(ReadJob {
            file,
            path,
            offset: read.offset,
            len: read.len,
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
        let step = self.checker.slice(&mut self.handles, bytes_max);
        if matches!(step, CheckStep::Damaged(_)) {
            // The next start looks at every byte and rebuilds the file, or says that it cannot. If
            // even the mark cannot be made, the next background check finds the damage again.
            let _ = self
                .disk
                .create(RECHECK)
                .and_then(|_| self.disk.sync_dir(""));
        }
        step
    }

    /// Whether every file has been verified.
    pub fn is_checked(&self) -> bool {
        self.checker.is_done()
    }

    /// What must be synced before a snapshot of the present, or of an earlier slot, is recorded.
    pub fn sync_set(&mut self) -> SyncSet {
        SyncSet {
            disk: self.disk.clone(),
            paths: std::mem::take(&mut self.dirty),
        }
    }

    /// The snapshot is recorded: what no kept snapshot names any more goes.
    ///
    /// # Errors
    ///
    /// [`FileError::Failed`].
    pub fn on_snapshot_saved(&mut self, job: &SnapshotJob) -> Result<(), FileError> {
        self.keep(job.machine.files());
        if self.kept.len() < SNAPSHOTS_KEPT {
            // What an earlier snapshot names is not known.
            return Ok(());
        }
        let named = |id: &FileId| self.kept.iter().any(|names| names.contains(id));
        let gone: Vec<FileId> = self
            .removed
            .iter()
            .filter(|id| !named(id))
            .copied()
            .collect();
        for id in gone {
            let path = removed_path(id);
            match self.disk.remove(&path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(failed("remove", &path)(error));
                }
                _ => self.removed.remove(&id),
            };
        }
        Ok(())
    }

    fn keep(&mut self, facts: impl Iterator<Item = FileFact>) {
        self.kept.push_front(facts.map(|fact| fact.id).collect());
        self.kept.truncate(SNAPSHOTS_KEPT);
    }

    fn sync_names(&self) -> Result<(), FileError> {
        // The new name first: a crash in between leaves two, not none.
        for dir in [REMOVED, FILES] {
            self.disk
                .sync_dir(dir)
                .map_err(failed("sync the folder", dir))?;
        }
        Ok(())
    }
}

/// A part of a file to be read. It holds the file open, so a removal meanwhile does no harm.
#[derive(Debug)]
pub struct ReadJob {
    file: SharedFile,
    path: String,
    offset: u64,
    len: u32,
}

impl ReadJob {
    /// Reads it.
    ///
    /// # Errors
    ///
    /// [`FileError::Failed`]: the part is not there or the disk failed.
    pub fn run(self) -> Result<Bytes, FileError> {
        let mut bytes = vec![0; self.len as usize];
        self.file
            .read_exact_at(&mut bytes, self.offset)
            .map_err(failed("read", &self.path))?;
        Ok(Bytes::from(bytes))
    }
}

/// Files to be synced, beside everything else, perhaps on another thread.
#[derive(Debug)]
pub struct SyncSet {
    disk: SharedDisk,
    paths: BTreeSet<String>,
}

impl SyncSet {
    /// Syncs all of them and their names.
    ///
    /// # Errors
    ///
    /// [`FileError::Failed`]: the replica stops, since nobody knows what the disk holds.
    pub fn run(self) -> Result<(), FileError> {
        for path in &self.paths {
            match self.disk.open(path) {
                Ok(file) => file.sync().map_err(failed("sync", path))?,
                // Removed meanwhile, and synced then.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(failed("open", path)(error)),
            }
        }
        self.disk
            .sync_dir(FILES)
            .map_err(failed("sync the folder", FILES))
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
