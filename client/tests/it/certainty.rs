//! What a client may say of a call that was sent, and what goes on after nobody waits for it.

use std::time::{Duration, Instant};

use client::{Error, LostWhy};
use net::ResponseBody;
use statemachine::{Command, Fate, Op, Outcome, Refusal, Token};

use crate::scripted::{Ask, Replica, SOON, connect, connect_with, session};

const LEASE: Duration = Duration::from_secs(20);
/// Timeout of a client that is to run out of patience.
const SHORT: Duration = Duration::from_millis(100);
/// Longer than any number of such timeouts that a client might have counted to.
const LONG: Duration = Duration::from_millis(1_500);

async fn held(one: &mut Replica, client: &client::Client) -> client::Guard {
    let acquire = tokio::spawn(client.lock("a").lease(LEASE).acquire());
    one.ask().await.granted(5, LEASE);
    acquire.await.expect("runs").expect("granted")
}

/// The next question that is not answered by `skip`.
async fn ask_after(one: &mut Replica, skip: impl Fn(&Ask) -> bool) -> Ask {
    loop {
        let ask = one.ask().await;
        if !skip(&ask) {
            return ask;
        }
    }
}

/// The first append is applied or not, nobody knows; that the session is gone by the retry tells nothing.
#[tokio::test]
async fn an_append_whose_session_expired_before_the_retry_is_unknown_to_the_raw_caller() {
    let mut one = Replica::start(1).await;
    let session = session(&[&one]).await;
    let call = session.append("a", Token(5), "file_0", "x".into());
    let waiting = call.clone();
    let waiting = tokio::spawn(async move { waiting.wait(SOON).await });
    one.ask().await;
    one.cut();
    one.ask().await.refused(Refusal::SessionExpired);
    let error = waiting.await.expect("runs").expect_err("nobody knows");
    assert_eq!((error.code(), error.rc()), ("unknown", 6));
    assert!(!session.is_open());
}

/// A release too: its section may be applied.
#[tokio::test]
async fn a_release_that_may_have_landed_is_never_refused() {
    for refusal in [Refusal::Forgotten, Refusal::TooManyInFlight { limit: 1 }] {
        let mut one = Replica::start(1).await;
        let client = connect(&[&one]).await;
        let guard = held(&mut one, &client).await;
        let release = tokio::spawn(guard.release());
        one.ask().await;
        one.cut();
        one.ask().await.refused(refusal);
        let error = release.await.expect("runs").expect_err("nobody knows");
        assert_eq!((error.code(), error.rc()), ("unknown", 6));
    }
}

/// Nor refused because its session has ended since: how the grant ended decides. Of one that is settled long
/// after, only the file lengths may be gone.
#[tokio::test]
async fn a_release_whose_session_expired_is_settled_by_its_token() {
    let slot = statemachine::Slot(9);
    let lengths = Some(vec![("file_0".to_owned(), 3)]);
    let fates = [
        (Fate::Done { slot, lengths }, Ok(9)),
        (Fate::Never, Err("not_held")),
        (Fate::Unknown, Err("unknown")),
    ];
    for (fate, expected) in fates {
        let mut one = Replica::start(1).await;
        let client = connect(&[&one]).await;
        let guard = held(&mut one, &client).await;
        let release = tokio::spawn(guard.release());
        one.ask().await;
        one.cut();
        one.ask().await.refused(Refusal::SessionExpired);
        let ask = one.ask().await;
        let lock = "a".to_owned();
        let token = Token(5);
        assert_eq!(ask.command(), Command::Settle { lock, token });
        ask.outcome(Outcome::Settled { fate });
        let answer = release.await.expect("runs");
        let found = answer.map(|receipt| receipt.slot);
        assert_eq!(found.map_err(|error| error.code()), expected);
    }
}

