//! Whether two clients ever held one lock at a time, as the driver itself saw it.
//!
//! All clients live in this process, so the driver knows the true order: a client enters when it has seen its grant
//! and leaves before it asks for the release. Tokens must grow as well: one that does not fences nobody.

use std::cell::Cell;

/// One lock as its clients see it.
#[derive(Debug, Default)]
pub(crate) struct Witness {
    inside: Cell<bool>,
    last_token: Cell<u64>,
    violations: Cell<u64>,
}

impl Witness {
    /// A client was granted the lock.
    pub(crate) fn enter(&self, token: u64) {
        let shared = self.inside.replace(true);
        let old = token <= self.last_token.replace(token);
        if shared || old {
            self.violations.set(self.violations.get() + 1);
        }
    }

    /// The client is about to give it back, or knows that it lost it.
    pub(crate) fn leave(&self) {
        self.inside.set(false);
    }

    /// How often the lock was not exclusive.
    pub(crate) fn violations(&self) -> u64 {
        self.violations.get()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_after_the_other_is_fine() {
        let witness = Witness::default();
        for token in [1, 2, 7] {
            witness.enter(token);
            witness.leave();
        }
        assert_eq!(witness.violations(), 0);
    }

    #[test]
    fn two_inside_or_a_token_that_does_not_grow_count() {
        let witness = Witness::default();
        witness.enter(1);
        witness.enter(2);
        assert_eq!(witness.violations(), 1);
        witness.leave();
        witness.enter(2);
        assert_eq!(witness.violations(), 2);
    }
}
