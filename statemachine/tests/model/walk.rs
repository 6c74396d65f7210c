//! A random log: a few clients, a few locks and files, much going wrong.

use std::collections::BTreeMap;

use statemachine::{
    Applied, At, Beat, ClusterTime, Command, Done, Effects, LockMode, Op, Outcome, ReplyTo, Seq,
    SessionId, Settings, Slot, Token,
};

use crate::chance::Chance;

/// One entry of the log.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) at: At,
    pub(crate) what: What,
    /// Save and load the machine after it.
    pub(crate) save: bool,
}

#[derive(Clone, Debug)]
pub(crate) enum What {
    Settings(Settings),
    Command(Command),
    LeaderStart { grace_ms: u64 },
    Time,
}

impl Entry {
    pub(crate) fn applied(&self) -> Applied<'static> {
        match self.what.clone() {
            What::Settings(settings) => Applied::Settings(settings),
            What::Command(command) => Applied::Command(command),
            What::LeaderStart { grace_ms } => Applied::LeaderStart { grace_ms },
            What::Time => Applied::Time,
        }
    }
}

const LOCKS: [&str; 4] = ["default", "a", "b", ""];
const FILES: [&str; 5] = ["file_0", "file_1", "a", "b", "-"];
const CLIENTS: u64 = 5;

/// A walk in the making. It hears the answers, as clients would, and makes little of them.
pub(crate) struct Walk {
    chance: Chance,
    slot: u64,
    time: u64,
    /// The session of each client.
    sessions: BTreeMap<u128, SessionId>,
    /// The next number of each session.
    seqs: BTreeMap<SessionId, u64>,
    sent: Vec<(SessionId, Seq, Command)>,
    /// The grants there were, the last one last, and how many appends each has.
    grants: Vec<Grant>,
    /// Rules, and what they limit.
    rules: Settings,
    roomy: bool,
    many_leaders: bool,
}

#[derive(Clone)]
struct Grant {
    session: SessionId,
    lock: String,
    token: Token,
    appends: u32,
}

impl Walk {
    pub(crate) fn new(seed: u64) -> Walk {
        Walk {
            chance: Chance::new(seed),
            slot: 0,
            time: 0,
            sessions: BTreeMap::new(),
            seqs: BTreeMap::new(),
            sent: Vec::new(),
            grants: Vec::new(),
            rules: Settings {
                tokens_max: if seed.is_multiple_of(3) { 4 } else { 1000 },
                ..Settings::default()
            },
            roomy: false,
            many_leaders: false,
        }
    }

    /// A walk without tight limits, under which `endings_max` endings are cleared away in a slot.
    pub(crate) fn roomy(seed: u64, endings_max: u64) -> Walk {
        let mut walk = Walk::new(seed);
        walk.rules.endings_max = endings_max;
        walk.rules.tokens_max = 100_000;
        walk.roomy = true;
        walk
    }

    /// The walk with leaders that follow one another, sometimes more of them than gifts are kept.
    pub(crate) fn with_many_leaders(self) -> Walk {
        Walk {
            many_leaders: true,
            ..self
        }
    }

    /// A walk of a time when there were no other rules. Its dice must fall as they did then.
    pub(crate) fn under_first_rules(seed: u64) -> Walk {
        Walk {
            rules: Settings::of_first_rules(),
            ..Walk::new(seed)
        }
    }

    /// The next entry of the log.
    pub(crate) fn entry(&mut self) -> Entry {
        self.slot += 1;
        if self.chance.percent(20) {
            self.time += self.chance.pick(&[1, 99, 100, 100, 400, 500, 1000]);
        }
        // Much that ends at once.
        if self.roomy && self.chance.percent(8) {
            self.time += self.chance.pick(&[2_000, 5_000, 12_000]);
        }
        let what = match self.chance.below(100) {
            _ if self.slot == 1 => What::Settings(self.settings()),
            0 => What::Settings(
                Settings {
                    files: 3,
                    ..Settings::default()
                }
                .under_rules_of(&self.rules),
            ),
            1..=3 => What::Time,
            _ if self.many_leaders && self.chance.percent(25) => What::LeaderStart {
                grace_ms: *self.chance.pick(&[300, 1000, 1001, 2000, 5000]),
            },
            4 => What::LeaderStart {
                grace_ms: *self.chance.pick(&[0, 300, 2000]),
            },
            5..=13 => What::Command(self.open()),
            14..=20 => What::Command(self.keep_alive()),
            21..=30 if !self.sent.is_empty() => {
                let recent = self.sent.len().saturating_sub(30);
                What::Command(self.chance.pick(&self.sent[recent..]).2.clone())
            }
            _ if self.rules.rules > 1 && self.chance.percent(4) => What::Command(self.settle()),
            _ => What::Command(self.numbered()),
        };
        let at = At {
            slot: Slot(self.slot),
            time: ClusterTime(self.time),
            wall_ms: 7,
        };
        Entry {
            at,
            what,
            save: self.chance.percent(10),
        }
    }

