//! Checksums of the pieces of a file, so that a part of it can be checked without reading all of it.
//!
//! ```text
//! 0            64 KiB         128 KiB      start of this life's appends           end
//! |   piece    |    piece     |   piece    |    piece    |    piece    | open piece |
//! ```
//!
//! They are never stored: what an earlier life wrote is verified against the snapshot's checksum of the whole file
//! first, and the pieces are summed on the way.

use std::ops::Range;

/// Bytes of a piece, at most.
const PIECE_BYTES: u64 = 64 << 10;

/// A stretch of a file and the CRC-32 of its bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Piece {
    pub(super) bytes: Range<u64>,
    pub(super) crc32: u32,
}

/// The checksums of one file from `start` to `end`, in pieces.
#[derive(Clone, Debug, Default)]
pub(super) struct Sums {
    start: u64,
    /// Where each whole piece ends, and its CRC; they follow each other from `start` on.
    whole: Vec<(u64, u32)>,
    /// The piece that still grows.
    open: crc32fast::Hasher,
    open_start: u64,
    end: u64,
}

impl Sums {
    /// Nothing summed yet, from `start` on.
    pub(super) fn from(start: u64) -> Sums {
        Sums {
            start,
            open_start: start,
            end: start,
            ..Sums::default()
        }
    }

    pub(super) fn start(&self) -> u64 {
        self.start
    }

    pub(super) fn end(&self) -> u64 {
        self.end
    }

    /// Adds what follows.
    pub(super) fn append(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let room = PIECE_BYTES - (self.end - self.open_start);
            let (now, rest) = bytes.split_at(bytes.len().min(room as usize));
            self.open.update(now);
            self.end += now.len() as u64;
            if self.end - self.open_start == PIECE_BYTES {
                self.close();
            }
            bytes = rest;
        }
    }

    /// Puts what is before the start in front.
    pub(super) fn complete(&mut self, mut before: Sums) {
        debug_assert_eq!(before.end, self.start, "one follows the other");
        before.close();
        before.whole.append(&mut self.whole);
        self.whole = before.whole;
        self.start = before.start;
    }

    fn close(&mut self) {
        if self.open_start < self.end {
            let open = std::mem::take(&mut self.open);
            self.whole.push((self.end, open.finalize()));
            self.open_start = self.end;
        }
    }

    /// The pieces that hold `bytes`, which must lie between start and end.
    pub(super) fn cover(&self, bytes: Range<u64>) -> Vec<Piece> {
        let mut pieces = Vec::new();
        if bytes.is_empty() {
            return pieces;
        }
        let first = self.whole.partition_point(|(end, _)| *end <= bytes.start);
        let mut start = match first {
            0 => self.start,
            _ => self.whole[first - 1].0,
        };
        for (end, crc32) in &self.whole[first..] {
            if start >= bytes.end {
                return pieces;
            }
            pieces.push(Piece {
                bytes: start..*end,
                crc32: *crc32,
            });
            start = *end;
        }
        if start < bytes.end && self.open_start < self.end {
            pieces.push(Piece {
                bytes: self.open_start..self.end,
                crc32: self.open.clone().finalize(),
            });
        }
        pieces
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whatever the sizes of the appends, every part is covered by pieces with the right checksums.
    #[test]
    fn every_part_is_covered() {
        let content: Vec<u8> = (0..200_000u32).map(|n| (n * 7 / 3) as u8).collect();
        let mut sums = Sums::from(90_001);
        for part in content[90_001..].chunks(7_919) {
            sums.append(part);
        }
        let mut before = Sums::from(0);
        before.append(&content[..90_001]);
        sums.complete(before);
        let end = content.len() as u64;
        for (from, to) in [
            (0, 1),
            (65_535, 65_537),
            (90_000, 90_002),
            (0, end),
            (end - 1, end),
        ] {
            let pieces = sums.cover(from..to);
            assert!(pieces[0].bytes.start <= from && pieces.last().unwrap().bytes.end >= to);
            assert!(
                pieces
                    .windows(2)
                    .all(|two| two[0].bytes.end == two[1].bytes.start)
            );
            for piece in pieces {
                let (from, to) = (piece.bytes.start as usize, piece.bytes.end as usize);
                assert!(to - from <= PIECE_BYTES as usize);
                assert_eq!(crc32fast::hash(&content[from..to]), piece.crc32);
            }
        }
        assert_eq!(sums.cover(5..5), []);
    }
}
