//! How a call can end without success: refused, certainly not done, or perhaps done.

use std::time::Duration;

use net::Leader;
use statemachine::Refusal;

use crate::raw::{Call, Reply};

/// Why a call did not succeed. Each kind asks for another reaction.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The service has decided against it; asking again gives the same answer.
    #[error("{0}")]
    Refused(Refusal),
    /// Certainly not done: no replica could take it on in time. Try again later.
    #[error("unavailable, not done: {reason}")]
    Unavailable {
        /// What was tried last.
        reason: String,
    },
    /// Perhaps done: it was sent, and no answer came in time. [`UnknownCall::settle`] asks again.
    #[error("unknown, perhaps done: {}", .0.reason)]
    Unknown(UnknownCall),
    /// The one replica that was asked does not lead, and no other was to be asked.
    #[error("this replica does not lead{}", led_by(.leader.as_ref()))]
    NotLeader {
        /// Who leads, as far as it knows.
        leader: Option<Leader>,
    },
    /// What was asked makes no sense to the service, or its answer none to us.
    #[error("bad request: {0}")]
    BadRequest(String),
    /// The caller's arguments make no sense; nothing was sent.
    #[error("{0}")]
    Usage(String),
}

fn led_by(leader: Option<&Leader>) -> String {
    leader.map_or_else(String::new, |leader| {
        format!(", replica {} at {} does", leader.id, leader.address)
    })
}

impl Error {
    /// The error's name for programs: a refusal's code, `unavailable`, `unknown`, `not_leader`,
    /// `bad_request` or `usage`.
    pub fn code(&self) -> &'static str {
        match self {
            Error::Refused(refusal) => refusal.code(),
            Error::Unavailable { .. } => "unavailable",
            Error::Unknown(_) => "unknown",
            Error::NotLeader { .. } => "not_leader",
            Error::BadRequest(_) => "bad_request",
            Error::Usage(_) => "usage",
        }
    }

    /// The return code of the coursework's calls: a refusal's, 4 for a bad request, 5 if certainly
    /// not done, 6 if unknown.
    pub fn rc(&self) -> u8 {
        match self {
            Error::Refused(refusal) => refusal.rc(),
            Error::Unavailable { .. } | Error::NotLeader { .. } => 5,
            Error::Unknown(_) => 6,
            Error::BadRequest(_) | Error::Usage(_) => 4,
        }
    }

    /// The refusal, if it is one.
    pub fn refusal(&self) -> Option<&Refusal> {
        match self {
            Error::Refused(refusal) => Some(refusal),
            _ => None,
        }
    }

    /// Whether the session has ended.
    pub fn is_session_expired(&self) -> bool {
        matches!(self, Error::Refused(Refusal::SessionExpired))
    }
}

impl From<Refusal> for Error {
    fn from(refusal: Refusal) -> Error {
        Error::Refused(refusal)
    }
}

/// A call whose outcome is not known yet.
#[derive(Clone, Debug)]
pub struct UnknownCall {
    /// What was tried last, for people.
    pub reason: String,
    pub(crate) call: Option<Call>,
}

impl UnknownCall {
    /// Asks again what came of it, under the call's own number, so that it is done at most once. Of a
    /// release whose session has ended, it asks by the token, and hears that it was done or never will
    /// be, as long as the service remembers how the grant ended (the last 65,536 of all).
    ///
    /// # Errors
    ///
    /// As the call itself: a refusal is its answer, [`Error::Unknown`] that it is still open. A
    /// call without a number, such as a health check, stays unknown.
    pub async fn settle(&self, timeout: Duration) -> Result<Reply, Error> {
        match &self.call {
            Some(call) => call.settle(timeout).await,
            None => Err(Error::Unknown(self.clone())),
        }
    }
}
