//! Keeps the two copies of the superblock.
//!
//! Copy 0 is written and synced, then copy 1 with the same sequence, so at every moment one copy is
//! whole. Of an unfinished write (copy 0 newer) the newer wins and the other is written again before the first change.

use std::io;

use crate::error::Error;
use crate::layout::{SUPERBLOCKS, WAL};
use crate::storage::{BLOCK_BYTES, Disk, SharedDisk, SharedFile};
use crate::superblock::{SuperFault, Superblock};

/// Both copies as they were found.
pub type Copies = [Result<Superblock, SuperFault>; 2];

/// Makes sure that what is read next is what the disk holds. A killed process leaves copies that are only in
/// the page cache; to believe one of them and write the other would put both at stake at once.
///
/// # Errors
///
/// [`Error::Io`].
pub(crate) fn settle(disk: &dyn Disk) -> Result<(), Error> {
    for path in SUPERBLOCKS {
        // A copy that cannot be opened is judged by the reading.
        let Ok(file) = disk.open(path) else { continue };
        file.sync().map_err(Error::io("sync", path))?;
        file.drop_cache(0, BLOCK_BYTES as u64);
    }
    match disk.sync_dir(WAL) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other.map_err(Error::io("sync", WAL)),
    }
}

/// Reads both copies. Changes nothing.
pub(crate) fn read_copies(disk: &dyn Disk) -> Copies {
    SUPERBLOCKS.map(|path| read_copy(disk, path))
}

fn read_copy(disk: &dyn Disk, path: &str) -> Result<Superblock, SuperFault> {
    let read = || {
        let file = disk.open_read(path)?;
        let mut block = vec![0; BLOCK_BYTES];
        // Read again once: a transient error is not damage.
        let count = file
            .read_at(&mut block, 0)
            .or_else(|_| file.read_at(&mut block, 0))?;
        block.truncate(count);
        Ok(block)
    };
    match read() {
        Ok(block) => Superblock::decode(&block),
        Err(error) if io::Error::kind(&error) == io::ErrorKind::NotFound => {
            Err(SuperFault::Missing)
        }
        Err(error) => Err(SuperFault::Unreadable(error.to_string())),
    }
}

/// The copy to believe: valid, of the higher sequence.
pub(crate) fn newest(copies: &Copies) -> Option<&Superblock> {
    copies
        .iter()
        .filter_map(|copy| copy.as_ref().ok())
        .max_by_key(|copy| copy.sequence)
}

/// The superblock in memory and the two files that hold it.
#[derive(Debug)]
pub(crate) struct SuperStore {
    disk: SharedDisk,
    /// Opened with the first write.
    files: [Option<SharedFile>; 2],
    current: Superblock,
    /// The copies that do not hold `current`.
    stale: [bool; 2],
    poisoned: bool,
}

impl SuperStore {
    /// Makes both copies in an empty folder. The second file appears only after the first is durable, so
    /// two damaged copies are never the trace of a crash in here.
    pub(crate) fn format(disk: SharedDisk, mut first: Superblock) -> Result<SuperStore, Error> {
        first.sequence = 1;
        let mut store = SuperStore {
            disk,
            files: [None, None],
            current: first,
            stale: [true, true],
            poisoned: false,
        };
        store.mend()?;
        Ok(store)
    }

    /// Believes the newest copy of a folder in use. Writes nothing: a bad or older copy is written again with the
    /// first change, when the folder has been judged. Else a foreign copy could destroy the right one.
    pub(crate) fn open(disk: SharedDisk, copies: &Copies) -> SuperStore {
        let current = newest(copies).expect("the caller saw a valid copy").clone();
        let stale = [0, 1].map(|at| copies[at].as_ref().ok() != Some(&current));
        SuperStore {
            disk,
            files: [None, None],
            current,
            stale,
            poisoned: false,
        }
    }

    pub(crate) fn current(&self) -> &Superblock {
        &self.current
    }

    /// Changes the superblock; durable in both copies on return.
    pub(crate) fn update(&mut self, change: impl FnOnce(&mut Superblock)) -> Result<(), Error> {
        if self.poisoned {
            return Err(Error::Poisoned);
        }
        self.mend()?;
        let mut next = self.current.clone();
        change(&mut next);
        next.sequence += 1;
        self.current = next;
        self.write_copy(0)?;
        self.write_copy(1)
    }

    /// Makes both copies whole and equal. The valid one stays untouched until the other is durable.
    fn mend(&mut self) -> Result<(), Error> {
        for copy in [0, 1] {
            if self.stale[copy] {
                self.write_copy(copy)?;
                self.disk.sync_dir(WAL).map_err(Error::io("sync", WAL))?;
                self.stale[copy] = false;
            }
        }
        Ok(())
    }

    fn write_copy(&mut self, copy: usize) -> Result<(), Error> {
        let block = self.current.encode();
        let written = self.file(copy).and_then(|file| {
            file.write_at(&block, 0)?;
            file.sync()
        });
        written.map_err(|source| {
            self.poisoned = true;
            Error::io("write", SUPERBLOCKS[copy])(source)
        })
    }

    fn file(&mut self, copy: usize) -> io::Result<SharedFile> {
        if let Some(file) = &self.files[copy] {
            return Ok(file.clone());
        }
        let path = SUPERBLOCKS[copy];
        let file = match self.disk.open(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => self.disk.create(path),
            other => other,
        }?;
        self.files[copy] = Some(file.clone());
        Ok(file)
    }
}
