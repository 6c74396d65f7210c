//! Room for large commands, promised before their bytes are sent, and when refused callers should
//! come back.
//!
//! ```text
//! Room { bytes } ──► queue, first come first served ──► Done: kept for a second for that connection
//!                          └── half a second without room ──► Unavailable, with a time to come back
//! ```
//!
//! A leader under overload that simply refused would be sent the same megabytes again and again, and
//! spend the network and its own time on them instead of on the work that it took.

use std::collections::{BTreeMap, VecDeque};

use paxos::MonoTime;

use super::io::{ConnId, Origin};

/// How long an asker waits for room before it is told to come back.
const PATIENCE_US: u64 = 500_000;
/// How long room is kept for a command that does not come.
const KEPT_US: u64 = 1_000_000;
/// Askers that wait at once; more are told to come back at once.
const ASKERS_MAX: usize = 10_000;
/// The least that a grant takes, which bounds how many there can be.
const GRANT_BYTES_MIN: usize = 4 << 10;

#[derive(Debug)]
struct Asker {
    origin: Origin,
    bytes: usize,
    until: MonoTime,
}

#[derive(Debug)]
struct Grant {
    bytes: usize,
    until: MonoTime,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Room {
    askers: VecDeque<Asker>,
    grants: BTreeMap<ConnId, VecDeque<Grant>>,
    granted_bytes: usize,
}

impl Room {
    /// Bytes kept for commands that are to come.
    pub(super) fn granted_bytes(&self) -> usize {
        self.granted_bytes
    }

    /// Bytes that the first in the queue waits for, which nobody may take from under it.
    pub(super) fn wanted_bytes(&self) -> usize {
        self.askers.front().map_or(0, |asker| asker.bytes)
    }

    /// Queues an asker; false if there are too many.
    pub(super) fn ask(&mut self, origin: Origin, bytes: usize, now: MonoTime) -> bool {
        if self.askers.len() >= ASKERS_MAX {
            return false;
        }
        self.askers.push_back(Asker {
            origin,
            bytes: bytes.max(GRANT_BYTES_MIN),
            until: now.after(PATIENCE_US),
        });
        true
    }

    /// Uses up a grant of this connection, if it has one that suffices.
    pub(super) fn take(&mut self, conn: ConnId, bytes: usize) -> bool {
        let Some(grants) = self.grants.get_mut(&conn) else {
            return false;
        };
        let Some(at) = grants.iter().position(|grant| bytes <= grant.bytes) else {
            return false;
        };
        let grant = grants.remove(at).expect("it was found there");
        self.granted_bytes -= grant.bytes;
        if grants.is_empty() {
            self.grants.remove(&conn);
        }
        true
    }

    /// Lets go of room kept for too long, and gives `free` bytes to those who wait longest. Returns
    /// who has room now, and who waited too long.
    pub(super) fn settle(
        &mut self,
        mut free: usize,
        now: MonoTime,
    ) -> (Vec<Origin>, Vec<(Origin, usize)>) {
        free += self.expire(now);
        let (mut served, mut late) = (Vec::new(), Vec::new());
        while let Some(asker) = self.askers.front() {
            let fits = asker.bytes <= free;
            if !fits && asker.until > now {
                break;
            }
            let Some(Asker { origin, bytes, .. }) = self.askers.pop_front() else {
                break;
            };
            if fits {
                free -= bytes;
                self.granted_bytes += bytes;
                let until = now.after(KEPT_US);
                self.grants
                    .entry(origin.conn)
                    .or_default()
                    .push_back(Grant { bytes, until });
                served.push(origin);
            } else {
                late.push((origin, bytes));
            }
        }
        (served, late)
    }

    /// When [`Room::settle`] has something to do even if nothing else happens.
    pub(super) fn due(&self) -> Option<MonoTime> {
        let asker = self.askers.front()?;
        let kept = self
            .grants
            .values()
            .flatten()
            .map(|grant| grant.until)
            .min();
        Some(kept.map_or(asker.until, |kept| kept.min(asker.until)))
    }

    /// Forgets a connection.
    pub(super) fn gone(&mut self, conn: ConnId) {
        self.askers.retain(|asker| asker.origin.conn != conn);
        for grant in self.grants.remove(&conn).into_iter().flatten() {
            self.granted_bytes -= grant.bytes;
        }
    }