    /// Hears the answers of a slot.
    pub(crate) fn learn(&mut self, effects: &Effects) {
        for reply in &effects.replies {
            match (reply.to, &reply.outcome) {
                (ReplyTo::Nonce(nonce), Outcome::Opened { session, .. }) => {
                    self.sessions.insert(nonce, *session);
                }
                (ReplyTo::Command(session, seq), outcome) => self.learn_one(session, seq, outcome),
                _ => {}
            }
        }
    }

    fn learn_one(&mut self, session: SessionId, seq: Seq, outcome: &Outcome) {
        let sent = self
            .sent
            .iter()
            .rev()
            .find(|sent| sent.0 == session && sent.1 == seq);
        let Some((_, _, Command::Session { op, .. })) = sent else {
            return;
        };
        match (op, outcome) {
            (Op::Acquire { lock, .. }, Outcome::Granted { token, .. }) => {
                let (lock, token) = (lock.clone(), *token);
                self.grants.push(Grant {
                    session,
                    lock,
                    token,
                    appends: 0,
                });
            }
            (Op::Append { token, place, .. }, Outcome::Appended { .. }) => {
                let grants = self.grants.iter_mut().filter(|grant| grant.token == *token);
                grants.for_each(|grant| grant.appends = grant.appends.max(*place));
            }
            _ => {}
        }
    }

    fn settings(&mut self) -> Settings {
        let tight = self.chance.percent(40) && !self.roomy;
        Settings {
            files: 2,
            default_lease_ms: 5000,
            default_ttl_ms: 10_000,
            append_bytes_max: 3,
            section_bytes_max: if tight { 3 } else { 100 },
            section_appends_max: if tight { 2 } else { 100 },
            section_files_max: if tight { 1 } else { 100 },
            all_sections_bytes_max: if tight { 3 } else { 1000 },
            queue_max: if tight { 1 } else { 100 },
            sessions_max: if tight { 3 } else { 100 },
            in_flight_max: match (tight, self.roomy) {
                (true, _) => 6,
                (_, false) => 30,
                (_, true) => 1_024,
            },
            ..Settings::default()
        }
        .under_rules_of(&self.rules)
    }

    /// A question about a grant: the last one, an older one, or one that never was.
    fn settle(&mut self) -> Command {
        let session = self.session();
        let Grant { lock, token, .. } = self.grant(session);
        Command::Settle { lock, token }
    }

    fn open(&mut self) -> Command {
        // A client opens anew, with another nonce, once in a while.
        let client = u128::from(self.chance.below(CLIENTS));
        let nonce = if self.chance.percent(10) {
            client + 10
        } else {
            client
        };
        let ttl_ms = *self.chance.pick(&[0, 0, 0, 0, 5000, 5000, 5000, 1000, 499]);
        Command::Open {
            nonce,
            ttl_ms,
            name: format!("client {client}"),
        }
    }

    fn session(&mut self) -> SessionId {
        let known: Vec<SessionId> = self.sessions.values().copied().collect();
        if known.is_empty() {
            SessionId(0)
        } else {
            *self.chance.pick(&known)
        }
    }

    fn keep_alive(&mut self) -> Command {
        let count = self.chance.below(4);
        let beats = (0..count).map(|_| {
            let session = self.session();
            let count = self.chance.below(3);
            let grants: Vec<Grant> = (0..count).map(|_| self.grant(session)).collect();
            let tokens = grants
                .into_iter()
                .map(|grant| (grant.lock, grant.token))
                .collect();
            Beat { session, tokens }
        });
        Command::KeepAlive {
            beats: beats.collect(),
        }
    }

