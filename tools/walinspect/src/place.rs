//! What a path is: a data folder, a log folder, a segment, a snapshot, or none of them.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use wal::layout::{LOCK, SNAPSHOTS, WAL};
use wal::storage::{Disk, RealDisk, SharedDisk, is_bad_medium};

use crate::failure::Failure;
use crate::shelf::{Scope, Shelf};

/// Magic bytes of a segment and of a snapshot, see `wal/FORMAT.md`.
const SEGMENT_MAGIC: &[u8; 8] = b"PXWALSEG";
const SNAPSHOT_MAGIC: &[u8; 8] = b"PXWALSNP";
/// Where a segment's header has its number, and a snapshot's its slot.
const SEGMENT_SEQ_AT: usize = 40;
const SNAPSHOT_SLOT_AT: usize = 32;
const HEAD_BYTES: usize = 48;
const BLOCK: u64 = wal::storage::BLOCK_BYTES as u64;

/// Something to look at, opened but not read yet.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    root: PathBuf,
    /// What it is.
    pub(crate) scope: Scope,
}

impl Place {
    /// Finds out what `path` is.
    pub(crate) fn of(path: &Path) -> Result<Place, Failure> {
        let path = path
            .canonicalize()
            .map_err(Failure::io("cannot open", path))?;
        let meta = path
            .metadata()
            .map_err(Failure::io("cannot look at", &path))?;
        if meta.is_dir() {
            return Place::of_folder(path);
        }
        if !meta.is_file() {
            return Err(no_log(&path));
        }
        Place::of_file(&path)
    }

    /// A disk that reads it, and can do nothing else.
    pub(crate) fn disk(&self) -> SharedDisk {
        let disk = RealDisk::at(&self.root);
        Arc::new(Shelf::new(disk, self.scope.clone()))
    }

    /// As [`Place::disk`], for one look at everything there is.
    pub(crate) fn disk_of_one_look(&self) -> SharedDisk {
        let disk = RealDisk::at(&self.root);
        Arc::new(Shelf::of_one_look(disk, self.scope.clone()))
    }

    fn of_folder(path: PathBuf) -> Result<Place, Failure> {
        for name in [WAL, SNAPSHOTS, LOCK] {
            let inside = path.join(name);
            let is_there = inside.try_exists();
            if is_there.map_err(Failure::io("cannot look at", &inside))? {
                return Ok(Place {
                    root: path,
                    scope: Scope::Data,
                });
            }
        }
        let parent = path.parent().filter(|_| path.ends_with(WAL));
        if let Some(parent) = parent.filter(|parent| parent.join(SNAPSHOTS).is_dir()) {
            return Ok(Place {
                root: parent.to_owned(),
                scope: Scope::Data,
            });
        }
        let listed = RealDisk::at(&path)
            .list("")
            .map_err(Failure::io("cannot list", &path))?;
        let of_log = |name: &str| name.starts_with("super.") || name.ends_with(".wal");
        if path.ends_with(WAL) || listed.iter().any(|entry| of_log(&entry.name)) {
            return Ok(Place {
                root: path,
                scope: Scope::Log,
            });
        }
        Err(no_log(&path))
    }

    fn of_file(path: &Path) -> Result<Place, Failure> {
        let name = path.file_name().and_then(|name| name.to_str());
        let (Some(file), Some(root)) = (name, path.parent()) else {
            return Err(Failure::Usage(
                "the name of the file is not plain text".to_owned(),
            ));
        };
        let (file, root) = (file.to_owned(), root.to_owned());
        let opened = RealDisk::at(&root).open_read(&file);
        let opened = opened.map_err(Failure::io("cannot open", path))?;
        let length = opened.len().map_err(Failure::io("cannot read", path))?;
        let head = |at: u64| {
            let mut head = [0; HEAD_BYTES];
            opened.read_at(&mut head, at).map(|_| head)
        };
        // Bad sectors and cut heads are for the scan to tell; the copy at the end is as good as the head.
        let mut heads = [[0; HEAD_BYTES]; 2];
        for (at, found) in [0, length.saturating_sub(BLOCK)]
            .into_iter()
            .zip(&mut heads)
        {
            match head(at) {
                Ok(bytes) => *found = bytes,
                Err(error) if is_bad_medium(&error) => {}
                Err(error) => return Err(Failure::io("cannot read", path)(error)),
            }
        }
        let number = |head: &[u8; HEAD_BYTES], at: usize| {
            u64::from_le_bytes(std::array::from_fn(|i| head[at + i]))
        };
        let named = |end: &str| u64::from_str_radix(file.strip_suffix(end)?, 16).ok();
        if let Some(head) = heads.iter().find(|head| head.starts_with(SEGMENT_MAGIC)) {
            let seq = number(head, SEGMENT_SEQ_AT);
            return Ok(Place {
                root,
                scope: Scope::Segment { file, seq },
            });
        }
        if let (Some(seq), true) = (named(".wal"), length >= BLOCK) {
            return Ok(Place {
                root,
                scope: Scope::Segment { file, seq },
            });
        }
        if heads[0].starts_with(SNAPSHOT_MAGIC) {
            let slot = named(".snap").unwrap_or(number(&heads[0], SNAPSHOT_SLOT_AT));
            return Ok(Place {
                root,
                scope: Scope::Snapshot { file, slot },
            });
        }
        match named(".snap") {
            Some(slot) => Ok(Place {
                root,
                scope: Scope::Snapshot { file, slot },
            }),
            None => Err(no_log(path)),
        }
    }
}

fn no_log(path: &Path) -> Failure {
    Failure::Refused(format!(
        "{} is no data folder, log folder, segment or snapshot of Holdfast",
        path.display()
    ))
}
