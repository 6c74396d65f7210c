//! What a new leader's first entry costs: nothing that grows with the number of deadlines.

use std::collections::BTreeSet;

use statemachine::{
    Applied, At, ClusterTime, Command, Machine, Outcome, Query, SessionFact, SessionId, Settings,
    Slot,
};

const TTL_MS: u64 = 1_000;
const GRACE_MS: u64 = 2_000;
/// Sessions: some more than one slot may move or end.
const SESSIONS: u64 = 10;
const ENDINGS_MAX: u64 = 4;

struct Cluster {
    machine: Machine,
    now: u64,
}

impl Cluster {
    fn new(rules: &Settings) -> Cluster {
        let (machine, now) = (Machine::new(), 0);
        let mut cluster = Cluster { machine, now };
        let settings = Settings {
            endings_max: rules.endings_max.min(ENDINGS_MAX),
            ..Settings::default().under_rules_of(rules)
        };
        cluster.apply(Applied::Settings(settings));
        for nonce in 0..SESSIONS {
            let open = Command::Open {
                nonce: nonce.into(),
                ttl_ms: TTL_MS,
                name: String::new(),
            };
            let outcome = cluster.apply(Applied::Command(open));
            assert!(matches!(outcome, Some(Outcome::Opened { .. })));
        }
        cluster
    }

    fn apply(&mut self, what: Applied<'_>) -> Option<Outcome> {
        let at = At {
            slot: Slot(self.machine.applied().0 + 1),
            time: ClusterTime(self.now),
            wall_ms: 0,
        };
        let mut replies = self.machine.apply(at, what).replies;
        replies.pop().map(|reply| reply.outcome)
    }

    fn lead(&mut self) {
        let grace_ms = GRACE_MS;
        self.apply(Applied::LeaderStart { grace_ms });
    }

    fn sessions(&self) -> Vec<SessionFact> {
        let query = Query::Sessions {
            after: None,
            limit: 100,
        };
        match self.machine.query(&query) {
            statemachine::Answer::Sessions(page) => page.items,
            other => panic!("{other:?}"),
        }
    }

    /// How many sessions live until `deadline`.
    fn live_until(&self, deadline: u64) -> usize {
        let mut sessions = self.sessions();
        // Whoever asks for a session by its number is told the same.
        sessions.retain(|s| {
            let answer = self.machine.query(&Query::Session { id: s.session });
            answer == statemachine::Answer::Session(s.clone())
        });
        let lives = |s: &&SessionFact| s.deadline.0 == deadline && s.left_ms > 0;
        sessions.iter().filter(lives).count()
    }
}

/// The first entry moves no deadline, however many there are. They are moved when they come up, as many
/// in a slot as may end in one; meanwhile everybody is answered as if all had been moved.
#[test]
fn deadlines_are_lifted_in_bounded_steps() {
    let mut cluster = Cluster::new(&Settings::default());
    let all = SESSIONS as usize;
    cluster.now = 900;
    cluster.lead();
    assert_eq!(cluster.machine.next_deadline(), Some(ClusterTime(1_000)));
    assert_eq!(cluster.live_until(1_900), all);
    cluster.now = 1_000;
    let mut slots = 0;
    while cluster.machine.next_deadline() == Some(ClusterTime(1_000)) {
        cluster.apply(Applied::Time);
        assert_eq!(cluster.live_until(1_900), all);
        slots += 1;
    }
    assert_eq!(slots, SESSIONS.div_ceil(ENDINGS_MAX));
    assert_eq!(cluster.machine.next_deadline(), Some(ClusterTime(1_900)));
}

/// Under the first rules all are moved at once: their logs must be replayed to the same bytes.
#[test]
fn the_first_rules_lift_deadlines_at_once() {
    let mut cluster = Cluster::new(&Settings::of_first_rules());
    cluster.now = 900;
    cluster.lead();
    assert_eq!(cluster.machine.next_deadline(), Some(ClusterTime(1_900)));
}

/// Leaders that follow one another within a moment are remembered up to a limit. Then deadlines are
/// moved at once, and no session ends that should live, nor comes back that had ended.
#[test]
fn many_leaders_in_a_row_keep_alive_who_lives() {
    let mut cluster = Cluster::new(&Settings::default());
    let mut lens = BTreeSet::new();
    for turn in 1..=40 {
        cluster.now = 900 + turn * 10;
        cluster.lead();
        assert_eq!(
            cluster.live_until(cluster.now + TTL_MS),
            SESSIONS as usize,
            "turn {turn}"
        );
        let mut bytes = Vec::new();
        cluster.machine.encode_snapshot(&mut bytes).expect("memory");
        assert_eq!(
            Machine::decode_snapshot(&bytes).as_ref(),
            Ok(&cluster.machine),
            "turn {turn}"
        );
        lens.insert(bytes.len());
    }
    // Sixteen gifts of two numbers each at most.
    assert!(lens.last().unwrap() - lens.first().unwrap() <= 16 * 16);
    cluster.now += TTL_MS;
    cluster.lead();
    assert_eq!(cluster.live_until(cluster.now + TTL_MS), 0);
    let id = SessionId(2);
    let answer = cluster.machine.query(&Query::Session { id });
    assert!(matches!(answer, statemachine::Answer::Refused(_)));
}
