//! Fixed fields in a block: little-endian integers at a byte offset.
//!
//! The offsets are constants of the format and the blocks have a fixed size, so a place outside is a
//! broken program, never broken input.

/// Reads `N` bytes at `at`.
pub(crate) fn bytes<const N: usize>(block: &[u8], at: usize) -> [u8; N] {
    let mut value = [0; N];
    value.copy_from_slice(&block[at..at + N]);
    value
}

pub(crate) fn u16(block: &[u8], at: usize) -> u16 {
    u16::from_le_bytes(bytes(block, at))
}

pub(crate) fn u32(block: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes(block, at))
}

pub(crate) fn u64(block: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes(block, at))
}

pub(crate) fn u128(block: &[u8], at: usize) -> u128 {
    u128::from_le_bytes(bytes(block, at))
}

/// Writes `value` at `at`.
pub(crate) fn put<const N: usize>(block: &mut [u8], at: usize, value: [u8; N]) {
    block[at..at + N].copy_from_slice(&value);
}

/// Whether all bytes are zero.
pub(crate) fn is_zero(bytes: &[u8]) -> bool {
    let (words, rest) = bytes.as_chunks::<16>();
    words.iter().all(|word| u128::from_ne_bytes(*word) == 0) && rest.iter().all(|byte| *byte == 0)
}
