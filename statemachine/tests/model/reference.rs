//! The promises once more, as plainly as can be: lists, looked through from end to end.
//!
//! No index, no weight, no snapshot, no shared structure. Slow on purpose, and short enough to be
//! read beside `docs/semantics.md`.

use std::collections::{BTreeMap, BTreeSet};

use statemachine::{Answer, ClusterTime, Query};
use statemachine::{
    Beat, BeatAnswer, BeatState, Command, Done, Fate, FileId, FullPart, LockBeat, Machine,
    Measured, NotHeldWhy, Op, Outcome, Refusal, ReplyTo, SectionPart, Seq, SessionExpired,
    SessionId, Settings, Slot, Token, file_name_fault, lock_name_fault,
};

use crate::walk::{Entry, What};

type Replies = Vec<(ReplyTo, Outcome)>;

#[derive(Clone, Default)]
pub(crate) struct Model {
    time: u64,
    slot: u64,
    token: u64,
    settings: Option<Settings>,
    sessions: Vec<Session>,
    holds: Vec<Hold>,
    waits: Vec<Wait>,
    files: BTreeMap<String, File>,
    freed: Vec<String>,
    /// From then on no deadline is one that a new leader has lifted.
    lifting_until: u64,
    /// How each grant ended.
    ended: Vec<(u64, Fate)>,
    replies: Replies,
}

#[derive(Clone)]
struct Session {
    id: u64,
    nonce: u128,
    ttl: u64,
    deadline: u64,
    name: String,
    ran: BTreeSet<u64>,
    answers: BTreeMap<u64, Outcome>,
    lost: Vec<(u64, NotHeldWhy)>,
}

#[derive(Clone)]
struct Hold {
    lock: String,
    session: u64,
    seq: u64,
    token: u64,
    slot: u64,
    lease: u64,
    deadline: u64,
    section: Vec<(String, Vec<u8>)>,
}

#[derive(Clone)]
struct Wait {
    lock: String,
    session: u64,
    seq: u64,
    slot: u64,
    lease: u64,
    until: Option<u64>,
}

#[derive(Clone)]
struct File {
    id: FileId,
    guard: String,
    bytes: Vec<u8>,
}

impl Model {
    pub(crate) fn apply(&mut self, entry: &Entry) -> Replies {
        self.slot = entry.at.slot.0;
        self.time = self.time.max(entry.at.time.0);
        self.expire();
        match entry.what.clone() {
            What::Settings(settings) => self.settle(settings),
            What::LeaderStart { grace_ms } => {
                self.lifting_until = self.lifting_until.max(self.time + grace_ms);
                for s in &mut self.sessions {
                    s.deadline = s.deadline.max(self.time + s.ttl.min(grace_ms));
                }
                for h in &mut self.holds {
                    h.deadline = h.deadline.max(self.time + h.lease.min(grace_ms));
                }
            }
            What::Time => {}
            What::Command(Command::Open {
                nonce,
                ttl_ms,
                name,
            }) => {
                let outcome = self
                    .open(nonce, ttl_ms, name)
                    .unwrap_or_else(Outcome::Refused);
                self.replies.push((ReplyTo::Nonce(nonce), outcome));
            }
            What::Command(Command::KeepAlive { beats }) => {
                let beats = beats.iter().map(|beat| self.beat(beat)).collect();
                self.replies
                    .push((ReplyTo::Beats, Outcome::Alive { beats }));
            }
            What::Command(Command::Settle { lock, token }) => {
                let held = |h: &Hold| h.lock == lock && h.token == token.0;
                if let Some(at) = self.holds.iter().position(held) {
                    self.end_hold(at, NotHeldWhy::Aborted);
                }
                let kept = usize::try_from(self.limits().tokens_max).expect("small");
                let known = self.ended.iter().rev().take(kept);
                let fate = known.clone().find(|(ended, _)| *ended == token.0);
                let fate = fate.map_or(Fate::Unknown, |(_, fate)| fate.clone());
                self.replies
                    .push((ReplyTo::Settle(token), Outcome::Settled { fate }));
                self.grant_freed();
            }
            What::Command(Command::Session {
                session,
                seq,
                done,
                op,
            }) => {
                if let Some(outcome) = self.numbered(session.0, seq.0, &done, op) {
                    self.replies.push((ReplyTo::Command(session, seq), outcome));
                }
                self.grant_freed();
            }
        }
        std::mem::take(&mut self.replies)
    }

