//! Where a script plays: one machine, its log, and clients who remember what they were told.
//!
//! ```text
//! settings KEY=VALUE…            the cluster agrees on its settings, the documented ones but for these
//! open NAME [ttl=10s]            NAME opens a session; opened again, with the same nonce
//! NAME acquire LOCK [lease=2s] [wait=5s]
//! NAME append FILE TEXT [lock=LOCK] [place=N]
//! NAME release|abort|renew LOCK  [count=N]
//! NAME cancel SEQ                NAME close
//! NAME create FILE [guard=LOCK]  NAME remove FILE
//! NAME force LOCK TOKEN REASON
//! NAME again SEQ                 the very command of that number once more
//! beat NAME[:LOCK,LOCK]…         one keep_alive for all of them
//! after 3s                       time passes; the next entry finds it so
//! tick                           an entry that only moves time
//! leader grace=2s                a new leader's first entry
//! restart                        the machine is saved and loaded
//! status LOCK | locks | sessions | files | cat FILE | check LOCK TOKEN | weight
//! ```
//!
//! Any numbered command takes `token=`, `seq=`, `done=` in place of what the client would send.
//! After each entry the machine is saved and loaded, and must be the same.

use std::collections::BTreeMap;
use std::fmt::Write;

use statemachine::{
    Answer, Applied, At, Beat, ClusterTime, Command, Done, Effects, Event, FileOp, LockMode,
    LostWhy, Machine, Op, Outcome, Query, ReplyTo, Seq, SessionId, Settings, Slot, Token,
};

pub(crate) struct Stage {
    machine: Machine,
    now: u64,
    clients: Vec<Client>,
    files: BTreeMap<String, Vec<u8>>,
}

/// What a client remembers.
struct Client {
    name: String,
    session: SessionId,
    sent: BTreeMap<u64, Command>,
    tokens: BTreeMap<String, Token>,
    /// Appends in the section of each lock.
    places: BTreeMap<String, u32>,
}

/// The words of a line, and its `key=value` pairs.
struct Line<'a> {
    words: Vec<&'a str>,
    pairs: BTreeMap<&'a str, &'a str>,
}

impl<'a> Line<'a> {
    fn read(line: &'a str) -> Line<'a> {
        let (pairs, words): (Vec<&str>, Vec<&str>) =
            line.split_whitespace().partition(|word| word.contains('='));
        let pairs = pairs
            .into_iter()
            .filter_map(|pair| pair.split_once('='))
            .collect();
        Line { words, pairs }
    }

    fn word(&self, at: usize) -> &'a str {
        self.words
            .get(at)
            .unwrap_or_else(|| panic!("word {at} is missing in {:?}", self.words))
    }

    fn number(&self, key: &str) -> Option<u64> {
        self.pairs.get(key).map(|text| number(text))
    }
}

/// A number, or a time in milliseconds: `7`, `500ms`, `3s`, `1.5s`.
fn number(text: &str) -> u64 {
    let parsed = if let Some(ms) = text.strip_suffix("ms") {
        ms.parse().ok()
    } else if let Some(s) = text.strip_suffix('s') {
        let (whole, part) = s.split_once('.').unwrap_or((s, ""));
        let part: Option<u64> = format!("{part:0<3}").parse().ok();
        whole
            .parse::<u64>()
            .ok()
            .zip(part)
            .map(|(whole, part)| whole * 1000 + part)
    } else {
        text.parse().ok()
    };
    parsed.unwrap_or_else(|| panic!("{text:?} is no number and no time"))
}

/// A time for people: `1.500s`.
fn seconds(ms: u64) -> String {
    format!("{}.{:03}s", ms / 1000, ms % 1000)
}

impl Stage {
    pub(crate) fn new() -> Stage {
        let machine = Machine::new();
        Stage {
            machine,
            now: 0,
            clients: Vec::new(),
            files: BTreeMap::new(),
        }
    }

