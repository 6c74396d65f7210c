//! Snapshot files: an opaque payload in a container that shows every damage.
//!
//! ```text
//! | header 4096 | chunk | chunk | ... | digests of the chunks | CRCs of the digests | trailer 48 |
//! chunk = 32 CRCs of 8 KiB units (128 bytes) + up to 256 KiB of payload
//! ```
//!
//! The fields stand in `FORMAT.md`. Nothing in a file differs between replicas: no node, ballot or
//! clock. A snapshot counts only when the superblock or a record of the log names it.
//!
//! Order of an install: write `.tmp` -> sync -> rename -> sync the folder -> read back past the cache and
//! verify -> superblock ([`crate::Writer::snapshot_saved`]) -> record in the log -> only then may the log be cut.

use std::io::{self, Read};

use bytes::Bytes;

use crate::error::Error;
use crate::layout::{self, SNAPSHOTS};
use crate::storage::{Disk, DiskFile};

mod container;
mod read;
mod write;

pub(crate) use container::FORMAT_MAJOR;
pub use container::{CHUNK_BYTES, MEMBERSHIP_BYTES_MAX};

/// Names one snapshot: which slot, how long its file is, what is in it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SnapshotRef {
    /// Everything up to this slot is in it.
    pub slot: u64,
    /// Bytes of the file.
    pub length: u64,
    /// Digest over header and chunk digests: the same on every replica.
    pub digest: u64,
}

/// What a snapshot says about itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SnapshotHeader {
    /// The cluster.
    pub cluster: u128,
    /// Everything up to this slot is in it.
    pub slot: u64,
    /// The members as of the slot; opaque, at most [`MEMBERSHIP_BYTES_MAX`] bytes.
    pub membership: Bytes,
}

/// Writes a snapshot, makes it durable, reads it back and verifies it.
///
/// Memory is bounded by a chunk and 8 bytes for each chunk, whatever the payload's length. An older file
/// of the same slot is replaced. The snapshot does not count yet: see the module's order of an install.
///
/// # Errors
///
/// [`Error::TooLarge`] for the membership, [`Error::Io`] (also when `payload` fails),
/// [`Error::BadSnapshot`] if the disk did not keep what was written.
pub fn save(
    disk: &dyn Disk,
    header: &SnapshotHeader,
    payload: &mut dyn Read,
) -> Result<SnapshotRef, Error> {
    let tmp = layout::snapshot_tmp_path(header.slot);
    let path = layout::snapshot_path(header.slot);
    // Only one is written at a time, so whatever is unfinished is what an earlier attempt left.
    remove_unfinished(disk)?;
    let saved = write::write(disk, &tmp, header, payload).and_then(|reference| {
        disk.rename(&tmp, &path)
            .map_err(Error::io("rename", &tmp))?;
        disk.sync_dir(SNAPSHOTS)
            .map_err(Error::io("sync", SNAPSHOTS))?;
        verify(disk, &reference)?;
        Ok(reference)
    });
    if saved.is_err() {
        // Gives the room back; the first error is the one to tell.
        let _ = disk.remove(&tmp);
    }
    saved
}

/// Removes what unfinished writes of snapshots left. What is being received (`.partial`) stays.
///
/// # Errors
///
/// [`Error::Io`].
pub fn remove_unfinished(disk: &dyn Disk) -> Result<(), Error> {
    let entries = match disk.list(SNAPSHOTS) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        other => other.map_err(Error::io("list", SNAPSHOTS))?,
    };
    for entry in entries.iter().filter(|entry| entry.name.ends_with(".tmp")) {
        let path = format!("{SNAPSHOTS}/{}", entry.name);
        disk.remove(&path).map_err(Error::io("remove", &path))?;
    }
    Ok(())
}

/// Reads a snapshot; the payload is verified before it is returned.
///
/// # Errors
///
/// [`Error::BadSnapshot`] if it is damaged or not the one named, [`Error::Io`] if it cannot be read.
pub fn load(disk: &dyn Disk, wanted: &SnapshotRef) -> Result<(SnapshotHeader, Vec<u8>), Error> {
    let mut payload = Vec::new();
    let (found, header) = read::read(disk, &layout::snapshot_path(wanted.slot), |chunk| {
        payload.extend_from_slice(chunk);
    })?;
    expect(&found, wanted)?;
    Ok((header, payload))
}

/// Reads a snapshot past the cache and checks that it is undamaged and the one named.
///
/// # Errors
///
/// As [`load`].
pub fn verify(disk: &dyn Disk, wanted: &SnapshotRef) -> Result<SnapshotHeader, Error> {
    let path = layout::snapshot_path(wanted.slot);
    if let Ok(file) = disk.open_read(&path) {
        file.drop_cache(0, wanted.length);
    }
    let (found, header) = read::read(disk, &path, |_| {})?;
    expect(&found, wanted)?;
    Ok(header)
}

/// The reference of the snapshot file of this slot, after verifying all of it.
///
/// # Errors
///
/// As [`load`].
pub fn inspect(disk: &dyn Disk, slot: u64) -> Result<SnapshotRef, Error> {
    read::read(disk, &layout::snapshot_path(slot), |_| {}).map(|(found, _)| found)
}

/// The slots of the snapshot files, ascending, unverified.
///
/// # Errors
///
/// [`Error::Io`] if the folder cannot be listed.
pub fn list(disk: &dyn Disk) -> Result<Vec<u64>, Error> {
    let entries = match disk.list(SNAPSHOTS) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other.map_err(Error::io("list", SNAPSHOTS))?,
    };
    Ok(entries
        .iter()
        .filter_map(|entry| layout::snapshot_slot(&entry.name))
        .collect())
}

/// Removes the snapshot files older than the oldest one of `kept`. Unfinished ones stay: another may be written just now.
///
/// # Errors
///
/// [`Error::Io`]; what was not removed is tried again next time.
pub fn prune(disk: &dyn Disk, kept: &[SnapshotRef]) -> Result<(), Error> {
    let Some(oldest) = kept.iter().map(|snapshot| snapshot.slot).min() else {
        return Ok(());
    };
    let entries = disk.list(SNAPSHOTS).map_err(Error::io("list", SNAPSHOTS))?;
    for entry in entries {
        if layout::snapshot_slot(&entry.name).is_some_and(|slot| slot < oldest) {
            let path = format!("{SNAPSHOTS}/{}", entry.name);
            disk.remove(&path).map_err(Error::io("remove", &path))?;
        }
    }
    disk.sync_dir(SNAPSHOTS)
        .map_err(Error::io("sync", SNAPSHOTS))
}

fn expect(found: &SnapshotRef, wanted: &SnapshotRef) -> Result<(), Error> {
    if found == wanted {
        return Ok(());
    }
    Err(Error::BadSnapshot {
        file: layout::snapshot_path(wanted.slot),
        what: format!(
            "has {} bytes and digest {:016x}, expected {} bytes and digest {:016x}",
            found.length, found.digest, wanted.length, wanted.digest
        ),
    })
}

fn damaged(path: &str, what: impl Into<String>) -> Error {
    Error::BadSnapshot {
        file: path.to_owned(),
        what: what.into(),
    }
}

/// Writes `bytes` at `*at` and moves it on.
fn append(file: &dyn DiskFile, at: &mut u64, bytes: &[u8]) -> io::Result<()> {
    file.write_at(bytes, *at)?;
    *at += bytes.len() as u64;
    Ok(())
}

#[cfg(test)]
mod tests;
