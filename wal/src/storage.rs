//! The disk, behind two traits: the real one and one in memory that can crash.
//!
//! Everything this crate (and the node's file store) does to a data folder goes through [`Disk`]
//! and [`DiskFile`], so the same code runs on [`RealDisk`] and, in tests and in the simulator, on
//! [`MemDisk`], which remembers what was synced and loses or tears the rest at a crash.
//!
//! Paths are relative to the data folder, use `/`, and never climb out of it.
//!
//! What is durable when:
//!
//! | call | durable on return |
//! |---|---|
//! | [`DiskFile::write_at`], [`DiskFile::set_len`] | nothing |
//! | [`DiskFile::write_at_durable`] | the bytes written (not a new length) |
//! | [`DiskFile::sync`] | content and length of this file, not its name |
//! | [`Disk::create`], [`Disk::rename`], [`Disk::remove`], [`Disk::create_dir`] | nothing |
//! | [`Disk::sync_dir`] | the names in that folder |

use std::fmt::Debug;
use std::io;
use std::sync::Arc;

mod fault;
mod memory;
mod real;

pub use fault::{Fault, Operation, SyncFailure};
pub use memory::MemDisk;
pub use real::RealDisk;

/// Bytes in one block: the unit in which a crash keeps, drops or tears a write.
pub const BLOCK_BYTES: usize = 4096;

/// A disk shared by everything that works in one data folder.
pub type SharedDisk = Arc<dyn Disk>;

/// An open file, shared by its readers and its one writer.
pub type SharedFile = Arc<dyn DiskFile>;

/// Whether an error says that there is no room: the disk is full, or the quota used up.
#[must_use]
pub fn is_no_space(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
    )
}

/// Whether an error says that the medium lost what a file held: a bad sector, or a block whose checksum fails below the
/// file system. Any other error (no permission, too many open files, ...) says nothing about what is stored.
#[must_use]
pub fn is_bad_medium(error: &io::Error) -> bool {
    use rustix::io::Errno;
    const BAD: [Errno; 5] = [
        Errno::IO,
        Errno::BADMSG,
        Errno::NODATA,
        Errno::ILSEQ,
        Errno::REMOTEIO,
    ];
    // EUCLEAN, by which file systems tell broken metadata, has no name of its own everywhere.
    const EUCLEAN: i32 = 117;
    error.raw_os_error() == Some(EUCLEAN)
        || Errno::from_io_error(error).is_some_and(|errno| BAD.contains(&errno))
}

/// Whether an error says that this user may not do this with the file.
#[must_use]
pub fn is_denied(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem
    )
}

/// One name in a folder.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct DirEntry {
    /// The name, without the folder.
    pub name: String,
    /// Length in bytes; 0 for a folder.
    pub len: u64,
    /// Whether this is a folder.
    pub is_dir: bool,
}

/// Keeps others out of the data folder until it is dropped (or the process dies).
pub trait LockGuard: Send + Sync + Debug {}

/// A data folder on some disk.
pub trait Disk: Send + Sync + Debug {
    /// Opens an existing file for reading and writing.
    ///
    /// # Errors
    ///
    /// `NotFound` if there is none; else whatever the disk says.
    fn open(&self, path: &str) -> io::Result<SharedFile>;

    /// Opens an existing file for reading only: never changes anything, works without the right to write.
    ///
    /// # Errors
    ///
    /// `NotFound` if there is none; else whatever the disk says.
    fn open_read(&self, path: &str) -> io::Result<SharedFile>;

    /// Creates an empty file. Its name is durable only after [`Disk::sync_dir`] of its folder.
    ///
    /// # Errors
    ///
    /// `AlreadyExists` if the name is taken.
    fn create(&self, path: &str) -> io::Result<SharedFile>;

    /// Renames a file, replacing what has the new name.
    ///
    /// # Errors
    ///
    /// `NotFound` if there is no `from`.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;

    /// Removes a file.
    ///
    /// # Errors
    ///
    /// `NotFound` if there is none.
    fn remove(&self, path: &str) -> io::Result<()>;

    /// The names in a folder, sorted. The empty path is the data folder itself.
    ///
    /// # Errors
    ///
    /// `NotFound` if there is no such folder.
    fn list(&self, dir: &str) -> io::Result<Vec<DirEntry>>;

    /// Creates a folder and its parents; a folder that is there already is fine.
    ///
    /// # Errors
    ///
    /// Whatever the disk says.
    fn create_dir(&self, dir: &str) -> io::Result<()>;

