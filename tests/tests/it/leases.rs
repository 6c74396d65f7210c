//! Cases 3 and 4: what ends a lease, what does not, and who is next.

use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::{Value, json};
use tests::harness::patience::{until, wait_for};
use tests::harness::shell::{ANSWER_LIMIT, Asked};
use tests::harness::words::{DEFAULT_LOCK, append, release};
use tests::harness::{Client, Cluster, Shell};

/// The shortest lease there is.
const SHORT: Duration = Duration::from_millis(500);

fn status(shell: &Shell) -> Value {
    shell
        .done(json!({"op": "lock_status", "lock": DEFAULT_LOCK}))
        .0
}

fn wait_until_free(shell: &Shell) {
    wait_for("the end of the lease", ANSWER_LIMIT, || {
        status(shell)["held"] == false
    });
}

#[test]
fn release_after_expiry_says_not_held_and_applies_nothing() {
    let cluster = Cluster::start(3);
    let (client, watcher) = (cluster.client("C1"), cluster.shell("watcher"));
    client.acquire_for(SHORT);
    client.append("file_0", "A");
    wait_until_free(&watcher);
    client.refused(release(), "not_held");
    client.refused(release(), "not_held");
    cluster.assert_file("file_0", "");
    cluster.check_order();
}

#[test]
fn a_waiter_that_dies_is_skipped_once_its_session_ends() {
    let cluster = Cluster::start(3);
    let holder = cluster.client("holder");
    holder.acquire();
    let mut dying = cluster.client_with("dying", &["--session-ttl", "1s"]);
    let _never = dying.acquire_beside();
    holder.wait_for_queue(1);
    let next = cluster.client("next");
    let granted = next.acquire_beside();
    holder.wait_for_queue(2);
    dying.kill();
    holder.wait_for_queue(1);
    assert!(!next.is_answered(&granted), "the lock is held");
    holder.release();
    next.wait(&granted)
        .done("the acquire of the waiter behind the dead one");
    cluster.check_order();
}

#[test]
fn a_waiter_that_sleeps_past_its_session_is_skipped_and_told() {
    let cluster = Cluster::start(3);
    let holder = cluster.client("holder");
    holder.acquire();
    let mut sleeper = cluster.client_with("sleeper", &["--session-ttl", "1s"]);
    let never = sleeper.acquire_beside();
    holder.wait_for_queue(1);
    sleeper.signal(Signal::STOP);
    holder.wait_for_queue(0);
    holder.release();
    holder.section(&[("file_0", "A")]);
    sleeper.signal(Signal::CONT);
    sleeper
        .wait(&never)
        .refused("the acquire of a session that has ended", "session_expired");
    cluster.assert_file("file_0", "A");
    cluster.check_order();
}

#[test]
fn waiters_do_not_delay_the_holder_and_are_served_in_order() {
    const WAITERS: usize = 39;
    const APPENDS: usize = 50;
    let cluster = Cluster::start(3);
    let (holder, crowd) = (cluster.client("holder"), cluster.client("crowd"));
    holder.acquire();
    let alone = time_appends(&holder, APPENDS);
    let waiting: Vec<Asked> = (0..WAITERS)
        .map(|number| {
            let session = format!("w{number}");
            crowd.done(json!({"op": "open", "session": session}));
            let asked = crowd.send(
                json!({"op": "acquire", "lock": DEFAULT_LOCK, "session": session, "bg": true}),
            );
            holder.wait_for_queue(number + 1);
            asked
        })
        .collect();
    let crowded = time_appends(&holder, APPENDS);
    assert!(
        crowded < 4 * alone + Duration::from_secs(1),
        "{APPENDS} appends took {alone:?} alone and {crowded:?} with {WAITERS} waiters"
    );
    let mut last = holder.done(release()).slot();
    for (number, asked) in waiting.iter().enumerate() {
        crowd.wait(asked).done("first come, first served");
        let session = format!("w{number}");
        let released =
            crowd.done(json!({"op": "release", "lock": DEFAULT_LOCK, "session": session}));
        assert!(released.slot() > last, "one after the other");
        last = released.slot();
    }
    cluster.check_order();
}

fn time_appends(holder: &Client, appends: usize) -> Duration {
    let start = Instant::now();
    for _ in 0..appends {
        holder.append("file_0", "x");
    }
    start.elapsed()
}

