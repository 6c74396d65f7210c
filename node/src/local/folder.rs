//! Where a local cluster keeps its data: a folder that stays, or a temporary one.

use std::io;
use std::path::{Path, PathBuf};

/// Names tried for a temporary folder before giving up.
const ATTEMPTS: u32 = 100;

/// A folder; a temporary one is removed when dropped.
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
        if self.temporary {
            // Nobody can be told, and the system clears the place in the end.
            let _ = std::fs::remove_dir_all(&self.path);
        }
    }
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
}
