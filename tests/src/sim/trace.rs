//! What happened, as a hash always and as text when it is asked for.
//!
//! The hash is what `sim --twice` compares. The text is only written on the second run of a seed that
//! failed, which is the same to the byte; so the first run pays nothing for it.

use std::collections::VecDeque;
use std::fmt;

/// The trace of one run.
#[derive(Debug)]
pub(crate) struct Trace {
    hash: u64,
    /// Lines kept; 0 = none are written.
    lines: usize,
    tail: VecDeque<String>,
}

impl Trace {
    /// An empty trace that will keep so many lines.
    pub(crate) fn new(lines: usize) -> Trace {
        Trace {
            hash: 0xcbf2_9ce4_8422_2325,
            lines,
            tail: VecDeque::new(),
        }
    }

    /// Takes numbers into the hash (FNV-1a, by words).
    pub(crate) fn mix(&mut self, words: &[u64]) {
        for word in words {
            self.hash = (self.hash ^ word)
                .wrapping_mul(0x0000_0100_0000_01b3)
                .rotate_left(23);
        }
    }

    /// Adds a line, if anybody will read it.
    pub(crate) fn line(&mut self, now_us: u64, what: fmt::Arguments<'_>) {
        if self.lines > 0 {
            if self.tail.len() == self.lines {
                self.tail.pop_front();
            }
            self.tail
                .push_back(format!("{:>12.6} {what}", now_us as f64 / 1e6));
        }
    }

    /// The hash so far.
    pub(crate) fn hash(&self) -> u64 {
        self.hash
    }

    /// The last lines.
    pub(crate) fn tail(&self) -> impl Iterator<Item = &String> {
        self.tail.iter()
    }
}
