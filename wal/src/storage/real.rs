//! The disk of the machine.
//!
//! A durable write is one `pwritev2` with `RWF_DSYNC`; where the kernel or file system refuses the
//! flag, which is found out once, it is `pwrite` and `fdatasync`.

use std::fs::{File, OpenOptions};
use std::io::{self, IoSlice};
use std::num::NonZeroU64;
use std::os::unix::fs::FileExt;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use rustix::fs::{Advice, FallocateFlags, FlockOperation};
use rustix::io::{Errno, ReadWriteFlags};

use super::{DirEntry, Disk, DiskFile, LockGuard, SharedFile, is_no_space};

/// A folder of the machine's file system.
#[derive(Clone, Debug)]
pub struct RealDisk {
    root: PathBuf,
    durable_writes: Arc<DurableWrites>,
}

/// How durable writes are made; decided by the first one.
#[derive(Debug, Default)]
struct DurableWrites(AtomicU8);

const UNDECIDED: u8 = 0;
const BY_FLAG: u8 = 1;
const BY_SYNC: u8 = 2;

/// `FALLOC_FL_WRITE_ZEROES` (Linux 6.17): allocates written zeros without sending them.
const WRITE_ZEROES: FallocateFlags = FallocateFlags::from_bits_retain(0x80);

/// At most so many segments are read at once.
const READ_THREADS_MAX: usize = 8;

impl RealDisk {
    /// The folder `root`, which is created with its parents if it is not there.
    ///
    /// # Errors
    ///
    /// Whatever `mkdir` says.
    pub fn create_root(root: impl Into<PathBuf>) -> io::Result<RealDisk> {
        let root = root.into();
        let missing = root
            .ancestors()
            .take_while(|folder| !folder.as_os_str().is_empty() && !folder.exists())
            .count();
        std::fs::create_dir_all(&root)?;
        // The folder's own name must survive a power cut too, and so must those made on the way to it.
        for folder in root.ancestors().skip(1).take(missing.max(1)) {
            sync_folder(folder, missing > 0)?;
        }
        Ok(RealDisk::at(root))
    }

    /// The folder `root` as it is; touches nothing. For tools that only read.
    #[must_use]
    pub fn at(root: impl Into<PathBuf>) -> RealDisk {
        RealDisk {
            root: root.into(),
            durable_writes: Arc::default(),
        }
    }

    /// The folder.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    fn path(&self, path: &str) -> io::Result<PathBuf> {
        let relative = Path::new(path);
        if relative
            .components()
            .all(|part| matches!(part, Component::Normal(_)))
        {
            Ok(self.root.join(relative))
        } else {
            Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "path leaves the data folder",
            ))
        }
    }

    fn file(&self, file: File) -> SharedFile {
        Arc::new(RealFile {
            file,
            durable_writes: self.durable_writes.clone(),
        })
    }
}

/// Makes the names in `folder` durable. If nothing was made in it just now (`made`), a folder that this user may
/// not read is left to whoever made what is in it.
fn sync_folder(folder: &Path, made: bool) -> io::Result<()> {
    let folder = match folder.as_os_str().is_empty() {
        true => Path::new("."),
        false => folder,
    };
    match File::open(folder).and_then(|folder| folder.sync_all()) {
        Err(_) if !made => Ok(()),
        other => other,
    }
}

impl Disk for RealDisk {
    fn open(&self, path: &str) -> io::Result<SharedFile> {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .open(self.path(path)?)?;
        Ok(self.file(file))
    }

    fn open_read(&self, path: &str) -> io::Result<SharedFile> {
        Ok(self.file(File::open(self.path(path)?)?))
    }

    fn create(&self, path: &str) -> io::Result<SharedFile> {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create_new(true)
            .open(self.path(path)?)?;
        Ok(self.file(file))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        std::fs::rename(self.path(from)?, self.path(to)?)
    }

    fn remove(&self, path: &str) -> io::Result<()> {
        std::fs::remove_file(self.path(path)?)
    }

