//! Case 4: one of three replicas dies, then two.

use serde_json::json;
use tests::harness::patience::wait_for;
use tests::harness::shell::ANSWER_LIMIT;
use tests::harness::words::{DEFAULT_LOCK, append};
use tests::harness::{Client, Cluster};

use super::{FILES, LEASE, patient, patient_acquire};

/// C1 `A` to three files, C2 waits, then `B`; a follower is down from C1's second append, for a
/// moment.
#[test]
fn case_4a() {
    check_follower_down(false);
}

/// The same, but the follower is down for longer than all timeouts.
#[test]
fn case_4b() {
    check_follower_down(true);
}

fn check_follower_down(for_long: bool) {
    let mut cluster = Cluster::start(3);
    let (c1, c2) = (cluster.client("C1"), cluster.client("C2"));
    let follower = cluster.follower();
    c1.acquire();
    c1.append(FILES[0], "A");
    let granted = c2.acquire_beside();
    cluster.kill(follower);
    c1.append(FILES[1], "A");
    if !for_long {
        cluster.start_replica(follower);
    }
    c1.append(FILES[2], "A");
    c1.release();
    c2.wait(&granted).done("C2's acquire");
    FILES[..3].iter().for_each(|file| {
        c2.append(file, "B");
    });
    c2.release();
    if for_long {
        outlast_every_timeout(&c2);
        cluster.start_replica(follower);
    }
    for file in &FILES[..3] {
        cluster.assert_file(file, "AB");
    }
    cluster.check_order();
}

/// Until a lease ends that is longer than an election. A follower is then long taken for dead.
fn outlast_every_timeout(client: &Client) {
    client.acquire_for(LEASE);
    wait_for("the end of a lease", ANSWER_LIMIT, || {
        let reply = client.ask(json!({"op": "lock_status", "lock": DEFAULT_LOCK}));
        reply.0["held"] == false
    });
}

/// C1, C2, C3 append 5 each; the leader dies after C1's section.
#[test]
fn case_4c() {
    check_leader_down(5, |client, turn| client == 1 && turn == 0);
}

/// C1, C2, C3 append 20 each; the leader dies after C2's tenth append.
#[test]
fn case_4d() {
    check_leader_down(20, |client, turn| client == 1 && turn == 10);
}

/// `dies(client, turn)` says before which append of which client, both from 0, the leader dies.
fn check_leader_down(appends: usize, dies: impl Fn(usize, usize) -> bool) {
    let mut cluster = Cluster::start(3);
    let clients = ["C1", "C2", "C3"].map(|name| cluster.client(name));
    let leader = cluster.leader();
    clients[0].acquire();
    // One behind the other, so that the places in the queue are known.
    let second = clients[1].send(patient_acquire());
    clients[0].wait_for_queue(1);
    let third = clients[2].send(patient_acquire());
    clients[0].wait_for_queue(2);
    let granted = [None, Some(second), Some(third)];
    for (number, client) in clients.iter().enumerate() {
        if let Some(granted) = &granted[number] {
            client.wait(granted).done("the next in the queue");
        }
        for turn in 0..appends {
            if dies(number, turn) {
                cluster.kill(leader);
            }
            client.done(patient(append(FILES[0], ["A", "B", "C"][number])));
        }
        client.release();
    }
    cluster.start_replica(leader);
    let expected: String = ["A", "B", "C"]
        .map(|letter| letter.repeat(appends))
        .concat();
    cluster.assert_file(FILES[0], &expected);
    cluster.check_order();
}

/// Two appends to each of five files; a follower is bounced; then two of three are down: no service
/// until a majority is back.
#[test]
fn case_4e() {
    let mut cluster = Cluster::start(3);
    let clients = ["C1", "C2", "C3"].map(|name| cluster.client(name));
    section_over_all(&clients[0], "A");
    let bounced = cluster.follower();
    cluster.kill(bounced);
    cluster.start_replica(bounced);
    section_over_all(&clients[1], "B");

    let downed = [cluster.leader(), cluster.follower()];
    downed.iter().for_each(|id| cluster.kill(*id));
    let asked =
        clients[2].send(json!({"op": "acquire", "lock": DEFAULT_LOCK, "timeout_ms": 1_500}));
    let reply = clients[2].wait(&asked);
    assert!(
        !reply.is_done(),
        "one of three is no majority, yet it granted a lock: {}",
        reply.0
    );
    downed.iter().for_each(|id| cluster.spawn(*id));
    cluster.leader();
    match reply.code() {
        // Perhaps done: the same question again, and its first answer.
        "unknown" => clients[2].settle(&asked),
        _ => clients[2].ask(patient_acquire()),
    }
    .done("C3's acquire, once a majority is back");
    append_to_all(&clients[2], "C");
    for file in FILES {
        cluster.assert_file(file, "AABBCC");
    }
    cluster.check_order();
}

fn section_over_all(client: &Client, letter: &str) {
    client.acquire();
    append_to_all(client, letter);
}

fn append_to_all(client: &Client, letter: &str) {
    for file in FILES {
        client.append(file, letter);
        client.append(file, letter);
    }
    client.release();
}
