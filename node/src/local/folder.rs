//! Where a local cluster keeps its data: a folder that stays, or a temporary one.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::fs::FlockOperation;
use rustix::io::Errno;

/// Names tried for a temporary folder before giving up.
const ATTEMPTS: u32 = 100;
/// A killed process gives its files back within this time.
const DYING: Duration = Duration::from_secs(2);

/// A folder; a temporary one is removed when dropped, unless a replica still runs in it.
#[derive(Debug)]
pub struct Folder {
    path: PathBuf,
    temporary: bool,
}

impl Folder {
    /// The folder at `path`, made if need be. It stays.
    ///
    /// # Errors
    ///
    /// If it cannot be made.
    pub fn lasting(path: &Path) -> io::Result<Folder> {
        std::fs::create_dir_all(path)?;
        Ok(Folder {
            path: std::path::absolute(path)?,
            temporary: false,
        })
    }

    /// A new folder among the system's temporary ones.
    ///
    /// # Errors
    ///
    /// If none can be made.
    pub fn temporary() -> io::Result<Folder> {
        let base = std::env::temp_dir();
        for _ in 0..ATTEMPTS {
            let path = base.join(format!("holdfast-{:08x}", rand::random::<u32>()));
            match std::fs::create_dir(&path) {
                Ok(()) => {
                    return Ok(Folder {
                        path,
                        temporary: true,
                    });
                }
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(error),
            }
        }
        Err(io::Error::other(format!(
            "no free name for a folder in {}",
            base.display()
        )))
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether it will be removed.
    pub fn is_temporary(&self) -> bool {
        self.temporary
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if !self.temporary {
            return;
        }
        if stays_in_use(&self.path) {
            eprintln!(
                "node: {} is kept: a replica that was started by hand still uses it",
                self.path.display()
            );
            return;
        }
        // Nobody can be told, and the system clears the place in the end.
        let _ = std::fs::remove_dir_all(&self.path);
    }
}

/// Whether some process has a data folder in `path` open, and keeps it open. A process that was just killed may take a
/// moment to be gone.
fn stays_in_use(path: &Path) -> bool {
    let end = Instant::now() + DYING;
    while is_in_use(path) {
        if Instant::now() >= end {
            return true;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    false
}

fn is_in_use(path: &Path) -> bool {
    let folders = std::fs::read_dir(path).into_iter().flatten().flatten();
    // A replica holds this lock for as long as it runs.
    let locks = folders.filter_map(|folder| File::open(folder.path().join("lock")).ok());
    let taken = |lock: &File| {
        let tried = rustix::fs::flock(lock, FlockOperation::NonBlockingLockShared);
        tried == Err(Errno::WOULDBLOCK)
    };
    locks.into_iter().any(|lock| taken(&lock))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_temporary_folder_goes_and_a_lasting_one_stays() {
        let outer = Folder::temporary().expect("a folder");
        let inner = Folder::lasting(&outer.path().join("a/b")).expect("a folder");
        let (outer_path, inner_path) = (outer.path().to_owned(), inner.path().to_owned());
        drop(inner);
        assert!(inner_path.is_dir());
        drop(outer);
        assert!(!outer_path.exists());
    }

    #[test]
    fn a_folder_in_use_is_not_removed() {
        let folder = Folder::temporary().expect("a folder");
        let path = folder.path().to_owned();
        std::fs::create_dir(path.join("2")).expect("a data folder");
        let lock = File::create(path.join("2/lock")).expect("a lock file");
        rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive).expect("the lock");
        drop(folder);
        assert!(path.join("2/lock").exists());
        drop(lock);
        drop(Folder {
            path: path.clone(),
            temporary: true,
        });
        assert!(!path.exists());
    }
}
