//! Which connection hears of what a session loses.
//!
//! A session belongs to no connection: its commands may come by any. What it loses without asking is told
//! to the one that was answered last for it. A leader begins with none, and knows each live session again
//! after one keep-alive.

use std::collections::{BTreeMap, BTreeSet};

use statemachine::{Event, LostWhy, NotHeldWhy, Refusal, SessionId};

use super::io::ConnId;

/// The connection of each session. Sessions are noted as the state machine answers them, so there are never
/// more here than it has.
#[derive(Debug, Default)]
pub(super) struct Homes {
    of: BTreeMap<SessionId, ConnId>,
    at: BTreeMap<ConnId, BTreeSet<SessionId>>,
}

impl Homes {
    /// The session was answered over this connection.
    pub(super) fn note(&mut self, session: SessionId, conn: ConnId) {
        let before = self.of.insert(session, conn);
        if before != Some(conn) {
            if let Some(before) = before {
                self.leave(session, before);
            }
            self.at.entry(conn).or_default().insert(session);
        }
    }

    /// The session's connection, if it has one.
    pub(super) fn of(&self, session: SessionId) -> Option<ConnId> {
        self.of.get(&session).copied()
    }

    /// The session has ended.
    pub(super) fn ended(&mut self, session: SessionId) {
        if let Some(conn) = self.of.remove(&session) {
            self.leave(session, conn);
        }
    }

    /// The connection is gone.
    pub(super) fn gone(&mut self, conn: ConnId) {
        for session in self.at.remove(&conn).unwrap_or_default() {
            self.of.remove(&session);
        }
    }

    fn leave(&mut self, session: SessionId, conn: ConnId) {
        if let Some(sessions) = self.at.get_mut(&conn) {
            sessions.remove(&session);
            if sessions.is_empty() {
                self.at.remove(&conn);
            }
        }
    }
}

/// What a session lost by this event without having asked for it, as a refusal would tell it.
pub(super) fn loss(event: &Event) -> Option<(SessionId, Refusal)> {
    match event {
        Event::SessionExpired { session, .. } | Event::SessionClosed { session } => {
            Some((*session, Refusal::SessionExpired))
        }
        Event::Lost {
            lock,
            session,
            token,
            why,
            ..
        } => {
            let why = match why {
                LostWhy::LeaseExpired => NotHeldWhy::LeaseEnded,
                LostWhy::Forced { reason, .. } => NotHeldWhy::Forced {
                    reason: reason.clone(),
                },
                // Asked for by the session itself, or told with its end.
                LostWhy::Released
                | LostWhy::Aborted
                | LostWhy::GivenBack
                | LostWhy::SessionExpired
                | LostWhy::SessionClosed => return None,
            };
            let (lock, token) = (lock.clone(), *token);
            Some((*session, Refusal::NotHeld { lock, token, why }))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_moves_with_its_answers_and_goes_with_its_connection() {
        let (a, b, session) = (ConnId(1), ConnId(2), SessionId(7));
        let mut homes = Homes::default();
        homes.note(session, a);
        homes.note(session, b);
        homes.gone(a);
        assert_eq!(homes.of(session), Some(b));
        homes.note(SessionId(8), b);
        homes.ended(SessionId(8));
        homes.gone(b);
        assert!(homes.of.is_empty() && homes.at.is_empty());
    }
}
