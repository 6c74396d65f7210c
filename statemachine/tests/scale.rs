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
    Applied, At, ClusterTime, Command, Done, LockMode, Machine, Op, Outcome, Seq, SessionId,
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
        load.apply(Applied::Time);
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
