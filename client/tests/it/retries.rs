//! Lost, late and doubled messages; redirects; broken connections; silence.

use std::io::{ErrorKind, Read};
use std::net::TcpListener;
use std::time::Duration;

use client::clock::BootTime;
use client::raw::{Link, Session};
use client::{Client, Endpoints, Error};
use net::{Leader, RequestBody, ResponseBody};
use statemachine::{ClusterTime, Op, Outcome, Token};

use crate::scripted::{Replica, SOON, connect, connect_with, options, session};

const LEASE: Duration = Duration::from_secs(20);
const SHORT: Duration = Duration::from_millis(150);

#[tokio::test]
async fn numbers_count_up_and_answers_are_acknowledged() {
    let mut one = Replica::start(1).await;
    let session = session(&[&one]).await;
    let first = session.acquire("a", None, None);
    let second = session.acquire("b", None, None);
    let (ask_first, ask_second) = (one.ask().await, one.ask().await);
    assert_eq!((ask_first.seq(), ask_second.seq()), (1, 2));
    ask_second.granted(5, LEASE);
    second.wait(SOON).await.expect("granted");
    let third = session.renew("b", Token(5));
    let ask = one.ask().await;
    let (seq, done, _) = ask.numbered();
    // The first is still open, so the second stands alone.
    assert_eq!((seq.0, done.below, done.also), (3, 0, vec![(2, 2)]));
    ask_first.granted(6, LEASE);
    first.wait(SOON).await.expect("granted");
    ask.outcome(Outcome::Renewed {
        deadline: ClusterTime(99_999),
    });
    third.wait(SOON).await.expect("renewed");
    let _fourth = session.renew("b", Token(5));
    assert_eq!(one.ask().await.numbered().1.below, 3);
}

#[tokio::test]
async fn a_lost_request_or_reply_is_repeated_on_the_healthy_connection() {
    let mut one = Replica::start(1).await;
    let session = session(&[&one]).await;
    let call = session.acquire("a", None, None);
    let waiting = tokio::spawn(async move { call.wait(SOON).await });
    let lost = one.ask().await;
    let again = one.ask().await;
    assert_eq!(lost.seq(), again.seq());
    assert_ne!(lost.request.id, again.request.id);
    again.granted(5, LEASE);
    waiting.await.expect("runs").expect("granted");
}

#[tokio::test]
async fn doubled_and_unknown_answers_disturb_nobody() {
    let mut one = Replica::start(1).await;
    let session = session(&[&one]).await;
    let call = session.acquire("a", None, None);
    let ask = one.ask().await;
    ask.granted(5, LEASE);
    ask.granted(6, LEASE);
    let reply = call.wait(SOON).await.expect("granted");
    assert!(matches!(
        reply.outcome,
        Outcome::Granted {
            token: Token(5),
            ..
        }
    ));
    drop(call);
    ask.granted(8, LEASE);
    let call = session.renew("a", Token(5));
    let ask = one.ask().await;
    ask.outcome(Outcome::Renewed {
        deadline: ClusterTime(99_999),
    });
    call.wait(SOON).await.expect("renewed");
    assert!(session.hold("a", Token(8)).is_none());
}

/// A late answer to the first attempt is as good as one to the second, and counts from when that
/// first attempt was sent.
#[tokio::test]
async fn a_late_answer_to_an_old_attempt_counts_from_its_own_sending() {
    let mut one = Replica::start(1).await;
    one.set_beats(false);
    let session = session(&[&one]).await;
    let call = session.acquire("a", None, None);
    let waiting = call.clone();
    let waiting = tokio::spawn(async move { waiting.wait(SOON).await });
    let first = one.ask().await;
    let _second = one.ask().await;
    let second_sent = BootTime::now();
    // Stamped so early that only this pair can bound the deadline well.
    let deadline = ClusterTime(30_000);
    let granted = Outcome::Granted {
        token: Token(5),
        deadline,
        lease_ms: 20_000,
    };
    let bytes = granted.encode().into();
    first.reply(ResponseBody::Outcome {
        slot: 5,
        stamp_ms: Some(10_000),
        bytes,
    });
    waiting.await.expect("runs").expect("granted");
    let hold = session.hold("a", Token(5)).expect("in the books");
    let local = session.hold_deadline(&hold);
    let from_second = second_sent.after(Duration::from_millis(20_000 * 98 / 100));
    assert!(local < from_second, "counted from the second attempt");
    assert!(
        local.0 > from_second.0 - 1_500_000,
        "not counted from the first attempt either"
    );
}

