//! Every order of a few things, where there are few enough.

use statemachine::{
    Applied, At, ClusterTime, Command, Done, Effects, FileOp, LockMode, Machine, Op, Outcome,
    Refusal, ReplyTo, Seq, SessionId, Settings, Slot, Token,
};

use crate::reference::Model;
use crate::walk::{Entry, What};

/// What two clients of one lock can do next, and what can happen to them.
#[derive(Clone, Copy, Debug)]
enum Move {
    Acquire(usize),
    Append(usize),
    Release(usize),
    CancelLast(usize),
    LastAgain(usize),
    LeaseEnds,
    NewLeader,
}

const MOVES: [Move; 12] = [
    Move::Acquire(0),
    Move::Acquire(1),
    Move::Append(0),
    Move::Append(1),
    Move::Release(0),
    Move::Release(1),
    Move::CancelLast(0),
    Move::CancelLast(1),
    Move::LastAgain(0),
    Move::LastAgain(1),
    Move::LeaseEnds,
    Move::NewLeader,
];

/// How many moves follow one another: 12^4 orders.
const DEPTH: usize = 4;

/// A position in the tree of all orders: both machines, and what the clients know.
#[derive(Clone)]
struct Position {
    machine: Machine,
    model: Model,
    now: u64,
    clients: [Client; 2],
    path: Vec<Move>,
}

#[derive(Clone, Default)]
struct Client {
    session: SessionId,
    seq: u64,
    /// The number of the last acquire.
    acquire: u64,
    last: Option<Command>,
    token: Token,
    appends: u32,
}

/// Whatever two clients do, in whatever order: machine and model agree after each move. Once from
/// the beginning, and once with one of them holding the lock and the other waiting.
#[test]
fn two_clients_in_every_order() {
    let clients = [Client::default(), Client::default()];
    let (machine, model) = (Machine::new(), Model::default());
    let mut start = Position {
        machine,
        model,
        now: 0,
        clients,
        path: Vec::new(),
    };
    let settings = Settings {
        files: 1,
        default_lease_ms: 1000,
        ..Settings::default()
    };
    start.apply(What::Settings(settings));
    for nonce in [0, 1] {
        let open = Command::Open {
            nonce,
            ttl_ms: 60_000,
            name: String::new(),
        };
        start.apply(What::Command(open));
        start.clients[usize::try_from(nonce).expect("0 or 1")].session =
            SessionId(start.machine.applied().0);
    }
    explore(&start, DEPTH);
    start.play(Move::Acquire(0));
    start.play(Move::Acquire(1));
    explore(&start, DEPTH);
}

fn explore(position: &Position, depth: usize) {
    if depth == 0 {
        return;
    }
    for next in MOVES {
        let mut position = position.clone();
        position.play(next);
        explore(&position, depth - 1);
    }
}

impl Position {
    fn play(&mut self, next: Move) {
        self.path.push(next);
        match next {
            Move::LeaseEnds => {
                self.now += 1000;
                self.apply(What::Time);
            }
            Move::NewLeader => {
                // Saved and loaded on the way, as by a replica that has just started.
                self.machine = crate::load(&crate::save(&self.machine));
                self.apply(What::LeaderStart { grace_ms: 700 });
            }
            Move::LastAgain(who) => {
                if let Some(last) = self.clients[who].last.clone() {
                    self.apply(What::Command(last));
                }
            }
            Move::Acquire(who) => {
                self.clients[who].acquire = self.clients[who].seq + 1;
                let (lock, mode) = ("default".to_owned(), LockMode::Exclusive);
                self.send(
                    who,
                    Op::Acquire {
                        lock,
                        lease_ms: None,
                        wait_ms: Some(1500),
                        mode,
                    },
                );
            }
            Move::CancelLast(who) => {
                let seq = Seq(self.clients[who].acquire);
                self.send(who, Op::Cancel { seq });
            }
            Move::Append(who) => {
                let Client { token, appends, .. } = self.clients[who];
                let (lock, file) = ("default".to_owned(), "file_0".to_owned());
                let data = [b'a' + u8::try_from(who).expect("0 or 1")].to_vec().into();
                self.send(
                    who,
                    Op::Append {
                        lock,
                        token,
                        place: appends + 1,
                        file,
                        data,
                    },
                );
            }
            Move::Release(who) => {
                let Client {
                    token,
                    appends: count,
                    ..
                } = self.clients[who];
                self.send(
                    who,
                    Op::Release {
                        lock: "default".to_owned(),
                        token,
                        count,
                    },
                );
            }
        }
    }

    fn send(&mut self, who: usize, op: Op) {
        let client = &mut self.clients[who];
        client.seq += 1;
        let (session, seq) = (client.session, Seq(client.seq));
        let command = Command::Session {
            session,
            seq,
            done: Done::default(),
            op,
        };
        client.last = Some(command.clone());
        self.apply(What::Command(command));
    }

