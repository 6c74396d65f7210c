//! A disk that can only be read, whatever part of a data folder was given.
//!
//! ```text
//! given            asked for wal/<n>.wal       asked for snapshots/<n>.snap
//! data folder      wal/<n>.wal                 snapshots/<n>.snap
//! log folder       <n>.wal                     not there
//! one segment      the file, for its n         not there
//! one snapshot     not there                   the file, for its n
//! ```
//!
//! Every write is refused here, so that nothing in this program can change a folder by accident. No lock is taken.
//!
//! A running replica removes old segments and snapshots. What was opened once stays open, so that the records of a segment
//! that was found can still be read when its file is gone.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use wal::layout::{SNAPSHOTS, WAL, segment_path, snapshot_path};
use wal::storage::{DirEntry, Disk, DiskFile, LockGuard, RealDisk, SharedFile};

/// What was given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Scope {
    /// A whole data folder.
    Data,
    /// The folder of a log without its data folder.
    Log,
    /// One segment.
    Segment { file: String, seq: u64 },
    /// One snapshot.
    Snapshot { file: String, slot: u64 },
}

/// Files kept open at most, below the usual limit of a process. Removals begin with the oldest segments, which are opened
/// first.
const KEPT_MAX: usize = 512;

/// See the module.
#[derive(Debug)]
pub(crate) struct Shelf {
    disk: RealDisk,
    scope: Scope,
    /// Segments and snapshots by path; `None` if none are kept open.
    kept: Option<Mutex<BTreeMap<String, SharedFile>>>,
}

impl Shelf {
    /// `disk` is rooted at the folder given, or at the folder of the file given.
    pub(crate) fn new(disk: RealDisk, scope: Scope) -> Shelf {
        let kept = None;
        Shelf { disk, scope, kept }
    }

    /// As [`Shelf::new`], for one look at everything: what was opened stays open until it ends.
    pub(crate) fn of_one_look(disk: RealDisk, scope: Scope) -> Shelf {
        let kept = Some(Mutex::default());
        Shelf { disk, scope, kept }
    }

    fn open_new(&self, path: &str) -> io::Result<SharedFile> {
        let file = self.disk.open_read(&self.place(path)?)?;
        Ok(Arc::new(ShelfFile(file)))
    }

    fn place(&self, path: &str) -> io::Result<String> {
        let found = match &self.scope {
            Scope::Data => Some(path.to_owned()),
            Scope::Log => path
                .strip_prefix(WAL)
                .and_then(|rest| rest.strip_prefix('/'))
                .map(str::to_owned),
            Scope::Segment { file, seq } => (path == segment_path(*seq)).then(|| file.clone()),
            Scope::Snapshot { file, slot } => (path == snapshot_path(*slot)).then(|| file.clone()),
        };
        found.ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn only(&self, asked: &str, dir: &str, path: &str, file: &str) -> io::Result<Vec<DirEntry>> {
        if asked != dir {
            return Err(io::ErrorKind::NotFound.into());
        }
        let len = self.disk.open_read(file)?.len()?;
        let name = path[dir.len() + 1..].to_owned();
        Ok(vec![DirEntry {
            name,
            len,
            is_dir: false,
        }])
    }
}

/// Whether a running replica may remove this file: a segment or a snapshot, and nothing that is written anew in its place.
fn may_be_removed(path: &str) -> bool {
    let is_segment = path.starts_with(WAL) && path.ends_with(".wal");
    is_segment || path.starts_with(SNAPSHOTS)
}

fn read_only<T>() -> io::Result<T> {
    Err(io::ErrorKind::ReadOnlyFilesystem.into())
}

impl Disk for Shelf {
    fn open_read(&self, path: &str) -> io::Result<SharedFile> {
        let Some(kept) = self.kept.as_ref().filter(|_| may_be_removed(path)) else {
            return self.open_new(path);
        };
        // Not locked while it opens: several threads read at once.
        let lock = || kept.lock().unwrap_or_else(PoisonError::into_inner);
        let known = lock().get(path).cloned();
        if let Some(file) = known {
            return Ok(file);
        }
        let file = self.open_new(path)?;
        let mut kept = lock();
        if kept.len() < KEPT_MAX {
            kept.insert(path.to_owned(), file.clone());
        }
        Ok(file)
    }