    /// Forgets everything, and returns who waited: this replica leads no more.
    pub(super) fn take_all(&mut self) -> Vec<Origin> {
        self.grants.clear();
        self.granted_bytes = 0;
        self.askers.drain(..).map(|asker| asker.origin).collect()
    }

    fn expire(&mut self, now: MonoTime) -> usize {
        let before = self.granted_bytes;
        self.grants.retain(|_, grants| {
            grants.retain(|grant| {
                let keep = grant.until > now;
                if !keep {
                    self.granted_bytes -= grant.bytes;
                }
                keep
            });
            !grants.is_empty()
        });
        before - self.granted_bytes
    }
}

/// How fast work is done, and so when somebody who was refused should come back.
///
/// Each refusal puts the caller at the end of an imaginary line that moves at the measured rate, so
/// that those who were refused together do not come back together.
#[derive(Debug)]
pub(super) struct Pacing {
    /// Bytes applied per second, of late.
    rate: u64,
    window: MonoTime,
    window_bytes: u64,
    /// When the last one in the line would have its turn.
    line: MonoTime,
}

/// How long the rate is measured at a time.
const WINDOW_US: u64 = 250_000;
/// The slowest rate reckoned with, in bytes a second.
const RATE_MIN: u64 = 64 << 10;
/// The shortest and the longest time after which a caller is told to come back.
const RETRY_MS: (u64, u64) = (10, 1_000);

impl Pacing {
    pub(super) fn new(now: MonoTime) -> Pacing {
        Pacing {
            rate: 16 << 20,
            window: now,
            window_bytes: 0,
            line: now,
        }
    }

    /// So much was applied.
    pub(super) fn on_applied(&mut self, bytes: usize, now: MonoTime) {
        self.window_bytes += bytes as u64;
        let passed = now.0.saturating_sub(self.window.0);
        if passed >= WINDOW_US {
            let measured = self.window_bytes.saturating_mul(1_000_000) / passed;
            self.rate = (self.rate / 2 + measured / 2).max(RATE_MIN);
            (self.window, self.window_bytes) = (now, 0);
        }
    }

    /// Milliseconds after which the sender of `bytes` should ask again.
    pub(super) fn come_back(&mut self, bytes: usize, now: MonoTime) -> u64 {
        let turn_us = (bytes as u64).saturating_mul(1_000_000) / self.rate;
        let latest = now.after(RETRY_MS.1 * 1_000);
        self.line = self.line.max(now).after(turn_us).min(latest);
        ((self.line.0 - now.0) / 1_000).clamp(RETRY_MS.0, RETRY_MS.1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn origin(conn: u64) -> Origin {
        Origin {
            conn: ConnId(conn),
            request: 1,
        }
    }

    #[test]
    fn room_goes_to_whoever_waits_longest_and_is_used_once() {
        let mut room = Room::default();
        let now = MonoTime(1_000_000);
        for conn in 1..=3 {
            assert!(room.ask(origin(conn), 1 << 20, now));
        }
        let (served, late) = room.settle(2 << 20, now);
        assert_eq!(served, [origin(1), origin(2)]);
        assert!(late.is_empty());
        assert_eq!(room.granted_bytes(), 2 << 20);
        assert!(
            !room.take(ConnId(1), (1 << 20) + 1),
            "more than was asked for"
        );
        assert!(room.take(ConnId(1), 1 << 20));
        assert!(!room.take(ConnId(1), 1), "once");
        assert_eq!(room.granted_bytes(), 1 << 20);

        assert_eq!(room.due(), Some(now.after(PATIENCE_US)));
        let later = now.after(PATIENCE_US);
        assert_eq!(room.settle(0, later), (vec![], vec![(origin(3), 1 << 20)]));
        // What was never used is free again.
        assert!(room.ask(origin(4), 1 << 20, later));
        let much_later = now.after(KEPT_US);
        assert_eq!(room.settle(0, much_later).0, [origin(4)]);
        room.gone(ConnId(4));
        assert_eq!(room.granted_bytes(), 0);
    }

    #[test]
    fn those_who_were_refused_together_come_back_one_after_the_other() {
        let now = MonoTime(1_000_000);
        let mut pacing = Pacing::new(now);
        let turns: Vec<u64> = (0..4).map(|_| pacing.come_back(1 << 20, now)).collect();
        assert!(turns.windows(2).all(|pair| pair[0] < pair[1]), "{turns:?}");
        let far = (0..100).map(|_| pacing.come_back(1 << 20, now)).max();
        assert_eq!(far, Some(RETRY_MS.1));
    }
}