    /// A grant to use: mostly the session's own last one.
    fn grant(&mut self, session: SessionId) -> Grant {
        let own = |grant: &&Grant| grant.session == session;
        let last = self.grants.iter().rev().find(own).cloned();
        match last {
            Some(last) if self.chance.percent(90) => last,
            _ if self.grants.is_empty() || self.chance.percent(20) => {
                // A guess; where tokens are translated it must not hit one that was given.
                let base = if self.roomy { 2_000_000 } else { 0 };
                let (lock, token) = (self.lock().to_owned(), Token(base + self.chance.below(9)));
                Grant {
                    session,
                    lock,
                    token,
                    appends: 0,
                }
            }
            _ => self.chance.pick(&self.grants).clone(),
        }
    }

    fn lock(&mut self) -> &'static str {
        match self.chance.percent(2) {
            true => LOCKS[3],
            false => self.chance.pick::<&'static str>(&LOCKS[..3]),
        }
    }

    fn file(&mut self) -> &'static str {
        self.chance.pick::<&'static str>(&FILES)
    }

    fn numbered(&mut self) -> Command {
        let session = self.session();
        let next = self.seqs.entry(session).or_insert(1);
        let mut seq = *next;
        if self.chance.percent(10) {
            seq += self.chance.below(3);
        }
        *next = seq + 1;
        if self.chance.percent(3) {
            seq = self.chance.below(seq);
        }
        let done = self.done(seq);
        let op = self.op(session, seq);
        let seq = Seq(seq);
        let command = Command::Session {
            session,
            seq,
            done,
            op,
        };
        self.sent.push((session, seq, command.clone()));
        command
    }

    fn done(&mut self, seq: u64) -> Done {
        let mut done = Done::default();
        if self.chance.percent(50) {
            done.below = seq.saturating_sub(1 + self.chance.below(6));
        }
        if self.chance.percent(5) {
            done.also.push((
                seq.saturating_sub(2),
                seq.saturating_sub(self.chance.below(3)),
            ));
        }
        done
    }

    fn op(&mut self, session: SessionId, seq: u64) -> Op {
        let Grant {
            lock,
            token,
            appends,
            ..
        } = self.grant(session);
        match self.chance.below(100) {
            0 => Op::Close,
            1..=29 => {
                let lease_ms =
                    *self
                        .chance
                        .pick(&[None, None, None, None, Some(500), Some(2000), Some(10)]);
                let wait_ms = *self
                    .chance
                    .pick(&[None, None, Some(0), Some(1000), Some(400)]);
                let lock = self.lock().to_owned();
                Op::Acquire {
                    lock,
                    lease_ms,
                    wait_ms,
                    mode: LockMode::Exclusive,
                }
            }
            30..=35 => Op::Cancel {
                seq: Seq((seq + 1).saturating_sub(self.chance.below(6))),
            },
            36..=40 => Op::Renew { lock, token },
            41..=70 => {
                let place = if self.chance.percent(10) {
                    appends
                } else {
                    appends + 1
                };
                let bytes = *self.chance.pick(&[0, 1, 1, 2, 3, 4]);
                let data = vec![b'a' + u8::try_from(self.slot % 26).expect("small"); bytes].into();
                let file = match self.chance.percent(60) {
                    true if lock == "default" => "file_0".to_owned(),
                    true => lock.clone(),
                    false => self.file().to_owned(),
                };
                Op::Append {
                    lock,
                    token,
                    place,
                    file,
                    data,
                }
            }
            71..=80 => {
                let count = if self.chance.percent(10) { 1 } else { appends };
                Op::Release { lock, token, count }
            }
            81..=84 => Op::Abort { lock, token },
            85..=91 => {
                let guard = self.chance.percent(30).then(|| self.lock().to_owned());
                Op::CreateFile {
                    file: self.file().to_owned(),
                    guard,
                }
            }
            92..=95 => Op::RemoveFile {
                file: self.file().to_owned(),
            },
            _ => {
                let long = if self.chance.percent(10) { 1025 } else { 3 };
                let victim = self.session();
                let Grant { lock, token, .. } = self.grant(victim);
                Op::ForceRelease {
                    lock,
                    token,
                    reason: "x".repeat(long),
                }
            }
        }
    }
}
