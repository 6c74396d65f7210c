//! Verifies whole files against the checksums of the last snapshot, in slices, beside everything else.
//!
//! Only the part that the snapshot names is looked at: it never changes again, whatever is appended
//! meanwhile.

use std::collections::VecDeque;

use statemachine::{FileFact, FileId};

use super::handles::Handles;
use super::path_of;

/// Bytes read at a time.
const CHUNK_BYTES: usize = 256 << 10;

/// What one slice came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CheckStep {
    /// Nothing is left to verify.
    Idle,
    /// There is more to do.
    Working,
    /// This file is as it should be; reads of it may go on.
    Checked(FileId),
    /// A file is not: the replica must stop. Says which file and bytes, and what to do.
    Damaged(String),
}

/// What is still to be verified.
#[derive(Debug, Default)]
pub(super) struct Checker {
    /// The first one is under way.
    queue: VecDeque<FileFact>,
    offset: u64,
    hasher: crc32fast::Hasher,
}

impl Checker {
    pub(super) fn add(&mut self, facts: impl Iterator<Item = FileFact>) {
        self.queue.extend(facts.filter(|fact| fact.length > 0));
    }

    pub(super) fn is_done(&self) -> bool {
        self.queue.is_empty()
    }

    /// Puts a file first. Says whether it is still to be verified.
    pub(super) fn prefer(&mut self, id: FileId) -> bool {
        let Some(at) = self.queue.iter().position(|fact| fact.id == id) else {
            return false;
        };
        if at > 0 {
            self.queue.swap(0, at);
            self.start_over();
        }
        true
    }

    /// The file is removed: nobody will read it.
    pub(super) fn forget(&mut self, id: FileId) {
        if self.queue.front().is_some_and(|fact| fact.id == id) {
            self.start_over();
        }
        self.queue.retain(|fact| fact.id != id);
    }

    pub(super) fn slice(&mut self, handles: &mut Handles, bytes_max: usize) -> CheckStep {
        let Some(fact) = self.queue.front().cloned() else {
            return CheckStep::Idle;
        };
        let mut left = bytes_max.max(1);
        let mut buffer = vec![0; CHUNK_BYTES.min(left)];
        while self.offset < fact.length && left > 0 {
            let wanted = buffer
                .len()
                .min(left)
                .min((fact.length - self.offset) as usize);
            let read = handles
                .get(&path_of(&fact.name))
                .and_then(|file| file.read_exact_at(&mut buffer[..wanted], self.offset));
            if let Err(error) = read {
                return damaged(
                    &fact,
                    &format!("cannot be read at byte {}: {error}", self.offset),
                );
            }
            self.hasher.update(&buffer[..wanted]);
            self.offset += wanted as u64;
            left -= wanted;
        }
        if self.offset < fact.length {
            return CheckStep::Working;
        }
        let found = self.hasher.clone().finalize();
        if found != fact.crc32 {
            return damaged(
                &fact,
                &format!("have crc32 {found:08x} instead of {:08x}", fact.crc32),
            );
        }
        self.start_over();
        self.queue.pop_front();
        CheckStep::Checked(fact.id)
    }

    fn start_over(&mut self) {
        self.offset = 0;
        self.hasher = crc32fast::Hasher::new();
    }
}

fn damaged(fact: &FileFact, what: &str) -> CheckStep {
    CheckStep::Damaged(format!(
        "file {}: its first {} bytes {what}. Start the replica again: it verifies every file then, \
         and rebuilds this one from the log if that reaches back far enough",
        fact.name, fact.length,
    ))
}
