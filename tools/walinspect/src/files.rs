//! Whether the users' files are what the snapshots say of them, as a replica looks at its start.
//!
//! A replica starts from the newest snapshot that the log reaches back to and whose files are all there, or from the
//! empty state if the log holds everything; the log then writes again what came later. This module only reads, and
//! repeats that choice to say which files stand in the way of it.

use std::io;

use statemachine::{FileFact, FileId};
use wal::SnapshotRef;
use wal::layout::FILES;
use wal::scan::Finding;
use wal::storage::{Disk, is_bad_medium};

use crate::failure::{Failure, exit};
use crate::ledger::Ledger;
use crate::replay;
use crate::shelf::Scope;
use crate::source::Source;

/// Bytes read at a time.
const CHUNK_BYTES: usize = 256 << 10;

/// What is known of the files under `files/`.
#[derive(Debug, Default)]
pub(crate) struct Files {
    /// One for each file that is not what a snapshot names.
    pub(crate) findings: Vec<Finding>,
    /// Whether no snapshot is left to start from.
    is_stuck: bool,
}

impl Files {
    /// Looks at every byte that the usable snapshots name. Finds nothing where there is no whole data folder, or where
    /// the log itself stops the start.
    pub(crate) fn check(source: &Source, scope: &Scope) -> Result<Files, Failure> {
        let decision = &source.decision;
        if *scope != Scope::Data || !decision.outcome.may_serve() {
            return Ok(Files::default());
        }
        let last = Ledger::new(source).span().map_or(0, |(_, last)| last);
        let mut findings: Vec<Finding> = Vec::new();
        for base in decision.snapshots.iter().map(Some).chain([None]) {
            let slot = base.map_or(0, |base| base.slot);
            if last > slot && decision.first_slot > slot + 1 {
                continue;
            }
            // A snapshot that does not load is for `snap verify` to tell.
            let Some(facts) = facts(&*source.disk, base) else {
                continue;
            };
            let before = findings.len();
            for fact in facts {
                let fault = fault(&*source.disk, &fact)?;
                findings.extend(fault.map(|(file, what)| finding(&fact, file, &what, slot)));
            }
            if findings.len() == before {
                let is_stuck = false;
                return Ok(Files { findings, is_stuck });
            }
        }
        let is_stuck = !findings.is_empty();
        Ok(Files { findings, is_stuck })
    }

    /// The exit code, given the one that the log calls for.
    pub(crate) fn code(&self, of_log: u8) -> u8 {
        match of_log {
            exit::INTACT | exit::TORN | exit::CORRUPT if self.is_stuck => exit::MISSING,
            exit::INTACT | exit::TORN if !self.findings.is_empty() => exit::CORRUPT,
            code => code,
        }
    }

    /// The outcome in one word, if the files decide it.
    pub(crate) fn verdict(&self) -> Option<&'static str> {
        match (self.is_stuck, self.findings.is_empty()) {
            (true, _) => Some("files-lost"),
            (false, false) => Some("damaged"),
            (false, true) => None,
        }
    }

    /// What to do, if the files decide it.
    pub(crate) fn advice(&self) -> Option<&'static str> {
        match (self.is_stuck, self.findings.is_empty()) {
            (true, _) => Some(
                "the node ends with 5: neither a snapshot nor the log can bring these files back. Copy each from files/ of \
                 another, stopped replica; what counts is that its first bytes have the checksum named above",
            ),
            (false, false) => {
                Some("the node starts, and writes these files again from the log; check the disk")
            }
            (false, true) => None,
        }
    }
}

fn facts(disk: &dyn Disk, base: Option<&SnapshotRef>) -> Option<Vec<FileFact>> {
    let Some(base) = base else {
        return Some(Vec::new());
    };
    let (machine, _) = replay::load(disk, base).ok()?;
    Some(machine.files().collect())
}

/// Where a file lies that was removed after the snapshot.
fn removed_path(FileId(slot, ordinal): FileId) -> String {
    format!("removed/{slot:016x}.{ordinal}")
}

/// What is wrong with a file, and where it should be.
fn fault(disk: &dyn Disk, fact: &FileFact) -> Result<Option<(String, String)>, Failure> {
    let there = format!("{FILES}/{}", fact.name);
    for path in [removed_path(fact.id), there.clone()] {
        match checksum(disk, &path, fact.length) {
            Ok(Ok(found)) if found == fact.crc32 => return Ok(None),
            Ok(Ok(found)) => {
                let (length, wanted) = (fact.length, fact.crc32);
                let what =
                    format!("bytes 0 to {length} have crc32 {found:08x} instead of {wanted:08x}");
                return Ok(Some((path, what)));
            }
            Ok(Err(found)) => {
                let what = format!("bytes {found} to {} are missing", fact.length);
                return Ok(Some((path, what)));
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) if is_bad_medium(&error) => return Ok(Some((path, error.to_string()))),
            Err(error) => {
                return Err(Failure::Io {
                    what: format!("cannot read {path}"),
                    source: error,
                });
            }
        }
    }
    let what = format!(
        "missing; its first {} bytes have crc32 {:08x}",
        fact.length, fact.crc32
    );
    Ok(Some((there, what)))
}

/// The CRC-32 of the first bytes of a file, or how many it has if those are fewer.
fn checksum(disk: &dyn Disk, path: &str, length: u64) -> io::Result<Result<u32, u64>> {
    let file = disk.open_read(path)?;
    let mut hasher = crc32fast::Hasher::new();
    let mut buffer = vec![0; CHUNK_BYTES];
    let mut at = 0;
    while at < length {
        let wanted = buffer
            .len()
            .min(usize::try_from(length - at).unwrap_or(usize::MAX));
        match file.read_at(&mut buffer[..wanted], at)? {
            0 => return Ok(Err(at)),
            count => {
                hasher.update(&buffer[..count]);
                at += count as u64;
            }
        }
    }
    Ok(Ok(hasher.finalize()))
}

fn finding(fact: &FileFact, file: String, what: &str, slot: u64) -> Finding {
    Finding {
        row: 0,
        damage: true,
        file,
        offset: 0,
        length: fact.length,
        what: format!("{what}, says the snapshot of slot {slot}"),
        slots: None,
    }
}
