//! Case 2: a retry after a lost reply gets the first answer and has no second effect, over a restart
//! of every replica and over a change of leader.

use std::time::Duration;

use serde_json::{Value, json};
use tests::harness::patience::wait_for;
use tests::harness::shell::{ANSWER_LIMIT, Asked};
use tests::harness::words::{DEFAULT_LOCK, append, beside, release};
use tests::harness::{Client, Cluster, Reply};
use tests::proxy::Direction::{ToClient, ToServer};
use tests::proxy::{Fault, Kind, Noise};

use crate::load::{Job, Load, Manner};

#[test]
fn append_after_a_lost_reply_and_a_restart() {
    check_append(restart_all);
}

#[test]
fn append_after_a_lost_reply_and_a_change_of_leader() {
    check_append(change_leader);
}

#[test]
fn release_after_a_lost_reply_and_a_restart() {
    check_release(restart_all);
}

#[test]
fn release_after_a_lost_reply_and_a_change_of_leader() {
    check_release(change_leader);
}

#[test]
fn acquire_after_a_lost_reply_and_a_restart() {
    check_acquire(restart_all);
}

#[test]
fn acquire_after_a_lost_reply_and_a_change_of_leader() {
    check_acquire(change_leader);
}

/// Appends sent at once, one of them late: those that overtake it are refused as out of order and
/// sent again, and the section has them in the client's order.
#[test]
fn appends_that_overtake_keep_their_order() {
    let cluster = Cluster::start(3);
    let client = cluster.client("C1");
    client.acquire();
    let late = client.rules().nth(3, ToServer, Kind::Append, Fault::Hold);
    let doubled = client.rules().nth(5, ToServer, Kind::Append, Fault::Double);
    let asked: Vec<Asked> = ('a'..='j')
        .map(|letter| client.send(beside(append("file_0", &letter.to_string()))))
        .collect();
    late.wait_hits(1, ANSWER_LIMIT);
    doubled.wait_hits(1, ANSWER_LIMIT);
    client
        .wait(&asked[1])
        .done("the append before the late one");
    late.release();
    for asked in &asked {
        client.wait(asked).done("an append");
    }
    client.release();
    cluster.assert_file("file_0", "abcdefghij");
    cluster.check_order();
}

#[test]
fn every_frame_arrives_twice() {
    check_noise(Noise {
        lose_per_mille: 0,
        double_per_mille: 1_000,
        seed: 1,
    });
}

#[test]
fn one_frame_in_ten_is_lost_and_one_doubled() {
    check_noise(Noise {
        lose_per_mille: 100,
        double_per_mille: 100,
        seed: 2,
    });
}

/// Three clients through bad networks: what they were told is what the files hold.
fn check_noise(noise: Noise) {
    const SECTIONS: u64 = 12;
    let cluster = Cluster::start(3);
    let clients = (0..3).map(|number| {
        let client = cluster.client(&format!("w{number}"));
        client.rules().set_noise(Some(Noise {
            seed: noise.seed + number,
            ..noise
        }));
        (client, Job::shared(Manner::Normal, 2))
    });
    let load = Load::start(clients.collect());
    wait_for(
        "sections through a bad network",
        Duration::from_secs(60),
        || load.done() >= SECTIONS,
    );
    load.stop();
    cluster.check_sections();
}

fn restart_all(cluster: &mut Cluster) {
    cluster.kill_all();
    cluster.start_all();
    cluster.leader();
}

fn change_leader(cluster: &mut Cluster) {
    let old = cluster.leader();
    cluster.kill(old);
    cluster.leader();
    cluster.start_replica(old);
}

fn check_append(upset: fn(&mut Cluster)) {
    let mut cluster = Cluster::start(3);
    let client = cluster.client("C1");
    client.acquire();
    client.append("file_0", "1");
    lose_reply(
        &mut cluster,
        &client,
        Kind::Append,
        append("file_0", "A"),
        upset,
    )
    .1
    .done("append");
    client.release();
    cluster.assert_file("file_0", "1A");
    cluster.check_order();
}

fn check_release(upset: fn(&mut Cluster)) {
    let mut cluster = Cluster::start(3);
    let client = cluster.client("C1");
    client.acquire();
    client.append("file_0", "A");
    let (chosen, reply) = lose_reply(&mut cluster, &client, Kind::Release, release(), upset);
    let reply = reply.done("release");
    assert!(
        reply.slot() <= chosen,
        "the first answer names the slot in which it was applied"
    );
    assert_eq!(reply.0["lengths"], json!({"file_0": 1}));
    cluster.assert_file("file_0", "A");
    cluster.check_order();
}

fn check_acquire(upset: fn(&mut Cluster)) {
    let mut cluster = Cluster::start(3);
    let client = cluster.client("C1");
    let command = json!({"op": "acquire", "lock": DEFAULT_LOCK});
    let (_, reply) = lose_reply(&mut cluster, &client, Kind::Acquire, command, upset);
    let token = reply.done("acquire").token();
    let status = client.done(json!({"op": "lock_status", "lock": DEFAULT_LOCK}));
    assert_eq!(
        status.0["holder"]["token"], token,
        "granted once, and the holder knows by which token"
    );
    client.append("file_0", "A");
    client.release();
    cluster.assert_file("file_0", "A");
    cluster.check_order();
}

/// Sends the command, loses every reply to it until `upset` has happened, then lets replies pass.
/// The slot up to which all was chosen before, and the answer in the end.
fn lose_reply(
    cluster: &mut Cluster,
    client: &Client,
    kind: Kind,
    mut command: Value,
    upset: fn(&mut Cluster),
) -> (u64, Reply) {
    let lost = client.rules().every(ToClient, kind, Fault::Lose);
    command["bg"] = json!(true);
    command["timeout_ms"] = json!(30_000);
    let asked = client.send(command);
    lost.wait_hits(1, ANSWER_LIMIT);
    let statuses = cluster.statuses();
    let chosen = statuses
        .values()
        .filter_map(|status| status["chosen"].as_u64())
        .max();
    upset(cluster);
    assert!(
        !client.is_answered(&asked),
        "no reply has reached the client"
    );
    lost.end();
    (chosen.expect("a replica answers"), client.wait(&asked))
}
