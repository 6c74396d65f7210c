//! A read-only mapping of one file: the one place with `unsafe` code.
//!
//! # Why it is sound
//!
//! 1. No reference to mapped memory is ever made: [`Map::copy`] copies bytes out by raw pointer, so
//!    the compiler may assume nothing about memory that the writer of the file changes beside us.
//! 2. The pointer is valid for `len` bytes as long as `self` lives; `copy` checks the range first.
//! 3. Bytes that others write at the same time are those at or after the durable end of the log.
//!    The reader asks only for records below it, whose blocks are never written again, and verifies
//!    the checksum of its own copy: a torn copy is a mismatch, not undefined behaviour.
//! 4. Mapped files have a fixed size: segments are never cut while the data folder's lock is held.
//!    If someone cuts one by hand, or the disk cannot read a page, the kernel sends `SIGBUS` and the process
//!    dies, as it would at a power cut; recovery then reads with `pread`, reports the range, and such a file is never mapped.

use std::fs::File;
use std::io;

use memmap2::{MmapOptions, MmapRaw};

/// The first bytes of a file, mapped for reading.
#[derive(Debug)]
pub struct Map(MmapRaw);

impl Map {
    /// Maps the first `len` bytes of `file`, which must be that long.
    ///
    /// # Errors
    ///
    /// What `mmap` says, or `UnexpectedEof` if the file is shorter.
    pub(super) fn new(file: &File, len: usize) -> io::Result<Map> {
        if file.metadata()?.len() < len as u64 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(Map(MmapOptions::new().len(len).map_raw_read_only(file)?))
    }

    /// Copies the bytes at `offset` into `buf`; `false`, and `buf` as it was, if they are not all mapped.
    #[must_use]
    #[allow(unsafe_code)] // The module's doc argues why.
    pub fn copy(&self, buf: &mut [u8], offset: u64) -> bool {
        let Ok(offset) = usize::try_from(offset) else {
            return false;
        };
        match offset.checked_add(buf.len()) {
            Some(end) if end <= self.0.len() => {}
            _ => return false,
        }
        // SAFETY: `offset + buf.len()` is inside the mapping (checked above), which lives as long as
        // `self`; `buf` is ours alone and cannot overlap a read-only mapping of a file.
        unsafe {
            std::ptr::copy_nonoverlapping(self.0.as_ptr().add(offset), buf.as_mut_ptr(), buf.len());
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn copies_inside_and_refuses_outside() {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(b"0123456789").unwrap();
        let map = Map::new(&file, 10).unwrap();
        let mut buf = [0; 4];
        assert!(map.copy(&mut buf, 6));
        assert_eq!(&buf, b"6789");
        assert!(!map.copy(&mut buf, 7));
        assert!(!map.copy(&mut buf, u64::MAX));
        assert!(Map::new(&file, 11).is_err());
    }
}
