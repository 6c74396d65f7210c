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

use std::io;
use std::sync::Arc;

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

/// See the module.
#[derive(Debug)]
pub(crate) struct Shelf {
    disk: RealDisk,
    scope: Scope,
}

impl Shelf {
    /// `disk` is rooted at the folder given, or at the folder of the file given.
    pub(crate) fn new(disk: RealDisk, scope: Scope) -> Shelf {
        Shelf { disk, scope }
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

fn read_only<T>() -> io::Result<T> {
    Err(io::ErrorKind::ReadOnlyFilesystem.into())
}

impl Disk for Shelf {
    fn open_read(&self, path: &str) -> io::Result<SharedFile> {
        let file = self.disk.open_read(&self.place(path)?)?;
        Ok(Arc::new(ShelfFile(file)))
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