    /// Plays one line; what came of it.
    pub(crate) fn play(&mut self, text: &str) -> Vec<String> {
        let line = Line::read(text);
        match line.word(0) {
            "settings" => self.apply(Applied::Settings(settings(&line))),
            "tick" => self.apply(Applied::Time),
            "leader" => {
                let grace_ms = line.number("grace").expect("leader grace=");
                self.apply(Applied::LeaderStart { grace_ms })
            }
            "after" => {
                self.now += number(line.word(1));
                Vec::new()
            }
            "restart" => {
                self.machine = saved_and_loaded(&self.machine);
                vec![format!("   as before, at slot {}", self.machine.applied())]
            }
            "open" => self.open(&line),
            "beat" => self.beat(&line),
            "status" | "locks" | "sessions" | "files" | "cat" | "check" | "weight" => {
                self.look(&line)
            }
            name => self.numbered(name, &line),
        }
    }

    fn open(&mut self, line: &Line<'_>) -> Vec<String> {
        let name = line.word(1);
        let nonce = match self.clients.iter().position(|client| client.name == name) {
            Some(at) => at,
            None => {
                self.clients.push(Client::new(name));
                self.clients.len() - 1
            }
        };
        let ttl_ms = line.number("ttl").unwrap_or(0);
        let nonce = nonce as u128;
        self.apply(Applied::Command(Command::Open {
            nonce,
            ttl_ms,
            name: name.to_owned(),
        }))
    }

    fn beat(&mut self, line: &Line<'_>) -> Vec<String> {
        let beats = line.words[1..].iter().map(|word| {
            let (name, locks) = word.split_once(':').unwrap_or((word, ""));
            let client = self.client(name);
            let token = |lock: &str| client.tokens.get(lock).copied().unwrap_or(Token(0));
            let locks = locks.split(',').filter(|lock| !lock.is_empty());
            let tokens = locks.map(|lock| (lock.to_owned(), token(lock))).collect();
            Beat {
                session: client.session,
                tokens,
            }
        });
        let beats = beats.collect();
        self.apply(Applied::Command(Command::KeepAlive { beats }))
    }

    fn numbered(&mut self, name: &str, line: &Line<'_>) -> Vec<String> {
        let client = self.client(name);
        let command = if line.word(1) == "again" {
            client.sent[&number(line.word(2))].clone()
        } else {
            client.command(line)
        };
        if let Command::Session { seq, .. } = &command {
            self.client(name).sent.insert(seq.0, command.clone());
        }
        self.apply(Applied::Command(command))
    }

    fn client(&mut self, name: &str) -> &mut Client {
        let found = self.clients.iter_mut().find(|client| client.name == name);
        found.unwrap_or_else(|| panic!("nobody is called {name}"))
    }

    fn name(&self, session: SessionId) -> String {
        let found = self.clients.iter().find(|client| client.session == session);
        found.map_or_else(
            || format!("session {session}"),
            |client| client.name.clone(),
        )
    }

    fn apply(&mut self, what: Applied<'_>) -> Vec<String> {
        let slot = Slot(self.machine.applied().0 + 1);
        let at = At {
            slot,
            time: ClusterTime(self.now),
            wall_ms: 0,
        };
        let waits = match &what {
            Applied::Command(Command::Session { session, seq, .. }) => Some((*session, *seq)),
            _ => None,
        };
        let effects = self.machine.apply(at, what);
        assert_eq!(
            saved_and_loaded(&self.machine),
            self.machine,
            "after slot {slot}"
        );
        self.remember(&effects);
        let mut told = self.tell(&effects);
        if let Some((session, seq)) = waits
            && let Some(position) = self.machine.waiting_position(session, seq)
        {
            told.push(format!(
                "{}#{seq} waits, position {position}",
                self.name(session)
            ));
        }
        if told.is_empty() {
            told.push("nothing".to_owned());
        }
        told.iter()
            .map(|line| format!("{:<3}{line}", slot.0))
            .collect()
    }

