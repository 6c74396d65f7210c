//! One number for the whole state, kept in step with every change.
//!
//! ```text
//! hash = xxh3(head, sum of the parts)      head: slot, time, token counter, settings
//! sum  = part + part + …                   modulo 2^128, so the order does not matter
//! part = xxh3(kind, value)                 a session, a held lock, a waiter, a file, an end of a grant
//! ```
//!
//! A change takes the old part out of the sum and puts the new one in, so the hash costs the same
//! however large the state is, and a state read from a snapshot has the hash of the one written. What
//! follows from the parts (indexes, deadlines in order, weights) is not hashed.
//!
//! It finds replicas that differ by a fault. It is no defence against somebody who looks for two
//! states with one hash; `docs/decisions` says why that is enough.

use serde::Serialize;
use xxhash_rust::xxh3::{Xxh3, xxh3_128};

use crate::codec;

/// What a part describes. The number goes into its hash, so that equal bytes of two kinds differ.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Kind {
    Head,
    Session,
    Answer,
    Lock,
    Waiter,
    File,
    End,
}

/// The hash of one part.
pub(crate) fn part(kind: Kind, value: &impl Serialize) -> u128 {
    let mut bytes = Vec::with_capacity(256);
    bytes.push(kind as u8);
    codec::encode_into(value, &mut bytes);
    xxh3_128(&bytes)
}

/// The hash of everything that came before and of what comes next, in this order.
pub(crate) fn chain(before: u128, pieces: &[&[u8]]) -> u128 {
    let mut hash = Xxh3::new();
    hash.update(&before.to_le_bytes());
    for piece in pieces {
        hash.update(&(piece.len() as u64).to_le_bytes());
        hash.update(piece);
    }
    hash.digest128()
}

/// A sum of parts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Sum(u128);

impl Sum {
    pub(crate) fn add(&mut self, part: u128) {
        self.0 = self.0.wrapping_add(part);
    }

    pub(crate) fn remove(&mut self, part: u128) {
        self.0 = self.0.wrapping_sub(part);
    }

    pub(crate) fn value(self) -> u128 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sum_forgets_what_is_taken_out_and_in_which_order_it_came() {
        let parts: Vec<u128> = (0..9_u64).map(|n| part(Kind::Answer, &n)).collect();
        let mut sum = Sum::default();
        parts.iter().for_each(|&part| sum.add(part));
        let mut other = Sum::default();
        parts.iter().rev().for_each(|&part| other.add(part));
        assert_eq!(sum, other);
        parts.iter().step_by(2).for_each(|&part| sum.remove(part));
        let mut odd = Sum::default();
        parts
            .iter()
            .skip(1)
            .step_by(2)
            .for_each(|&part| odd.add(part));
        assert_eq!(sum, odd);
    }

    #[test]
    fn kinds_and_borders_are_told_apart() {
        assert_ne!(part(Kind::Answer, &7_u64), part(Kind::End, &7_u64));
        assert_ne!(chain(0, &[b"ab", b"c"]), chain(0, &[b"a", b"bc"]));
        assert_ne!(chain(1, &[b"a"]), chain(2, &[b"a"]));
    }
}
