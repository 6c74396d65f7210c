//! Segment files that nothing counts any more and that are still to be removed.
//!
//! Removing a large file can take the file system long, so a running log leaves it to a thread that nobody waits for.

use std::io;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::layout::WAL;
use crate::storage::SharedDisk;

/// Shared by the writer and the thread that removes.
#[derive(Debug)]
pub(crate) struct Litter {
    disk: SharedDisk,
    paths: Mutex<Vec<String>>,
}

impl Litter {
    pub(crate) fn new(disk: SharedDisk) -> Litter {
        Litter {
            disk,
            paths: Mutex::default(),
        }
    }

    /// Adds files that the superblock no longer counts, durably.
    pub(crate) fn add(&self, paths: impl IntoIterator<Item = String>) {
        self.paths().extend(paths);
    }

    /// Removes what it can, oldest first. What the disk refuses to remove harms nobody, so it is tried again with the
    /// next removal and at the next open.
    pub(crate) fn clear(&self) {
        let paths = std::mem::take(&mut *self.paths());
        let (count, mut left) = (paths.len(), Vec::new());
        for path in paths {
            match self.disk.remove(&path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => left.push(path),
                _ => {}
            }
        }
        if left.len() < count {
            let _ = self.disk.sync_dir(WAL);
        }
        let mut paths = self.paths();
        left.append(&mut paths);
        *paths = left;
    }

    fn paths(&self) -> MutexGuard<'_, Vec<String>> {
        self.paths.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
