//! How the last grants ended: what `settle` answers from.
//!
//! A ring in the order in which grants ended. It is bounded twice: by a number of grants, and by its
//! share of the state's budget, so that it never takes the room of new work for good.
//!
//! ```text
//! number of ending    41        42        43
//! grant               token 17  token 9   token 18
//! fate                done      never     done       the next one is number 44
//! ```

use imbl::{OrdMap, Vector};

use crate::budget::fate_cost;
use crate::digest::{self, Kind, Sum};
use crate::{Fate, Settings, Token};

/// The ring takes this part of the state's budget at most.
const SHARE: u64 = 16;

/// Weight that a release's file lengths may have to be kept with it.
const LENGTHS_BYTES_MAX: u64 = 512;

/// The ends of the last grants.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Ended {
    /// Grants that ended since rules of version 2 are in force, forgotten ones included.
    count: u64,
    /// The last of them, oldest first.
    last: Vector<(Token, Fate)>,
    /// The number of each in `last`, counted from 0 for the first of all.
    numbers: OrdMap<Token, u64>,
    /// What `last` weighs.
    bytes: u64,
    /// The hash of `last`.
    hash: Sum,
}

impl Ended {
    /// An empty ring after so many endings.
    pub(crate) fn after(count: u64) -> Ended {
        Ended {
            count,
            ..Ended::default()
        }
    }

    /// Grants that ended, forgotten ones included.
    pub(crate) fn count(&self) -> u64 {
        self.count
    }

    /// What the ring weighs.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The hash of the grants remembered.
    pub(crate) fn hash(&self) -> u128 {
        self.hash.value()
    }

    /// The grants remembered, the one that ended first first.
    pub(crate) fn iter(&self) -> impl ExactSizeIterator<Item = &(Token, Fate)> {
        self.last.iter()
    }

    /// How a grant ended; unknown if it has not, or is forgotten.
    pub(crate) fn fate(&self, token: Token) -> Fate {
        let first = self.count - self.last.len() as u64;
        let known = self.numbers.get(&token).map(|number| {
            let at = usize::try_from(number - first).expect("it is in memory");
            self.last[at].1.clone()
        });
        known.unwrap_or(Fate::Unknown)
    }

    /// Notes how a grant ended, and forgets the oldest ones beyond the limits.
    pub(crate) fn push(&mut self, token: Token, fate: Fate, limits: &Settings) {
        if limits.tokens_max == 0 {
            return;
        }
        self.append(token, short(fate));
        let bytes_max = limits.state_bytes_max / SHARE;
        while self.last.len() as u64 > limits.tokens_max || self.bytes > bytes_max {
            let (token, fate) = self
                .last
                .pop_front()
                .expect("only a full ring is too large");
            self.bytes -= fate_cost(&fate);
            let number = self.numbers.remove(&token);
            self.hash
                .remove(digest::part(Kind::End, &(number, token, &fate)));
        }
    }

    /// Notes how a grant ended, and forgets none.
    pub(crate) fn append(&mut self, token: Token, fate: Fate) {
        self.bytes += fate_cost(&fate);
        self.hash
            .add(digest::part(Kind::End, &(Some(self.count), token, &fate)));
        self.last.push_back((token, fate));
        let known = self.numbers.insert(token, self.count);
        assert!(known.is_none(), "token {token} ended once");
        self.count += 1;
    }

    /// Whether a grant is remembered.
    pub(crate) fn contains(&self, token: Token) -> bool {
        self.numbers.contains_key(&token)
    }
}

/// The fate without its file lengths, if they weigh too much to keep.
fn short(fate: Fate) -> Fate {
    match fate {
        Fate::Done { slot, .. } if fate_cost(&fate) > LENGTHS_BYTES_MAX => Fate::Done {
            slot,
            lengths: None,
        },
        fate => fate,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Slot;

    fn done(files: usize) -> Fate {
        let lengths = (0..files).map(|n| (format!("file_{n}"), 7)).collect();
        Fate::Done {
            slot: Slot(3),
            lengths: Some(lengths),
        }
    }

    #[test]
    fn the_oldest_is_forgotten() {
        let limits = Settings {
            tokens_max: 3,
            ..Settings::default()
        };
        let mut ended = Ended::default();
        for token in [5, 2, 9, 4] {
            ended.push(Token(token), Fate::Never, &limits);
        }
        let known: Vec<u64> = ended.iter().map(|(token, _)| token.0).collect();
        assert_eq!(known, [2, 9, 4]);
        assert_eq!(ended.fate(Token(5)), Fate::Unknown);
        assert_eq!(ended.fate(Token(9)), Fate::Never);
        assert_eq!(ended.count(), 4);
    }

    /// A small budget keeps fewer, and one with no room keeps none.
    #[test]
    fn the_ring_keeps_to_its_share() {
        let mut limits = Settings {
            state_bytes_max: SHARE * 250,
            ..Settings::default()
        };
        let mut ended = Ended::default();
        (1..=9).for_each(|token| ended.push(Token(token), Fate::Never, &limits));
        assert_eq!((ended.iter().len(), ended.bytes()), (2, 192));
        limits.state_bytes_max = 1;
        ended.push(Token(10), Fate::Never, &limits);
        assert_eq!((ended.iter().len(), ended.bytes()), (0, 0));
    }

    #[test]
    fn long_lists_of_files_are_not_kept() {
        let mut ended = Ended::default();
        ended.push(Token(1), done(5), &Settings::default());
        ended.push(Token(2), done(50), &Settings::default());
        assert_eq!(ended.fate(Token(1)), done(5));
        let short = Fate::Done {
            slot: Slot(3),
            lengths: None,
        };
        assert_eq!(ended.fate(Token(2)), short);
    }
}