#[tokio::test]
async fn redirects_are_followed_by_address() {
    let (mut one, mut two) = (Replica::start(1).await, Replica::start(2).await);
    let session = session(&[&one]).await;
    let call = session.acquire("a", None, None);
    let waiting = tokio::spawn(async move { call.wait(SOON).await });
    let leader = Some(Leader {
        id: 2,
        address: two.address.clone(),
    });
    one.ask().await.reply(ResponseBody::NotLeader { leader });
    two.ask().await.granted(5, LEASE);
    waiting.await.expect("runs").expect("granted");
    // The next call goes there at once.
    let _next = session.acquire("b", None, None);
    assert_eq!(two.ask().await.seq(), 2);
    one.quiet(Duration::from_millis(30)).await;
}

/// With a list by id the address that a replica tells is of no interest: the way to it may lead
/// through a proxy.
#[tokio::test]
async fn redirects_by_id_stay_within_the_list() {
    let (mut one, mut two) = (Replica::start(1).await, Replica::start(2).await);
    let list: Endpoints = format!("1={},2={}", one.address, two.address)
        .parse()
        .expect("sound");
    let link = Link::new(list, "test", false);
    let session = Session::open(&link, None, "test", SOON)
        .await
        .expect("opens");
    let call = session.acquire("a", None, None);
    let waiting = tokio::spawn(async move { call.wait(SOON).await });
    let leader = Some(Leader {
        id: 2,
        address: "127.0.0.1:1".into(),
    });
    one.ask().await.reply(ResponseBody::NotLeader { leader });
    two.ask().await.granted(5, LEASE);
    waiting.await.expect("runs").expect("granted");
}

#[tokio::test]
async fn a_pinned_client_is_told_who_leads() {
    let mut one = Replica::start(1).await;
    let endpoints = Endpoints::parse([&one.address]).expect("sound");
    let pinned = client::Options {
        pin: true,
        ..options(SOON)
    };
    let client = Client::connect_with(endpoints, pinned)
        .await
        .expect("connects");
    let acquire = tokio::spawn(client.lock("a").acquire());
    let leader = Leader {
        id: 2,
        address: "127.0.0.1:1".into(),
    };
    one.ask().await.reply(ResponseBody::NotLeader {
        leader: Some(leader.clone()),
    });
    let error = acquire.await.expect("runs").expect_err("refused");
    assert_eq!(error.code(), "not_leader");
    assert!(matches!(error, Error::NotLeader { leader: Some(found) } if found == leader));
}

#[tokio::test]
async fn after_a_broken_connection_the_same_number_is_sent_again() {
    let mut one = Replica::start(1).await;
    let session = session(&[&one]).await;
    let call = session.acquire("a", None, None);
    let waiting = tokio::spawn(async move { call.wait(SOON).await });
    let before = one.ask().await;
    one.cut();
    let after = one.ask().await;
    assert_eq!(before.seq(), after.seq());
    after.granted(5, LEASE);
    waiting.await.expect("runs").expect("granted");
}

/// One endpoint is enough: the others are learned, and found when that one dies.
#[tokio::test]
async fn the_leader_is_found_among_members_that_nobody_named() {
    let mut one = Replica::start(1).await;
    let (two, mut three) = (Replica::start(2).await, Replica::start(3).await);
    two.set_leads(false);
    one.set_members(&[&one, &two, &three]);
    let client = connect(&[&one]).await;
    assert_eq!(client.members().await.expect("told").len(), 3);
    let acquire = tokio::spawn(client.lock("a").acquire());
    one.ask().await;
    one.kill();
    three.ask().await.granted(5, LEASE);
    acquire.await.expect("runs").expect("granted");
}

/// The one endpoint given follows, and knows of no leader yet: the members that it names are asked.
#[tokio::test]
async fn one_follower_is_enough_to_find_a_later_leader() {
    let (mut one, two) = (Replica::start(1).await, Replica::start(2).await);
    one.set_opens(false);
    one.set_leads(false);
    one.set_members(&[&one, &two]);
    let endpoints = Endpoints::parse([&one.address]).expect("sound");
    let connecting = tokio::spawn(Client::connect_with(endpoints, options(SOON)));
    one.ask()
        .await
        .reply(ResponseBody::NotLeader { leader: None });
    connecting.await.expect("runs").expect("found");
}