    /// Lets the clients know, and the files grow.
    fn remember(&mut self, effects: &Effects) {
        for reply in &effects.replies {
            match (&reply.to, &reply.outcome) {
                (ReplyTo::Nonce(nonce), Outcome::Opened { session, .. }) => {
                    let at = usize::try_from(*nonce).expect("a small nonce");
                    self.clients[at].session = *session;
                }
                (ReplyTo::Command(session, seq), outcome) => {
                    let found = self.clients.iter_mut().find(|c| c.session == *session);
                    found.expect("a known client").learn(*seq, outcome);
                }
                _ => {}
            }
        }
        for op in &effects.files {
            match op {
                FileOp::Create { name, .. } => {
                    assert!(self.files.insert(name.clone(), Vec::new()).is_none());
                }
                FileOp::Write {
                    name, offset, data, ..
                } => {
                    let file = self.files.get_mut(name).expect("a file that exists");
                    assert_eq!(file.len() as u64, *offset, "writes go to the end");
                    file.extend_from_slice(data);
                }
                FileOp::Remove { name, .. } => drop(self.files.remove(name).expect("it exists")),
            }
        }
    }

    fn tell(&self, effects: &Effects) -> Vec<String> {
        let mut told: Vec<String> = effects
            .events
            .iter()
            .filter_map(|event| self.tell_event(event))
            .collect();
        for reply in &effects.replies {
            let to = match reply.to {
                ReplyTo::Nonce(nonce) => self.clients
                    [usize::try_from(nonce).expect("a small nonce")]
                .name
                .clone(),
                ReplyTo::Beats => "all".to_owned(),
                ReplyTo::Command(session, seq) => format!("{}#{seq}", self.name(session)),
            };
            let pushed = if reply.counts_for_time {
                ""
            } else {
                " (pushed)"
            };
            told.push(format!(
                "{to}{pushed}: {}",
                self.tell_outcome(&reply.outcome)
            ));
        }
        told
    }

    fn tell_event(&self, event: &Event) -> Option<String> {
        Some(match event {
            Event::SessionExpired { session, deadline } => {
                format!(
                    "* {}'s session expired, due at {}",
                    self.name(*session),
                    seconds(deadline.0)
                )
            }
            Event::Lost {
                lock,
                session,
                token,
                why,
                held_ms,
                discarded_appends,
            } => {
                let who = self.name(*session);
                let held = seconds(*held_ms);
                let why = match why {
                    LostWhy::Forced { by, reason } => {
                        format!("forced by {}, {reason}", self.name(*by))
                    }
                    other => format!("{other:?}"),
                };
                let mut told =
                    format!("* {lock} lost by {who}, token {token}, after {held}: {why}");
                if *discarded_appends > 0 {
                    write!(told, ", {discarded_appends} appends discarded").expect("to a string");
                }
                told
            }
            Event::LeftQueue {
                lock,
                session,
                seq,
                why,
                ..
            } => {
                format!(
                    "* {}#{seq} left the queue of {lock}: {why:?}",
                    self.name(*session)
                )
            }
            Event::DedupHit { session, seq, .. } => {
                format!("* {}#{seq} came before", self.name(*session))
            }
            Event::LeaderStarted { extended } => {
                format!("* a new leader: {extended} deadlines lifted")
            }
            Event::Settings { adopted } => {
                format!("* settings {}", if *adopted { "agreed" } else { "ignored" })
            }
            _ => return None,
        })
    }

    fn tell_outcome(&self, outcome: &Outcome) -> String {
        match outcome {
            Outcome::Opened {
                ttl_ms, deadline, ..
            } => {
                format!(
                    "opened, ttl {}, until {}",
                    seconds(*ttl_ms),
                    seconds(deadline.0)
                )
            }
            Outcome::Granted {
                token, deadline, ..
            } => {
                format!("granted, token {token}, until {}", seconds(deadline.0))
            }
            Outcome::Renewed { deadline } => format!("renewed until {}", seconds(deadline.0)),
            Outcome::Appended {
                pending_bytes,
                deadline,
            } => {
                format!(
                    "appended, {pending_bytes} bytes pending, until {}",
                    seconds(deadline.0)
                )
            }
            Outcome::Released { lengths, .. } => {
                let lengths: Vec<_> = lengths
                    .iter()
                    .map(|(n, l)| format!("{n} has {l}"))
                    .collect();
                format!("released {}", lengths.join(", "))
                    .trim_end()
                    .to_owned()
            }
            Outcome::Created { guard, .. } => format!("created, guarded by {guard}"),
            Outcome::Refused(refusal) => {
                format!("{} (rc {}): {refusal}", refusal.code(), refusal.rc())
            }
            Outcome::Alive { beats } => {
                let told: Vec<_> = beats
                    .iter()
                    .map(|beat| {
                        let who = self.name(beat.session);
                        let Ok(state) = &beat.result else {
                            return format!("{who} expired");
                        };
                        let mut told = format!("{who} until {}", seconds(state.deadline.0));
                        for lock in &state.locks {
                            let until = lock.deadline.map(|d| seconds(d.0));
                            let until = until.unwrap_or_else(|| "not held".to_owned());
                            write!(told, ", {} {until}", lock.lock).expect("to a string");
                        }
                        told
                    })
                    .collect();
                told.join("; ")
            }
            Outcome::Cancelled { given_back: true } => "cancelled, given back".to_owned(),
            Outcome::Cancelled { given_back: false } => "cancelled".to_owned(),
            Outcome::Closed => "closed".to_owned(),
            Outcome::Aborted => "aborted".to_owned(),
            Outcome::Removed => "removed".to_owned(),
            Outcome::ForceReleased => "released by force".to_owned(),
        }
    }

