//! Endings that are spread over slots, against a machine that clears all away at once.
//!
//! Being due counts at once, so both must give the same answers to the same commands at every slot.
//! What one of them pushes in a slot the other may push later: both must have pushed the same by the
//! time that nothing is left to clear away. Three things differ by nature. Locks change hands in
//! another order, so that the same grant has another token: tokens are translated by the acquire that
//! they answer. A session that is closed before its turn comes is not granted what it waited for. And a
//! grant that is passed on after a new leader's first entry tells the deadline that this has lifted.
//!
//! Time stands still while anything is left to clear away. Otherwise leases that are granted later
//! would end later, as they should.

use std::collections::{BTreeMap, BTreeSet};

use statemachine::{
    Answer, Applied, At, Beat, ClusterTime, Command, Effects, LockStatus, Machine, Op, Outcome,
    Query, Refusal, ReplyTo, Seq, SessionId, Settings, Slot, Token,
};

use crate::walk::{Entry, Walk, What};

/// Walks per run.
const SEEDS: u64 = 250;
/// Slots per walk.
const SLOTS: u64 = 300;

#[test]
fn spread_endings_give_the_answers_of_endings_at_once() {
    let mut pairs = Pairs::default();
    for seed in 0..SEEDS {
        let mut pair = Pair::new();
        let mut walk = Walk::roomy(seed, 1 + seed % 2);
        if seed % 5 == 0 {
            walk = walk.with_many_leaders();
        }
        for _ in 0..SLOTS {
            let entry = walk.entry();
            let effects = pair.apply(entry, &mut pairs, seed);
            walk.learn(&effects);
        }
        while pair.is_behind() {
            let at = At {
                slot: Slot(pair.spread.applied().0 + 1),
                time: pair.spread.time(),
                wall_ms: 7,
            };
            let entry = Entry {
                at,
                what: What::Time,
                save: true,
            };
            pair.apply(entry, &mut pairs, seed);
        }
    }
    // A walk in which nothing is ever left for later shows nothing.
    assert!(
        pairs.behind > 1_000 && pairs.met > 1_000,
        "too little was met: {pairs:?}"
    );
}

/// What the walks met.
#[derive(Debug, Default)]
struct Pairs {
    /// Slots after which something was left to clear away.
    behind: u64,
    /// Slots after which nothing was, and the two machines were compared as wholes.
    met: u64,
}

struct Pair {
    spread: Machine,
    at_once: Machine,
    /// The token of the same grant in the other machine, by the spread one's.
    tokens: BTreeMap<Token, Token>,
    /// Grants so far by the acquire that they answer: in the machine that clears away at once.
    granted: BTreeMap<(SessionId, Seq), Token>,
    /// What each machine has pushed since they were last level.
    pushed: [BTreeMap<(SessionId, Seq), Outcome>; 2],
    /// Sessions closed since then.
    closed: BTreeSet<SessionId>,
    /// Whether a new leader began since then.
    led: bool,
}

impl Pair {
    fn new() -> Pair {
        Pair {
            spread: Machine::new(),
            at_once: Machine::new(),
            tokens: BTreeMap::new(),
            granted: BTreeMap::new(),
            pushed: [BTreeMap::new(), BTreeMap::new()],
            closed: BTreeSet::new(),
            led: false,
        }
    }

    /// Whether something has ended and is not cleared away.
    fn is_behind(&self) -> bool {
        let next = self.spread.next_deadline();
        next.is_some_and(|next| next <= self.spread.time())
    }

    fn apply(&mut self, mut entry: Entry, pairs: &mut Pairs, seed: u64) -> Effects {
        if self.is_behind() {
            entry.at.time = self.spread.time();
        }
        let told = format!("seed {seed}, slot {}: {:?}", entry.at.slot, entry.what);
        if let What::Command(Command::Session {
            session,
            op: Op::Close,
            ..
        }) = &entry.what
        {
            self.closed.insert(*session);
        }
        self.led |= matches!(entry.what, What::LeaderStart { .. });
        let effects = self.spread.apply(entry.at, entry.applied());
        let expected = self.at_once.apply(entry.at, self.translated(&entry));
        self.note_grants(&effects, &expected);
        let found = self.split(0, &effects, true);
        let expected = self.split(1, &expected, false);
        assert_eq!(found, expected, "{told}");
        self.check_questions(&told);
        if entry.save {
            self.spread = crate::load(&crate::save(&self.spread));
        }
        if self.is_behind() {
            pairs.behind += 1;
        } else {
            pairs.met += 1;
            self.check_level(&told);
        }
        effects
    }

    /// Learns which tokens belong together.
    fn note_grants(&mut self, spread: &Effects, at_once: &Effects) {
        for (to, token) in grants(at_once) {
            self.granted.insert(to, token);
        }
        for (to, token) in grants(spread) {
            let other = self.granted.get(&to);
            let other = other.unwrap_or_else(|| panic!("{to:?} was granted here alone"));
            self.tokens.insert(token, *other);
        }
    }