    /// What the machine shows must be what the model holds.
    pub(crate) fn check(&self, machine: &Machine, told: &str) {
        let waits = self.waits.iter().filter_map(|w| w.until);
        let dues = self.sessions.iter().map(|s| s.deadline);
        let dues = dues
            .chain(self.holds.iter().map(|h| h.deadline))
            .chain(waits);
        let (next, first) = (machine.next_deadline().map(|d| d.0), dues.min());
        // What a leader has lifted comes up once more at its old time.
        if self.time < self.lifting_until {
            assert!(next.is_some() == first.is_some() && next <= first, "{told}");
        } else {
            assert_eq!(next, first, "{told}");
        }
        for wait in &self.waits {
            let before = |w: &&Wait| w.lock == wait.lock && w.slot <= wait.slot;
            let position = self.waits.iter().filter(before).count() as u64;
            let (session, seq) = (SessionId(wait.session), Seq(wait.seq));
            assert_eq!(
                machine.waiting_position(session, seq),
                Some(position),
                "{told}"
            );
        }
        for hold in &self.holds {
            let query = Query::CheckToken {
                lock: hold.lock.clone(),
                token: Token(hold.token),
            };
            assert_eq!(
                machine.query(&query),
                Answer::Token { current: true },
                "{told}"
            );
        }
        let found: Vec<_> = machine
            .files()
            .map(|f| (f.name, f.id, f.length, f.crc32))
            .collect();
        let expected: Vec<_> = self
            .files
            .iter()
            .map(|(name, f)| {
                (
                    name.clone(),
                    f.id,
                    f.bytes.len() as u64,
                    crc32fast::hash(&f.bytes),
                )
            })
            .collect();
        assert_eq!(found, expected, "{told}");
    }

    fn limits(&self) -> Settings {
        self.settings.clone().unwrap_or_default()
    }

    fn settle(&mut self, settings: Settings) {
        if self.settings.is_some() {
            return;
        }
        for number in 0..settings.files {
            let id = FileId(self.slot, number);
            let file = File {
                id,
                guard: "default".to_owned(),
                bytes: Vec::new(),
            };
            self.files.insert(format!("file_{number}"), file);
        }
        self.settings = Some(settings);
    }

    fn expire(&mut self) {
        let mut due: Vec<(u64, u64, u8, u64)> = Vec::new();
        due.extend(self.sessions.iter().map(|s| (s.deadline, s.id, 0, s.id)));
        due.extend(
            self.waits
                .iter()
                .filter_map(|w| Some((w.until?, w.slot, 1, w.slot))),
        );
        due.extend(self.holds.iter().map(|h| (h.deadline, h.slot, 2, h.token)));
        due.retain(|&(at, ..)| at <= self.time);
        due.sort_unstable();
        for (_, _, kind, which) in due {
            match kind {
                0 => self.end_session(which),
                1 => {
                    if let Some(at) = self.waits.iter().position(|w| w.slot == which) {
                        self.end_wait(at, Refusal::WaitTimedOut);
                    }
                }
                _ => {
                    if let Some(at) = self.holds.iter().position(|h| h.token == which) {
                        self.end_hold(at, NotHeldWhy::LeaseEnded);
                    }
                }
            }
        }
        self.grant_freed();
    }

    fn end_session(&mut self, id: u64) {
        let mut held: Vec<u64> = self
            .holds
            .iter()
            .filter(|h| h.session == id)
            .map(|h| h.seq)
            .collect();
        held.sort_unstable();
        for seq in held {
            let at = self
                .holds
                .iter()
                .position(|h| h.session == id && h.seq == seq);
            self.end_hold(at.expect("it is held"), NotHeldWhy::Unknown);
        }
        let mut waits: Vec<u64> = self
            .waits
            .iter()
            .filter(|w| w.session == id)
            .map(|w| w.seq)
            .collect();
        waits.sort_unstable();
        for seq in waits {
            let at = self
                .waits
                .iter()
                .position(|w| w.session == id && w.seq == seq);
            self.end_wait(at.expect("it waits"), Refusal::SessionExpired);
        }
        self.sessions.retain(|s| s.id != id);
    }

    fn end_wait(&mut self, at: usize, refusal: Refusal) {
        let wait = self.waits.remove(at);
        self.answer_later(wait.session, wait.seq, Outcome::Refused(refusal));
    }