/// A single attempt that was refused was not done.
#[tokio::test]
async fn a_release_refused_at_its_only_attempt_is_refused() {
    let mut one = Replica::start(1).await;
    let client = connect(&[&one]).await;
    let guard = held(&mut one, &client).await;
    let release = tokio::spawn(guard.release());
    one.ask().await.refused(Refusal::SessionExpired);
    let error = release.await.expect("runs").expect_err("expired");
    assert!(error.is_session_expired());
}

/// An append under way when the section was released may have been applied with it.
#[tokio::test]
async fn an_append_under_an_unknown_release_is_unknown() {
    let mut one = Replica::start(1).await;
    let client = connect_with(&[&one], SHORT).await;
    let guard = held(&mut one, &client).await;
    let append = tokio::spawn(guard.append("file_0", "x"));
    let is_append = |ask: &Ask| matches!(ask.op(), Op::Append { .. });
    assert!(is_append(&one.ask().await));
    let release = tokio::spawn(guard.release());
    let ask = ask_after(&mut one, is_append).await;
    assert!(matches!(ask.op(), Op::Release { .. }));
    ask.released();
    release.await.expect("runs").expect("released");
    let error = append.await.expect("runs").expect_err("no answer came");
    assert_eq!(error.code(), "unknown");
}

/// Nor is it certain that the append never counts if the session ends before the release is answered.
#[tokio::test]
async fn an_append_is_unknown_if_its_session_ends_under_a_release() {
    let mut one = Replica::start(1).await;
    let client = connect_with(&[&one], SHORT).await;
    one.set_beats(false);
    let guard = held(&mut one, &client).await;
    let append = tokio::spawn(guard.append("file_0", "x"));
    assert!(matches!(one.ask().await.op(), Op::Append { .. }));
    let release = guard.session().release("a", guard.token());
    one.tell_lost(Refusal::SessionExpired);
    let error = append.await.expect("runs").expect_err("no answer came");
    assert_eq!(error.code(), "unknown");
    drop(release);
}

/// Closed or expired, nothing is left of it.
#[tokio::test]
async fn a_repeated_close_that_finds_no_session_has_closed_it() {
    let mut one = Replica::start(1).await;
    let session = session(&[&one]).await;
    let closing = session.clone();
    let closing = tokio::spawn(async move { closing.close(SOON).await });
    one.ask().await;
    one.cut();
    one.ask().await.refused(Refusal::SessionExpired);
    closing.await.expect("runs").expect("nothing is left of it");
    assert!(!session.is_open());
}

/// Not only for the timeout of one answer, which would cost a place in the queue at each outage.
#[tokio::test]
async fn an_acquire_waits_out_an_outage() {
    for within in [None, Some(SOON)] {
        let mut one = Replica::start(1).await;
        let client = connect_with(&[&one], SHORT).await;
        let lock = client.lock("a");
        let acquire = match within {
            None => lock.acquire(),
            Some(wait) => lock.acquire_within(wait),
        };
        let acquire = tokio::spawn(acquire);
        let started = Instant::now();
        let ask = ask_after(&mut one, |ask| {
            ask.reply(ResponseBody::NotLeader { leader: None });
            started.elapsed() < LONG
        })
        .await;
        assert_eq!(ask.seq(), 1, "neither cancelled nor begun again");
        one.ask().await.granted(5, LEASE);
        acquire.await.expect("runs").expect("granted");
    }
}

#[tokio::test]
async fn leaving_a_queue_is_repeated_until_it_is_certain() {
    let mut one = Replica::start(1).await;
    let client = connect_with(&[&one], SHORT).await;
    let acquire = tokio::spawn(client.lock("a").acquire());
    one.ask().await.reply(ResponseBody::Waiting { position: 1 });
    acquire.abort();
    let started = Instant::now();
    let cancel = ask_after(&mut one, |_| started.elapsed() < LONG).await;
    assert!(matches!(cancel.op(), Op::Cancel { .. }));
    cancel.outcome(Outcome::Cancelled { given_back: true });
}

