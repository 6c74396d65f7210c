//! Until when a client believes to hold its lock, by its own clock.

use super::{Act, Client, KEEP_PERCENT, MARGIN_US};

impl Client {
    /// Any pair of a sending time and the stamp of that very attempt serves; the best is kept.
    pub(super) fn anchor(&mut self, sent_at: i64, stamp_ms: Option<u64>) {
        if let (Some(stamp_ms), Some(session)) = (stamp_ms, &mut self.session) {
            let anchor = sent_at * 100 - stamp_ms as i64 * 1_000 * KEEP_PERCENT;
            session.anchor = Some(session.anchor.map_or(anchor, |best| best.max(anchor)));
        }
    }

    /// The client's own deadline for its lock, from what it was told last of lease and session.
    pub(super) fn believe(&mut self, now: i64) {
        let (Some(session), Some(guard)) = (&self.session, &mut self.guard) else {
            return;
        };
        let (Some(anchor), Some(_)) = (session.anchor, guard.until) else {
            return;
        };
        let deadline_ms = guard.deadline_ms.min(session.deadline_ms) as i64;
        let until = (anchor + deadline_ms * 1_000 * KEEP_PERCENT) / 100 - MARGIN_US;
        if until <= now {
            return;
        }
        if guard.until.is_some_and(|before| before < until) {
            guard.told_at = now;
        }
        guard.until = Some(until);
        let (lock, token) = (guard.lock.clone(), guard.token.0);
        self.acts.push(Act::Believe {
            lock,
            token,
            until_us: Some(until),
        });
    }

    /// Past its own deadline the lock is lost for the client, whatever the service thinks.
    pub(super) fn expire_belief(&mut self, now: i64) {
        if let Some(guard) = &mut self.guard
            && guard
                .until
                .is_some_and(|until| until != i64::MIN && until <= now)
        {
            // A client that slept meanwhile has itself to blame.
            if self.steady && !guard.ending && guard.told_at != i64::MAX {
                self.acts.push(Act::LoseLease {
                    lock: guard.lock.clone(),
                    since_us: guard.told_at,
                    until_us: guard.until.unwrap_or(now),
                    term_us: guard.term_us,
                });
            }
            guard.until = None;
        }
    }

    pub(super) fn stop_believing(&mut self) {
        if let Some(guard) = &mut self.guard {
            guard.until = None;
            let (lock, token) = (guard.lock.clone(), guard.token.0);
            self.acts.push(Act::Believe {
                lock,
                token,
                until_us: None,
            });
        }
    }

    pub(super) fn told(&mut self, now: i64, deadline_ms: u64) {
        if let Some(session) = &mut self.session {
            // A lock's deadline is never above its session's.
            session.deadline_ms = session.deadline_ms.max(deadline_ms);
        }
        if let Some(guard) = &mut self.guard {
            guard.deadline_ms = guard.deadline_ms.max(deadline_ms);
        }
        self.believe(now);
    }
}
