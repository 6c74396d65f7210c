//! What a command costs when there is much of everything. No assertion on time: a busy machine
//! would make it lie. The figures are for people:
//!
//! `cargo test --release -p statemachine --test scale -- --ignored --nocapture`

#![expect(
    clippy::disallowed_types,
    clippy::disallowed_methods,
    reason = "the crate has no clock, who measures it has"
)]

use std::time::Instant;

use statemachine::{
    Applied, At, Beat, ClusterTime, Command, Done, LockMode, Machine, Op, Outcome, Seq, SessionId,
    Settings, Slot,
};

/// A machine under load.
struct Load {
    machine: Machine,
    now: u64,
}

impl Load {
    fn apply(&mut self, what: Applied<'_>) -> Outcome {
        let slot = Slot(self.machine.applied().0 + 1);
        let at = At {
            slot,
            time: ClusterTime(self.now),
            wall_ms: 0,
        };
        let effects = self.machine.apply(at, what);
        effects
            .replies
            .first()
            .map_or(Outcome::Closed, |reply| reply.outcome.clone())
    }

    fn run(&mut self, session: SessionId, seq: u64, op: Op) -> Outcome {
        let done = Done {
            below: seq.saturating_sub(2),
            also: Vec::new(),
        };
        let command = Command::Session {
            session,
            seq: Seq(seq),
            done,
            op,
        };
        self.apply(Applied::Command(command))
    }

    fn open(&mut self, nonce: u64) -> SessionId {
        let name = format!("client {nonce}");
        let open = Command::Open {
            nonce: nonce.into(),
            ttl_ms: 3_600_000,
            name,
        };
        match self.apply(Applied::Command(open)) {
            Outcome::Opened { session, .. } => session,
            other => panic!("{other:?}"),
        }
    }

    fn acquire(&mut self, session: SessionId, seq: u64, lock: &str) -> Outcome {
        let (lock, mode) = (lock.to_owned(), LockMode::Exclusive);
        let lease_ms = Some(3_600_000);
        self.run(
            session,
            seq,
            Op::Acquire {
                lock,
                lease_ms,
                wait_ms: None,
                mode,
            },
        )
    }

    /// Acquire, append, release on a lock of one's own; microseconds per command.
    fn cycles(&mut self, session: SessionId, first: u64, cycles: u64) -> f64 {
        let start = Instant::now();
        for cycle in 0..cycles {
            let seq = first + cycle * 3;
            let lock = || "mine".to_owned();
            let Outcome::Granted { token, .. } = self.acquire(session, seq, "mine") else {
                panic!("not granted");
            };
            let (file, data) = ("mine".to_owned(), vec![7; 100].into());
            let append = Op::Append {
                lock: lock(),
                token,
                place: 1,
                file,
                data,
            };
            self.run(session, seq + 1, append);
            self.run(
                session,
                seq + 2,
                Op::Release {
                    lock: lock(),
                    token,
                    count: 1,
                },
            );
        }
        start.elapsed().as_secs_f64() * 1e6 / (cycles * 3) as f64
    }
}

/// How long the slots took: the longest, all of them, and how many there were.
#[derive(Default)]
struct Slots {
    longest: f64,
    total: f64,
    count: u64,
}

impl Slots {
    fn add(&mut self, start: Instant) {
        let ms = start.elapsed().as_secs_f64() * 1e3;
        self.longest = self.longest.max(ms);
        self.total += ms;
        self.count += 1;
    }
}

impl std::fmt::Display for Slots {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Slots {
            longest,
            total,
            count,
        } = self;
        write!(
            f,
            "{count} slots, {total:.0} ms in all, {longest:.1} ms the longest"
        )
    }
}

/// Sessions, and locks that each of them holds.
const MANY: u64 = 100_000;
const EACH: u64 = 10;

