//! Case 8: the stalest first; all at once, fifty times.

use std::time::Duration;

use serde_json::json;
use tests::harness::patience::wait_for;
use tests::harness::shell::DEFAULT_LOCK;
use tests::harness::{Cluster, Plan};

use crate::load::{Load, Manner, Work};

#[test]
fn the_stalest_replica_alone_serves_nothing() {
    let mut cluster = Cluster::start(3);
    let client = cluster.client("C1");
    client.section(&[("file_0", "first\n")]);
    cluster.wait_equal();
    let stalest = cluster.follower();
    cluster.kill(stalest);
    client.section(&[("file_0", "second\n")]);
    cluster.kill_all();

    cluster.spawn(stalest);
    wait_for(
        "the stalest replica to be up",
        Duration::from_secs(20),
        || cluster.status(stalest).is_some(),
    );
    for command in [
        json!({"op": "acquire", "lock": DEFAULT_LOCK, "timeout_ms": 1_500}),
        json!({"op": "cat", "file": "file_0", "timeout_ms": 1_000}),
    ] {
        let asked = client.send(command);
        let reply = client.wait(&asked);
        assert!(
            !reply.is_done(),
            "one of three, and the stalest, served: {}",
            reply.0
        );
        if reply.code() == "unknown" {
            // Given up, so that the next section of this client does not find itself holding.
            let _ = client.cancel(&asked);
        }
    }
    cluster
        .ids()
        .iter()
        .filter(|id| **id != stalest)
        .for_each(|id| cluster.spawn(*id));
    cluster.leader();
    cluster.client("C2").section(&[("file_0", "third\n")]);
    cluster.assert_file("file_0", "first\nsecond\nthird\n");
    cluster.check_sections();
}

/// `kill -9` of all replicas under load and restart, fifty times: every acknowledged section once,
/// others at most once, all files byte-equal.
#[test]
fn kill_all_under_load_fifty_rounds() {
    const ROUNDS: usize = 50;
    /// Sections between two kills, so that each round has something to lose.
    const SECTIONS: u64 = 3;
    // Short elections, for short rounds.
    let mut cluster = Plan::new(3)
        .flag("--election-timeout", "150ms")
        .flag("--heartbeat", "20ms")
        .start();
    let shells = (0..3).map(|n| (Box::new(cluster.shell(&format!("w{n}"))), Manner::Normal));
    let work = Work {
        files: 2,
        lines: 2,
        short_lease: Duration::from_secs(1),
    };
    let load = Load::start(shells.collect(), work);
    for round in 0..ROUNDS {
        let goal = load.done() + SECTIONS;
        let what = format!("sections after restart {round}");
        wait_for(&what, Duration::from_secs(30), || load.done() >= goal);
        cluster.kill_all();
        cluster.start_all();
    }
    cluster.leader();
    load.stop();
    cluster.check_sections();
    let acknowledged = tests::history::sections::acknowledged(&cluster.history().events());
    assert!(acknowledged >= ROUNDS * usize::try_from(SECTIONS).expect("small"));
}
