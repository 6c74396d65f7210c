//! A client on the stage: what it remembers, and the commands that it makes of a script's words.

use std::collections::BTreeMap;

use statemachine::{Command, Done, LockMode, Op, Outcome, Seq, SessionId, Token};

use crate::line::{Line, number};

/// What a client remembers.
pub(crate) struct Client {
    pub(crate) name: String,
    pub(crate) session: SessionId,
    pub(crate) sent: BTreeMap<u64, Command>,
    pub(crate) tokens: BTreeMap<String, Token>,
    /// Appends in the section of each lock.
    places: BTreeMap<String, u32>,
}

impl Client {
    pub(crate) fn new(name: &str) -> Client {
        Client {
            name: name.to_owned(),
            session: SessionId(0),
            sent: BTreeMap::new(),
            tokens: BTreeMap::new(),
            places: BTreeMap::new(),
        }
    }

    /// The command that a line stands for.
    pub(crate) fn command(&self, line: &Line<'_>) -> Command {
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
    pub(crate) fn learn(&mut self, seq: Seq, outcome: &Outcome) {
        let Some(Command::Session { op, .. }) = self.sent.get(&seq.0) else {
            return;
        };
        match (op, outcome) {
            (Op::Acquire { lock, .. }, Outcome::Granted { token, .. })
                if self.tokens.insert(lock.clone(), *token) != Some(*token) =>
            {
                self.places.insert(lock.clone(), 0);
            }
            (Op::Append { lock, place, .. }, Outcome::Appended { .. }) => {
                let known = self.places.entry(lock.clone()).or_default();
                *known = (*known).max(*place);
            }
            _ => {}
        }
    }
}
