//! Case 5: tokens grow over expiry, restart and change of leader, and no older one ever counts again.

use std::time::Duration;

use serde_json::json;
use tests::harness::Cluster;
use tests::harness::patience::wait_for;
use tests::harness::shell::ANSWER_LIMIT;
use tests::harness::words::DEFAULT_LOCK;

#[test]
fn tokens_grow_and_older_ones_stay_refused() {
    let mut cluster = Cluster::start(3);
    let client = cluster.client("C1");
    let mut tokens = vec![client.acquire_for(Duration::from_millis(500))];
    wait_for("the end of the lease", ANSWER_LIMIT, || {
        client
            .done(json!({"op": "lock_status", "lock": DEFAULT_LOCK}))
            .0["held"]
            == false
    });
    tokens.push(client.acquire());
    client.release();
    let other = json!({"op": "acquire", "lock": "another"});
    tokens.push(client.done(other).token());

    cluster.kill_all();
    cluster.start_all();
    cluster.leader();
    tokens.push(client.acquire());
    client.release();

    let leader = cluster.leader();
    cluster.kill(leader);
    cluster.leader();
    tokens.push(client.acquire());
    cluster.start_replica(leader);
    assert!(
        tokens.is_sorted_by(|older, newer| older < newer),
        "{tokens:?}"
    );

    cluster.kill_all();
    cluster.start_all();
    cluster.leader();
    let (current, older) = tokens.split_last().expect("five tokens");
    for token in older {
        for op in ["append", "renew", "release", "abort"] {
            let mut command = json!({"op": op, "lock": DEFAULT_LOCK, "token": token});
            if op == "append" {
                command["file"] = json!("file_0");
                command["data"] = json!("stale");
            }
            client.refused(command, "not_held");
        }
    }
    client.done(json!(
        {"op": "append", "lock": DEFAULT_LOCK, "token": current, "file": "file_0", "data": "A"}
    ));
    client.done(json!({"op": "release", "lock": DEFAULT_LOCK, "token": current}));
    cluster.assert_file("file_0", "A");
    cluster.check_order();
}
