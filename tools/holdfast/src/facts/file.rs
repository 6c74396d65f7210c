use serde::{Deserialize, Serialize};
use statemachine::FileFact;

use super::size;
use crate::output::Row;

/// A file.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct FileRow {
    pub(crate) name: String,
    pub(crate) guard: String,
    pub(crate) length: u64,
    /// Of its whole content, hexadecimal.
    pub(crate) crc32: String,
}

impl From<FileFact> for FileRow {
    fn from(fact: FileFact) -> Self {
        let FileFact {
            name,
            guard,
            length,
            crc32,
            ..
        } = fact;
        FileRow {
            name,
            guard,
            length,
            crc32: format!("{crc32:08x}"),
        }
    }
}

impl Row for FileRow {
    const HEADINGS: &'static [&'static str] = &["NAME", "GUARD", "LENGTH", "CRC32"];

    fn cells(&self) -> Vec<String> {
        vec![
            self.name.clone(),
            self.guard.clone(),
            size(self.length),
            self.crc32.clone(),
        ]
    }
}