    /// Makes the names in a folder durable. The empty path is the data folder itself.
    ///
    /// # Errors
    ///
    /// Whatever the disk says; what is durable is then unknown.
    fn sync_dir(&self, dir: &str) -> io::Result<()>;

    /// Takes the exclusive lock on `path`, creating the file. Never waits.
    ///
    /// # Errors
    ///
    /// `WouldBlock` if another holds it.
    fn lock(&self, path: &str) -> io::Result<Box<dyn LockGuard>>;

    /// Bytes that files in this folder may still grow by; `None` if the file system does not tell. A quota may allow less.
    ///
    /// # Errors
    ///
    /// Whatever the disk says.
    fn free_bytes(&self) -> io::Result<Option<u64>> {
        Ok(None)
    }

    /// How many threads may usefully read at once: 1 in memory, so that a simulation stays deterministic.
    fn read_threads(&self) -> usize {
        1
    }

    /// Whether the file exists.
    ///
    /// # Errors
    ///
    /// Any error but `NotFound`.
    fn exists(&self, path: &str) -> io::Result<bool> {
        match self.open_read(path) {
            Ok(_) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }
}

/// An open file. All positions are bytes from its start; no call moves a cursor.
pub trait DiskFile: Send + Sync + Debug {
    /// Reads up to `buf.len()` bytes; fewer only at the end of the file.
    ///
    /// # Errors
    ///
    /// Whatever the disk says, `EIO` above all.
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize>;

    /// Writes all of `bytes`, growing the file if need be. Not durable.
    ///
    /// # Errors
    ///
    /// Whatever the disk says; any part may have been written.
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()>;

    /// Writes all of `bytes`; durable on return.
    ///
    /// # Errors
    ///
    /// Whatever the disk says; nothing about these bytes is known then, and nothing may be retried.
    fn write_at_durable(&self, bytes: &[u8], offset: u64) -> io::Result<()>;

    /// Makes all earlier writes to this file, and its length, durable.
    ///
    /// # Errors
    ///
    /// Whatever the disk says; nothing about the unsynced bytes is known then, and nothing may be retried.
    fn sync(&self) -> io::Result<()>;

    /// Cuts or extends the file (with zeros). Not durable.
    ///
    /// # Errors
    ///
    /// Whatever the disk says.
    fn set_len(&self, len: u64) -> io::Result<()>;

    /// Length in bytes.
    ///
    /// # Errors
    ///
    /// Whatever the disk says.
    fn len(&self) -> io::Result<u64>;

    /// Whether the file holds no byte.
    ///
    /// # Errors
    ///
    /// Whatever the disk says.
    fn is_empty(&self) -> io::Result<bool> {
        Ok(self.len()? == 0)
    }

    /// Sets room aside for the first `len` bytes and writes nothing, so that a full disk shows before any byte is
    /// written. The bytes read as zeros.
    ///
    /// # Errors
    ///
    /// `Unsupported` where the file system cannot; `StorageFull` or `QuotaExceeded` if there is no room.
    fn reserve(&self, len: u64) -> io::Result<()> {
        let _ = len;
        Err(io::ErrorKind::Unsupported.into())
    }

    /// Gives the room of `len` bytes from `offset` on back to the disk. The length of the file stays, the bytes read as
    /// zeros: call it only for bytes that are zeros already. Not durable.
    ///
    /// # Errors
    ///
    /// `Unsupported` where the file system cannot.
    fn punch(&self, offset: u64, len: u64) -> io::Result<()> {
        let _ = (offset, len);
        Err(io::ErrorKind::Unsupported.into())
    }

    /// Makes `len` bytes of written zeros from `offset` on by a short cut of the file system.
    ///
    /// # Errors
    ///
    /// `Unsupported` if there is no such short cut: the caller then writes the zeros. `StorageFull` if there is no room.
    fn write_zeroes(&self, offset: u64, len: u64) -> io::Result<()> {
        let _ = (offset, len);
        Err(io::ErrorKind::Unsupported.into())
    }

    /// Forgets cached clean pages, so that the next read shows what the disk holds. Advice: it may do nothing.
    fn drop_cache(&self, offset: u64, len: u64);

    /// Fills `buf` from `offset`.
    ///
    /// # Errors
    ///
    /// `UnexpectedEof` if the file ends before that.
    fn read_exact_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        if self.read_at(buf, offset)? == buf.len() {
            Ok(())
        } else {
            Err(io::ErrorKind::UnexpectedEof.into())
        }
    }
}
