//! Chance by a seed.

/// A small deterministic generator (SplitMix64; Steele, Lea, Flood, OOPSLA 2014).
#[derive(Debug)]
pub(super) struct Dice(u64);

impl Dice {
    pub(super) fn new(seed: u64) -> Dice {
        Dice(seed)
    }

    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    pub(super) fn roll(&mut self, sides: u64) -> u64 {
        self.next() % sides.max(1)
    }

    /// Fills `torn` with noise, zeros, or half of what was to be written.
    pub(super) fn fill(&mut self, torn: &mut [u8], wanted: &[u8]) {
        match self.roll(3) {
            0 => torn.fill(0),
            1 => {
                let half = torn.len() / 2;
                let at = wanted.len().min(half);
                torn[..at].copy_from_slice(&wanted[..at]);
            }
            _ => {
                for byte in torn {
                    *byte = self.next() as u8;
                }
            }
        }
    }
}
