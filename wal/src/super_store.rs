//! Keeps the two copies of the superblock.
//!
//! Copy 0 is written and synced, then copy 1 with the same sequence, so at every moment one copy is
//! whole. Of an unfinished write (copy 0 newer) the newer wins and the other is written again at open.

use std::io;

use crate::error::Error;
use crate::layout::{SUPERBLOCKS, WAL};
use crate::storage::{BLOCK_BYTES, Disk, SharedFile};
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
    disk.sync_dir(WAL).map_err(Error::io("sync", WAL))
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
    files: [SharedFile; 2],
    current: Superblock,
    poisoned: bool,
}

impl SuperStore {
    /// Makes both copies in an empty folder. The second file appears only after the first is durable, so
    /// two damaged copies are never the trace of a crash in here.
    pub(crate) fn format(disk: &dyn Disk, mut first: Superblock) -> Result<SuperStore, Error> {
        first.sequence = 1;
        let block = first.encode();
        let make = |path: &'static str| -> io::Result<SharedFile> {
            let file = match disk.create(path) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => disk.open(path)?,
                other => other?,
            };
            file.write_at(&block, 0)?;
            file.sync()?;
            disk.sync_dir(WAL)?;
            Ok(file)
        };
        let zero = make(SUPERBLOCKS[0]).map_err(Error::io("create", SUPERBLOCKS[0]))?;
        let one = make(SUPERBLOCKS[1]).map_err(Error::io("create", SUPERBLOCKS[1]))?;
        Ok(SuperStore {
            files: [zero, one],
            current: first,
            poisoned: false,
        })
    }

    /// Opens the copies of a folder in use; rewrites a bad or older one.
    pub(crate) fn open(disk: &dyn Disk, copies: &Copies) -> Result<SuperStore, Error> {
        let current = newest(copies).expect("the caller saw a valid copy").clone();
        let mut files = Vec::new();
        for path in SUPERBLOCKS {
            let file = match disk.open(path) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => disk.create(path),
                other => other,
            };
            files.push(file.map_err(Error::io("open", path))?);
        }
        let one = files.pop().expect("two files");
        let zero = files.pop().expect("two files");
        let mut store = SuperStore {
            files: [zero, one],
            current,
            poisoned: false,
        };
        let stale = copies
            .iter()
            .any(|copy| copy.as_ref().ok() != Some(&store.current));
        if stale {
            // The valid copy stays untouched until the other is whole again.
            for (at, copy) in copies.iter().enumerate() {
                if copy.as_ref().ok() != Some(&store.current) {
                    store.write_copy(at)?;
                }
            }
            disk.sync_dir(WAL).map_err(Error::io("sync", WAL))?;
        }
        Ok(store)
    }

    pub(crate) fn current(&self) -> &Superblock {
        &self.current
    }

    /// Changes the superblock; durable in both copies on return.
    pub(crate) fn update(&mut self, change: impl FnOnce(&mut Superblock)) -> Result<(), Error> {
        if self.poisoned {
            return Err(Error::Poisoned);
        }
        let mut next = self.current.clone();
        change(&mut next);
        next.sequence += 1;
        self.current = next;
        self.write_copy(0)?;
        self.write_copy(1)
    }

    fn write_copy(&mut self, copy: usize) -> Result<(), Error> {
        let block = self.current.encode();
        let write = |file: &SharedFile| {
            file.write_at(&block, 0)?;
            file.sync()
        };
        write(&self.files[copy]).map_err(|source| {
            self.poisoned = true;
            Error::io("write", SUPERBLOCKS[copy])(source)
        })
    }
}
