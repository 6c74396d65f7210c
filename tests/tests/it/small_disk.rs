//! A disk of a few megabytes that a test can fill: a `tmpfs`, which only root may mount.

use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// A mounted file system. Unmounted when dropped.
#[derive(Debug)]
pub(crate) struct SmallDisk {
    folder: PathBuf,
    _parent: tempfile::TempDir,
}

impl SmallDisk {
    /// Mounts one of `megabytes`; `None`, with a reason on standard error, where that is not
    /// allowed.
    pub(crate) fn mount(test: &str, megabytes: u32) -> Option<SmallDisk> {
        let parent = tempfile::tempdir().expect("there is a place for temporary folders");
        let folder = parent.path().join("disk");
        std::fs::create_dir(&folder).expect("an empty folder takes another");
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &format!("size={megabytes}m"), "tmpfs"])
            .arg(&folder)
            .stderr(Stdio::null())
            .status();
        if mounted.is_ok_and(|status| status.success()) {
            return Some(SmallDisk {
                folder,
                _parent: parent,
            });
        }
        eprintln!("{test}: skipped, because mounting a small disk needs root");
        None
    }

    /// Where it is mounted.
    pub(crate) fn path(&self) -> &Path {
        &self.folder
    }

    /// Fills it to the last block.
    pub(crate) fn fill(&self) {
        let mut filler = std::fs::File::create(self.filler()).expect("a full disk takes a name");
        let mut block = vec![1; 1 << 20];
        while !block.is_empty() {
            match filler.write(&block) {
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::StorageFull => {
                    block.truncate(block.len() / 2);
                }
                Err(error) => panic!("cannot fill the disk: {error}"),
            }
        }
    }

    /// Fills it, but for so many bytes.
    pub(crate) fn fill_but(&self, bytes: u64) {
        self.fill();
        let filler = std::fs::File::options().write(true).open(self.filler());
        let filler = filler.expect("it was filled");
        let length = filler.metadata().expect("a file").len();
        filler
            .set_len(length.saturating_sub(bytes))
            .expect("a filler can shrink");
    }

    /// Frees what [`SmallDisk::fill`] took.
    pub(crate) fn free(&self) {
        std::fs::remove_file(self.filler()).expect("it was filled");
    }

    fn filler(&self) -> PathBuf {
        self.folder.join("filler")
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // A process that still ends holds it for a moment; lazily, it goes when that has.
        let _ = Command::new("umount").arg("-l").arg(&self.folder).status();
    }
}
