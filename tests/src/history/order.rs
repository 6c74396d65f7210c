//! Fencing from outside: what the tokens of a history allow.
//!
//! 1. No token is granted twice.
//! 2. Tokens grow over the whole cluster: a grant that was answered before another acquire was asked
//!    has the smaller one.
//! 3. At most one holder: once a call under token `t` was answered with success, no call asked
//!    *later* under an older token of that lock succeeds. As a call that succeeded proves its token
//!    current at some moment between question and answer, this is exactly what a client can see of
//!    two holders at a time, and of an old holder that was not fenced off.
//!
//! Each is one sort and one sweep.

use std::collections::BTreeMap;
use std::time::Duration;

use super::record::{Answer, Call, Event};

/// All that cannot be, one line each; empty if the history is sound.
pub fn violations(events: &[Event]) -> Vec<String> {
    let mut found = Vec::new();
    let mut grants: Vec<&Event> = granted(events).collect();
    grants.sort_by_key(|event| event.token);
    repeated_tokens(&grants, &mut found);
    shrinking_tokens(&grants, &mut found);
    let mut locks: BTreeMap<&str, BTreeMap<u64, Proof<'_>>> = BTreeMap::new();
    for event in events.iter().filter(|event| event.answer == Answer::Done) {
        if let (Some(token), Some(answered)) = (event.token, event.answered) {
            let tokens = locks.entry(&event.lock).or_default();
            tokens
                .entry(token)
                .and_modify(|proof| proof.add(event, answered))
                .or_insert(Proof {
                    first_answered: (answered, event),
                    last_asked: (event.asked, event),
                });
        }
    }
    for tokens in locks.values() {
        overtaken_holders(tokens, &mut found);
    }
    found
}

/// The calls that prove a token current: the earliest answer and the latest question among them.
#[derive(Clone, Copy, Debug)]
struct Proof<'a> {
    first_answered: (Duration, &'a Event),
    last_asked: (Duration, &'a Event),
}

impl<'a> Proof<'a> {
    fn add(&mut self, event: &'a Event, answered: Duration) {
        if answered < self.first_answered.0 {
            self.first_answered = (answered, event);
        }
        if event.asked > self.last_asked.0 {
            self.last_asked = (event.asked, event);
        }
    }
}

fn granted(events: &[Event]) -> impl Iterator<Item = &Event> {
    let is_grant = |event: &&Event| event.call == Call::Acquire && event.answer == Answer::Done;
    events.iter().filter(is_grant)
}

fn repeated_tokens(grants: &[&Event], found: &mut Vec<String>) {
    for pair in grants.windows(2) {
        if pair[0].token == pair[1].token {
            found.push(format!(
                "token granted twice:\n  {:?}\n  {:?}",
                pair[0], pair[1]
            ));
        }
    }
}

/// `grants` ascend by token; swept from the highest, the earliest answer above each is known.
fn shrinking_tokens(grants: &[&Event], found: &mut Vec<String>) {
    let mut earliest: Option<&Event> = None;
    for &grant in grants.iter().rev() {
        if let Some(above) = earliest
            && above
                .answered
                .is_some_and(|answered| answered < grant.asked)
        {
            found.push(format!(
                "a later grant has an older token:\n  {above:?}\n  {grant:?}"
            ));
        }
        if earliest.is_none_or(|above| grant.answered < above.answered) {
            earliest = Some(grant);
        }
    }
}

fn overtaken_holders(tokens: &BTreeMap<u64, Proof<'_>>, found: &mut Vec<String>) {
    let mut earliest: Option<(Duration, &Event)> = None;
    for proof in tokens.values().rev() {
        if let Some((answered, newer)) = earliest
            && answered < proof.last_asked.0
        {
            let old = proof.last_asked.1;
            found.push(format!(
                "an old token still counted:\n  {newer:?}\n  {old:?}"
            ));
        }
        if earliest.is_none_or(|(answered, _)| proof.first_answered.0 < answered) {
            earliest = Some(proof.first_answered);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A call under `token` of lock `l`, asked and answered at these milliseconds.
    fn call(call: Call, token: u64, asked: u64, answered: u64) -> Event {
        Event {
            client: "c".into(),
            lock: "l".into(),
            token: Some(token),
            call,
            asked: Duration::from_millis(asked),
            answered: Some(Duration::from_millis(answered)),
            answer: Answer::Done,
        }
    }

    fn check(events: &[Event], expected: usize) {
        let found = violations(events);
        assert_eq!(found.len(), expected, "{found:#?}");
    }

    #[test]
    fn one_holder_after_another_is_sound() {
        check(
            &[
                call(Call::Acquire, 1, 0, 10),
                call(Call::Release, 1, 20, 30),
                // Asked before the release, granted by it.
                call(Call::Acquire, 2, 5, 31),
                call(Call::Release, 2, 40, 50),
            ],
            0,
        );
    }

    #[test]
    fn one_token_for_two_is_found() {
        check(
            &[call(Call::Acquire, 1, 0, 10), call(Call::Acquire, 1, 5, 11)],
            1,
        );
    }

    #[test]
    fn a_token_that_shrinks_is_found() {
        let mut other = call(Call::Acquire, 1, 11, 20);
        other.lock = "another".into();
        check(&[call(Call::Acquire, 2, 0, 10), other], 1);
    }

    #[test]
    fn an_old_holder_that_is_not_fenced_off_is_found() {
        check(
            &[
                call(Call::Acquire, 1, 0, 10),
                call(Call::Acquire, 2, 0, 20),
                call(Call::Renew, 1, 21, 30),
            ],
            1,
        );
    }

    #[test]
    fn a_late_answer_of_the_old_holder_proves_nothing() {
        check(
            &[
                call(Call::Acquire, 1, 0, 10),
                call(Call::Renew, 1, 12, 30),
                call(Call::Acquire, 2, 0, 20),
            ],
            0,
        );
    }
}
