//! Verifies whole files against the checksums of the last snapshot, in slices, beside everything else.
//!
//! Only the part that the snapshot names is looked at: it never changes again, whatever is appended
//! meanwhile. Each file keeps its own progress, so a change of mind about which comes first costs nothing.

use std::collections::VecDeque;

use statemachine::{FileFact, FileId};

use super::handles::Handles;
use super::path_of;
use super::sums::Sums;

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
    /// A file is not: it is not read any more. Says which file and bytes, and what to do.
    Damaged(String),
}

/// What is still to be verified.
#[derive(Debug, Default)]
pub(super) struct Checker {
    /// The first one is next.
    queue: VecDeque<Check>,
}

/// A file and how far it is verified.
#[derive(Debug)]
struct Check {
    fact: FileFact,
    whole: crc32fast::Hasher,
    sums: Sums,
}

/// What a slice found.
pub(super) enum Slice {
    Idle,
    Working,
    Checked(FileId, Sums),
    /// The file and what is wrong with it.
    Damaged(FileFact, String),
}

impl Checker {
    pub(super) fn add(&mut self, facts: impl Iterator<Item = FileFact>) {
        let checks = facts.filter(|fact| fact.length > 0).map(|fact| Check {
            fact,
            whole: crc32fast::Hasher::new(),
            sums: Sums::from(0),
        });
        self.queue.extend(checks);
    }

    pub(super) fn is_done(&self) -> bool {
        self.queue.is_empty()
    }

    /// Puts a file first. Says whether it is still to be verified.
    pub(super) fn prefer(&mut self, id: FileId) -> bool {
        let Some(at) = self.queue.iter().position(|check| check.fact.id == id) else {
            return false;
        };
        self.queue.swap(0, at);
        true
    }

    /// The file is removed: nobody will read it.
    pub(super) fn forget(&mut self, id: FileId) {
        self.queue.retain(|check| check.fact.id != id);
    }

    pub(super) fn slice(&mut self, handles: &mut Handles, bytes_max: usize) -> Slice {
        let Some(check) = self.queue.front_mut() else {
            return Slice::Idle;
        };
        let found = check.go_on(handles, bytes_max);
        let whole = check.sums.end() == check.fact.length;
        match (found, whole, self.queue.pop_front()) {
            (Err(what), _, Some(check)) => Slice::Damaged(check.fact, what),
            (Ok(()), true, Some(check)) => check.judge(),
            (Ok(()), false, Some(check)) => {
                self.queue.push_front(check);
                Slice::Working
            }
            (_, _, None) => Slice::Idle,
        }
    }
}

impl Check {
    fn go_on(&mut self, handles: &mut Handles, bytes_max: usize) -> Result<(), String> {
        let mut left = bytes_max.max(1);
        let mut buffer = vec![0; CHUNK_BYTES.min(left)];
        while self.sums.end() < self.fact.length && left > 0 {
            let at = self.sums.end();
            let wanted = buffer.len().min(left).min((self.fact.length - at) as usize);
            let path = path_of(&self.fact.name);
            let read = handles
                .get(&path)
                .and_then(|file| file.read_exact_at(&mut buffer[..wanted], at));
            read.map_err(|error| format!("cannot be read at byte {at}: {error}"))?;
            self.whole.update(&buffer[..wanted]);
            self.sums.append(&buffer[..wanted]);
            left -= wanted;
        }
        Ok(())
    }

    fn judge(self) -> Slice {
        let found = self.whole.finalize();
        if found == self.fact.crc32 {
            return Slice::Checked(self.fact.id, self.sums);
        }
        let what = format!("have crc32 {found:08x} instead of {:08x}", self.fact.crc32);
        Slice::Damaged(self.fact, what)
    }
}
