//! Whether two clients ever held one lock at a time, as the driver itself saw it.
//!
//! All clients live in this process, so the driver knows the true order: a client enters when it has seen its grant
//! and leaves before it asks for the release. One whose own clock says that its lock may be over holds it no more.
//! Tokens must grow as well: one that does not fences nobody.

use std::cell::{Cell, RefCell};

/// Whether a client still believes, by its own clock, that it holds the lock.
pub(crate) type Belief = Box<dyn Fn() -> bool>;

/// One lock as its clients see it.
#[derive(Default)]
pub(crate) struct Witness {
    inside: RefCell<Option<(u64, Belief)>>,
    last_token: Cell<u64>,
    violations: Cell<u64>,
}

impl Witness {
    /// A client was granted the lock.
    pub(crate) fn enter(&self, token: u64, belief: Belief) {
        let before = self.inside.replace(Some((token, belief)));
        let shared = before.is_some_and(|(_, still)| still());
        let old = token <= self.last_token.replace(token);
        if shared || old {
            self.violations.set(self.violations.get() + 1);
        }
    }

    /// The client is about to give it back, or knows that it lost it.
    pub(crate) fn leave(&self, token: u64) {
        let mut inside = self.inside.borrow_mut();
        if inside.as_ref().is_some_and(|(holder, _)| *holder == token) {
            *inside = None;
        }
    }

    /// How often the lock was not exclusive.
    pub(crate) fn violations(&self) -> u64 {
        self.violations.get()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn believing(believes: bool) -> Belief {
        Box::new(move || believes)
    }

    #[test]
    fn one_after_the_other_is_fine() {
        let witness = Witness::default();
        for token in [1, 2, 7] {
            witness.enter(token, believing(true));
            witness.leave(token);
        }
        assert_eq!(witness.violations(), 0);
    }

    #[test]
    fn two_inside_or_a_token_that_does_not_grow_count() {
        let witness = Witness::default();
        witness.enter(1, believing(true));
        witness.enter(2, believing(true));
        assert_eq!(witness.violations(), 1);
        witness.leave(2);
        witness.enter(2, believing(true));
        assert_eq!(witness.violations(), 2);
    }

    #[test]
    fn one_who_knows_that_its_lease_is_over_is_not_inside() {
        let witness = Witness::default();
        witness.enter(1, believing(false));
        witness.enter(2, believing(true));
        witness.leave(1);
        assert_eq!(witness.violations(), 0);
        witness.enter(3, believing(true));
        assert_eq!(witness.violations(), 1, "the late one took the other out");
    }
}
