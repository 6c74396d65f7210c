//! One file: what the state knows of it. Its bytes lie with the driver.

use crate::FileId;
use crate::budget::FILE_BYTES;
use crate::digest::{self, Kind};
use crate::name::Name;

/// A file that exists.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct File {
    pub(crate) id: FileId,
    /// The lock whose holder may append.
    pub(crate) guard: Name,
    /// Bytes applied.
    pub(crate) length: u64,
    /// The CRC-32 of those bytes.
    pub(crate) crc32: u32,
}

impl File {
    pub(crate) fn new(id: FileId, guard: Name) -> File {
        File {
            id,
            guard,
            length: 0,
            crc32: 0,
        }
    }

    /// Counts `data` as appended, and says at which offset.
    pub(crate) fn append(&mut self, data: &[u8]) -> u64 {
        let mut crc = crc32fast::Hasher::new_with_initial(self.crc32);
        crc.update(data);
        self.crc32 = crc.finalize();
        let offset = self.length;
        self.length += data.len() as u64;
        offset
    }

    /// The hash of what is known of the file.
    pub(crate) fn hash(&self, name: &Name) -> u128 {
        let content = (self.length, self.crc32);
        digest::part(Kind::File, &(&**name, self.id, &*self.guard, content))
    }

    /// What it takes of the budget, its name apart.
    pub(crate) fn cost(&self) -> u64 {
        FILE_BYTES + self.guard.len() as u64
    }
}