#[tokio::test]
async fn an_abort_that_nobody_waits_for_is_done_all_the_same() {
    let mut one = Replica::start(1).await;
    let client = connect_with(&[&one], SHORT).await;
    let guard = held(&mut one, &client).await;
    let session = guard.session().clone();
    let abort = tokio::spawn(guard.abort());
    one.ask().await;
    abort.abort();
    let started = Instant::now();
    let again = ask_after(&mut one, |_| started.elapsed() < LONG).await;
    assert!(matches!(again.op(), Op::Abort { .. }));
    again.outcome(Outcome::Aborted);
    while !session.holds().is_empty() {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_release_that_nobody_waits_for_leaves_nothing_held() {
    let mut one = Replica::start(1).await;
    let client = connect_with(&[&one], SHORT).await;
    let guard = held(&mut one, &client).await;
    let release = tokio::spawn(guard.release());
    one.ask().await;
    release.abort();
    let is_release = |ask: &Ask| matches!(ask.op(), Op::Release { .. });
    let abort = ask_after(&mut one, is_release).await;
    let (_, done, op) = abort.numbered();
    assert!(matches!(op, Op::Abort { .. }));
    assert_eq!(done.below, 2, "the release is given up");
    abort.outcome(Outcome::Aborted);
}

/// Nothing keeps a session alive in which something unwanted may be granted.
#[tokio::test]
async fn a_session_that_cannot_be_tidied_up_is_given_up() {
    let mut one = Replica::start(1).await;
    one.set_ttl(Duration::from_millis(500));
    let client = connect_with(&[&one], SHORT).await;
    let acquire = tokio::spawn(client.lock("a").acquire());
    one.ask().await.reply(ResponseBody::Waiting { position: 1 });
    let session = client.session().await.expect("open");
    one.set_beats(false);
    acquire.abort();
    let given_up = async {
        while session.is_open() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(SOON, given_up).await.expect("soon");
}

/// A leader that says nothing is noticed in time for the lease, not after a fixed time.
#[tokio::test]
async fn a_short_lease_survives_a_leader_that_falls_silent() {
    let (mut one, two) = (Replica::start(1).await, Replica::start(2).await);
    two.set_leads(false);
    let client = connect(&[&one, &two]).await;
    let lease = Duration::from_secs(2);
    for replica in [&one, &two] {
        replica.set_lease(lease);
    }
    let acquire = tokio::spawn(client.lock("a").lease(lease).acquire());
    one.ask().await.granted(5, lease);
    let guard = acquire.await.expect("runs").expect("granted");
    one.set_silent();
    tokio::time::sleep(Duration::from_millis(700)).await;
    two.set_leads(true);
    let lost = tokio::time::timeout(2 * lease, guard.lost()).await;
    assert!(lost.is_err(), "lost: {lost:?}");
}

#[tokio::test]
async fn nobody_there_is_told_at_once_and_of_all() {
    let mut addresses = Vec::new();
    for id in 1..=3 {
        let replica = Replica::start(id).await;
        replica.kill();
        addresses.push(replica.address.clone());
    }
    let started = Instant::now();
    let error = client::Client::connect(&addresses)
        .await
        .expect_err("nobody is there");
    assert!(
        started.elapsed() < client::Options::default().timeout,
        "it waited for those who cannot come"
    );
    let Error::Unavailable { reason } = &error else {
        panic!("{error}")
    };
    assert!(
        reason.starts_with("connection refused by all 3 of"),
        "{reason}"
    );
    assert!(addresses.iter().all(|it| reason.contains(it)), "{reason}");
}

/// The words for people name the reason that the service gave.
#[test]
fn why_a_lock_was_lost_is_told_in_full() {
    let reason = "maintenance".to_owned();
    let why = LostWhy::NotHeld(Some(statemachine::NotHeldWhy::Forced { reason }));
    assert!(why.to_string().contains("maintenance"), "{why}");
}
