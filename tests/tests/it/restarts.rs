//! Case 8: the stalest first; all at once, fifty times.

use std::time::Duration;

use serde_json::json;
use tests::harness::patience::wait_for;
use tests::harness::words::DEFAULT_LOCK;
use tests::harness::{Cluster, Plan};

use crate::load::{Job, Load, Manner};

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
    kill_all_under_load(Plan::new(3), 50, 3);
}

/// The same with a snapshot every few sections, so that restarts begin at one and the log before it
/// goes.
#[test]
fn kill_all_under_load_over_snapshots() {
    let plan = Plan::new(3).flag("--snapshot-after", "64KiB");
    let cluster = kill_all_under_load(plan, 12, 40);
    for id in cluster.ids() {
        let entries = std::fs::read_dir(cluster.data(id).join("snapshots")).expect("a folder");
        assert!(entries.count() > 0, "replica {id} has taken a snapshot");
    }
}

/// `sections` are done between two kills, so that each round has something to lose.
fn kill_all_under_load(plan: Plan, rounds: usize, sections: u64) -> Cluster {
    // Short elections, for short rounds.
    let mut cluster = plan
        .flag("--election-timeout", "150ms")
        .flag("--heartbeat", "20ms")
        .start();
    let shells = (0..3).map(|number| {
        let shell = cluster.shell(&format!("w{number}"));
        (Box::new(shell), Job::shared(Manner::Normal, 2))
    });
    let load = Load::start(shells.collect());
    for round in 0..rounds {
        let goal = load.done() + sections;
        let what = format!("sections after restart {round}");
        wait_for(&what, Duration::from_secs(30), || load.done() >= goal);
        cluster.kill_all();
        cluster.start_all();
    }
    cluster.leader();
    load.stop();
    cluster.check_sections();
    let acknowledged = tests::history::sections::acknowledged(&cluster.history().events());
    assert!(acknowledged >= rounds * usize::try_from(sections).expect("small"));
    cluster
}