    fn end_hold(&mut self, at: usize, why: NotHeldWhy) -> Hold {
        let hold = self.holds.remove(at);
        self.freed.push(hold.lock.clone());
        if why != NotHeldWhy::Released {
            self.ended.push((hold.token, Fate::Never));
        }
        self.session(hold.session).lost.push((hold.token, why));
        hold
    }

    fn answer_later(&mut self, session: u64, seq: u64, outcome: Outcome) {
        self.session(session).answers.insert(seq, outcome.clone());
        self.replies
            .push((ReplyTo::Command(SessionId(session), Seq(seq)), outcome));
    }

    fn grant_freed(&mut self) {
        for lock in std::mem::take(&mut self.freed) {
            let next = self
                .waits
                .iter()
                .enumerate()
                .filter(|(_, w)| w.lock == lock);
            let Some((at, _)) = next.min_by_key(|(_, w)| w.slot) else {
                continue;
            };
            let wait = self.waits.remove(at);
            let outcome = self.grant(&lock, wait.session, wait.seq, wait.lease);
            self.answer_later(wait.session, wait.seq, outcome);
        }
    }

    fn grant(&mut self, lock: &str, session: u64, seq: u64, lease: u64) -> Outcome {
        self.token += 1;
        let deadline = self.time + lease;
        self.holds.push(Hold {
            lock: lock.to_owned(),
            session,
            seq,
            token: self.token,
            slot: self.slot,
            lease,
            deadline,
            section: Vec::new(),
        });
        let token = Token(self.token);
        Outcome::Granted {
            token,
            deadline: self.told(session, deadline),
            lease_ms: lease,
        }
    }

    fn told(&mut self, session: u64, deadline: u64) -> ClusterTime {
        ClusterTime(self.session(session).deadline.min(deadline))
    }

    fn session(&mut self, id: u64) -> &mut Session {
        self.sessions
            .iter_mut()
            .find(|s| s.id == id)
            .expect("a session that lives")
    }

    fn alive(&mut self, id: u64) -> bool {
        let time = self.time;
        let found = self.sessions.iter_mut().find(|s| s.id == id);
        found
            .map(|s| s.deadline = s.deadline.max(time + s.ttl))
            .is_some()
    }

    fn open(&mut self, nonce: u128, ttl: u64, name: String) -> Result<Outcome, Refusal> {
        let limits = self.limits();
        if !self.sessions.iter().any(|s| s.nonce == nonce) {
            let ttl = if ttl == 0 { limits.default_ttl_ms } else { ttl };
            range("a session ttl", ttl, limits.ttl_ms_min, limits.ttl_ms_max)?;
            let limit = limits.sessions_max;
            if self.sessions.len() as u64 >= limit {
                return Err(Refusal::TooManySessions { limit });
            }
            self.sessions.push(Session {
                id: self.slot,
                nonce,
                ttl,
                deadline: 0,
                name,
                ran: BTreeSet::new(),
                answers: BTreeMap::new(),
                lost: Vec::new(),
            });
        }
        let id = self
            .sessions
            .iter()
            .find(|s| s.nonce == nonce)
            .expect("just made")
            .id;
        self.alive(id);
        let session = self.session(id);
        let deadline = ClusterTime(session.deadline);
        Ok(Outcome::Opened {
            session: SessionId(id),
            ttl_ms: session.ttl,
            deadline,
        })
    }

    fn beat(&mut self, beat: &Beat) -> BeatAnswer {
        let session = beat.session;
        if !self.alive(session.0) {
            return BeatAnswer {
                session,
                result: Err(SessionExpired),
            };
        }
        let locks = beat.tokens.iter().map(|(lock, token)| {
            let deadline = self.renew(session.0, lock, *token).ok();
            LockBeat {
                lock: lock.clone(),
                token: *token,
                deadline,
            }
        });
        let locks = locks.collect();
        let deadline = ClusterTime(self.session(session.0).deadline);
        BeatAnswer {
            session,
            result: Ok(BeatState { deadline, locks }),
        }
    }

