//! A data folder that an earlier build wrote, kept as a file of its non-zero bytes.
//!
//! ```text
//! "HFSPARSE", then for each file or folder (its name then ends in a slash):
//! | u16: bytes of name | name | u64: bytes of file | u32: runs | u32: offset, u16: bytes, bytes | ...
//! ```
//!
//! Integers are little-endian; what no run covers is zero.

use std::os::unix::fs::FileExt;
use std::path::Path;

/// The folder of a replica that ran alone, of the first build of 0.1.0 (log format 1.0).
///
/// It was left by `kill -9`: 130 sections, then two snapshots (slots 256 and 512), then the lock `held` taken for ten
/// minutes, then one section more. The log ends at slot 659 under ballot 1.1.
pub const PACKED: &[u8] = include_bytes!("../../tests/data/folder-0.1.0.sparse");

/// Lays a packed folder out at `to`, which is made.
///
/// # Panics
///
/// If `packed` is no packed folder or the disk refuses.
pub fn unpack(packed: &[u8], to: &Path) {
    let mut rest = packed.strip_prefix(b"HFSPARSE").expect("a packed folder");
    std::fs::create_dir_all(to).expect("a folder can be made");
    while !rest.is_empty() {
        let name_bytes = number(&mut rest, 2);
        let name = std::str::from_utf8(take(&mut rest, name_bytes)).expect("a name");
        let (len, runs) = (number(&mut rest, 8), number(&mut rest, 4));
        if name.ends_with('/') {
            std::fs::create_dir_all(to.join(name)).expect("a folder can be made");
            continue;
        }
        let file = std::fs::File::create(to.join(name)).expect("a file can be made");
        file.set_len(len as u64).expect("a file can be extended");
        for _ in 0..runs {
            let (at, bytes) = (number(&mut rest, 4), number(&mut rest, 2));
            file.write_all_at(take(&mut rest, bytes), at as u64)
                .expect("a file can be written");
        }
    }
}

fn number(rest: &mut &[u8], bytes: usize) -> usize {
    let digits = take(rest, bytes).iter().rev();
    digits.fold(0, |number, byte| number << 8 | usize::from(*byte))
}

fn take<'a>(rest: &mut &'a [u8], bytes: usize) -> &'a [u8] {
    let (taken, left) = rest.split_at(bytes);
    *rest = left;
    taken
}
