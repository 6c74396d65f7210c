//! A state that has used up its budget does not grow, whatever it is asked.

use statemachine::{
    Applied, At, ClusterTime, Command, Done, LockMode, Machine, Op, Outcome, Refusal, Seq,
    SessionId, Settings, Slot, Token,
};

struct Service {
    machine: Machine,
    limit: u64,
}

impl Service {
    /// A service whose budget is used up by sessions.
    fn full(rules: &Settings) -> (Service, Vec<SessionId>) {
        let limit = 40_000;
        let settings = Settings {
            files: 1,
            state_bytes_max: limit,
            ..Settings::default()
        };
        let machine = Machine::new();
        let mut service = Service { machine, limit };
        service.apply(Applied::Settings(settings.under_rules_of(rules)));
        let mut sessions = Vec::new();
        for nonce in 0.. {
            let (ttl_ms, name) = (0, "some client".to_owned());
            let open = Command::Open {
                nonce,
                ttl_ms,
                name,
            };
            match service.apply(Applied::Command(open)) {
                Some(Outcome::Opened { session, .. }) => sessions.push(session),
                _ => break,
            }
        }
        assert!(sessions.len() > 50);
        (service, sessions)
    }

    fn apply(&mut self, what: Applied<'_>) -> Option<Outcome> {
        let at = At {
            slot: Slot(self.machine.applied().0 + 1),
            time: ClusterTime(0),
            wall_ms: 0,
        };
        let replies = self.machine.apply(at, what).replies;
        replies.into_iter().last().map(|reply| reply.outcome)
    }

    fn run(&mut self, session: SessionId, seq: u64, op: Op) -> Option<Outcome> {
        let (seq, done) = (Seq(seq), Done::default());
        self.apply(Applied::Command(Command::Session {
            session,
            seq,
            done,
            op,
        }))
    }

    /// Bytes that the state weighs beyond its budget.
    fn beyond(&self) -> u64 {
        self.machine.weight().0.saturating_sub(self.limit)
    }
}

fn renew() -> Op {
    Op::Renew {
        lock: "default".to_owned(),
        token: Token(99),
    }
}

/// The answers to refused commands, whichever numbers they have: each in turn, or every other one.
#[test]
fn refusals_stay_within_the_budget() {
    for step in [1, 2] {
        let (mut service, sessions) = Service::full(&Settings::default());
        for &session in &sessions {
            for seq in (1..=1_024).step_by(step) {
                let refused = service.run(session, seq, renew());
                assert!(matches!(refused, Some(Outcome::Refused(_))), "{refused:?}");
            }
        }
        assert_eq!(service.beyond(), 0);
    }
}

/// Under the first rules they went beyond it.
#[test]
fn the_first_rules_forgot_to_count_refusals() {
    let (mut service, sessions) = Service::full(&Settings::of_first_rules());
    for seq in 1..=1_024 {
        service.run(sessions[0], seq, renew());
    }
    assert!(service.beyond() > 100_000);
}

/// A cancel that names commands which are not here yet leaves gaps, as does a list of numbers that are
/// done.
#[test]
fn gaps_stay_within_the_budget() {
    let (mut service, sessions) = Service::full(&Settings::default());
    for (seq, target) in (1..=400).zip((1_000..).step_by(2)) {
        let target = Seq(target);
        service.run(sessions[0], seq, Op::Cancel { seq: target });
    }
    let also = (500..1_500).step_by(2).map(|seq| (seq, seq)).collect();
    let (session, op) = (sessions[1], renew());
    let refused = service.apply(Applied::Command(Command::Session {
        session,
        seq: Seq(1),
        done: Done { below: 0, also },
        op,
    }));
    let full =
        |outcome: Option<Outcome>| matches!(outcome, Some(Outcome::Refused(Refusal::Full { .. })));
    assert!(full(refused));
    assert_eq!(service.beyond(), 0);
}

/// A number whose refusal is not remembered does not run when it comes again.
#[test]
fn a_refused_number_never_runs() {
    let (mut service, sessions) = Service::full(&Settings::default());
    let acquire = || Op::Acquire {
        lock: "default".to_owned(),
        lease_ms: None,
        wait_ms: None,
        mode: LockMode::Exclusive,
    };
    let (first, second) = (sessions[0], sessions[1]);
    service.run(first, 1, renew());
    (1..=9).for_each(|seq| drop(service.run(sessions[2], seq, renew())));
    let refused = service.run(first, 2, acquire());
    assert!(matches!(
        refused,
        Some(Outcome::Refused(Refusal::Full { .. }))
    ));
    for &session in &sessions[20..] {
        service.run(session, 1, Op::Close);
    }
    let again = service.run(first, 2, acquire());
    assert_eq!(again, Some(Outcome::Refused(Refusal::Forgotten)));
    let granted = service.run(second, 1, acquire());
    assert!(matches!(granted, Some(Outcome::Granted { .. })));
}

/// A session may wait for more locks than it may have answers remembered: waiting is no load.
#[test]
fn waiting_is_no_command_in_flight() {
    let mut service = Service {
        machine: Machine::new(),
        limit: u64::MAX,
    };
    let settings = Settings {
        in_flight_max: 10,
        ..Settings::default()
    };
    service.apply(Applied::Settings(settings));
    let mut open = |nonce| {
        let (ttl_ms, name) = (0, String::new());
        let open = Command::Open {
            nonce,
            ttl_ms,
            name,
        };
        match service.apply(Applied::Command(open)) {
            Some(Outcome::Opened { session, .. }) => session,
            other => panic!("{other:?}"),
        }
    };
    let (holder, waiter) = (open(1), open(2));
    for number in 1..=50 {
        let acquire = || Op::Acquire {
            lock: format!("lock {number}"),
            lease_ms: None,
            wait_ms: None,
            mode: LockMode::Exclusive,
        };
        let done = Done {
            below: number - 1,
            also: Vec::new(),
        };
        let command = Command::Session {
            session: holder,
            seq: Seq(number),
            done,
            op: acquire(),
        };
        let granted = service.apply(Applied::Command(command));
        assert!(matches!(granted, Some(Outcome::Granted { .. })));
        assert_eq!(service.run(waiter, number, acquire()), None, "it waits");
    }
    let position = service.machine.waiting_position(waiter, Seq(50));
    assert_eq!(position, Some(1));
}
