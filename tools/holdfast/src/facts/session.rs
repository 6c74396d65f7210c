use serde::Serialize;
use statemachine::SessionFact;

use super::time;
use crate::output::Row;

/// An open session.
#[derive(Debug, Serialize)]
pub(crate) struct SessionRow {
    pub(crate) session_id: u64,
    pub(crate) name: String,
    pub(crate) ttl_ms: u64,
    pub(crate) left_ms: u64,
    /// By the leader's wall clock; for people.
    pub(crate) since_unix_ms: u64,
    /// Locks that it holds.
    pub(crate) held: u64,
    /// Locks that it waits for.
    pub(crate) waiting: u64,
}

impl From<SessionFact> for SessionRow {
    fn from(fact: SessionFact) -> Self {
        SessionRow {
            session_id: fact.session.0,
            name: fact.name,
            ttl_ms: fact.ttl_ms,
            left_ms: fact.left_ms,
            since_unix_ms: fact.since_wall_ms,
            held: fact.held,
            waiting: fact.waiting,
        }
    }
}

impl Row for SessionRow {
    const HEADINGS: &'static [&'static str] = &["SESSION", "NAME", "TTL", "LEFT", "HOLDS", "WAITS"];

    fn cells(&self) -> Vec<String> {
        vec![
            self.session_id.to_string(),
            self.name.clone(),
            time(self.ttl_ms),
            time(self.left_ms),
            self.held.to_string(),
            self.waiting.to_string(),
        ]
    }
}
