//! What a replica shows over HTTP, and what it says of its settings.

use std::time::Duration;

use tests::harness::binaries::command;
use tests::harness::patience::wait_for;
use tests::harness::{Cluster, http};

const LIMIT: Duration = Duration::from_secs(10);

#[test]
fn every_replica_has_its_pages() {
    let mut cluster = Cluster::start(3);
    cluster.client("C1").section(&[("file_0", "A")]);
    let leader = cluster.leader();
    for id in cluster.ids() {
        let get = |path: &str| http::get(cluster.http_address(id), path).expect("a page");
        assert_eq!(get("/livez").0, 200);
        wait_for("readiness", LIMIT, || get("/readyz").0 == 200);
        assert_eq!(get("/nothing").0, 404);
        let (code, metrics) = get("/metrics");
        assert_eq!(code, 200);
        assert!(
            metrics.contains("# TYPE "),
            "Prometheus' text format: {metrics:.300}"
        );
        let status = cluster.status(id).expect("a status");
        assert_eq!(
            (status["id"].as_u64(), status["leader"].as_u64()),
            (Some(id.into()), Some(leader.into()))
        );
        for field in [
            "role",
            "ballot",
            "chosen",
            "applied",
            "last",
            "lag",
            "log_bytes",
            "state_hash",
            "version",
        ] {
            assert!(!status[field].is_null(), "/status has {field}: {status}");
        }
    }
    // Alone it lives, but is not ready: it knows no leader.
    let alone = cluster.follower();
    cluster
        .ids()
        .iter()
        .filter(|id| **id != alone)
        .for_each(|id| cluster.kill(*id));
    let get = |path: &str| http::get(cluster.http_address(alone), path).expect("a page");
    wait_for("unreadiness", LIMIT, || get("/readyz").0 == 503);
    assert_eq!(get("/livez").0, 200);
}

/// Flag over environment over file over default, and which it was.
#[test]
fn settings_say_where_they_come_from() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("node.toml");
    std::fs::write(
        &file,
        "files = 5\nheartbeat = \"60ms\"\ncluster = \"from-file\"\n",
    )
    .expect("a file");
    let output = command("node")
        .args(["serve", "--print-config", "--files", "7", "--config"])
        .arg(&file)
        .env("HOLDFAST_FILES", "6")
        .env("HOLDFAST_HEARTBEAT", "70ms")
        .output()
        .expect("the program runs");
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{text}");
    let line = |name: &str| {
        let found = text.lines().find(|line| line.starts_with(name));
        found
            .unwrap_or_else(|| panic!("a line for {name}: {text}"))
            .to_owned()
    };
    for (name, value) in [
        ("files", "7"),
        ("heartbeat", "70ms"),
        ("cluster", "from-file"),
        ("id", "1"),
    ] {
        assert!(line(name).contains(value), "{}", line(name));
    }
}