    /// The direct answers; what is pushed is put aside.
    fn split(
        &mut self,
        which: usize,
        effects: &Effects,
        translate: bool,
    ) -> Vec<(ReplyTo, Outcome)> {
        let mut direct = Vec::new();
        for reply in &effects.replies {
            let mut outcome = reply.outcome.clone();
            let mut to = reply.to;
            if translate {
                outcome = self.outcome(outcome);
                if let ReplyTo::Settle(token) = to {
                    to = ReplyTo::Settle(self.token(token));
                }
            }
            match (reply.counts_for_time, to) {
                (false, ReplyTo::Command(session, seq)) => {
                    self.pushed[which].insert((session, seq), outcome);
                }
                _ => direct.push((to, outcome)),
            }
        }
        direct
    }

    /// Single questions see what is due as ended.
    fn check_questions(&self, told: &str) {
        for (token, other) in &self.tokens {
            let current = |machine: &Machine, token| {
                ["default", "a", "b"].iter().any(|lock| {
                    let lock = (*lock).to_owned();
                    machine.query(&Query::CheckToken { lock, token })
                        == Answer::Token { current: true }
                })
            };
            let (found, expected) = (
                current(&self.spread, *token),
                current(&self.at_once, *other),
            );
            assert_eq!(found, expected, "{told}: token {token}");
        }
        for id in (1..=self.spread.applied().0).step_by(7).map(SessionId) {
            let alive = |machine: &Machine| {
                matches!(machine.query(&Query::Session { id }), Answer::Session(_))
            };
            assert_eq!(
                alive(&self.spread),
                alive(&self.at_once),
                "{told}: session {id}"
            );
        }
    }

    /// With nothing left to clear away the two are the same, but for the order of their grants.
    fn check_level(&mut self, told: &str) {
        let [found, expected] = std::mem::take(&mut self.pushed);
        let closed = std::mem::take(&mut self.closed);
        let led = std::mem::take(&mut self.led);
        let open = |mut pushed: BTreeMap<(SessionId, Seq), Outcome>| -> BTreeMap<_, _> {
            pushed.retain(|(session, _), _| !closed.contains(session));
            for outcome in pushed.values_mut() {
                if let Outcome::Granted { deadline, .. } = outcome
                    && led
                {
                    *deadline = ClusterTime::default();
                }
            }
            pushed
        };
        assert_eq!(open(found), open(expected), "{told}");
        for lock in ["default", "a", "b"] {
            let status = |machine: &Machine| match machine.query(&Query::LockStatus {
                lock: lock.to_owned(),
            }) {
                Answer::Lock(status) => status,
                other => panic!("{other:?}"),
            };
            let holder = |status: &LockStatus| {
                status
                    .holder
                    .clone()
                    .map(|h| (h.session, h.deadline, h.pending_bytes))
            };
            let (found, expected) = (status(&self.spread), status(&self.at_once));
            assert_eq!(holder(&found), holder(&expected), "{told}");
            assert_eq!(found.queue, expected.queue, "{told}");
        }
        let sessions = Query::Sessions {
            after: None,
            limit: 100,
        };
        assert_eq!(
            self.spread.query(&sessions),
            self.at_once.query(&sessions),
            "{told}"
        );
        assert!(self.spread.files().eq(self.at_once.files()), "{told}");
        assert_eq!(
            self.spread.next_deadline(),
            self.at_once.next_deadline(),
            "{told}"
        );
    }

    fn token(&self, token: Token) -> Token {
        // A token that nobody has been given is one in neither machine.
        let unknown = Token(token.0 + 1_000_000);
        self.tokens.get(&token).copied().unwrap_or(unknown)
    }

    fn outcome(&self, mut outcome: Outcome) -> Outcome {
        match &mut outcome {
            Outcome::Granted { token, .. }
            | Outcome::Refused(Refusal::AlreadyHeld { token } | Refusal::NotHeld { token, .. }) => {
                *token = self.token(*token);
            }
            Outcome::Alive { beats } => {
                let states = beats
                    .iter_mut()
                    .filter_map(|beat| beat.result.as_mut().ok());
                let locks = states.flat_map(|state| &mut state.locks);
                locks.for_each(|lock| lock.token = self.token(lock.token));
            }
            _ => {}
        }
        outcome
    }

    /// The entry for the machine that clears away at once.
    fn translated(&self, entry: &Entry) -> Applied<'static> {
        let mut what = entry.what.clone();
        match &mut what {
            What::Settings(settings) => {
                let at_once = Settings {
                    endings_max: u64::MAX,
                    ..settings.clone()
                };
                return Applied::Settings(at_once);
            }
            What::Command(Command::Settle { token, .. }) => *token = self.token(*token),
            What::Command(Command::KeepAlive { beats }) => {
                let tokens = beats.iter_mut().flat_map(|Beat { tokens, .. }| tokens);
                tokens.for_each(|(_, token)| *token = self.token(*token));
            }
            What::Command(Command::Session {
                op:
                    Op::Renew { token, .. }
                    | Op::Append { token, .. }
                    | Op::Release { token, .. }
                    | Op::Abort { token, .. }
                    | Op::ForceRelease { token, .. },
                ..
            }) => *token = self.token(*token),
            _ => {}
        }
        Entry {
            at: entry.at,
            what,
            save: false,
        }
        .applied()
    }
}

fn grants(effects: &Effects) -> impl Iterator<Item = ((SessionId, Seq), Token)> {
    effects
        .replies
        .iter()
        .filter_map(|reply| match (reply.to, &reply.outcome) {
            (ReplyTo::Command(session, seq), Outcome::Granted { token, .. }) => {
                Some(((session, seq), *token))
            }
            _ => None,
        })
}
