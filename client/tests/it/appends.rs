//! Sections: places, refusals, overtaking, release.

use std::time::Duration;

use client::{Client, Guard};
use statemachine::{NotHeldWhy, Op, Refusal, Token};

use crate::scripted::{Ask, Replica, connect, connect_with};

const LEASE: Duration = Duration::from_secs(20);

async fn held(one: &mut Replica, client: &Client) -> Guard {
    let acquire = tokio::spawn(client.lock("a").acquire());
    one.ask().await.granted(5, LEASE);
    acquire.await.expect("runs").expect("granted")
}

fn place(ask: &Ask) -> u32 {
    match ask.op() {
        Op::Append {
            place,
            token: Token(5),
            ..
        } => place,
        other => panic!("no append: {other:?}"),
    }
}

fn count(ask: &Ask) -> u32 {
    match ask.op() {
        Op::Release {
            count,
            token: Token(5),
            ..
        } => count,
        other => panic!("no release: {other:?}"),
    }
}

fn no_such_file() -> Refusal {
    Refusal::NoSuchFile {
        file: "none".into(),
    }
}

#[tokio::test]
async fn appends_leave_in_the_order_of_the_calls() {
    let mut one = Replica::start(1).await;
    let client = connect(&[&one]).await;
    let guard = held(&mut one, &client).await;
    let appends: Vec<_> = (0..100).map(|i| guard.append("file_0", [i])).collect();
    for i in 0..100_u8 {
        let ask = one.ask().await;
        let Op::Append { place, data, .. } = ask.op() else {
            panic!("an append")
        };
        assert_eq!((place, &data[..]), (u32::from(i) + 1, &[i][..]));
        ask.appended();
    }
    for append in appends {
        append.await.expect("appended");
    }
    let release = tokio::spawn(guard.release());
    let ask = one.ask().await;
    assert_eq!(count(&ask), 100);
    ask.released();
    assert_eq!(release.await.expect("runs").expect("released").slot, 77);
}

/// The second of three is refused: the third moves up, keeps its number, and the release counts two.
#[tokio::test]
async fn a_refused_append_does_not_spoil_the_others() {
    let mut one = Replica::start(1).await;
    let client = connect(&[&one]).await;
    let guard = held(&mut one, &client).await;
    let first = guard.append("file_0", "1");
    let second = guard.append("none", "2");
    let third = guard.append("file_0", "3");
    let asks = [one.ask().await, one.ask().await, one.ask().await];
    assert_eq!(asks.each_ref().map(place), [1, 2, 3]);
    asks[0].appended();
    asks[1].refused(no_such_file());
    asks[2].refused(Refusal::OutOfOrder { expected: 2 });
    first.await.expect("appended");
    assert_eq!(second.await.expect_err("refused").rc(), 1);
    let again = one.ask().await;
    assert_eq!((again.seq(), place(&again)), (asks[2].seq(), 2));
    again.appended();
    third.await.expect("appended");
    let release = tokio::spawn(guard.release());
    let ask = one.ask().await;
    assert_eq!(count(&ask), 2);
    ask.released();
    release.await.expect("runs").expect("released");
}

/// The first of three is slow, the others overtake it: each of them is sent once more, in order, when
/// the first has been answered.
#[tokio::test]
async fn overtaken_appends_are_sent_again_in_order_and_once() {
    let mut one = Replica::start(1).await;
    let client = connect(&[&one]).await;
    let guard = held(&mut one, &client).await;
    let appends: Vec<_> = (1..=3).map(|i| guard.append("file_0", [i])).collect();
    let asks = [one.ask().await, one.ask().await, one.ask().await];
    asks[1].refused(Refusal::OutOfOrder { expected: 1 });
    asks[2].refused(Refusal::OutOfOrder { expected: 1 });
    one.quiet(Duration::from_millis(30)).await;
    asks[0].appended();
    let (second, third) = (one.ask().await, one.ask().await);
    assert_eq!([second.seq(), third.seq()], [asks[1].seq(), asks[2].seq()]);
    assert_eq!([place(&second), place(&third)], [2, 3]);
    one.quiet(Duration::from_millis(30)).await;
    second.appended();
    third.appended();
    for append in appends {
        append.await.expect("appended");
    }
}

