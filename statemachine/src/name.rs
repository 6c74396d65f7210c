//! Names of locks and files: what they may look like, and the shared string that holds one.

use std::sync::Arc;

use crate::{NameFault, Refusal};

/// Bytes that any name may have.
pub const NAME_BYTES_MAX: usize = 255;

/// A checked name, shared by all who mention it.
pub(crate) type Name = Arc<str>;

/// The lock that guards the files of the first start.
pub(crate) const DEFAULT_LOCK: &str = "default";

/// What is wrong with `name` as the name of a lock: 1 to 255 bytes of UTF-8 are right.
#[must_use]
pub fn lock_name_fault(name: &str) -> Option<NameFault> {
    if name.is_empty() {
        return Some(NameFault::Empty);
    }
    let (limit, value) = (NAME_BYTES_MAX as u64, name.len() as u64);
    (value > limit).then_some(NameFault::TooLong { limit, value })
}

/// What is wrong with `name` as the name of a file: `[A-Za-z0-9_][A-Za-z0-9._-]*` to 255 bytes is
/// right, so that it is a plain file name on every system and never a path.
#[must_use]
pub fn file_name_fault(name: &str) -> Option<NameFault> {
    if let Some(fault) = lock_name_fault(name) {
        return Some(fault);
    }
    let plain = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    let fits = |(at, b): (usize, u8)| plain(b) || (at > 0 && matches!(b, b'.' | b'-'));
    (!name.bytes().enumerate().all(fits)).then_some(NameFault::Character)
}

/// Refuses what is no name for a lock.
pub(crate) fn check_lock_name(name: &str) -> Result<(), Refusal> {
    lock_name_fault(name).map_or(Ok(()), |reason| Err(bad_name(name, reason)))
}

/// Refuses what is no name for a file.
pub(crate) fn check_file_name(name: &str) -> Result<(), Refusal> {
    file_name_fault(name).map_or(Ok(()), |reason| Err(bad_name(name, reason)))
}

fn bad_name(name: &str, reason: NameFault) -> Refusal {
    Refusal::BadName {
        name: shortened(name),
        reason,
    }
}

/// The beginning of what was given as a name, no longer than a name may be: refusals are
/// remembered, so what comes from outside must not go into one at any length.
pub(crate) fn shortened(name: &str) -> String {
    let ends = name.char_indices().map(|(at, c)| at + c.len_utf8());
    let end = ends
        .take_while(|&end| end <= NAME_BYTES_MAX)
        .last()
        .unwrap_or(0);
    name[..end].to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(name: &str, lock: Option<NameFault>, file: Option<NameFault>) {
        assert_eq!(lock_name_fault(name), lock, "as a lock: {name:?}");
        assert_eq!(file_name_fault(name), file, "as a file: {name:?}");
    }

    #[test]
    fn names() {
        use NameFault::{Character, Empty, TooLong};
        check("", Some(Empty), Some(Empty));
        check("file_0", None, None);
        check("_a.B-9", None, None);
        for not_a_file in [".hidden", "-x", "a/b", "..", "a b", "a\0", "ä", "locks/€"] {
            check(not_a_file, None, Some(Character));
        }
        check(&"x".repeat(255), None, None);
        let long = Some(TooLong {
            limit: 255,
            value: 256,
        });
        check(&"x".repeat(256), long, long);
    }

    #[test]
    fn a_long_bad_name_is_cut_at_a_character() {
        let Refusal::BadName { name, .. } = check_lock_name(&"€".repeat(100)).unwrap_err() else {
            panic!("not a bad name");
        };
        assert_eq!(name, "€".repeat(85));
    }
}