/// 100,000 sessions with 1,000,000 locks: what each replica has to do in one slot.
fn a_million_locks(rules: &Settings) {
    let machine = Machine::new();
    let mut load = Load { machine, now: 0 };
    load.apply(Applied::Settings(Settings::default().under_rules_of(rules)));
    let mut setup = Slots::default();
    let mut beats = Vec::new();
    for nonce in 0..MANY {
        let open = Command::Open {
            nonce: nonce.into(),
            ttl_ms: 20_000,
            name: format!("client {nonce}"),
        };
        let Outcome::Opened { session, .. } = load.apply(Applied::Command(open)) else {
            panic!("not opened");
        };
        let mut tokens = Vec::new();
        for seq in 1..=EACH {
            let lock = format!("lock {nonce} {seq}");
            let acquire = Op::Acquire {
                lock: lock.clone(),
                lease_ms: Some(20_000),
                wait_ms: None,
                mode: LockMode::Exclusive,
            };
            let start = Instant::now();
            let Outcome::Granted { token, .. } = load.run(session, seq, acquire) else {
                panic!("not granted");
            };
            setup.add(start);
            tokens.push((lock, token));
        }
        beats.push(Beat { session, tokens });
    }
    println!("rules {}: acquires: {setup}", rules.rules);

    load.now += 7_000;
    let mut kept = Slots::default();
    for beats in beats.chunks(400) {
        let beats = beats.to_vec();
        let start = Instant::now();
        load.apply(Applied::Command(Command::KeepAlive { beats }));
        kept.add(start);
    }
    println!("keep-alives of all, 400 sessions with 4,000 locks in each: {kept}");

    let start = Instant::now();
    assert_ne!(load.machine.state_hash(), 0);
    let hash = start.elapsed().as_secs_f64() * 1e6;
    let start = Instant::now();
    let mut bytes = Vec::new();
    load.machine.encode_snapshot(&mut bytes).expect("memory");
    let encode = start.elapsed().as_secs_f64() * 1e3;
    let start = Instant::now();
    Machine::decode_snapshot(&bytes).expect("its own");
    let decode = start.elapsed().as_secs_f64() * 1e3;
    let (weight, mib) = (load.machine.weight().0 >> 20, bytes.len() >> 20);
    println!(
        "hash {hash:.1} us; weight {weight} MiB; snapshot {mib} MiB, written in {encode:.0} ms, read in {decode:.0} ms"
    );

    for (left_ms, what) in [(13_000, "far from"), (1_000, "within")] {
        let due = load.machine.next_deadline().expect("they live").0;
        load.now = due - left_ms;
        let start = Instant::now();
        load.apply(Applied::LeaderStart { grace_ms: 2_000 });
        let took = start.elapsed().as_secs_f64() * 1e3;
        println!("a new leader, all deadlines {what} its grace: {took:.1} ms");
    }

    load.now += 60_000;
    let mut cleared = Slots::default();
    let mut asked = Slots::default();
    while load.machine.next_deadline().is_some() {
        let start = Instant::now();
        load.apply(Applied::Time);
        cleared.add(start);
        if cleared.count == 1 {
            let nonce = MANY.into();
            let (ttl_ms, name) = (3_600_000, String::new());
            let start = Instant::now();
            let open = Command::Open {
                nonce,
                ttl_ms,
                name,
            };
            let Outcome::Opened { session, .. } = load.apply(Applied::Command(open)) else {
                panic!("not opened");
            };
            asked.add(start);
            let last = beats.last().expect("many").tokens[0].0.clone();
            let start = Instant::now();
            let granted = load.acquire(session, 1, &last);
            asked.add(start);
            assert!(matches!(granted, Outcome::Granted { .. }));
            load.run(session, 2, Op::Close);
        }
    }
    println!("all expire at once: {cleared}; a session and a lock meanwhile: {asked}");
}

#[test]
#[ignore = "prints figures, asserts nothing about them; takes 2 GB of memory"]
fn figures_of_a_million_locks() {
    let (old, new) = (Settings::of_first_rules(), Settings::default());
    // The first pays for the growing heap.
    for rules in [&old, &new, &old] {
        a_million_locks(rules);
    }
}

#[test]
#[ignore = "prints figures, asserts nothing about them"]
fn figures() {
    for others in [10_u64, 1_000, 100_000] {
        let mut load = Load {
            machine: Machine::new(),
            now: 0,
        };
        load.apply(Applied::Settings(Settings {
            files: 100,
            ..Settings::default()
        }));
        let me = load.open(0);
        load.run(
            me,
            1,
            Op::CreateFile {
                file: "mine".to_owned(),
                guard: None,
            },
        );
        load.acquire(me, 2, "contended");
        let sessions: Vec<SessionId> = (1..=others).map(|nonce| load.open(nonce)).collect();
        for (at, &session) in sessions.iter().enumerate() {
            load.acquire(session, 1, &format!("lock {at}"));
            load.acquire(session, 2, "contended");
        }
        let cycle = load.cycles(me, 10, 20_000);
        let start = Instant::now();
        for &session in &sessions {
            load.machine
                .waiting_position(session, Seq(2))
                .expect("it waits");
        }
        let position = start.elapsed().as_secs_f64() * 1e6 / others as f64;
        let start = Instant::now();
        for &session in sessions.iter().step_by(2) {
            load.run(session, 3, Op::Cancel { seq: Seq(2) });
        }
        let cancel = start.elapsed().as_secs_f64() * 1e6 / (others / 2) as f64;
        let start = Instant::now();
        let copy = load.machine.clone();
        let clone = start.elapsed().as_secs_f64() * 1e6;
        let shared = load.cycles(me, 100_000, 1);
        drop(copy);
        let start = Instant::now();
        let mut bytes = Vec::new();
        load.machine.encode_snapshot(&mut bytes).expect("memory");
        let encode = start.elapsed().as_secs_f64() * 1e3;
        let start = Instant::now();
        Machine::decode_snapshot(&bytes).expect("its own");
        let decode = start.elapsed().as_secs_f64() * 1e3;
        let start = Instant::now();
        assert_ne!(load.machine.state_hash(), 0);
        let hash = start.elapsed().as_secs_f64() * 1e3;
        let start = Instant::now();
        load.apply(Applied::LeaderStart { grace_ms: 2_000 });
        let leader = start.elapsed().as_secs_f64() * 1e3;
        let start = Instant::now();
        load.now += 4_000_000;
        while load.machine.next_deadline().is_some() {
            load.apply(Applied::Time);
        }
        let expiry = start.elapsed().as_secs_f64() * 1e3;
        println!(
            "{others} others: {cycle:.2} us/command, {shared:.2} after a clone of {clone:.2} us, \
             position {position:.2} us, cancel {cancel:.2} us; snapshot {} KiB, {encode:.1} ms, \
             loaded in {decode:.1} ms, hash {hash:.1} ms; leader start {leader:.2} ms, all expire \
             in {expiry:.1} ms",
            bytes.len() / 1024
        );
        assert_eq!(load.machine.next_deadline(), None);
    }
}
