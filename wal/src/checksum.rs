//! The two checksums: a seeded CRC-32 for everything in the log, a 64-bit digest for snapshots.
//!
//! CRC-32 (IEEE) detects every error of up to three bits in units of up to 11,450 bytes, so no unit
//! under one CRC is larger than [`UNIT_BYTES`] or a header block. A seed starts the register: the same bytes
//! under another salt, or at another place, do not verify.

/// The largest piece of payload under one CRC.
pub(crate) const UNIT_BYTES: usize = 8 * 1024;

const _: () = assert!(UNIT_BYTES < 11_450);

/// CRC-32 (IEEE) of `bytes`, started from `seed`.
pub(crate) fn crc(seed: u32, bytes: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new_with_initial(seed);
    hasher.update(bytes);
    hasher.finalize()
}

/// CRC-32 over several pieces as if they stood side by side.
pub(crate) struct Crc(crc32fast::Hasher);

impl Crc {
    pub(crate) fn new(seed: u32) -> Crc {
        Crc(crc32fast::Hasher::new_with_initial(seed))
    }

    pub(crate) fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    pub(crate) fn finish(self) -> u32 {
        self.0.finalize()
    }
}

/// A 64-bit digest of `bytes`: eight bytes at a time, xor and multiply, folded after each step.
///
/// It tells two contents apart (snapshots of replicas, chunks, files); it does not resist an attacker.
/// Defined by this code and the example in `FORMAT.md`: a change is a new format.
#[must_use]
pub fn digest(bytes: &[u8]) -> u64 {
    const PRIME: u64 = 0x9fb2_1c65_1e98_df25;
    let mut state = 0x2545_f491_4f6c_dd1d ^ (bytes.len() as u64).wrapping_mul(PRIME);
    let mut mix = |word: u64| {
        state = (state ^ word).wrapping_mul(PRIME);
        state ^= state >> 29;
    };
    let (words, rest) = bytes.as_chunks::<8>();
    for word in words {
        mix(u64::from_le_bytes(*word));
    }
    let mut last = [0; 8];
    last[..rest.len()].copy_from_slice(rest);
    mix(u64::from_le_bytes(last));
    state = (state ^ (state >> 32)).wrapping_mul(0xd6e8_feb8_6659_fd93);
    state ^ (state >> 32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_or_a_place_changes_the_crc() {
        assert_eq!(
            crc(0, b"123456789"),
            0xcbf4_3926,
            "the check value of CRC-32/ISO-HDLC"
        );
        assert_ne!(crc(1, b"123456789"), crc(0, b"123456789"));
        let mut pieces = Crc::new(7);
        pieces.update(b"1234");
        pieces.update(b"56789");
        assert_eq!(pieces.finish(), crc(7, b"123456789"));
    }

    #[test]
    fn the_digest_sees_every_bit_length_and_order() {
        let base = digest(b"the quick brown fox");
        let mut bytes = b"the quick brown fox".to_vec();
        for bit in 0..bytes.len() * 8 {
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert_ne!(digest(&bytes), base, "bit {bit}");
            bytes[bit / 8] ^= 1 << (bit % 8);
        }
        assert_ne!(digest(b""), digest(b"\0"));
        assert_ne!(digest(b"aaaaaaaabbbbbbbb"), digest(b"bbbbbbbbaaaaaaaa"));
    }
}