#[tokio::test]
async fn no_answer_is_unknown_and_settle_asks_under_the_same_number() {
    let mut one = Replica::start(1).await;
    let session = session(&[&one]).await;
    let call = session.acquire("a", None, Some(Duration::ZERO));
    let error = call.wait(SHORT).await.expect_err("silence");
    assert_eq!((error.code(), error.rc()), ("unknown", 6));
    let Error::Unknown(unknown) = error else {
        panic!("unknown")
    };
    let settling = tokio::spawn(async move { unknown.settle(SOON).await });
    let (lost, again) = (one.ask().await, one.ask().await);
    assert_eq!(lost.seq(), again.seq());
    again.granted(5, LEASE);
    let reply = settling.await.expect("runs").expect("granted");
    assert!(matches!(reply.outcome, Outcome::Granted { .. }));
    // Waiting for it again gives the same.
    assert_eq!(call.wait(SOON).await.expect("granted"), reply);
}

#[tokio::test]
async fn certainly_not_done_is_unavailable() {
    let mut one = Replica::start(1).await;
    let session = session(&[&one]).await;
    let call = session.renew("a", Token(1));
    let waiting = async {
        loop {
            // An attempt may be on its way just as time is up; then it is not known yet.
            match call.wait(SHORT).await.expect_err("never done") {
                Error::Unknown(_) => {}
                error => return error,
            }
        }
    };
    let answering = async {
        loop {
            let reason = "no majority".to_owned();
            one.ask().await.reply(ResponseBody::Unavailable {
                reason,
                retry_ms: 0,
            });
        }
    };
    let error = tokio::select! {
        error = tokio::time::timeout(SOON, waiting) => error.expect("soon"),
        () = answering => unreachable!("runs for ever"),
    };
    assert_eq!((error.code(), error.rc()), ("unavailable", 5));
    assert!(error.to_string().contains("no majority"), "{error}");
}

/// What asking again does not change is told at once, however long the caller would wait.
#[tokio::test]
async fn an_answer_that_stays_the_same_ends_the_call() {
    let mut one = Replica::start(1).await;
    let session = session(&[&one]).await;
    let call = session.renew("a", Token(1));
    let waiting = tokio::spawn(async move { call.wait(Duration::from_secs(3600)).await });
    one.ask().await.reply(ResponseBody::Unavailable {
        reason: "the file is damaged".to_owned(),
        retry_ms: ResponseBody::NO_RETRY_MS,
    });
    let ended = tokio::time::timeout(SOON, waiting).await.expect("at once");
    let error = ended.expect("runs").expect_err("refused");
    assert_eq!((error.code(), error.rc()), ("unavailable", 5));
    assert!(error.to_string().contains("the file is damaged"), "{error}");
}

/// One of several attempts may have been taken on, so it is not said that nothing was done.
#[tokio::test]
async fn one_doubtful_attempt_makes_all_unknown() {
    let mut one = Replica::start(1).await;
    let session = session(&[&one]).await;
    let call = session.renew("a", Token(1));
    let waiting = tokio::spawn(async move { call.wait(SHORT).await });
    one.ask().await.reply(ResponseBody::Unknown {
        reason: "lost leadership".into(),
    });
    let answering = async {
        loop {
            one.ask().await.reply(ResponseBody::Unavailable {
                reason: "no majority".into(),
                retry_ms: 0,
            });
        }
    };
    let error = tokio::select! {
        error = waiting => error.expect("runs").expect_err("never answered"),
        () = answering => unreachable!("runs for ever"),
    };
    assert_eq!(error.code(), "unknown");
}

#[tokio::test]
async fn nobody_there_is_unavailable_within_the_timeout() {
    let one = Replica::start(1).await;
    one.kill();
    let endpoints = Endpoints::parse([&one.address]).expect("sound");
    let error = Client::connect_with(endpoints, options(SHORT))
        .await
        .expect_err("nobody");
    assert_eq!(error.code(), "unavailable");
}

/// A repeated open bears the same nonce, so that it opens one session.
#[tokio::test]
async fn a_repeated_open_is_the_same_open() {
    let mut one = Replica::start(1).await;
    one.set_opens(false);
    let endpoints = Endpoints::parse([&one.address]).expect("sound");
    let opening = tokio::spawn(Client::connect_with(endpoints, options(SOON)));
    let first = one.ask().await;
    one.cut();
    let second = one.ask().await;
    assert_eq!(first.command(), second.command());
    opening.abort();
}

