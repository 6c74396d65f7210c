//! Cases 6 and 7: a leader that sleeps, a leader that is cut off, a follower that was away.

use std::time::Duration;

use serde_json::{Value, json};
use tests::harness::patience::wait_for;
use tests::harness::shell::ANSWER_LIMIT;
use tests::harness::words::{DEFAULT_LOCK, acquire_for, append, beside};
use tests::harness::{Client, Cluster, Plan, Shell};

/// Longer than an election takes, so that a change of leader alone does not end it.
const LEASE: Duration = Duration::from_secs(2);

/// The same command, asked of one replica alone.
fn at(id: u16, mut command: Value) -> Value {
    command["endpoint"] = json!(id.to_string());
    command
}

fn with_timeout(mut command: Value, ms: u64) -> Value {
    command["timeout_ms"] = json!(ms);
    command
}

#[test]
fn a_leader_that_wakes_acknowledges_nothing() {
    let mut cluster = Cluster::start(3);
    let (c1, c2) = (cluster.client("C1"), cluster.client("C2"));
    let old = cluster.leader();
    c1.acquire_for(LEASE);
    c1.append("file_0", "A");
    cluster.pause(old);
    let granted = c2.send(with_timeout(
        beside(json!({"op": "acquire", "lock": DEFAULT_LOCK})),
        30_000,
    ));
    let new = cluster.leader();
    assert_ne!(new, old);
    c2.wait(&granted)
        .done("the lock moves on, under another leader");
    c2.append("file_0", "B");
    // Already in its socket when it wakes, before anything tells it that it leads no more.
    let late = c1.send(beside(with_timeout(at(old, append("file_0", "A")), 3_000)));
    let other = c1.send(beside(with_timeout(at(old, append("file_0", "A")), 3_000)));
    cluster.resume(old);
    for asked in [&late, &other] {
        let reply = c1.wait(asked);
        assert!(
            !reply.is_done(),
            "the old leader acknowledged an append: {}",
            reply.0
        );
    }
    c1.refused(append("file_0", "A"), "not_held");
    c2.append("file_0", "B");
    c2.release();
    cluster.assert_file("file_0", "BB");
    cluster.check_order();
}

#[test]
fn a_leader_cut_off_with_one_client_does_nothing_alone() {
    let cluster = Plan::new(3).with_links().start();
    let (inside, outside) = (cluster.client("inside"), cluster.client("outside"));
    section(&inside, "before");
    let old = cluster.leader();
    // The minority: the leader and one client. Everybody else is on the other side.
    cluster.isolate(old);
    outside.proxy(old).sever();
    cluster
        .ids()
        .iter()
        .filter(|id| **id != old)
        .for_each(|id| inside.proxy(*id).sever());

    let tried = inside.send(beside(with_timeout(
        json!({"op": "acquire", "lock": "default"}),
        4_000,
    )));
    let read = inside.send(beside(with_timeout(
        json!({"op": "cat", "file": "file_0"}),
        4_000,
    )));
    outside.done(with_timeout(
        json!({"op": "acquire", "lock": "default"}),
        30_000,
    ));
    outside.append("file_0", "outside\n");
    outside.release();
    let reply = inside.wait(&tried);
    assert!(!reply.is_done(), "one of three granted a lock: {}", reply.0);
    let reply = inside.wait(&read);
    let fresh = reply.0["data"] == "before\noutside\n";
    assert!(
        !reply.is_done() || fresh,
        "a read of the minority is old: {}",
        reply.0
    );

    cluster.rejoin(old);
    outside.proxy(old).heal();
    cluster.ids().iter().for_each(|id| inside.proxy(*id).heal());
    cluster.leader();
    if inside.wait(&tried).code() == "unknown" && inside.settle(&tried).is_done() {
        inside.release();
    }
    section(&inside, "after");
    cluster.assert_file("file_0", "before\noutside\nafter\n");
    cluster.check_sections();
}

fn section(client: &Client, line: &str) {
    client.section(&[("file_0", &format!("{line}\n"))]);
}

#[test]
fn an_isolated_follower_rejoins_with_at_most_one_election() {
    let cluster = Plan::new(3).with_links().start();
    let client = cluster.client("C1");
    section(&client, "before");
    let follower = cluster.follower();
    let round = round(&cluster);
    cluster.isolate(follower);
    // Longer than several elections.
    client.done(acquire_for(LEASE));
    wait_until_free(&client);
    section(&client, "while it was away");
    cluster.rejoin(follower);
    cluster.wait_equal();
    section(&client, "after");
    cluster.assert_file("file_0", "before\nwhile it was away\nafter\n");
    let now = self::round(&cluster);
    assert!(
        now <= round + 1,
        "{} elections because a follower came back",
        now - round
    );
    cluster.check_sections();
}

fn wait_until_free(shell: &Shell) {
    wait_for("the end of the lease", ANSWER_LIMIT, || {
        shell
            .done(json!({"op": "lock_status", "lock": DEFAULT_LOCK}))
            .0["held"]
            == false
    });
}

/// The round of the leader's ballot, which counts elections: `7` in `7.2`.
fn round(cluster: &Cluster) -> u64 {
    let status = cluster
        .status(cluster.leader())
        .expect("the leader answers");
    let ballot = status["ballot"].as_str().expect("a ballot").to_owned();
    let (round, _) = ballot.split_once('.').expect("round and replica");
    round.parse().expect("a number")
}

/// `--prefer-leader lowest-id`: the lowest live, caught-up id is handed leadership.
#[test]
fn the_lowest_id_leads_if_that_is_wished_for() {
    let mut cluster = Plan::new(3).flag("--prefer-leader", "lowest-id").start();
    let client = cluster.client("C1");
    let leads = |cluster: &Cluster, id: u16| {
        wait_for(&format!("replica {id} to lead"), ANSWER_LIMIT, || {
            cluster.leader() == id
        });
    };
    leads(&cluster, 1);
    section(&client, "by 1");
    cluster.kill(1);
    leads(&cluster, 2);
    section(&client, "by 2");
    cluster.start_replica(1);
    leads(&cluster, 1);
    section(&client, "by 1 again");
    cluster.assert_file("file_0", "by 1\nby 2\nby 1 again\n");
    cluster.check_sections();
}

/// SIGTERM hands leadership over: nobody waits for an election, and nothing is lost.
#[test]
fn a_leader_that_is_told_to_stop_hands_over() {
    let mut cluster = Cluster::start(3);
    let client = cluster.client("C1");
    client.acquire();
    client.append("file_0", "A\n");
    let old = cluster.leader();
    cluster.stop(old);
    client.append("file_0", "B\n");
    client.release();
    assert_ne!(cluster.leader(), old);
    cluster.start_replica(old);
    cluster.assert_file("file_0", "A\nB\n");
    cluster.check_sections();
}