    fn look(&self, line: &Line<'_>) -> Vec<String> {
        let limit = 100;
        let (prefix, after) = (String::new(), None);
        let query = match line.word(0) {
            "cat" => {
                let file = self.files.get(line.word(1));
                let text = file.map(|bytes| String::from_utf8_lossy(bytes).into_owned());
                return vec![format!(
                    "   {:?}",
                    text.unwrap_or_else(|| "no such file".to_owned())
                )];
            }
            "weight" => return vec![format!("   {:?}", self.machine.weight())],
            "status" => Query::LockStatus {
                lock: line.word(1).to_owned(),
            },
            "check" => {
                let token = Token(number(line.word(2)));
                Query::CheckToken {
                    lock: line.word(1).to_owned(),
                    token,
                }
            }
            "locks" => Query::Locks {
                prefix,
                after,
                limit,
            },
            "sessions" => Query::Sessions { after: None, limit },
            _ => Query::Files { after, limit },
        };
        let told = match self.machine.query(&query) {
            Answer::Lock(status) => {
                let mut told = vec![match status.holder {
                    None => format!("{} is free", status.lock),
                    Some(h) => format!(
                        "{} is held by {}, token {}, {} left, {} bytes pending",
                        status.lock,
                        h.name,
                        h.token,
                        seconds(h.left_ms),
                        h.pending_bytes
                    ),
                }];
                told.extend(
                    status
                        .queue
                        .iter()
                        .map(|w| format!("{}. {}#{}", w.position, w.name, w.seq)),
                );
                told
            }
            Answer::Locks(page) => {
                let line = |l: &statemachine::LockLine| format!("{} {}", l.lock, l.holder.name);
                page.items.iter().map(line).collect()
            }
            Answer::Sessions(page) => {
                let line = |s: &statemachine::SessionFact| {
                    format!(
                        "{} {} left, holds {}, waits for {}",
                        s.name,
                        seconds(s.left_ms),
                        s.held,
                        s.waiting
                    )
                };
                page.items.iter().map(line).collect()
            }
            Answer::Files(page) => {
                let line = |f: &statemachine::FileFact| {
                    format!(
                        "{} {} {} bytes, guarded by {}",
                        f.id, f.name, f.length, f.guard
                    )
                };
                page.items.iter().map(line).collect()
            }
            Answer::Token { current } => vec![if current { "current" } else { "stale" }.to_owned()],
            other => vec![format!("{other:?}")],
        };
        let told = if told.is_empty() {
            vec!["none".to_owned()]
        } else {
            told
        };
        told.iter().map(|line| format!("   {line}")).collect()
    }
}

impl Client {
    fn new(name: &str) -> Client {
        Client {
            name: name.to_owned(),
            session: SessionId(0),
            sent: BTreeMap::new(),
            tokens: BTreeMap::new(),
            places: BTreeMap::new(),
        }
    }

    /// The command that a line stands for.
    fn command(&self, line: &Line<'_>) -> Command {
        let next = self.sent.keys().last().map_or(1, |last| last + 1);
        let seq = Seq(line.number("seq").unwrap_or(next));
        let done = Done {
            below: line.number("done").unwrap_or(0),
            also: Vec::new(),
        };
        Command::Session {
            session: self.session,
            seq,
            done,
            op: self.op(line),
        }
    }

