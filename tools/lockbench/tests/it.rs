//! The lockbench program against real replicas.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;

use serde_json::Value;

/// The node program: of `HOLDFAST_TEST_BINARIES` if that is set, else of this workspace, built if it is not.
fn node_program() -> &'static Path {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    PROGRAM.get_or_init(|| {
        if let Some(folder) = std::env::var_os("HOLDFAST_TEST_BINARIES") {
            return Path::new(&folder).join("node");
        }
        let built = Command::new(env!("CARGO"))
            .args(["build", "--quiet", "-p", "node", "--bin", "node"])
            .current_dir(env!("CARGO_MANIFEST_DIR"))
            .status()
            .expect("running cargo");
        assert!(built.success(), "node does not build");
        Path::new(env!("CARGO_BIN_EXE_lockbench"))
            .parent()
            .expect("a folder")
            .join("node")
    })
}

fn run(data: &Path, line: &str) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_lockbench"));
    command
        .args(line.split_whitespace())
        .arg("--node-bin")
        .arg(node_program());
    command
        .arg("--data")
        .arg(data)
        .output()
        .expect("running lockbench")
}

/// Runs with JSON output in a folder of its own, in which nothing must stay.
#[track_caller]
fn measured(line: &str) -> Value {
    let data = tempfile::tempdir().expect("a folder");
    let output = run(data.path(), &format!("{line} -o json"));
    assert_eq!(output.status.code(), Some(0), "{line}: {output:?}");
    assert_eq!(
        std::fs::read_dir(data.path()).expect("the folder").count(),
        0,
        "{line}: data stayed behind"
    );
    let text = String::from_utf8(output.stdout).expect("UTF-8");
    assert_eq!(text.lines().count(), 1, "{line}: one line a run");
    let report: Value = serde_json::from_str(&text).expect(&text);
    assert_eq!(
        (&report["v"], &report["exclusion_violations"]),
        (&1.into(), &0.into()),
        "{line}: {report}"
    );
    report
}

#[test]
fn cycles_on_one_lock_with_a_follower_down() {
    let report = measured("cycle --clients 5 --locks 1 --down 1 --cycles 40");
    assert_eq!(
        (&report["cycles"], &report["failed"]),
        (&40.into(), &0.into()),
        "{report}"
    );
    for call in ["cycle", "acquire", "append", "release"] {
        assert!(
            report[format!("{call}_p50_us")]
                .as_u64()
                .is_some_and(|us| us > 0),
            "{report}"
        );
    }
    for field in [
        "seconds",
        "cycles_per_s",
        "server_cpu_s",
        "rss_bytes",
        "sync_p50_us",
    ] {
        assert!(report[field].is_number(), "{field}: {report}");
    }
}

#[test]
fn appends_in_flight_under_a_held_lock() {
    let report = measured("append --replicas 1 --depth 32 --cycles 200 --payload 1000");
    assert_eq!(
        (&report["cycles"], &report["failed"]),
        (&200.into(), &0.into()),
        "{report}"
    );
    assert!(
        report["append_p99_us"].is_u64() && report["acquire_p50_us"].is_null(),
        "{report}"
    );
}

#[test]
fn what_makes_no_sense_is_2() {
    let data = tempfile::tempdir().expect("a folder");
    for line in [
        "cycle --down 2",
        "append --clients 2 --locks 1",
        "cycle --clients 0",
        "cycle --endpoints nonsense",
        "failover --endpoints nonsense",
        "failover --endpoints 127.0.0.1:7401",
        "failover --replicas 1",
    ] {
        assert_eq!(run(data.path(), line).status.code(), Some(2), "{line}");
    }
}

#[test]
fn a_program_that_is_no_replica_is_1() {
    let mut command = Command::new(env!("CARGO_BIN_EXE_lockbench"));
    let output = command
        .args(["cycle", "--node-bin", "/bin/false"])
        .output()
        .expect("lockbench");
    assert_eq!(output.status.code(), Some(1));
    assert!(
        String::from_utf8_lossy(&output.stderr).contains("did not get ready"),
        "{output:?}"
    );
}
