//! One number for a whole state: its snapshot, mixed.

use std::io;

use super::encode;
use crate::state::State;

/// A number for the state.
pub(crate) fn hash(state: &State) -> u64 {
    let mut hash = Hash {
        value: 0x243f_6a88_85a3_08d3,
        tail: Vec::with_capacity(8),
    };
    encode(state, &mut hash).expect("a hash takes everything");
    hash.finish()
}

/// Mixes bytes into a number, eight at a time. No defence against malice: replicas are trusted.
struct Hash {
    value: u64,
    tail: Vec<u8>,
}

impl Hash {
    fn mix(&mut self, word: u64) {
        let mixed = (self.value ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        self.value = mixed ^ (mixed >> 29);
    }

    fn finish(mut self) -> u64 {
        let len = self.tail.len() as u64;
        self.tail.resize(8, 0);
        let word = word(&self.tail);
        self.mix(word);
        self.mix(len);
        self.value
    }
}

impl io::Write for Hash {
    fn write(&mut self, mut bytes: &[u8]) -> io::Result<usize> {
        let all = bytes.len();
        if !self.tail.is_empty() {
            let fill = bytes.len().min(8 - self.tail.len());
            self.tail.extend_from_slice(&bytes[..fill]);
            bytes = &bytes[fill..];
            if self.tail.len() < 8 {
                return Ok(all);
            }
            let word = word(&self.tail);
            self.tail.clear();
            self.mix(word);
        }
        let chunks = bytes.chunks_exact(8);
        self.tail.extend_from_slice(chunks.remainder());
        chunks.for_each(|chunk| self.mix(word(chunk)));
        Ok(all)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn word(bytes: &[u8]) -> u64 {
    u64::from_le_bytes(bytes.try_into().expect("eight bytes"))
}