    fn list(&self, dir: &str) -> io::Result<Vec<DirEntry>> {
        match &self.scope {
            Scope::Data => self.disk.list(dir),
            Scope::Log if dir == WAL => self.disk.list(""),
            Scope::Log => Err(io::ErrorKind::NotFound.into()),
            Scope::Segment { file, seq } => self.only(dir, WAL, &segment_path(*seq), file),
            Scope::Snapshot { file, slot } => {
                self.only(dir, SNAPSHOTS, &snapshot_path(*slot), file)
            }
        }
    }

    fn read_threads(&self) -> usize {
        self.disk.read_threads()
    }

    fn open(&self, _: &str) -> io::Result<SharedFile> {
        read_only()
    }

    fn create(&self, _: &str) -> io::Result<SharedFile> {
        read_only()
    }

    fn rename(&self, _: &str, _: &str) -> io::Result<()> {
        read_only()
    }

    fn remove(&self, _: &str) -> io::Result<()> {
        read_only()
    }

    fn create_dir(&self, _: &str) -> io::Result<()> {
        read_only()
    }

    fn sync_dir(&self, _: &str) -> io::Result<()> {
        read_only()
    }

    fn lock(&self, _: &str) -> io::Result<Box<dyn LockGuard>> {
        read_only()
    }
}

/// An open file that can only be read.
#[derive(Debug)]
struct ShelfFile(SharedFile);

impl DiskFile for ShelfFile {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        self.0.read_at(buf, offset)
    }

    fn len(&self) -> io::Result<u64> {
        self.0.len()
    }

    fn write_at(&self, _: &[u8], _: u64) -> io::Result<()> {
        read_only()
    }

    fn write_at_durable(&self, _: &[u8], _: u64) -> io::Result<()> {
        read_only()
    }

    fn sync(&self) -> io::Result<()> {
        read_only()
    }

    fn set_len(&self, _: u64) -> io::Result<()> {
        read_only()
    }

    /// The cache belongs to whoever uses the folder.
    fn drop_cache(&self, _: u64, _: u64) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A replica at work removes files between two reads of them, and writes a new superblock at any time.
    #[test]
    fn what_was_found_can_be_read_when_it_is_gone() {
        let folder = tempfile::tempdir().expect("a folder");
        let paths = [segment_path(7), snapshot_path(9), "wal/super.0".to_owned()];
        for dir in [WAL, SNAPSHOTS] {
            std::fs::create_dir(folder.path().join(dir)).expect("created");
        }
        for path in &paths {
            std::fs::write(folder.path().join(path), path).expect("written");
        }
        let disk = || RealDisk::at(folder.path());
        let look = Shelf::of_one_look(disk(), Scope::Data);
        for path in &paths {
            look.open_read(path).expect("it is there");
            std::fs::remove_file(folder.path().join(path)).expect("removed");
        }
        let [segment, snapshot, superblock] = &paths;
        for path in [segment, snapshot] {
            let file = look.open_read(path).expect("it is still open");
            let mut bytes = vec![0; path.len()];
            assert_eq!(file.read_at(&mut bytes, 0).expect("read"), path.len());
            assert_eq!(bytes, path.as_bytes());
        }
        assert!(look.open_read(superblock).is_err());
        // The next look sees what is there by then; what `tail -f` follows keeps no file from being removed.
        for next in [
            Shelf::of_one_look(disk(), Scope::Data),
            Shelf::new(disk(), Scope::Data),
        ] {
            assert!(next.open_read(segment).is_err());
        }
    }
}
