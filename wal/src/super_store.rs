//! Keeps the two copies of the superblock.
//!
//! A write goes into the copy that holds the older content, and is synced before the other copy is touched. So at every
//! moment one copy is whole and holds everything that was durable. What must not be lost, such as a promise, counts once
//! both copies hold it: two writes in a row. The hint counts in one. Of two copies the newer wins.

use std::io;

use crate::error::Error;
use crate::layout::{SUPERBLOCKS, WAL};
use crate::storage::{BLOCK_BYTES, Disk, SharedDisk, SharedFile, is_bad_medium};
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
        let file = match disk.open(path) {
            Ok(file) => file,
            Err(error) if is_lost(&error) => continue,
            Err(error) => return Err(Error::io("open", path)(error)),
        };
        file.sync().map_err(Error::io("sync", path))?;
        file.drop_cache(0, BLOCK_BYTES as u64);
    }
    match disk.sync_dir(WAL) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other.map_err(Error::io("sync", WAL)),
    }
}

/// Whether an error says that the file is not there, or that the disk lost it. The scan judges that.
pub(crate) fn is_lost(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::NotFound || is_bad_medium(error)
}

/// Reads both copies. Changes nothing.
///
/// # Errors
///
/// [`Error::Io`] if a copy is there and cannot be read for a reason that says nothing about what it holds.
pub(crate) fn read_copies(disk: &dyn Disk) -> Result<Copies, Error> {
    let [first, second] = SUPERBLOCKS.map(|path| read_copy(disk, path));
    Ok([first?, second?])
}

fn read_copy(disk: &dyn Disk, path: &str) -> Result<Result<Superblock, SuperFault>, Error> {
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
        Ok(block) => Ok(Superblock::decode(&block)),
        Err(error) if io::Error::kind(&error) == io::ErrorKind::NotFound => {
            Ok(Err(SuperFault::Missing))
        }
        Err(error) if is_bad_medium(&error) => Ok(Err(SuperFault::Unreadable(error.to_string()))),
        Err(error) => Err(Error::io("read", path)(error)),
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
///
/// Changes are made in memory and number the content. A write then puts the newest content into the copy that holds the
/// older one, so the other, which is durable, is never at stake.
#[derive(Debug)]
pub(crate) struct SuperStore {
    disk: SharedDisk,
    /// Opened with the first write.
    files: [Option<SharedFile>; 2],
    current: Superblock,
    /// Number of the content that each copy holds durably; 0 if the copy is missing or bad.
    held: [u64; 2],
    poisoned: bool,
}

/// One write of one copy. It runs without the store, which may change meanwhile.
#[derive(Debug)]
pub(crate) struct CopyWrite {
    disk: SharedDisk,
    file: SharedFile,
    created: bool,
    copy: usize,
    sequence: u64,
    block: [u8; BLOCK_BYTES],
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
            held: [0, 0],
            poisoned: false,
        };
        store.write_until(|store| store.in_both() == 1)?;
        Ok(store)
    }

    /// Believes the newest copy of a folder in use. Writes nothing: a bad or older copy is written again with the
    /// first change, when the folder has been judged. Else a foreign copy could destroy the right one.
    pub(crate) fn open(disk: SharedDisk, copies: &Copies) -> SuperStore {
        let current = newest(copies).expect("the caller saw a valid copy").clone();
        let held = [0, 1].map(|at| match &copies[at] {
            Ok(copy) if *copy == current => current.sequence,
            Ok(copy) => copy.sequence.min(current.sequence.saturating_sub(1)),
            Err(_) => 0,
        });
        SuperStore {
            disk,
            files: [None, None],
            current,
            held,
            poisoned: false,
        }
    }

    pub(crate) fn current(&self) -> &Superblock {
        &self.current
    }

    /// Changes the superblock in memory; the number of the content that has the change.
    pub(crate) fn change(&mut self, change: impl FnOnce(&mut Superblock)) -> u64 {
        change(&mut self.current);
        self.current.sequence += 1;
        self.current.sequence
    }

    /// Changes the superblock; durable in both copies on return.
    pub(crate) fn update(&mut self, change: impl FnOnce(&mut Superblock)) -> Result<(), Error> {
        let number = self.change(change);
        self.write_until(|store| store.in_both() >= number)
    }

    /// Both copies hold the content of this number, or a later one.
    pub(crate) fn in_both(&self) -> u64 {
        self.held[0].min(self.held[1])
    }

    /// At least one copy holds the content of this number.
    pub(crate) fn in_one(&self) -> u64 {
        self.held[0].max(self.held[1])
    }

    /// Writes copies here and now until that is enough.
    pub(crate) fn write_until(
        &mut self,
        enough: impl Fn(&SuperStore) -> bool,
    ) -> Result<(), Error> {
        while !enough(self) {
            let write = self.begin_write()?;
            let written = write.run();
            self.end_write(&write, written)?;
        }
        Ok(())
    }

    /// The next write: the newest content, into the copy that holds the older one.
    pub(crate) fn begin_write(&mut self) -> Result<CopyWrite, Error> {
        if self.poisoned {
            return Err(Error::Poisoned);
        }
        let copy = usize::from(self.held[1] < self.held[0]);
        let (file, created) = self.file(copy).map_err(|source| {
            self.poisoned = true;
            Error::io("open", SUPERBLOCKS[copy])(source)
        })?;
        Ok(CopyWrite {
            disk: self.disk.clone(),
            file,
            created,
            copy,
            sequence: self.current.sequence,
            block: self.current.encode(),
        })
    }

    /// Notes what became of a write.
    pub(crate) fn end_write(
        &mut self,
        write: &CopyWrite,
        written: Result<(), Error>,
    ) -> Result<(), Error> {
        match written {
            Ok(()) => self.held[write.copy] = write.sequence,
            Err(_) => self.poisoned = true,
        }
        written
    }

    fn file(&mut self, copy: usize) -> io::Result<(SharedFile, bool)> {
        if let Some(file) = &self.files[copy] {
            return Ok((file.clone(), false));
        }
        let path = SUPERBLOCKS[copy];
        let (file, created) = match self.disk.open(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                (self.disk.create(path)?, true)
            }
            other => (other?, false),
        };
        self.files[copy] = Some(file.clone());
        Ok((file, created))
    }
}

impl CopyWrite {
    /// Writes the copy; durable on return.
    pub(crate) fn run(&self) -> Result<(), Error> {
        let path = SUPERBLOCKS[self.copy];
        self.file
            .write_at(&self.block, 0)
            .and_then(|()| self.file.sync())
            .map_err(Error::io("write", path))?;
        if self.created {
            self.disk.sync_dir(WAL).map_err(Error::io("sync", WAL))?;
        }
        Ok(())
    }
}
