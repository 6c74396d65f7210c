//! What a candidate keeps: its ballot and the promises so far.

use crate::ballot::Ballot;
use crate::ident::MonoTime;
use crate::phase1::Phase1;

/// One candidacy.
#[derive(Clone, Debug)]
pub(crate) struct Candidate {
    pub(crate) ballot: Ballot,
    /// P1: the own promise is durable, so it counts and the prepares are out.
    pub(crate) prepared: bool,
    pub(crate) phase1: Phase1,
    /// Unanswered prepares are sent again then.
    pub(crate) resend_at: MonoTime,
    /// Gives up then.
    pub(crate) deadline: MonoTime,
}
