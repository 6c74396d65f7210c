//! Acquires that wait: positions, pushes, and leaving the queue.

use std::time::Duration;

use net::ResponseBody;
use statemachine::{ClusterTime, Op, Outcome, Refusal, Token};

use crate::scripted::{Replica, SOON, connect, connect_with, session};

const LEASE: Duration = Duration::from_secs(20);

#[tokio::test]
async fn the_position_is_told_and_the_grant_is_pushed() {
    let mut one = Replica::start(1).await;
    let session = session(&[&one]).await;
    let call = session.acquire("a", None, None);
    let mut positions = call.positions();
    let waiting = tokio::spawn(async move { call.wait(SOON).await });
    let ask = one.ask().await;
    ask.reply(ResponseBody::Waiting { position: 2 });
    positions
        .wait_for(|position| *position == Some(2))
        .await
        .expect("told");
    ask.reply(ResponseBody::Waiting { position: 1 });
    positions
        .wait_for(|position| *position == Some(1))
        .await
        .expect("told");
    let deadline = ask.now().after(20_000);
    ask.push(Outcome::Granted {
        token: Token(5),
        deadline,
        lease_ms: 20_000,
    });
    waiting.await.expect("runs").expect("granted");
    let hold = session.hold("a", Token(5)).expect("in the books");
    // No pair came with the push; that of the open bounds it all the same.
    assert!(session.hold_deadline(&hold) > client::clock::BootTime::now());
}

/// Waiting is an answer: the timeout bounds silence, not the queue. A lost push is found by asking
/// again.
#[tokio::test]
async fn a_wait_outlasts_the_timeout_and_a_lost_push_is_found() {
    let mut one = Replica::start(1).await;
    let client = connect_with(&[&one], Duration::from_millis(500)).await;
    let acquire = tokio::spawn(client.lock("a").acquire());
    let ask = one.ask().await;
    ask.reply(ResponseBody::Waiting { position: 1 });
    let again = one.ask().await;
    assert_eq!(ask.seq(), again.seq());
    again.granted(5, LEASE);
    let guard = acquire.await.expect("runs").expect("granted");
    assert_eq!(guard.token(), Token(5));
}

#[tokio::test]
async fn a_dropped_acquire_leaves_the_queue() {
    let mut one = Replica::start(1).await;
    let client = connect(&[&one]).await;
    let acquire = tokio::spawn(client.lock("a").acquire());
    let ask = one.ask().await;
    ask.reply(ResponseBody::Waiting { position: 3 });
    acquire.abort();
    let cancel = one.ask().await;
    let (_, done, op) = cancel.numbered();
    assert_eq!(
        op,
        Op::Cancel {
            seq: ask.numbered().0
        }
    );
    assert_eq!(done.below, 0, "not given up before the cancel has said so");
    cancel.outcome(Outcome::Cancelled { given_back: false });
    // Now both are answered.
    let again = tokio::spawn(client.lock("a").try_acquire());
    let ask = one.ask().await;
    assert_eq!(ask.seq(), 3);
    ask.granted(6, LEASE);
    let guard = again.await.expect("runs").expect("granted");
    // The cancel's answer takes its own way through the library, so it may be counted an append later.
    for _ in 0..100 {
        let append = guard.append("file_0", "x");
        let ask = one.ask().await;
        if ask.numbered().1.below >= 2 {
            return;
        }
        ask.appended();
        append.await.expect("appended");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("the cancelled acquire was never named as done");
}

#[tokio::test]
async fn the_three_ways_to_acquire_ask_differently() {
    let mut one = Replica::start(1).await;
    let client = connect(&[&one]).await;
    let minute = Duration::from_secs(60);
    let asked = |op: Op| match op {
        Op::Acquire {
            lease_ms, wait_ms, ..
        } => (lease_ms, wait_ms),
        other => panic!("no acquire: {other:?}"),
    };
    let acquire = tokio::spawn(client.lock("a").acquire());
    assert_eq!(asked(one.ask().await.op()), (None, None));
    acquire.abort();
    one.ask().await;
    let acquire = tokio::spawn(client.lock("a").lease(minute).try_acquire());
    let ask = one.ask().await;
    assert_eq!(asked(ask.op()), (Some(60_000), Some(0)));
    ask.refused(Refusal::WaitTimedOut);
    assert_eq!(acquire.await.expect("runs").expect_err("refused").rc(), 3);
    let _acquire = tokio::spawn(client.lock("a").acquire_within(minute));
    assert_eq!(asked(one.ask().await.op()), (None, Some(60_000)));
}

/// The first answer of a repeated acquire, with its deadline past: nothing is believed.
#[tokio::test]
async fn a_grant_that_is_over_is_born_lost() {
    let mut one = Replica::start(1).await;
    let client = connect(&[&one]).await;
    let acquire = tokio::spawn(client.lock("a").acquire());
    let granted = Outcome::Granted {
        token: Token(5),
        deadline: ClusterTime(40_000),
        lease_ms: 2_000,
    };
    one.ask().await.outcome(granted);
    let guard = acquire.await.expect("runs").expect("the answer is a grant");
    assert!(!guard.is_valid());
    guard.lost().await;
}
