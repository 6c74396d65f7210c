//! A bounded number of open files.

use std::collections::BTreeMap;
use std::io;

use wal::storage::{SharedDisk, SharedFile};

/// Files open at a time, far below any limit on descriptors.
const OPEN_MAX: usize = 256;

/// Open files by path; the one unused for longest makes room.
#[derive(Debug)]
pub(super) struct Handles {
    disk: SharedDisk,
    open: BTreeMap<String, (u64, SharedFile)>,
    uses: u64,
}

impl Handles {
    pub(super) fn new(disk: SharedDisk) -> Handles {
        Handles {
            disk,
            open: BTreeMap::new(),
            uses: 0,
        }
    }

    pub(super) fn insert(&mut self, path: &str, file: SharedFile) {
        if self.open.len() >= OPEN_MAX
            && let Some(oldest) = self.open.iter().min_by_key(|(_, (used, _))| *used)
        {
            let oldest = oldest.0.clone();
            self.open.remove(&oldest);
        }
        self.uses += 1;
        self.open.insert(path.to_owned(), (self.uses, file));
    }

    pub(super) fn get(&mut self, path: &str) -> io::Result<SharedFile> {
        self.uses += 1;
        if let Some((used, file)) = self.open.get_mut(path) {
            *used = self.uses;
            return Ok(file.clone());
        }
        let file = self.disk.open(path)?;
        self.insert(path, file.clone());
        Ok(file)
    }

    /// Forgets the file, since its name is about to change.
    pub(super) fn forget(&mut self, path: &str) {
        self.open.remove(path);
    }
}