    fn list(&self, dir: &str) -> io::Result<Vec<DirEntry>> {
        let mut entries = Vec::new();
        for entry in std::fs::read_dir(self.path(dir)?)? {
            let entry = entry?;
            let name = entry.file_name().to_string_lossy().into_owned();
            match entry.metadata() {
                Ok(meta) if meta.is_dir() => entries.push(DirEntry {
                    name,
                    len: 0,
                    is_dir: true,
                }),
                Ok(meta) => entries.push(DirEntry {
                    name,
                    len: meta.len(),
                    is_dir: false,
                }),
                // Removed between the listing and the look: as if it had never been listed.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        entries.sort();
        Ok(entries)
    }

    fn create_dir(&self, dir: &str) -> io::Result<()> {
        std::fs::create_dir_all(self.path(dir)?)
    }

    fn sync_dir(&self, dir: &str) -> io::Result<()> {
        File::open(self.path(dir)?)?.sync_all()
    }

    fn lock(&self, path: &str) -> io::Result<Box<dyn LockGuard>> {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(self.path(path)?)?;
        retry(|| rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive))?;
        Ok(Box::new(FileLock { _file: file }))
    }

    fn free_bytes(&self) -> io::Result<Option<u64>> {
        let stat = rustix::fs::statvfs(&self.root)?;
        Ok(Some(stat.f_bavail.saturating_mul(stat.f_frsize)))
    }

    fn read_threads(&self) -> usize {
        std::thread::available_parallelism().map_or(1, |n| n.get().min(READ_THREADS_MAX))
    }
}

/// Held by the open file: the kernel gives it back when the process dies.
#[derive(Debug)]
struct FileLock {
    _file: File,
}

impl LockGuard for FileLock {}

#[derive(Debug)]
struct RealFile {
    file: File,
    durable_writes: Arc<DurableWrites>,
}

impl DiskFile for RealFile {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut done = 0;
        while done < buf.len() {
            match self.file.read_at(&mut buf[done..], offset + done as u64) {
                Ok(0) => break,
                Ok(n) => done += n,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(done)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        // Goes on after `EINTR` and short writes.
        self.file.write_all_at(bytes, offset)
    }

    fn write_at_durable(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        if self.durable_writes.0.load(Ordering::Relaxed) == BY_SYNC {
            self.file.write_all_at(bytes, offset)?;
            return self.sync();
        }
        let mut done = 0;
        while done < bytes.len() {
            let rest = [IoSlice::new(&bytes[done..])];
            match rustix::io::pwritev2(
                &self.file,
                &rest,
                offset + done as u64,
                ReadWriteFlags::DSYNC,
            ) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(n) => {
                    self.durable_writes.0.store(BY_FLAG, Ordering::Relaxed);
                    done += n;
                }
                Err(Errno::INTR) => {}
                Err(Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL)
                    if self.durable_writes.0.load(Ordering::Relaxed) == UNDECIDED =>
                {
                    self.durable_writes.0.store(BY_SYNC, Ordering::Relaxed);
                    self.file.write_all_at(bytes, offset)?;
                    return self.sync();
                }
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        retry(|| rustix::fs::fdatasync(&self.file))
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.file.set_len(len)
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    fn reserve(&self, len: u64) -> io::Result<()> {
        self.allocate(FallocateFlags::empty(), 0, len)
    }

    fn punch(&self, offset: u64, len: u64) -> io::Result<()> {
        let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        self.allocate(flags, offset, len)
    }

    fn write_zeroes(&self, offset: u64, len: u64) -> io::Result<()> {
        self.allocate(WRITE_ZEROES, offset, len)
    }

    fn drop_cache(&self, offset: u64, len: u64) {
        // Advice only: where it is refused, carry-forward still rewrites what matters.
        let _ = rustix::fs::fadvise(&self.file, offset, NonZeroU64::new(len), Advice::DontNeed);
    }
}

impl RealFile {
    /// Any error but a full disk means that the file system cannot do it.
    fn allocate(&self, flags: FallocateFlags, offset: u64, len: u64) -> io::Result<()> {
        match retry(|| rustix::fs::fallocate(&self.file, flags, offset, len)) {
            Err(error) if !is_no_space(&error) => Err(io::ErrorKind::Unsupported.into()),
            other => other,
        }
    }
}

/// Calls again after `EINTR`.
fn retry(mut call: impl FnMut() -> Result<(), Errno>) -> io::Result<()> {
    loop {
        match call() {
            Err(Errno::INTR) => {}
            other => return other.map_err(io::Error::from),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_never_leaves_the_folder() {
        let disk = RealDisk::at("/nowhere");
        for path in ["../x", "/etc/passwd", "a/../../b", "./x"] {
            let error = disk.open_read(path).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidInput, "{path}");
        }
    }

    #[test]
    fn the_fallback_writes_the_same_bytes() {
        let folder = tempfile::tempdir().unwrap();
        for mode in [UNDECIDED, BY_SYNC] {
            let disk = RealDisk::at(folder.path());
            disk.durable_writes.0.store(mode, Ordering::Relaxed);
            let file = disk.create(&format!("f{mode}")).unwrap();
            file.write_at_durable(b"hello", 3).unwrap();
            let mut buf = [0; 9];
            assert_eq!(file.read_at(&mut buf, 0).unwrap(), 8);
            assert_eq!(&buf[..8], b"\0\0\0hello");
            assert_ne!(disk.durable_writes.0.load(Ordering::Relaxed), UNDECIDED);
        }
    }

    #[test]
    fn the_lock_is_exclusive_and_given_back() {
        let folder = tempfile::tempdir().unwrap();
        let disk = RealDisk::at(folder.path());
        let held = disk.lock("lock").unwrap();
        assert_eq!(
            disk.lock("lock").unwrap_err().kind(),
            io::ErrorKind::WouldBlock
        );
        drop(held);
        disk.lock("lock").unwrap();
    }
}
