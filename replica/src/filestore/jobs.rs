//! What the file store has others do, on threads that may wait for the disk.

use std::collections::BTreeSet;
use std::io;

use bytes::Bytes;
use statemachine::{FileId, FileOp};
use wal::storage::{SharedDisk, SharedFile, is_no_space};

use super::sums::Piece;
use super::{FILES, FileError, RECHECK, REMOVED, failed, path_of, removed_path, written};

/// A file that was written to, held open until it is synced: an error of writing it back is told to those who have it
/// open, and a handle opened later may never hear of it.
#[derive(Clone, Debug)]
pub(super) struct Dirty {
    pub(super) id: FileId,
    pub(super) path: String,
    pub(super) file: SharedFile,
    /// Set once a sync found no room: what the cache holds may never be written by itself, so these pieces are read,
    /// verified and written again before the next sync.
    pub(super) suspect: Option<Vec<Piece>>,
}

impl Dirty {
    fn sync(&self) -> Result<(), FileError> {
        for piece in self.suspect.iter().flatten() {
            let bytes = read_piece(&*self.file, &self.path, piece)?;
            self.file
                .write_at(&bytes, piece.bytes.start)
                .map_err(|error| no_room_or(error, "write again", &self.path))?;
        }
        self.file
            .sync()
            .map_err(|error| no_room_or(error, "sync", &self.path))
    }
}

fn no_room_or(error: io::Error, what: &'static str, path: &str) -> FileError {
    if is_no_space(&error) {
        let file = path.to_owned();
        return FileError::Full { file };
    }
    failed(what, path)(error)
}

/// Files to be synced, beside everything else, perhaps on another thread.
#[derive(Debug)]
pub struct SyncSet {
    pub(super) disk: SharedDisk,
    pub(super) files: Vec<Dirty>,
}

impl SyncSet {
    /// Syncs all of them and their names.
    ///
    /// # Errors
    ///
    /// [`FileError::Full`]: give the set back by [`super::FileStore::sync_failed`] and sync again later.
    /// [`FileError::Failed`]: the replica stops, since nobody knows what the disk holds.
    pub fn run(&self) -> Result<(), FileError> {
        self.files.iter().try_for_each(Dirty::sync)?;
        sync_names(&self.disk)
    }
}

/// Makes the names of files durable after some were moved aside. The new name first: a crash in between leaves two, not none.
fn sync_names(disk: &SharedDisk) -> Result<(), FileError> {
    for dir in [REMOVED, FILES] {
        disk.sync_dir(dir)
            .map_err(|error| no_room_or(error, "sync the folder", dir))?;
    }
    Ok(())
}

/// One operation that may wait for the disk, or what has to come before it.
#[derive(Debug)]
pub struct FileJob {
    pub(super) disk: SharedDisk,
    /// What was moved aside before must have its new name for good.
    pub(super) names: bool,
    /// These are synced.
    pub(super) sync: Vec<Dirty>,
    /// What is then carried out; if there is nothing, the operation is begun once more afterwards.
    pub(super) op: Option<FileOp>,
}

/// What came of a [`FileJob`].
#[derive(Debug)]
pub struct FileDone {
    pub(super) job: FileJob,
    pub(super) result: Result<Option<SharedFile>, FileError>,
}

impl FileJob {
    /// Carries it out.
    #[must_use]
    pub fn run(self) -> FileDone {
        let result = self.carry_out();
        FileDone { job: self, result }
    }

    fn carry_out(&self) -> Result<Option<SharedFile>, FileError> {
        self.sync.iter().try_for_each(Dirty::sync)?;
        if self.names {
            sync_names(&self.disk)?;
        }
        match &self.op {
            Some(FileOp::Create { name, .. }) => create(&self.disk, name).map(Some),
            Some(FileOp::Remove { id, name }) => {
                let moved = self.disk.rename(&path_of(name), &removed_path(*id));
                moved.map_err(|error| written(error, "move aside", name))?;
                Ok(None)
            }
            Some(FileOp::Write { .. }) | None => Ok(None),
        }
    }
}

/// A new file is empty, whatever an earlier life left under its name.
fn create(disk: &SharedDisk, name: &str) -> Result<SharedFile, FileError> {
    let path = path_of(name);
    match disk.create(&path) {
        Ok(file) => Ok(file),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            let file = disk.open(&path).map_err(failed("open", &path))?;
            file.set_len(0).map_err(failed("empty", &path))?;
            Ok(file)
        }
        Err(error) => Err(written(error, "create", name)),
    }
}

/// Removed files that no kept snapshot names any more.
#[derive(Debug)]
pub struct Needless {
    pub(super) disk: SharedDisk,
    pub(super) ids: BTreeSet<FileId>,
}

impl Needless {
    /// Unlinks them. What the disk refuses to unlink harms nobody: the next start lists it, and the snapshots after that
    /// try again.
    pub fn unlink(self) {
        for id in self.ids {
            let _ = self.disk.remove(&removed_path(id));
        }
    }
}

/// Marks the folder so that the next start verifies every byte of every file.
#[derive(Debug)]
pub struct RecheckMark {
    pub(super) disk: SharedDisk,
}

impl RecheckMark {
    /// Makes the mark. If even that fails, the next background check finds the damage again.
    pub fn make(self) {
        let _ = self.disk.create(RECHECK);
        let _ = self.disk.sync_dir("");
    }
}

/// A part of a file to be read. It holds the file open, so a removal meanwhile does no harm.
#[derive(Debug)]
pub struct ReadJob {
    pub(super) file: SharedFile,
    pub(super) path: String,
    pub(super) offset: u64,
    pub(super) len: u32,
    /// What holds the part, with the checksums that it must have.
    pub(super) pieces: Vec<Piece>,
}

impl ReadJob {
    /// Reads it, and verifies every piece that it touches.
    ///
    /// # Errors
    ///
    /// [`FileError::Rotten`]: the bytes are not those that were written. [`FileError::Failed`]: the disk failed.
    pub fn run(self) -> Result<Bytes, FileError> {
        let (from, to) = (self.offset, self.offset + u64::from(self.len));
        let mut bytes = Vec::with_capacity(self.len as usize);
        for piece in &self.pieces {
            let read = read_piece(&*self.file, &self.path, piece)?;
            let start = from.max(piece.bytes.start) - piece.bytes.start;
            let end = to.min(piece.bytes.end) - piece.bytes.start;
            bytes.extend_from_slice(&read[start as usize..end as usize]);
        }
        Ok(Bytes::from(bytes))
    }
}

pub(super) fn read_piece(
    file: &dyn wal::storage::DiskFile,
    path: &str,
    piece: &Piece,
) -> Result<Vec<u8>, FileError> {
    let (start, len) = (piece.bytes.start, piece.bytes.end - piece.bytes.start);
    let mut bytes = vec![0; len as usize];
    let mut read = || {
        file.read_exact_at(&mut bytes, start)
            .map(|()| crc32fast::hash(&bytes))
    };
    let mut found = read();
    if !matches!(found, Ok(crc32) if crc32 == piece.crc32) {
        // Perhaps only the cache is wrong, or the error passes.
        file.drop_cache(start, len);
        found = read();
    }
    match found {
        Ok(crc32) if crc32 == piece.crc32 => Ok(bytes),
        Err(error) if error.kind() != io::ErrorKind::UnexpectedEof => {
            Err(failed("read", path)(error))
        }
        _ => Err(FileError::Rotten {
            path: path.to_owned(),
            from: piece.bytes.start,
            to: piece.bytes.end,
        }),
    }
}
