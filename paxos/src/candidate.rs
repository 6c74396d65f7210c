//! What a candidate keeps: its ballot and the promises so far.

use std::collections::BTreeMap;

use crate::ballot::Ballot;
use crate::ident::{MonoTime, NodeId, Slot};
use crate::phase1::Phase1;

/// One candidacy.
#[derive(Clone, Debug)]
pub(crate) struct Candidate {
    pub(crate) ballot: Ballot,
    pub(crate) begun_at: MonoTime,
    /// P1: the own promise is durable, so it counts and the prepares are out.
    pub(crate) prepared: bool,
    pub(crate) phase1: Phase1,
    /// What each acceptor was asked last.
    pub(crate) asked: BTreeMap<NodeId, Asked>,
    /// Prepares that met silence are looked at again then.
    pub(crate) resend_at: MonoTime,
    /// When it last got on: it began, its own promise was durable, or it heard something new.
    pub(crate) step_at: MonoTime,
    /// Gives up then.
    pub(crate) deadline: MonoTime,
}

/// The last prepare to one acceptor.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Asked {
    pub(crate) from: Slot,
    pub(crate) at: MonoTime,
    /// It is repeated after so much silence; doubles each time.
    pub(crate) wait_us: u64,
}
