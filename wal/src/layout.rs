//! The names in a data folder.
//!
//! ```text
//! lock                          held while a process works here; never deleted
//! wal/super.0  wal/super.1      two copies of the superblock
//! wal/<seq:016x>.wal            segments; the newest may be reserved (only zeros)
//! wal/spare-<seq>.tmp           a segment in preparation
//! snapshots/<slot:016x>.snap    also .tmp while written, .partial while received
//! files/  removed/              the users' files, and those removed that a kept snapshot still names
//! quarantine/                   files moved here by an operator, never by us
//! ```

/// The file that is locked.
pub const LOCK: &str = "lock";
/// Folder of the log.
pub const WAL: &str = "wal";
/// Folder of the snapshots.
pub const SNAPSHOTS: &str = "snapshots";
/// Folder of the users' files.
pub const FILES: &str = "files";
/// Folder of removed users' files that a kept snapshot still names.
pub const REMOVED: &str = "removed";
/// Folder for files that an operator set aside.
pub const QUARANTINE: &str = "quarantine";
/// The two copies of the superblock.
pub const SUPERBLOCKS: [&str; 2] = ["wal/super.0", "wal/super.1"];

/// Every folder of the layout.
pub(crate) const FOLDERS: [&str; 5] = [WAL, SNAPSHOTS, FILES, REMOVED, QUARANTINE];

/// Path of a segment.
#[must_use]
pub fn segment_path(seq: u64) -> String {
    format!("{WAL}/{seq:016x}.wal")
}

/// Path of a segment in preparation.
pub(crate) fn spare_path(seq: u64) -> String {
    format!("{WAL}/spare-{seq}.tmp")
}

/// Whether this is the name of a segment in preparation.
pub(crate) fn is_spare(name: &str) -> bool {
    name.starts_with("spare-") && name.ends_with(".tmp")
}

/// Path of a snapshot.
#[must_use]
pub fn snapshot_path(slot: u64) -> String {
    format!("{SNAPSHOTS}/{slot:016x}.snap")
}

/// Path of a snapshot while it is written.
pub(crate) fn snapshot_tmp_path(slot: u64) -> String {
    format!("{SNAPSHOTS}/{slot:016x}.tmp")
}

/// Number of the segment with this file name.
pub(crate) fn segment_seq(name: &str) -> Option<u64> {
    hex16(name.strip_suffix(".wal")?)
}

/// Slot of the snapshot with this file name.
pub(crate) fn snapshot_slot(name: &str) -> Option<u64> {
    hex16(name.strip_suffix(".snap")?)
}

/// Exactly sixteen lower-case hex digits, so that one number has one name.
fn hex16(digits: &str) -> Option<u64> {
    let plain = digits.len() == 16
        && digits
            .bytes()
            .all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
    plain
        .then(|| u64::from_str_radix(digits, 16).ok())
        .flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_numbers_are_one_to_one() {
        assert_eq!(segment_path(0x1f), "wal/000000000000001f.wal");
        assert_eq!(segment_seq("000000000000001f.wal"), Some(0x1f));
        assert_eq!(snapshot_slot("00000000000000ff.snap"), Some(255));
        for name in [
            "1f.wal",
            "000000000000001F.wal",
            "000000000000001f.tmp",
            "+00000000000001f.wal",
        ] {
            assert_eq!(segment_seq(name), None, "{name}");
        }
    }
}
