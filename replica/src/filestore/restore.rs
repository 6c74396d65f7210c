//! Putting the files back to where a snapshot left them.

use std::collections::BTreeSet;
use std::fmt;
use std::io;

use statemachine::{FileFact, FileId};

use wal::storage::is_bad_medium;

use super::sums::Sums;
use super::{FILES, FileError, FileStore, RECHECK, REMOVED, failed, path_of, removed_path};

/// How closely files are looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Inspection {
    /// Whether they are there and long enough.
    Lengths,
    /// Every byte of what the snapshot names.
    Checksums,
}

/// Why a file cannot be put back to where the snapshot left it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileFault {
    /// What should be there.
    pub fact: FileFact,
    /// What is there.
    pub found: Found,
}

/// What is there instead.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    /// No such file.
    Nothing,
    /// Too few bytes.
    Short(u64),
    /// Bytes of another checksum.
    Checksum(u32),
    /// A disk that cannot read it.
    Unreadable(String),
}

impl fmt::Display for FileFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let FileFact {
            name,
            length,
            crc32,
            ..
        } = &self.fact;
        match &self.found {
            Found::Nothing => write!(f, "file {name} is missing, {length} bytes")?,
            Found::Short(found) => {
                write!(f, "file {name}: bytes {found} to {length} are missing")?;
            }
            Found::Checksum(found) => write!(
                f,
                "file {name}: its bytes 0 to {length} have crc32 {found:08x} instead of {crc32:08x}"
            )?,
            Found::Unreadable(why) => write!(f, "file {name} cannot be read: {why}")?,
        }
        write!(
            f,
            "; a good copy is files/{name} of another replica, stopped: \
             its first {length} bytes must have crc32 {crc32:08x}"
        )
    }
}

impl FileStore {
    /// Which of a snapshot's files cannot be put back. Changes nothing.
    ///
    /// # Errors
    ///
    /// [`FileError::Failed`] for anything but a fault of one file.
    pub fn faults(
        &mut self,
        facts: &[FileFact],
        inspection: Inspection,
    ) -> Result<Vec<FileFault>, FileError> {
        let mut faults = Vec::new();
        self.inspected.clear();
        for fact in facts {
            if let Some(found) = self.fault(fact, inspection)? {
                faults.push(FileFault {
                    fact: fact.clone(),
                    found,
                });
            }
        }
        Ok(faults)
    }

    fn fault(
        &mut self,
        fact: &FileFact,
        inspection: Inspection,
    ) -> Result<Option<Found>, FileError> {
        let path = self.path_now(fact);
        // Only the medium can make a file unreadable for good. What the system does not allow says nothing about the file.
        let unreadable = |error: io::Error| match is_bad_medium(&error) {
            true => Ok(Some(Found::Unreadable(error.to_string()))),
            false => Err(failed("read", &path)(error)),
        };
        let file = match self.disk.open_read(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Ok(Some(Found::Nothing));
            }
            Err(error) => return unreadable(error),
        };
        match file.len() {
            Ok(len) if len < fact.length => return Ok(Some(Found::Short(len))),
            Ok(_) => {}
            Err(error) => return unreadable(error),
        }
        if inspection == Inspection::Lengths {
            return Ok(None);
        }
        let mut hasher = crc32fast::Hasher::new();
        let mut sums = Sums::from(0);
        let mut buffer = vec![0; 256 << 10];
        let mut offset = 0;
        while offset < fact.length {
            let wanted = buffer.len().min((fact.length - offset) as usize);
            if let Err(error) = file.read_exact_at(&mut buffer[..wanted], offset) {
                return unreadable(error);
            }
            hasher.update(&buffer[..wanted]);
            sums.append(&buffer[..wanted]);
            offset += wanted as u64;
        }
        let found = hasher.finalize();
        if found != fact.crc32 {
            return Ok(Some(Found::Checksum(found)));
        }
        self.inspected.insert(fact.id, sums);
        Ok(None)
    }

    /// Where a snapshot's file lies now: aside, if it was removed after the snapshot.
    fn path_now(&self, fact: &FileFact) -> String {
        if self.removed.contains_key(&fact.id) {
            removed_path(fact.id)
        } else {
            path_of(&fact.name)
        }
    }

    /// Puts every file back to where the snapshot left it: moves back what was removed since, cuts off
    /// what was appended since. What was created since stays and is emptied when its creation is
    /// replayed. Files of other names are left alone.
    ///
    /// What [`Inspection::Checksums`] has not seen is left to [`FileStore::check_slice`].
    ///
    /// # Errors
    ///
    /// [`FileError`].
    pub fn cut_back(&mut self, facts: &[FileFact], seen: Inspection) -> Result<(), FileError> {
        let mut moved = false;
        for fact in facts {
            let path = path_of(&fact.name);
            if self.removed.contains_key(&fact.id) {
                let aside = removed_path(fact.id);
                self.disk
                    .rename(&aside, &path)
                    .map_err(failed("move back", &aside))?;
                self.removed.remove(&fact.id);
                moved = true;
            }
            let file = self.handles.get(&path).map_err(failed("open", &path))?;
            if file.len().map_err(failed("measure", &path))? != fact.length {
                file.set_len(fact.length).map_err(failed("cut", &path))?;
                self.note_dirty(fact.id, path, file);
            }
            let sums = self.inspected.remove(&fact.id);
            let sums = sums.unwrap_or_else(|| Sums::from(fact.length));
            self.sums.insert(fact.id, sums);
        }
        if moved {
            // The new name first: a crash in between leaves two, not none.
            for dir in [FILES, REMOVED] {
                self.disk
                    .sync_dir(dir)
                    .map_err(failed("sync the folder", dir))?;
            }
        }
        self.keep(facts.iter().cloned());
        if seen == Inspection::Lengths {
            self.checker.add(facts.iter().cloned());
        }
        Ok(())
    }

    /// Whether the last start found damage, so that this one must verify every byte.
    ///
    /// # Errors
    ///
    /// [`FileError::Failed`].
    pub fn is_recheck_due(&self) -> Result<bool, FileError> {
        self.disk
            .exists(RECHECK)
            .map_err(failed("look for", RECHECK))
    }

    /// Every byte is verified.
    ///
    /// # Errors
    ///
    /// [`FileError::Failed`].
    pub fn clear_recheck(&self) -> Result<(), FileError> {
        self.disk
            .remove(RECHECK)
            .map_err(failed("remove", RECHECK))?;
        self.disk
            .sync_dir("")
            .map_err(failed("sync the folder", "."))
    }

    /// Files that hold data, up to three of them, for a refusal.
    ///
    /// # Errors
    ///
    /// [`FileError::Failed`].
    pub fn names_with_data(&self) -> Result<Vec<String>, FileError> {
        let listed = self
            .disk
            .list(FILES)
            .map_err(failed("list the folder", FILES))?;
        let with_data = listed
            .into_iter()
            .filter(|entry| !entry.is_dir && entry.len > 0);
        Ok(with_data.take(3).map(|entry| entry.name).collect())
    }

    /// What lies in `removed/`.
    pub fn removed(&self) -> BTreeSet<FileId> {
        self.removed.keys().copied().collect()
    }
}