    fn numbered(&mut self, id: u64, seq: u64, done: &Done, op: Op) -> Option<Outcome> {
        if !self.alive(id) {
            return Some(Outcome::Refused(Refusal::SessionExpired));
        }
        let limit = self.limits().in_flight_max;
        let too_many = Some(Outcome::Refused(Refusal::TooManyInFlight { limit }));
        if seq == 0 || done.also.iter().any(|&(a, b)| a == 0 || a > b) {
            let reason = "commands are numbered from 1, and done ranges ascend within the limit";
            return Some(Outcome::Refused(Refusal::BadRequest {
                reason: reason.to_owned(),
            }));
        }
        let named = |n: u64| n <= done.below || done.also.iter().any(|&(a, b)| a <= n && n <= b);
        let mut ran = self.session(id).ran.clone();
        ran.extend((1..=done.below).chain(done.also.iter().flat_map(|&(a, b)| a..=b)));
        if ranges(&ran) > limit {
            return too_many;
        }
        self.waits.retain(|w| w.session != id || !named(w.seq));
        let session = self.session(id);
        session.ran = ran;
        session.answers.retain(|&n, _| !named(n));
        if self.waits.iter().any(|w| w.session == id && w.seq == seq) {
            return None;
        }
        let session = self.session(id);
        if session.ran.contains(&seq) {
            let forgotten = Outcome::Refused(Refusal::Forgotten);
            return Some(session.answers.get(&seq).cloned().unwrap_or(forgotten));
        }
        if !matches!(op, Op::Close) {
            let mut ran = session.ran.clone();
            ran.insert(seq);
            if ranges(&ran) > limit {
                return too_many;
            }
            let answers = session.answers.len() as u64;
            let ends = matches!(
                op,
                Op::Release { .. } | Op::Abort { .. } | Op::Cancel { .. }
            );
            let room = if ends { 2 * limit } else { limit };
            if answers >= room {
                self.session(id).ran = ran;
                return too_many;
            }
        }
        let outcome = match self.run(id, seq, op) {
            Ok(Some(outcome)) => outcome,
            Ok(None) => {
                self.session(id).ran.insert(seq);
                return None;
            }
            Err(refusal @ Refusal::OutOfOrder { .. }) => return Some(Outcome::Refused(refusal)),
            Err(refusal) => Outcome::Refused(refusal),
        };
        if outcome != Outcome::Closed {
            let session = self.session(id);
            session.ran.insert(seq);
            session.answers.insert(seq, outcome.clone());
        }
        Some(outcome)
    }

    fn run(&mut self, id: u64, seq: u64, op: Op) -> Result<Option<Outcome>, Refusal> {
        Ok(Some(match op {
            Op::Close => {
                self.end_session(id);
                Outcome::Closed
            }
            Op::Acquire {
                lock,
                lease_ms,
                wait_ms,
                ..
            } => {
                return self.acquire(id, seq, lock, lease_ms, wait_ms);
            }
            Op::Cancel { seq: target } => self.cancel(id, seq, target.0)?,
            Op::Renew { lock, token } => Outcome::Renewed {
                deadline: self.renew(id, &lock, token)?,
            },
            Op::Append {
                lock,
                token,
                place,
                file,
                data,
            } => self.append(id, &lock, token, place, file, data.to_vec())?,
            Op::Release { lock, token, count } => self.release(id, &lock, token, count)?,
            Op::Abort { lock, token } => {
                let at = self.held(id, &lock, token)?;
                self.end_hold(at, NotHeldWhy::Aborted);
                Outcome::Aborted
            }
            Op::CreateFile { file, guard } => self.create(&file, guard)?,
            Op::RemoveFile { file } => {
                if !self.files.contains_key(&file) {
                    return Err(Refusal::NoSuchFile { file });
                }
                if self
                    .holds
                    .iter()
                    .any(|h| h.section.iter().any(|(f, _)| *f == file))
                {
                    return Err(Refusal::PendingAppends { file });
                }
                self.files.remove(&file);
                Outcome::Removed
            }
            Op::ForceRelease {
                lock,
                token,
                reason,
            } => {
                let value = reason.len() as u64;
                if value > 1024 {
                    return Err(Refusal::TooLarge {
                        what: Measured::Reason,
                        limit: 1024,
                        value,
                    });
                }
                let held = |h: &Hold| h.lock == lock && h.token == token.0;
                let Some(at) = self.holds.iter().position(held) else {
                    return Err(self.not_held(id, &lock, token));
                };
                self.end_hold(at, NotHeldWhy::Forced { reason });
                Outcome::ForceReleased
            }
        }))
    }

