//! One damaged file written again while the replica runs.
//!
//! The bytes come from a replay of the log ([`crate::boot::rebuild`]) and are written in place, below where appends go on
//! meanwhile. Reads stay refused until every byte has been verified.

use bytes::Bytes;
use statemachine::{FileFact, FileId};
use wal::storage::{SharedDisk, SharedFile};

use super::jobs::read_piece;
use super::sums::{Piece, Sums};
use super::{FileError, FileStore, failed, path_of, written};

/// Bytes read at a time.
const CHUNK_BYTES: usize = 256 << 10;

/// A damaged file, to be written again on a thread that may wait for the disk.
#[derive(Debug)]
pub struct Rebuild {
    pub(super) disk: SharedDisk,
    pub(super) file: SharedFile,
    pub(super) path: String,
    pub(super) id: FileId,
    pub(super) name: String,
    /// From here on the checksums of the bytes are known.
    pub(super) summed_from: u64,
    /// Everything below this was applied.
    pub(super) end: u64,
    pub(super) pieces: Vec<Piece>,
}

/// A file whose every byte was verified after it was written again.
#[derive(Debug)]
pub struct Rebuilt {
    id: FileId,
    path: String,
    file: SharedFile,
    /// Of the bytes whose checksums were not known.
    before: Sums,
}

impl Rebuild {
    /// The disk that it lies on.
    pub fn disk(&self) -> &SharedDisk {
        &self.disk
    }

    /// The file's identity.
    pub fn id(&self) -> FileId {
        self.id
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// How many bytes it must have at least.
    pub fn end(&self) -> u64 {
        self.end
    }

    /// Whether the file still begins with what a snapshot names.
    pub fn begins_with(&self, fact: &FileFact) -> bool {
        matches!(self.crc_of(fact.length), Ok(found) if found == fact.crc32)
    }

    /// Writes a part again.
    ///
    /// # Errors
    ///
    /// [`FileError`].
    pub fn write(&self, offset: u64, data: &Bytes) -> Result<(), FileError> {
        let wrote = self.file.write_at(data, offset);
        wrote.map_err(|error| written(error, "write again to", &self.name))
    }

    /// Verifies every byte against what the state says of the file, and against the checksums of its pieces.
    ///
    /// # Errors
    ///
    /// [`FileError::Rotten`] if the file is still not what was written, [`FileError::Failed`] if it cannot be read.
    pub fn finish(self, fact: &FileFact) -> Result<Rebuilt, FileError> {
        if fact.length < self.end || self.crc_of(fact.length)? != fact.crc32 {
            return Err(FileError::Rotten {
                path: self.path,
                from: 0,
                to: fact.length,
            });
        }
        for piece in &self.pieces {
            read_piece(&*self.file, &self.path, piece)?;
        }
        let mut before = Sums::from(0);
        self.chunks(self.summed_from, |chunk| before.append(chunk))?;
        Ok(Rebuilt {
            id: self.id,
            path: self.path,
            file: self.file,
            before,
        })
    }

    fn crc_of(&self, length: u64) -> Result<u32, FileError> {
        let mut hasher = crc32fast::Hasher::new();
        self.chunks(length, |chunk| hasher.update(chunk))?;
        Ok(hasher.finalize())
    }

    /// The file's first bytes, piece by piece.
    fn chunks(&self, length: u64, mut each: impl FnMut(&[u8])) -> Result<(), FileError> {
        let mut buffer = vec![0; CHUNK_BYTES];
        let mut at = 0;
        while at < length {
            let wanted = buffer.len().min((length - at) as usize);
            let read = self.file.read_exact_at(&mut buffer[..wanted], at);
            read.map_err(failed("read", &self.path))?;
            each(&buffer[..wanted]);
            at += wanted as u64;
        }
        Ok(())
    }
}

impl FileStore {
    /// The next damaged file to be written again, if there is one that was not tried yet.
    ///
    /// # Errors
    ///
    /// [`FileError::Failed`] if it cannot be opened.
    pub fn next_rebuild(&mut self) -> Result<Option<Rebuild>, FileError> {
        let Some((id, name)) = self.to_rebuild.pop_front() else {
            return Ok(None);
        };
        // It may have been removed meanwhile.
        let Some(sums) = self.sums.get(&id).filter(|_| self.bad.contains_key(&id)) else {
            return Ok(None);
        };
        let (summed_from, end) = (sums.start(), sums.end());
        let pieces = sums.cover(summed_from..end);
        let path = path_of(&name);
        let file = match self.handles.get(&path).map_err(failed("open", &path)) {
            Ok(file) => file,
            Err(error) => {
                self.give_up(id);
                return Err(error);
            }
        };
        Ok(Some(Rebuild {
            disk: self.disk.clone(),
            file,
            path,
            id,
            name,
            summed_from,
            end,
            pieces,
        }))
    }

    /// The file cannot be written again while the replica runs: whoever reads it need not ask again.
    pub fn give_up(&mut self, id: FileId) {
        if let Some(bad) = self.bad.get_mut(&id) {
            bad.lasting = true;
        }
    }

    /// The file is as it should be: it is read again, and the next snapshot syncs it. `false` if it is gone.
    pub fn rebuilt(&mut self, rebuilt: Rebuilt) -> bool {
        let Rebuilt {
            id,
            path,
            file,
            before,
        } = rebuilt;
        let Some(sums) = self.sums.get_mut(&id) else {
            return false;
        };
        if sums.start() > 0 {
            sums.complete(before);
        }
        self.note_dirty(id, path, file);
        self.bad.remove(&id).is_some()
    }
}