/// The release is called while an append is still under way: it waits, then counts it.
#[tokio::test]
async fn a_release_waits_for_appends_under_way() {
    let mut one = Replica::start(1).await;
    let client = connect(&[&one]).await;
    let guard = held(&mut one, &client).await;
    drop(guard.append("file_0", "1"));
    let append = one.ask().await;
    let release = tokio::spawn(guard.release());
    one.quiet(Duration::from_millis(30)).await;
    append.appended();
    let ask = one.ask().await;
    assert_eq!(count(&ask), 1);
    ask.released();
    release.await.expect("runs").expect("released");
}

/// A release that overtook an append in the network is told so, and asks again.
#[tokio::test]
async fn out_of_order_is_sent_again_under_the_same_number() {
    let mut one = Replica::start(1).await;
    let client = connect(&[&one]).await;
    let guard = held(&mut one, &client).await;
    let append = guard.append("file_0", "1");
    one.ask().await.appended();
    append.await.expect("appended");
    let release = tokio::spawn(guard.release());
    let ask = one.ask().await;
    ask.refused(Refusal::OutOfOrder { expected: 0 });
    let again = one.ask().await;
    assert_eq!(ask.seq(), again.seq());
    again.released();
    release.await.expect("runs").expect("released");
}

/// With nothing under way a wrong count stays wrong: the caller is told, not kept.
#[tokio::test]
async fn out_of_order_for_good_is_a_refusal() {
    let mut one = Replica::start(1).await;
    let client = connect(&[&one]).await;
    let guard = held(&mut one, &client).await;
    let release = tokio::spawn(guard.release());
    let answering = async {
        loop {
            one.ask().await.refused(Refusal::OutOfOrder { expected: 3 });
        }
    };
    let error = tokio::select! {
        error = release => error.expect("runs").expect_err("refused"),
        () = answering => unreachable!("runs for ever"),
    };
    assert_eq!(error.code(), "out_of_order");
}

#[tokio::test]
async fn a_lost_lock_is_told_by_the_append_that_finds_out() {
    let mut one = Replica::start(1).await;
    let client = connect(&[&one]).await;
    let guard = held(&mut one, &client).await;
    let append = guard.append("file_0", "1");
    let why = NotHeldWhy::LeaseEnded;
    one.ask().await.refused(Refusal::NotHeld {
        lock: "a".into(),
        token: Token(5),
        why,
    });
    assert_eq!(append.await.expect_err("refused").rc(), 2);
    guard.lost().await;
    assert!(!guard.is_valid());
    // Dropped, there is nothing to give back.
    drop(guard);
    one.quiet(Duration::from_millis(30)).await;
}

#[tokio::test]
async fn a_dropped_guard_is_given_back() {
    let mut one = Replica::start(1).await;
    let client = connect(&[&one]).await;
    drop(held(&mut one, &client).await);
    assert_eq!(
        one.ask().await.op(),
        Op::Abort {
            lock: "a".into(),
            token: Token(5)
        }
    );
}

/// An append whose fate is unknown is found out about, and the release counts it.
#[tokio::test]
async fn an_unknown_append_is_seen_through() {
    let mut one = Replica::start(1).await;
    let client = connect_with(&[&one], Duration::from_millis(400)).await;
    let guard = held(&mut one, &client).await;
    let append = guard.append("file_0", "1");
    let first = one.ask().await;
    assert_eq!(append.await.expect_err("silence").code(), "unknown");
    let again = one.ask().await;
    assert_eq!((first.seq(), place(&again)), (again.seq(), 1));
    again.appended();
    let release = tokio::spawn(guard.release());
    let ask = one.ask().await;
    assert_eq!(count(&ask), 1);
    ask.released();
    release.await.expect("runs").expect("released");
}