    fn acquire(
        &mut self,
        id: u64,
        seq: u64,
        lock: String,
        lease: Option<u64>,
        wait: Option<u64>,
    ) -> Result<Option<Outcome>, Refusal> {
        let limits = self.limits();
        if let Some(reason) = lock_name_fault(&lock) {
            return Err(Refusal::BadName { name: lock, reason });
        }
        let lease = lease.unwrap_or(limits.default_lease_ms);
        range("a lease", lease, limits.lease_ms_min, limits.lease_ms_max)?;
        let Some(hold) = self.holds.iter().find(|h| h.lock == lock) else {
            return Ok(Some(self.grant(&lock, id, seq, lease)));
        };
        let (holder, token) = (hold.session, Token(hold.token));
        if holder == id {
            return Err(Refusal::AlreadyHeld { token });
        }
        if let Some(wait) = self
            .waits
            .iter()
            .find(|w| w.session == id && w.lock == lock)
        {
            return Err(Refusal::AlreadyWaiting { seq: Seq(wait.seq) });
        }
        if wait == Some(0) {
            let holder_name = self.session(holder).name.clone();
            return Err(Refusal::Busy {
                lock,
                holder: SessionId(holder),
                holder_name,
            });
        }
        let limit = limits.queue_max;
        if self.waits.iter().filter(|w| w.lock == lock).count() as u64 >= limit {
            return Err(Refusal::QueueFull { limit });
        }
        let until = wait.map(|ms| self.time + ms);
        self.waits.push(Wait {
            lock,
            session: id,
            seq,
            slot: self.slot,
            lease,
            until,
        });
        Ok(None)
    }

    fn cancel(&mut self, id: u64, seq: u64, target: u64) -> Result<Outcome, Refusal> {
        if target == 0 || target == seq {
            let reason = "a cancel names an acquire of its session by number".to_owned();
            return Err(Refusal::BadRequest { reason });
        }
        if let Some(at) = self
            .waits
            .iter()
            .position(|w| w.session == id && w.seq == target)
        {
            self.end_wait(at, Refusal::Cancelled);
            return Ok(Outcome::Cancelled { given_back: false });
        }
        if let Some(at) = self
            .holds
            .iter()
            .position(|h| h.session == id && h.seq == target)
        {
            self.end_hold(at, NotHeldWhy::GivenBack);
            return Ok(Outcome::Cancelled { given_back: true });
        }
        let limit = self.limits().in_flight_max;
        let session = self.session(id);
        if !session.ran.contains(&target) {
            let mut ran = session.ran.clone();
            ran.extend([seq, target]);
            if ranges(&ran) > limit {
                return Err(Refusal::TooManyInFlight { limit });
            }
            session.ran.insert(target);
            session
                .answers
                .insert(target, Outcome::Refused(Refusal::Cancelled));
        }
        Ok(Outcome::Cancelled { given_back: false })
    }

    fn held(&mut self, id: u64, lock: &str, token: Token) -> Result<usize, Refusal> {
        let held = |h: &Hold| h.lock == lock && h.session == id && h.token == token.0;
        let found = self.holds.iter().position(held);
        found.ok_or_else(|| self.not_held(id, lock, token))
    }

    fn not_held(&mut self, id: u64, lock: &str, token: Token) -> Refusal {
        let other = self
            .holds
            .iter()
            .any(|h| h.lock == lock && h.token == token.0);
        let lost = &self.session(id).lost;
        let recent = lost.iter().rev().take(8).find(|(lost, _)| *lost == token.0);
        let why = match recent {
            _ if other => NotHeldWhy::OtherSession,
            Some((_, why)) => why.clone(),
            None => NotHeldWhy::Unknown,
        };
        Refusal::NotHeld {
            lock: lock.to_owned(),
            token,
            why,
        }
    }

    fn renew(&mut self, id: u64, lock: &str, token: Token) -> Result<ClusterTime, Refusal> {
        let at = self.held(id, lock, token)?;
        let hold = &mut self.holds[at];
        hold.deadline = hold.deadline.max(self.time + hold.lease);
        let deadline = hold.deadline;
        Ok(self.told(id, deadline))
    }

