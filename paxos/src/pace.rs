//! How large the pieces are that go to or come from one peer.
//!
//! A piece on a slow link keeps back everything behind it, heartbeats too, and counts as a sign of
//! life only once it has arrived whole. So none may take longer than a part of an election timeout:
//! pieces grow while they arrive quickly and shrink when they do not.

use crate::acceptor::PIECE_BYTES_MAX;

/// Pieces begin at this many bytes.
const PIECE_BYTES_BEGIN: usize = 128 << 10;
/// They shrink no further. A single entry may be larger.
const PIECE_BYTES_MIN: usize = 32 << 10;
/// Pieces on their way to one follower at once.
const PIECES_IN_FLIGHT: usize = 8;

/// The present size of pieces.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pace {
    piece_bytes: usize,
    /// How long the last round there and back took, in microseconds, with what was on its way before it.
    round_us: u64,
}

impl Default for Pace {
    fn default() -> Pace {
        Pace {
            piece_bytes: PIECE_BYTES_BEGIN,
            round_us: 0,
        }
    }
}

impl Pace {
    pub(crate) fn piece_bytes(self) -> usize {
        self.piece_bytes
    }

    /// How long something sent now may take until its answer is here, in microseconds, as it looks.
    pub(crate) fn answer_us(self) -> u64 {
        2 * self.round_us
    }

    /// How much may be on its way at once.
    pub(crate) fn window_bytes(self) -> usize {
        PIECES_IN_FLIGHT * self.piece_bytes
    }

    /// So many bytes took that long to arrive.
    pub(crate) fn observe(&mut self, bytes: usize, took_us: u64, election_us: u64) {
        self.round_us = took_us;
        if took_us > election_us / 4 {
            self.piece_bytes = (self.piece_bytes / 2).max(PIECE_BYTES_MIN);
        } else if took_us < election_us / 16 && bytes >= self.piece_bytes / 2 {
            self.piece_bytes = (self.piece_bytes * 2).min(PIECE_BYTES_MAX);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grows_while_quick_and_shrinks_when_slow() {
        let mut pace = Pace::default();
        let mut after = |bytes: usize, took_us: u64| {
            pace.observe(bytes, took_us, 500_000);
            pace.piece_bytes() >> 10
        };
        assert_eq!(after(128 << 10, 10_000), 256);
        assert_eq!(after(1_000, 10_000), 256, "too little to tell");
        assert_eq!(after(256 << 10, 60_000), 256, "about right");
        assert_eq!(after(1_000, 200_000), 128);
        assert_eq!(
            [after(0, 200_000), after(0, 200_000), after(0, 200_000)],
            [64, 32, 32]
        );
        for _ in 0..9 {
            after(1 << 20, 10_000);
        }
        assert_eq!(after(1 << 20, 10_000), 1024);
    }
}
