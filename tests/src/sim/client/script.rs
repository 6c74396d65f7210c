//! What a client wants: sections under locks, reads, files that come and go.

use bytes::Bytes;
use net::RequestBody;
use statemachine::{Command, LockMode, Op, Query, Seq, Token};

use super::Client;
use crate::sim::check::history::What;
use crate::sim::check::sections::Fate;
use crate::sim::plan::MS;

impl Client {
    pub(super) fn rest(&mut self, now: i64) {
        let long = if self.dice.permille(100) {
            300 * MS
        } else {
            10 * MS
        };
        self.idle_until = now + self.dice.between(0, long) as i64;
    }

    pub(super) fn script(&mut self, now: i64) {
        if self.guard.is_some() {
            return self.script_section(now);
        }
        if let Some(id) = self.acquiring {
            return self.maybe_cancel(now, id);
        }
        if self.stopped || self.opening || self.closing || now < self.idle_until {
            return;
        }
        self.rest(now);
        if self.session.is_none() {
            let name = format!("client{}", self.index);
            return self.open(now, name);
        }
        match self.dice.between(0, 99) {
            0..15 => self.read(now),
            15..18 => {
                self.command(now, Op::Close);
                self.closing = true;
            }
            18..21 => self.churn(now),
            21..23 => {
                let id = self.other_call();
                self.start(now, id, What::Health, RequestBody::Health, None);
            }
            _ => self.acquire(now),
        }
    }

    pub(super) fn acquire(&mut self, now: i64) {
        let lock = lock_name(self.dice.between(0, self.locks as u64 - 1) as usize);
        let wait_ms = match self.dice.between(0, 3) {
            0 => Some(0),
            1 => Some(self.dice.between(20, 800)),
            _ => None,
        };
        let lease_ms = Some(self.dice.between(self.term_ms.0, self.term_ms.1));
        let op = Op::Acquire {
            lock,
            lease_ms,
            wait_ms,
            mode: LockMode::Exclusive,
        };
        self.acquiring = self.command(now, op);
    }

    /// Now and then a waiter loses patience. From then on no grant of that acquire counts: the cancel may
    /// have given it back already.
    pub(super) fn maybe_cancel(&mut self, now: i64, id: u64) {
        let waits = self
            .calls
            .get(&id)
            .is_some_and(|call| now - call.born_at > 700_000);
        if (waits && self.dice.permille(300)) || self.stopped {
            if self.dice.permille(500) {
                // Given up before, so that the cancel itself says so.
                self.close(id);
            }
            self.command(now, Op::Cancel { seq: Seq(id) });
            self.close(id);
            self.acquiring = None;
            self.rest(now);
        }
    }

    /// Files that come and go.
    pub(super) fn churn(&mut self, now: i64) {
        let file = format!("temp_{}", self.dice.between(0, 1));
        let op = if self.dice.permille(500) {
            Op::CreateFile {
                file,
                guard: Some(lock_name(0)),
            }
        } else {
            Op::RemoveFile { file }
        };
        self.command(now, op);
    }

    pub(super) fn read(&mut self, now: i64) {
        let lock = lock_name(self.dice.between(0, self.locks as u64 - 1) as usize);
        let file = self.file_of(&lock);
        let query = match self.dice.between(0, 5) {
            0 => Query::LockStatus { lock },
            1 => Query::Read {
                file,
                offset: self.dice.between(0, 40),
                len: 1_000,
            },
            2 => Query::Stat { file },
            3 => Query::Sessions {
                after: None,
                limit: 10,
            },
            4 => Query::Files {
                after: None,
                limit: 10,
            },
            _ => Query::CheckToken {
                lock,
                token: Token(self.dice.between(1, 50)),
            },
        };
        let stale = self.dice.permille(200);
        let body = RequestBody::Query {
            stale,
            bytes: Bytes::from(query.encode()),
        };
        let id = self.other_call();
        self.start(now, id, What::Query(query, stale), body, None);
    }

    pub(super) fn file_of(&mut self, lock: &str) -> String {
        match lock.strip_prefix("lock_") {
            Some(number) => format!("data_{number}"),
            None if self.dice.permille(100) => format!("temp_{}", self.dice.between(0, 1)),
            None => format!("file_{}", self.dice.between(0, u64::from(self.files) - 1)),
        }
    }

    pub(super) fn script_section(&mut self, now: i64) {
        let Some(guard) = &self.guard else { return };
        if guard.ending || now < guard.idle_until {
            return;
        }
        // Pipelined as a rule; at times one after another.
        if guard.left > 0 {
            if guard.in_flight.is_empty() || self.dice.permille(700) {
                self.append(now);
            }
            return;
        }
        if guard.in_flight.is_empty() {
            self.end_section(now, false);
        } else if let Some(guard) = &mut self.guard {
            guard.idle_until = now + 5 * MS as i64;
        }
    }

    pub(super) fn append(&mut self, now: i64) {
        let Some(guard) = &self.guard else { return };
        let (lock, token) = (guard.lock.clone(), guard.token);
        let place = guard.next_place;
        let file = self.file_of(&lock);
        let filler = if self.dice.permille(50) {
            self.dice.between(100, 6_000)
        } else {
            0
        };
        let pause = match self.dice.between(0, 19) {
            0 => self.dice.between(0, self.term_ms.1 * MS),
            1..5 => self.dice.between(0, 30 * MS),
            _ => 0,
        };
        let Some(guard) = &mut self.guard else { return };
        let data = Bytes::from(guard.section.record(place, filler as usize));
        guard.left -= 1;
        guard.next_place += 1;
        guard.idle_until = now + pause as i64;
        let op = Op::Append {
            lock,
            token,
            place,
            file: file.clone(),
            data,
        };
        if let Some(id) = self.command(now, op)
            && let Some(guard) = &mut self.guard
        {
            guard.in_flight.insert(id, (file, place));
        }
        if self.dice.permille(50)
            && let Some(guard) = &self.guard
        {
            let op = Op::Renew {
                lock: guard.lock.clone(),
                token: guard.token,
            };
            self.command(now, op);
        }
    }

    /// Releases as a rule; at times aborts, or forgets about it.
    pub(super) fn end_section(&mut self, now: i64, spoiled: bool) {
        let choice = self.dice.between(0, 19);
        let Some(guard) = &mut self.guard else { return };
        if guard.ending {
            return;
        }
        guard.ending = true;
        let (lock, token) = (guard.lock.clone(), guard.token);
        if choice == 0 && !spoiled && !self.stopped {
            return self.end(now, Fate::Discarded);
        }
        if choice == 1 || spoiled {
            self.stop_believing();
            self.command(now, Op::Abort { lock, token });
            return;
        }
        guard.section.fate = Fate::Unknown;
        let count = guard.next_place - 1;
        self.stop_believing();
        let settles = self.settle_dice.permille(50);
        let op = Op::Release {
            lock: lock.clone(),
            token,
            count,
        };
        self.command(now, op);
        if settles {
            self.settle(now, lock, token);
        }
    }

    /// Asks how a grant ended. That may overtake the release, which is refused then.
    pub(super) fn settle(&mut self, now: i64, lock: String, token: Token) {
        let id = self.other_call();
        self.settling.insert(id, token);
        let body = Bytes::from(Command::Settle { lock, token }.encode());
        let what = What::Settle(token);
        self.start(now, id, what, RequestBody::Command(body), None);
    }
}

fn lock_name(index: usize) -> String {
    if index == 0 {
        "default".to_owned()
    } else {
        format!("lock_{index}")
    }
}
