//! The hash of a state as the first program computed it: over the bytes of its snapshot.
//!
//! What that program gave for states and logs is written down in tests, so it stays here to compare.

/// The hash of a snapshot's bytes.
pub(crate) fn of(bytes: &[u8]) -> u64 {
    let word = |bytes: &[u8]| {
        let mut word = [0; 8];
        word[..bytes.len()].copy_from_slice(bytes);
        u64::from_le_bytes(word)
    };
    let mix = |value: u64, word: u64| {
        let mixed = (value ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        mixed ^ (mixed >> 29)
    };
    let chunks = bytes.chunks_exact(8);
    let tail = chunks.remainder();
    let value = chunks.fold(0x243f_6a88_85a3_08d3, |value, chunk| {
        mix(value, word(chunk))
    });
    mix(mix(value, word(tail)), tail.len() as u64)
}