    fn append(
        &mut self,
        id: u64,
        lock: &str,
        token: Token,
        place: u32,
        file: String,
        data: Vec<u8>,
    ) -> Result<Outcome, Refusal> {
        let limits = self.limits();
        let at = self.held(id, lock, token)?;
        let section = &self.holds[at].section;
        let expected = u32::try_from(section.len()).expect("small") + 1;
        if place != expected {
            return Err(Refusal::OutOfOrder { expected });
        }
        let Some(known) = self.files.get(&file) else {
            return Err(Refusal::NoSuchFile { file });
        };
        if known.guard != lock {
            return Err(Refusal::WrongGuard {
                guard: known.guard.clone(),
            });
        }
        let bytes = data.len() as u64;
        if bytes > limits.append_bytes_max {
            let limit = limits.append_bytes_max;
            return Err(Refusal::TooLarge {
                what: Measured::Append,
                limit,
                value: bytes,
            });
        }
        let size = |section: &[(String, Vec<u8>)]| -> u64 {
            section.iter().map(|(_, data)| data.len() as u64).sum()
        };
        let mut files: BTreeSet<&str> = section.iter().map(|(file, _)| &**file).collect();
        files.insert(&file);
        for (what, value, limit) in [
            (
                SectionPart::Bytes,
                size(section) + bytes,
                limits.section_bytes_max,
            ),
            (
                SectionPart::Appends,
                u64::from(expected),
                limits.section_appends_max,
            ),
            (
                SectionPart::Files,
                files.len() as u64,
                limits.section_files_max,
            ),
        ] {
            if value > limit {
                return Err(Refusal::SectionTooLarge { what, limit, value });
            }
        }
        let all: u64 = self.holds.iter().map(|h| size(&h.section)).sum();
        let limit = limits.all_sections_bytes_max;
        if all + bytes > limit {
            return Err(Refusal::Full {
                what: FullPart::Sections,
                limit,
            });
        }
        self.holds[at].section.push((file, data));
        let pending_bytes = size(&self.holds[at].section);
        Ok(Outcome::Appended {
            pending_bytes,
            deadline: self.renew(id, lock, token)?,
        })
    }

    fn release(
        &mut self,
        id: u64,
        lock: &str,
        token: Token,
        count: u32,
    ) -> Result<Outcome, Refusal> {
        let at = self.held(id, lock, token)?;
        let expected = u32::try_from(self.holds[at].section.len()).expect("small");
        if count != expected {
            return Err(Refusal::OutOfOrder { expected });
        }
        let hold = self.end_hold(at, NotHeldWhy::Released);
        let mut lengths = BTreeMap::new();
        for (name, data) in hold.section {
            let file = self.files.get_mut(&name).expect("it stays");
            file.bytes.extend(data);
            lengths.insert(name, file.bytes.len() as u64);
        }
        let (slot, lengths): (_, Vec<_>) = (Slot(self.slot), lengths.into_iter().collect());
        let fate = Fate::Done {
            slot,
            lengths: Some(lengths.clone()),
        };
        self.ended.push((token.0, fate));
        Ok(Outcome::Released { slot, lengths })
    }

    fn create(&mut self, file: &str, guard: Option<String>) -> Result<Outcome, Refusal> {
        let guard = guard.unwrap_or_else(|| file.to_owned());
        if let Some(reason) = file_name_fault(file) {
            return Err(Refusal::BadName {
                name: file.to_owned(),
                reason,
            });
        }
        if let Some(reason) = lock_name_fault(&guard) {
            return Err(Refusal::BadName {
                name: guard,
                reason,
            });
        }
        if self.files.contains_key(file) {
            return Err(Refusal::Exists {
                file: file.to_owned(),
            });
        }
        let id = FileId(self.slot, 0);
        let made = File {
            id,
            guard: guard.clone(),
            bytes: Vec::new(),
        };
        self.files.insert(file.to_owned(), made);
        Ok(Outcome::Created { id, guard })
    }
}

fn range(what: &str, ms: u64, min: u64, max: u64) -> Result<(), Refusal> {
    if min <= ms && ms <= max {
        return Ok(());
    }
    let reason = format!("{what} of {ms} ms is outside the limits of {min} to {max} ms");
    Err(Refusal::BadRequest { reason })
}

/// How many ranges of consecutive numbers a set has.
fn ranges(set: &BTreeSet<u64>) -> u64 {
    set.iter().filter(|&&n| !set.contains(&(n - 1))).count() as u64
}
