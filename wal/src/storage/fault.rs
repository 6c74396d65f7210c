//! Faults that a [`MemDisk`](super::MemDisk) commits on order.

use std::io;
use std::ops::Range;

/// What a call does to the disk, as far as a fault can strike it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Operation {
    /// [`DiskFile::read_at`](super::DiskFile::read_at).
    Read,
    /// A write of either kind, `set_len` or zeros.
    Write,
    /// A sync of a file or folder, or the sync inside a durable write.
    Sync,
    /// Create, rename or remove.
    Name,
}

/// What the page cache shows after a sync that failed.
///
/// Source: Rebello et al., "Can Applications Recover from fsync Failures?" (ATC 2020), table 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SyncFailure {
    /// The new bytes stay and are still dirty: a later sync may yet write them.
    KeptDirty,
    /// The old bytes come back.
    Reverted,
    /// The new bytes stay readable but count as clean: no later sync writes them, a crash loses them.
    SilentlyClean,
}

/// An order to fail some calls.
#[derive(Clone, Debug)]
pub struct Fault {
    /// Strikes paths that contain this text.
    pub path_contains: String,
    /// Strikes this operation.
    pub operation: Operation,
    /// Strikes reads and writes that touch this range of bytes; others always.
    pub bytes: Range<u64>,
    /// Lets so many matching calls pass first.
    pub skip: u64,
    /// Strikes so many calls, then is used up.
    pub strikes: u64,
    /// What a failed sync leaves in the page cache.
    pub after_sync: SyncFailure,
    /// Whether the error says that the disk is full, instead of broken.
    pub full: bool,
}

impl Fault {
    /// Fails every such call from now on.
    #[must_use]
    pub fn always(path_contains: &str, operation: Operation) -> Fault {
        Fault {
            path_contains: path_contains.to_owned(),
            operation,
            bytes: 0..u64::MAX,
            skip: 0,
            strikes: u64::MAX,
            after_sync: SyncFailure::KeptDirty,
            full: false,
        }
    }

    /// Fails the next such call only.
    #[must_use]
    pub fn once(path_contains: &str, operation: Operation) -> Fault {
        Fault {
            strikes: 1,
            ..Fault::always(path_contains, operation)
        }
    }

    /// Consumes one matching call; whether it is to fail.
    pub(super) fn strikes(&mut self, path: &str, operation: Operation, bytes: &Range<u64>) -> bool {
        let matches = self.operation == operation
            && path.contains(&self.path_contains)
            && self.bytes.start < bytes.end
            && bytes.start < self.bytes.end;
        if !matches || self.strikes == 0 {
            return false;
        }
        if self.skip > 0 {
            self.skip -= 1;
            return false;
        }
        self.strikes -= 1;
        true
    }
}

/// The error of a broken medium.
pub(super) fn eio() -> io::Error {
    io::Error::from_raw_os_error(5)
}

/// The error of a full disk.
pub(super) fn enospc() -> io::Error {
    io::Error::from_raw_os_error(28)
}