    fn op(&self, line: &Line<'_>) -> Op {
        let named = |at: usize| line.words.get(at).map(|&word| word.to_owned());
        let lock = line.pairs.get("lock").map(|&lock| lock.to_owned());
        let held = |lock: &str| {
            let known = self.tokens.get(lock).copied().unwrap_or(Token(0));
            line.number("token").map_or(known, Token)
        };
        let of_lock = || named(2).unwrap_or_else(|| "default".to_owned());
        let count = |lock: &str| self.places.get(lock).copied().unwrap_or(0);
        let small = |n: u64| u32::try_from(n).expect("a small number");
        match line.word(1) {
            "close" => Op::Close,
            "acquire" => Op::Acquire {
                lock: of_lock(),
                lease_ms: line.number("lease"),
                wait_ms: line.number("wait"),
                mode: LockMode::Exclusive,
            },
            "cancel" => Op::Cancel {
                seq: Seq(number(line.word(2))),
            },
            "renew" => Op::Renew {
                token: held(&of_lock()),
                lock: of_lock(),
            },
            "append" => {
                let lock = lock.unwrap_or_else(|| "default".to_owned());
                let place = line.number("place").map_or(count(&lock) + 1, small);
                let data = line.words[3..].join(" ").into();
                Op::Append {
                    token: held(&lock),
                    lock,
                    place,
                    file: line.word(2).to_owned(),
                    data,
                }
            }
            "release" => {
                let lock = of_lock();
                let count = line.number("count").map_or(count(&lock), small);
                Op::Release {
                    token: held(&lock),
                    lock,
                    count,
                }
            }
            "abort" => Op::Abort {
                token: held(&of_lock()),
                lock: of_lock(),
            },
            "create" => Op::CreateFile {
                file: line.word(2).to_owned(),
                guard: line.pairs.get("guard").map(|&guard| guard.to_owned()),
            },
            "remove" => Op::RemoveFile {
                file: line.word(2).to_owned(),
            },
            "force" => Op::ForceRelease {
                lock: line.word(2).to_owned(),
                token: Token(number(line.word(3))),
                reason: line.words[4..].join(" "),
            },
            other => panic!("nobody knows how to {other}"),
        }
    }

    /// Takes note of an answer.
    fn learn(&mut self, seq: Seq, outcome: &Outcome) {
        let Some(Command::Session { op, .. }) = self.sent.get(&seq.0) else {
            return;
        };
        match (op, outcome) {
            (Op::Acquire { lock, .. }, Outcome::Granted { token, .. }) => {
                if self.tokens.insert(lock.clone(), *token) != Some(*token) {
                    self.places.insert(lock.clone(), 0);
                }
            }
            (Op::Append { lock, place, .. }, Outcome::Appended { .. }) => {
                let known = self.places.entry(lock.clone()).or_default();
                *known = (*known).max(*place);
            }
            _ => {}
        }
    }
}

fn saved_and_loaded(machine: &Machine) -> Machine {
    let mut bytes = Vec::new();
    machine
        .encode_snapshot(&mut bytes)
        .expect("memory takes everything");
    Machine::decode_snapshot(&bytes).expect("its own snapshot")
}

fn settings(line: &Line<'_>) -> Settings {
    let mut settings = Settings {
        files: 2,
        ..Settings::default()
    };
    for (&key, value) in &line.pairs {
        let value = number(value);
        match key {
            "files" => settings.files = u32::try_from(value).expect("a small number"),
            "append_bytes" => settings.append_bytes_max = value,
            "section_bytes" => settings.section_bytes_max = value,
            "section_appends" => settings.section_appends_max = value,
            "section_files" => settings.section_files_max = value,
            "all_sections_bytes" => settings.all_sections_bytes_max = value,
            "queue" => settings.queue_max = value,
            "sessions" => settings.sessions_max = value,
            "in_flight" => settings.in_flight_max = value,
            "state_bytes" => settings.state_bytes_max = value,
            other => panic!("no setting {other}"),
        }
    }
    settings
}
