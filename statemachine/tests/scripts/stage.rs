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
//! settle LOCK TOKEN              how the grant ended; ends it if it has not
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

use statemachine::{
    Applied, At, Beat, ClusterTime, Command, Effects, FileOp, Machine, Outcome, Query, ReplyTo,
    Slot, Token,
};

use crate::client::Client;
use crate::line::{Line, number, settings};
use crate::tell;

pub(crate) struct Stage {
    machine: Machine,
    now: u64,
    clients: Vec<Client>,
    files: BTreeMap<String, Vec<u8>>,
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
            "settle" => {
                let (lock, token) = (line.word(1).to_owned(), Token(number(line.word(2))));
                self.apply(Applied::Command(Command::Settle { lock, token }))
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
        let mut told = tell::tell(&self.clients, &effects);
        if let Some((session, seq)) = waits
            && let Some(position) = self.machine.waiting_position(session, seq)
        {
            told.push(format!(
                "{}#{seq} waits, position {position}",
                tell::name(&self.clients, session)
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
        tell::answer(&self.machine.query(&query))
    }
}

fn saved_and_loaded(machine: &Machine) -> Machine {
    let mut bytes = Vec::new();
    machine
        .encode_snapshot(&mut bytes)
        .expect("memory takes everything");
    Machine::decode_snapshot(&bytes).expect("its own snapshot")
}
