//! What a prober keeps: who would let it lead.

use std::collections::BTreeSet;

use crate::ballot::Ballot;
use crate::ident::{MonoTime, NodeId, Slot};

/// One round of probing.
#[derive(Clone, Debug)]
pub(crate) struct Prober {
    /// The ballot it would use.
    pub(crate) would_be: Ballot,
    /// Who would let it, itself included.
    pub(crate) grants: BTreeSet<NodeId>,
    /// The highest last slot that anybody told.
    pub(crate) freshest: Slot,
    /// Waits until then for a fresher peer to go first.
    pub(crate) courtesy_until: Option<MonoTime>,
    /// When it asked.
    pub(crate) asked_at: MonoTime,
    /// Asks again then.
    pub(crate) deadline: MonoTime,
}