#[tokio::test]
async fn a_bad_request_is_not_repeated() {
    let mut one = Replica::start(1).await;
    let client = connect_with(&[&one], SOON).await;
    let acquire = tokio::spawn(client.lock("a").try_acquire());
    one.ask().await.reply(ResponseBody::Bad {
        reason: "what?".into(),
    });
    let error = acquire.await.expect("runs").expect_err("bad");
    assert_eq!((error.code(), error.rc()), ("bad_request", 4));
}

fn come_back(retry_ms: u64) -> ResponseBody {
    ResponseBody::Unavailable {
        reason: "no room".into(),
        retry_ms,
    }
}

/// An overloaded leader says when to come back, and is left alone until then.
#[tokio::test]
async fn a_client_comes_back_when_it_was_told_to() {
    let mut one = Replica::start(1).await;
    let session = session(&[&one]).await;
    let call = session.acquire("a", None, None);
    let waiting = tokio::spawn(async move { call.wait(SOON).await });
    let first = one.ask().await;
    first.reply(come_back(600));
    one.quiet(Duration::from_millis(500)).await;
    let again = one.ask().await;
    assert_eq!(first.seq(), again.seq());
    again.granted(5, LEASE);
    waiting.await.expect("runs").expect("granted");
}

/// After a refusal for want of room a long append asks for room first, however often, and sends its bytes
/// once there is some. What is short goes at once.
#[tokio::test]
async fn many_bytes_are_sent_again_only_into_room() {
    let mut one = Replica::start(1).await;
    let session = session(&[&one]).await;
    let bytes = vec![7; 100 << 10];
    let call = session.append("a", Token(5), "a", bytes.into());
    let waiting = tokio::spawn(async move { call.wait(SOON).await });
    let first = one.ask().await;
    assert!(matches!(first.op(), Op::Append { .. }));
    first.reply(come_back(1));
    for _ in 0..3 {
        let room = one.ask().await;
        let RequestBody::Room { bytes } = room.request.body else {
            panic!("the bytes came without room: {:?}", room.seq())
        };
        assert!(bytes > 100 << 10, "{bytes}");
        room.reply(come_back(1));
    }
    let short = session.renew("b", Token(6));
    let ask = loop {
        let ask = one.ask().await;
        match ask.request.body {
            RequestBody::Room { .. } => ask.reply(come_back(1)),
            _ => break ask,
        }
    };
    assert!(matches!(ask.op(), Op::Renew { .. }));
    ask.outcome(Outcome::Renewed {
        deadline: ClusterTime(99_999),
    });
    short.wait(SOON).await.expect("renewed");
    one.ask().await.reply(ResponseBody::Done);
    let again = one.ask().await;
    // No `assert_eq`: it would print all the bytes.
    assert!(again.seq() == first.seq() && again.op() == first.op());
    again.appended();
    waiting.await.expect("runs").expect("appended");
}

#[tokio::test]
async fn a_dead_or_silent_replica_does_not_hold_up_the_status_of_the_others() {
    let (one, two) = (Replica::start(1).await, Replica::start(2).await);
    let three = Replica::start(3).await;
    one.set_members(&[&one, &two, &three]);
    let client = connect_with(&[&one, &two], 10 * SOON).await;
    two.kill();
    three.set_silent();
    let status = tokio::time::timeout(SOON, client.status()).await;
    let status = status.expect("long before the client's timeout");
    let known: Vec<bool> = status.iter().map(|(_, status)| status.is_ok()).collect();
    assert_eq!(known, [true, false, false]);
}

/// A replica that starts, or is stopped, takes connections and does not greet. Whoever tries it first asks the others
/// before it gives that up.
#[tokio::test]
async fn a_replica_that_does_not_greet_does_not_hold_up_the_way_to_the_leader() {
    let starting = TcpListener::bind("127.0.0.1:0").expect("a port");
    let at = starting.local_addr().expect("bound").to_string();
    let two = Replica::start(2).await;
    let endpoints = Endpoints::parse(&[at, two.address.clone()]).expect("addresses");
    let link = Link::new(endpoints, "test", false);
    let opened = Session::open(&link, None, "test", SOON).await;
    let _session = opened.expect("the second leads");
    let (mut first, _) = starting.accept().expect("it was tried");
    first.set_nonblocking(true).expect("a socket");
    let mut greeting = [0; 1_024];
    let still_open = loop {
        match first.read(&mut greeting) {
            Ok(0) => break false,
            Ok(_) => {}
            Err(error) => break error.kind() == ErrorKind::WouldBlock,
        }
    };
    assert!(still_open, "the first connection was waited for to its end");
}