    fn apply(&mut self, what: What) {
        let slot = Slot(self.machine.applied().0 + 1);
        let at = At {
            slot,
            time: ClusterTime(self.now),
            wall_ms: 0,
        };
        let entry = Entry {
            at,
            what,
            save: false,
        };
        let effects = self.machine.apply(at, entry.applied());
        let found: Vec<_> = effects
            .replies
            .iter()
            .map(|r| (r.to, r.outcome.clone()))
            .collect();
        assert_eq!(found, self.model.apply(&entry), "after {:?}", self.path);
        self.model
            .check(&self.machine, &format!("after {:?}", self.path));
        for reply in &effects.replies {
            let ReplyTo::Command(session, _) = reply.to else {
                continue;
            };
            let found = self
                .clients
                .iter_mut()
                .find(|client| client.session == session);
            let client = found.expect("one of two");
            match reply.outcome {
                Outcome::Granted { token, .. } if token > client.token => {
                    (client.token, client.appends) = (token, 0);
                }
                Outcome::Appended { pending_bytes, .. } => {
                    client.appends = u32::try_from(pending_bytes).expect("one byte each");
                }
                _ => {}
            }
        }
    }
}

/// One section, its messages sent twice each, in every order in which a network could deliver
/// them: in the end, once all are answered, the file has both appends, once each, in order.
#[test]
fn one_section_in_every_order() {
    let mut orders = 0;
    let mut left = [2_u32; 3];
    deliver(&mut left, &mut Vec::new(), &mut orders);
    assert_eq!(orders, 90, "6! / (2! 2! 2!)");
}

fn deliver(left: &mut [u32; 3], order: &mut Vec<usize>, orders: &mut u64) {
    if order.len() == 6 {
        *orders += 1;
        check_section(order);
    }
    for which in 0..3 {
        if left[which] > 0 {
            left[which] -= 1;
            order.push(which);
            deliver(left, order, orders);
            order.pop();
            left[which] += 1;
        }
    }
}

fn check_section(order: &[usize]) {
    let mut machine = Machine::new();
    let mut file = Vec::new();
    let settings = Settings {
        files: 1,
        ..Settings::default()
    };
    apply(&mut machine, &mut file, Applied::Settings(settings));
    let open = Command::Open {
        nonce: 1,
        ttl_ms: 0,
        name: String::new(),
    };
    apply(&mut machine, &mut file, Applied::Command(open));
    let lock = || "default".to_owned();
    let numbered = |seq, op| Command::Session {
        session: SessionId(2),
        seq: Seq(seq),
        done: Done::default(),
        op,
    };
    let mode = LockMode::Exclusive;
    let acquire = Op::Acquire {
        lock: lock(),
        lease_ms: None,
        wait_ms: None,
        mode,
    };
    apply(
        &mut machine,
        &mut file,
        Applied::Command(numbered(1, acquire)),
    );
    let token = Token(1);
    let append = |place, data: &'static [u8]| {
        let (file, data) = ("file_0".to_owned(), data.into());
        Op::Append {
            lock: lock(),
            token,
            place,
            file,
            data,
        }
    };
    let messages = [
        numbered(2, append(1, b"first ")),
        numbered(3, append(2, b"second")),
        numbered(
            4,
            Op::Release {
                lock: lock(),
                token,
                count: 2,
            },
        ),
    ];
    // What came too early is sent again, as a client does, until everything is answered.
    let again = [0, 1, 2];
    let mut answers: [Vec<Outcome>; 3] = Default::default();
    for &which in order.iter().chain(&again) {
        let command = Applied::Command(messages[which].clone());
        let effects = apply(&mut machine, &mut file, command);
        let outcome = effects.replies[0].outcome.clone();
        if !matches!(outcome, Outcome::Refused(Refusal::OutOfOrder { .. })) {
            answers[which].push(outcome);
        }
    }
    assert_eq!(String::from_utf8_lossy(&file), "first second", "{order:?}");
    for answers in answers {
        assert!(
            answers.windows(2).all(|pair| pair[0] == pair[1]),
            "{order:?}: {answers:?}"
        );
        assert!(answers[0].refusal().is_none(), "{order:?}: {answers:?}");
    }
}

fn apply(machine: &mut Machine, file: &mut Vec<u8>, what: Applied<'_>) -> Effects {
    let slot = Slot(machine.applied().0 + 1);
    let effects = machine.apply(
        At {
            slot,
            time: ClusterTime(0),
            wall_ms: 0,
        },
        what,
    );
    for op in &effects.files {
        if let FileOp::Write { offset, data, .. } = op {
            assert_eq!(*offset, file.len() as u64);
            file.extend_from_slice(data);
        }
    }
    effects
}
