//! Signs of life, deadlines, and noticing that something is lost.

use std::time::{Duration, Instant};

use client::clock::BootTime;
use client::raw::Notice;
use client::{Client, Guard, LostWhy};
use statemachine::{BeatAnswer, Command, NotHeldWhy, Outcome, Refusal, SessionExpired, Token};

use crate::scripted::{Replica, SESSION, SOON, connect, session};

async fn held(one: &mut Replica, client: &Client, lease: Duration) -> Guard {
    let acquire = tokio::spawn(client.lock("a").lease(lease).acquire());
    one.ask().await.granted(5, lease);
    acquire.await.expect("runs").expect("granted")
}

#[tokio::test]
async fn beats_carry_tokens_and_move_the_deadline() {
    let mut one = Replica::start(1).await;
    let client = connect(&[&one]).await;
    one.set_beats(false);
    let lease = Duration::from_secs(2);
    let guard = held(&mut one, &client, lease).await;
    let before = guard.deadline();
    // A third of the lease later, since that is shorter than the session's TTL.
    let beat = one.ask().await;
    let Command::KeepAlive { beats } = beat.command() else {
        panic!("a beat")
    };
    assert_eq!(beats[0].session, SESSION);
    assert_eq!(beats[0].tokens, vec![("a".to_owned(), Token(5))]);
    assert!(guard.is_valid());
    beat.alive(|_| true);
    let told = async {
        while guard.deadline() <= before + lease {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(SOON, told)
        .await
        .expect("the beat's answer moves the deadline");
}

#[tokio::test]
async fn a_lease_that_is_not_renewed_is_not_named_in_beats() {
    let mut one = Replica::start(1).await;
    one.set_ttl(Duration::from_millis(600));
    let session = session(&[&one]).await;
    one.set_beats(false);
    let call = session.acquire("a", None, None);
    loop {
        let ask = one.ask().await;
        match ask.command() {
            Command::Session { .. } => break ask.granted(5, SOON),
            _ => ask.alive(|_| true),
        }
    }
    call.wait(SOON).await.expect("granted");
    assert!(session.set_renew("a", Token(5), false));
    // One beat may have been made before.
    one.ask().await.alive(|_| true);
    let ask = one.ask().await;
    let Command::KeepAlive { beats } = ask.command() else {
        panic!("a beat")
    };
    assert_eq!(beats[0].tokens, vec![]);
}

#[tokio::test]
async fn without_auto_there_are_no_beats_but_by_hand() {
    let mut one = Replica::start(1).await;
    one.set_ttl(Duration::from_millis(500));
    let session = session(&[&one]).await;
    session.set_keep_alive(false);
    one.set_beats(false);
    one.quiet(Duration::from_millis(400)).await;
    let by_hand = session.clone();
    let beating = tokio::spawn(async move { by_hand.keep_alive(SOON).await });
    one.ask().await.alive(|_| true);
    beating.await.expect("runs").expect("alive");
    assert!(session.deadline() > BootTime::now());
}

#[tokio::test]
async fn a_beat_learns_that_the_lock_is_gone() {
    let mut one = Replica::start(1).await;
    let client = connect(&[&one]).await;
    one.set_beats(false);
    let guard = held(&mut one, &client, Duration::from_millis(600)).await;
    let lost = tokio::spawn(guard.lost());
    one.ask().await.alive(|_| false);
    let why = tokio::time::timeout(SOON, lost)
        .await
        .expect("soon")
        .expect("runs");
    assert!(matches!(why, LostWhy::NotHeld(_)), "{why:?}");
}

/// Nobody answers: the guard is lost for its owner when its deadline passes by its own clock, and
/// not later than the service would say.
#[tokio::test]
async fn silence_loses_the_lock_at_the_local_deadline() {
    let mut one = Replica::start(1).await;
    let client = connect(&[&one]).await;
    one.set_beats(false);
    let lease = Duration::from_millis(500);
    let asked = BootTime::now();
    let guard = held(&mut one, &client, lease).await;
    let mut notices = guard.session().notices();
    assert!(
        guard.deadline() < Instant::now() + lease,
        "the holder believes longer than the service, which granted the lock before now"
    );
    let why = tokio::time::timeout(SOON, guard.lost())
        .await
        .expect("soon");
    assert_eq!(why, LostWhy::Deadline);
    assert!(!guard.is_valid());
    assert!(
        asked.after(lease * 8 / 10) < BootTime::now(),
        "it gave up far too early"
    );
    let notice = tokio::time::timeout(SOON, notices.recv())
        .await
        .expect("soon")
        .expect("told");
    let expected = Notice::Lost {
        lock: "a".into(),
        token: Token(5),
        why: LostWhy::Deadline,
    };
    assert_eq!(notice, expected);
}

#[tokio::test]
async fn an_expired_session_loses_all_and_the_next_use_opens_another() {
    let mut one = Replica::start(1).await;
    let client = connect(&[&one]).await;
    one.set_beats(false);
    let guard = held(&mut one, &client, Duration::from_millis(600)).await;
    let ask = one.ask().await;
    let expired = BeatAnswer {
        session: SESSION,
        result: Err(SessionExpired),
    };
    ask.outcome(Outcome::Alive {
        beats: vec![expired],
    });
    let why = tokio::time::timeout(SOON, guard.lost())
        .await
        .expect("soon");
    assert_eq!(why, LostWhy::SessionExpired);
    let old = guard.session().clone();
    assert!(!old.is_open());
    let acquire = tokio::spawn(client.lock("a").acquire());
    let ask = one.ask().await;
    assert_eq!(ask.seq(), 1, "numbers start anew");
    ask.granted(9, SOON);
    assert_eq!(
        acquire.await.expect("runs").expect("granted").token(),
        Token(9)
    );
}

#[tokio::test]
async fn a_refusal_that_names_the_session_expires_it() {
    let mut one = Replica::start(1).await;
    let client = connect(&[&one]).await;
    let acquire = tokio::spawn(client.lock("a").acquire());
    one.ask().await.refused(Refusal::SessionExpired);
    let error = acquire.await.expect("runs").expect_err("expired");
    assert_eq!((error.code(), error.rc()), ("session_expired", 2));
    assert!(error.is_session_expired());
    assert!(client.session().await.expect("another").is_open());
}

/// Not only with the next keep-alive, which may be a third of a long lease away.
#[tokio::test]
async fn a_loss_is_heard_as_it_is_told() {
    let mut one = Replica::start(1).await;
    let client = connect(&[&one]).await;
    one.set_beats(false);
    let guard = held(&mut one, &client, Duration::from_secs(20)).await;
    let why = NotHeldWhy::Forced {
        reason: "maintenance".into(),
    };
    one.tell_lost(Refusal::NotHeld {
        lock: "a".into(),
        token: guard.token(),
        why: why.clone(),
    });
    let lost = tokio::time::timeout(SOON, guard.lost()).await;
    assert_eq!(lost.expect("soon"), LostWhy::NotHeld(Some(why)));
    assert!(!guard.is_valid());
}

#[tokio::test]
async fn the_end_of_the_session_is_heard_as_it_is_told() {
    let mut one = Replica::start(1).await;
    let client = connect(&[&one]).await;
    one.set_beats(false);
    let guard = held(&mut one, &client, Duration::from_secs(20)).await;
    one.tell_lost(Refusal::SessionExpired);
    let lost = tokio::time::timeout(SOON, guard.lost()).await;
    assert_eq!(lost.expect("soon"), LostWhy::SessionExpired);
}

/// The answer to the acquire may be read later than the push behind it.
#[tokio::test]
async fn a_loss_may_come_before_its_grant() {
    let mut one = Replica::start(1).await;
    let session = crate::scripted::session(&[&one]).await;
    let call = session.acquire("a", None, None);
    let ask = one.ask().await;
    ask.granted(5, Duration::from_secs(20));
    one.tell_lost(Refusal::NotHeld {
        lock: "a".into(),
        token: Token(5),
        why: NotHeldWhy::LeaseEnded,
    });
    // Nobody has looked at the answer yet. A second question makes sure that both have come.
    let second = session.renew("b", Token(6));
    one.ask().await.outcome(Outcome::Renewed {
        deadline: one.now(),
    });
    second.wait(SOON).await.expect("renewed");
    call.wait(SOON).await.expect("granted");
    assert!(session.hold("a", Token(5)).is_none());
}
