//! Calls that `cancel` and `settle` may still name.
//!
//! Kept are those that run, acquires, and those whose end is unknown; an answered append, with its data, is not. Each
//! kind is bounded, and the oldest goes first: an unknown call that goes is given up, so that it never runs later.

use std::collections::VecDeque;
use std::rc::Rc;

use client::raw::Call;
use statemachine::Op;

use super::request::Id;
use super::session::ShellSession;

/// Acquires kept, and unknown calls kept.
const KEPT_MAX: usize = 1024;

/// A call with what is needed to understand its answer.
#[derive(Debug, Clone)]
pub(crate) struct Kept {
    pub(crate) id: Id,
    pub(crate) session: Rc<ShellSession>,
    pub(crate) call: Call,
    /// Of an acquire: whether keep-alives shall extend the lease.
    pub(crate) renew: bool,
}

impl Kept {
    pub(crate) fn is_acquire(&self) -> bool {
        matches!(self.call.op(), Op::Acquire { .. })
    }
}

/// The books.
#[derive(Debug, Default)]
pub(crate) struct Calls {
    acquires: VecDeque<Kept>,
    unknown: VecDeque<Kept>,
}

impl Calls {
    /// A call was started.
    pub(crate) fn started(&mut self, kept: &Kept) {
        if kept.is_acquire() {
            push(&mut self.acquires, kept.clone());
        }
    }

    /// No answer came in time, though it may have been done.
    pub(crate) fn is_unknown(&mut self, kept: &Kept) {
        push(&mut self.unknown, kept.clone());
    }

    /// The acquire of this id, the latest if there are several.
    pub(crate) fn acquire(&self, id: &Id) -> Option<Kept> {
        self.acquires
            .iter()
            .rev()
            .find(|kept| kept.id == *id)
            .cloned()
    }

    /// Acquires that have no answer yet.
    pub(crate) fn waiting(&self) -> Vec<Kept> {
        self.acquires
            .iter()
            .filter(|kept| kept.call.answer().is_none())
            .cloned()
            .collect()
    }

    /// Takes the unknown call of this id out of the books, to ask on.
    pub(crate) fn take_unknown(&mut self, id: &Id) -> Option<Kept> {
        let index = self.unknown.iter().rposition(|kept| kept.id == *id)?;
        self.unknown.remove(index)
    }
}

fn push(queue: &mut VecDeque<Kept>, kept: Kept) {
    if queue.len() == KEPT_MAX {
        queue.pop_front();
    }
    queue.push_back(kept);
}