#[test]
fn a_lease_kept_alive_is_not_lost_in_five_terms() {
    let lease = Duration::from_secs(1);
    let cluster = Cluster::start(3);
    let (client, watcher) = (cluster.client("C1"), cluster.shell("watcher"));
    let token = client
        .done(json!({"op": "acquire", "lock": DEFAULT_LOCK, "lease_ms": 1_000}))
        .token();
    let start = Instant::now();
    while start.elapsed() < 5 * lease {
        let status = status(&watcher);
        assert_eq!(status["holder"]["token"], token, "{status}");
    }
    client.append("file_0", "A");
    client.release();
    cluster.assert_file("file_0", "A");
}

#[test]
fn a_lease_kept_alive_outlives_a_change_of_leader() {
    let mut cluster = Cluster::start(3);
    let client = cluster.client("C1");
    let token = client
        .done(json!({"op": "acquire", "lock": DEFAULT_LOCK, "lease_ms": 3_000}))
        .token();
    let leader = cluster.leader();
    cluster.kill(leader);
    cluster.leader();
    client.append("file_0", "A");
    assert_eq!(status(&client)["holder"]["token"], token);
    client.release();
    cluster.assert_file("file_0", "A");
    cluster.check_order();
}

/// Cluster time stands still without a leader: a lease as long as an election may outlast its term
/// by the outage, but is never short.
#[test]
fn a_lease_as_long_as_an_election_is_never_short() {
    const ROUNDS: usize = 3;
    let mut cluster = Cluster::start(3);
    let (holder, next) = (cluster.client("holder"), cluster.client("next"));
    for _ in 0..ROUNDS {
        let leader = cluster.leader();
        let asked = Instant::now();
        holder.acquire_for(SHORT);
        cluster.kill(leader);
        let granted = next.send(json!(
            {"op": "acquire", "lock": DEFAULT_LOCK, "timeout_ms": 30_000}
        ));
        next.wait_within(&granted, 2 * ANSWER_LIMIT)
            .done("the next acquire");
        assert!(
            asked.elapsed() >= SHORT,
            "lost {:?} after it was asked for",
            asked.elapsed()
        );
        holder.refused(append("file_0", "x"), "not_held");
        next.release();
        cluster.start_replica(leader);
    }
    cluster.assert_file("file_0", "");
    cluster.check_order();
}

/// Not before its term and not after twice its term, with 50 clients spinning.
#[test]
fn a_killed_clients_lock_is_lost_in_time() {
    const SPINNERS: usize = 50;
    let lease = Duration::from_secs(2);
    let cluster = Cluster::start(3);
    let (mut dying, crowd) = (cluster.client("dying"), cluster.client("crowd"));
    for number in 0..SPINNERS {
        crowd.done(json!({"op": "open", "session": format!("w{number}")}));
    }
    let asked = Instant::now();
    dying.acquire_for(lease);
    let granted = Instant::now();
    dying.kill();
    let try_it = |number: usize| {
        let session = format!("w{number}");
        crowd.send(json!(
            {"op": "acquire", "lock": DEFAULT_LOCK, "session": session, "wait_ms": 0, "bg": true}
        ))
    };
    let mut tries: Vec<Asked> = (0..SPINNERS).map(try_it).collect();
    let won = until(
        "one of the spinning clients to get the lock",
        ANSWER_LIMIT,
        || {
            tries.iter_mut().enumerate().find_map(|(number, tried)| {
                let reply = crowd.try_wait(tried, Duration::ZERO)?;
                if !reply.is_done() {
                    reply.refused("a try while the lock is held", "busy");
                    *tried = try_it(number);
                    return None;
                }
                Some(Instant::now())
            })
        },
    );
    assert!(
        won >= asked + lease,
        "lost {:?} after it was asked for",
        won - asked
    );
    assert!(
        won <= granted + 2 * lease,
        "lost only {:?} after its grant",
        won - granted
    );
    cluster.check_order();
}

#[test]
fn an_acquire_ends_its_wait_as_asked() {
    let cluster = Cluster::start(3);
    let (holder, other) = (cluster.client("holder"), cluster.client("other"));
    holder.acquire();
    let acquire = |wait_ms: u64| json!({"op": "acquire", "lock": DEFAULT_LOCK, "wait_ms": wait_ms});
    other.refused(acquire(0), "busy");
    other.refused(acquire(300), "wait_timed_out");
    let waiting = other.acquire_beside();
    holder.wait_for_queue(1);
    other.cancel(&waiting).done("cancel");
    other
        .wait(&waiting)
        .refused("the cancelled acquire", "cancelled");
    holder.wait_for_queue(0);
    holder.refused(
        json!({"op": "acquire", "lock": DEFAULT_LOCK}),
        "already_held",
    );
    other.refused(append("file_0", "x"), "not_held");
    holder.release();
    other.section(&[("file_0", "B")]);
    cluster.assert_file("file_0", "B");
    cluster.check_order();
}
