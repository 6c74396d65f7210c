//! What a replica shows over HTTP, and what it says of its settings.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use tests::harness::binaries::command;
use tests::harness::patience::wait_for;
use tests::harness::{Cluster, Plan, http};

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
        assert!(
            !metrics.contains("# EOF") && !metrics.contains("# UNIT"),
            "OpenMetrics only for those who ask for it"
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

/// The others have cut their logs above what a replica holds, so that it stays behind. It is not ready, and it counts its
/// lag from what the leader has.
#[test]
fn a_replica_that_stays_behind_is_not_ready_and_tells_its_lag() {
    let mut cluster = Plan::new(3)
        .flag("--snapshot-after", "1MiB")
        .flag("--keep-log", "6MiB")
        .start();
    let client = cluster.client("C1");
    client.section(&[("file_0", "A\n")]);
    cluster.wait_equal();
    let behind = cluster.follower();
    cluster.kill(behind);
    for number in 0..16 {
        client.section(&[("file_0", &format!("{number} {}\n", "x".repeat(1_000_000)))]);
    }
    cluster.start_replica(behind);
    let number = |id: u16, field: &str| {
        let status = cluster.status(id).expect("a status");
        status[field].as_u64().expect("a number")
    };
    wait_for("the replica to know that it is behind", LIMIT, || {
        let page = http::get(cluster.http_address(behind), "/readyz");
        page.is_ok_and(|(code, text)| code == 503 && text.contains("slots behind the leader"))
    });
    let leader = cluster.leader();
    wait_for("its true lag", LIMIT, || {
        let (lag, applied) = (number(behind, "lag"), number(behind, "applied"));
        lag > 30 && applied + lag == number(leader, "chosen")
    });
    assert_eq!(
        http::get(cluster.http_address(leader), "/readyz")
            .expect("a page")
            .0,
        200
    );
}

#[test]
fn who_asks_for_open_metrics_gets_them() {
    let cluster = Cluster::start(1);
    let mut stream = TcpStream::connect(cluster.http_address(1)).expect("a connection");
    let request = "GET /metrics HTTP/1.0\r\nHost: localhost\r\nAccept: application/openmetrics-text;version=1.0.0\r\n\r\n";
    stream.write_all(request.as_bytes()).expect("a request");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    assert!(
        answer.contains("application/openmetrics-text") && answer.trim_end().ends_with("# EOF"),
        "{answer:.300}"
    );
}

/// A local cluster of three on free ports.
fn start_dev(stderr: Stdio) -> Child {
    command("node")
        .args(["dev", "--base-port", "0"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(stderr)
        .spawn()
        .expect("the program runs")
}

/// What to type next, for all replicas, and how to see one fail and come back.
#[test]
fn a_local_cluster_says_how_to_use_it() {
    let mut child = start_dev(Stdio::null());
    let stdout = child.stdout.take().expect("a pipe");
    let mut text = String::new();
    for line in BufReader::new(stdout).lines() {
        let line = line.expect("text");
        text += &format!("{line}\n");
        if line.starts_with("Ctrl-C") {
            break;
        }
    }
    kill_process(Pid::from_child(&child), Signal::TERM).expect("SIGTERM");
    assert!(child.wait().expect("its end").success());
    let line = |start: &str| {
        let found = text
            .lines()
            .find_map(|line| line.trim().strip_prefix(start));
        found.unwrap_or_else(|| panic!("no {start:?} in {text}"))
    };
    assert_eq!(
        line("export HOLDFAST_ENDPOINTS=").split(',').count(),
        3,
        "{text}"
    );
    assert!(text.contains("/2.log"), "{text}");
    assert!(line("kill -9 ").parse::<u32>().is_ok(), "{text}");
    assert!(line("kill -USR1 ").parse::<u32>().is_ok(), "{text}");
}

/// Replicas that were killed are started again by `dev` itself, as typed from what it says: so they end with it, and
/// nobody serves from a folder that is gone. Even with all of them killed it goes on.
#[test]
fn a_local_cluster_starts_killed_replicas_again_and_leaves_none() {
    let mut child = start_dev(Stdio::piped());
    let (mut pids, mut data) = (Vec::new(), None);
    for line in BufReader::new(child.stdout.take().expect("a pipe")).lines() {
        let line = line.expect("text");
        let words: Vec<&str> = line.split_whitespace().collect();
        match words.as_slice() {
            ["replica", .., "pid", pid] => pids.push(pid.parse::<i32>().expect("a number")),
            ["data", path, ..] if data.is_none() => data = Some(path.to_string()),
            _ if line.starts_with("Ctrl-C") => break,
            _ => {}
        }
    }
    let data = std::path::PathBuf::from(data.expect("the data folder"));
    let folder = data.parent().expect("its parent").to_owned();
    let mut heard = BufReader::new(child.stderr.take().expect("a pipe")).lines();
    let mut hear = |wanted: &str| loop {
        let line = heard.next().expect("more to read").expect("text");
        if line.contains(wanted) {
            return line;
        }
    };
    for &pid in &pids {
        let pid = Pid::from_raw(pid).expect("a process");
        kill_process(pid, Signal::KILL).expect("SIGKILL");
        hear("to start it again");
    }
    kill_process(Pid::from_child(&child), Signal::USR1).expect("SIGUSR1");
    let back: Vec<i32> = pids
        .iter()
        .map(|_| {
            let line = hear("is back");
            let pid = line.rsplit(' ').next().expect("a word");
            pid.parse().expect("a number")
        })
        .collect();
    assert!(folder.join("1/lock").exists());
    kill_process(Pid::from_child(&child), Signal::INT).expect("SIGINT");
    assert!(child.wait().expect("its end").success());
    for pid in back {
        assert!(!std::path::Path::new(&format!("/proc/{pid}")).exists());
    }
    assert!(!folder.exists(), "{} is left", folder.display());
}

/// A command given to `dev` finds a cluster that works.
#[test]
fn a_command_under_a_local_cluster_finds_a_leader() {
    let status = command("node")
        .args(["dev", "--base-port", "0", "--"])
        .arg(command("holdfast").get_program())
        .arg("status")
        .stdin(Stdio::null())
        .output()
        .expect("the program runs");
    assert!(status.status.success(), "{status:?}");
}

#[test]
fn a_busy_port_suggests_another() {
    // The client port of replica 1 is one more than the base.
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = taken.local_addr().expect("its address").port();
    let output = command("node")
        .args([
            "dev",
            "--replicas",
            "1",
            "--base-port",
            &(port - 1).to_string(),
        ])
        .output()
        .expect("the program runs");
    let text = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(3), "{text}");
    assert!(text.contains("--base-port"), "{text}");
}

/// The first line of the log says which program, which replica and which data.
#[test]
fn the_log_begins_with_what_runs() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut child = command("node")
        .args([
            "serve",
            "--id",
            "1",
            "--listen-client",
            "127.0.0.1:0",
            "--listen-peer",
            "127.0.0.1:0",
        ])
        .args(["--listen-http", "127.0.0.1:0", "--data"])
        .arg(folder.path())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the program runs");
    let stderr = child.stderr.take().expect("a pipe");
    let first = BufReader::new(stderr)
        .lines()
        .next()
        .expect("a line")
        .expect("text");
    child.kill().expect("SIGKILL");
    child.wait().expect("its end");
    for part in [
        "version",
        env!("CARGO_PKG_VERSION"),
        "id=1",
        &folder.path().display().to_string(),
    ] {
        assert!(first.contains(part), "{part} is not in {first}");
    }
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

/// An address that was free a moment ago.
fn free_address() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    listener.local_addr().expect("its address")
}

/// A name in `--peers` that nobody knows is told by the log, once, and by `/readyz` for as long as it lasts. Meanwhile the
/// ports say what they are.
#[test]
fn a_peer_without_an_address_is_told() {
    let folder = tempfile::tempdir().expect("a folder");
    let (at, peer) = (free_address(), free_address());
    let mut child = command("node")
        .args(["serve", "--id", "1"])
        .args(["--peers", "1=127.0.0.1:7,2=no.such.host.invalid:7410"])
        .args(["--listen-client", "127.0.0.1:0"])
        .args(["--listen-peer", &peer.to_string()])
        .args(["--listen-http", &at.to_string(), "--data"])
        .arg(folder.path())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the program runs");
    let log = BufReader::new(child.stderr.take().expect("a pipe"));
    let mut told = log.lines().map(|line| line.expect("text"));
    let wanted = "2=no.such.host.invalid:7410: unknown host";
    let found = told.find(|line| line.contains(wanted) && line.contains("WARN"));
    let reminded = told.find(|line| line.contains(wanted));
    let ready = http::get(at, "/readyz");
    let mut status = command("holdfast");
    let status = status.args(["status", "--endpoints", &peer.to_string()]);
    let status = status.output().expect("it runs");
    child.kill().expect("SIGKILL");
    child.wait().expect("its end");
    assert!(found.is_some() && reminded.is_some());
    let (code, why) = ready.expect("a page");
    assert!(code == 503 && why.contains(wanted), "{code} {why}");
    let told = String::from_utf8_lossy(&status.stderr);
    assert!(told.contains("this is a replica's peer port"), "{told}");
}

/// A list by id that leaves replicas out: these are not asked, and not called silent.
#[test]
fn status_by_one_id_does_not_call_the_others_dead() {
    let cluster = Cluster::start(3);
    cluster.client("C1").section(&[("file_0", "A")]);
    for id in cluster.ids() {
        let endpoint = format!("{id}={}", cluster.client_address(id));
        let mut command = cluster.holdfast();
        let output = command
            .args(["status", "--endpoints", &endpoint])
            .output()
            .expect("runs");
        let shown = String::from_utf8_lossy(&output.stdout).into_owned();
        let told = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(0), "{shown}{told}");
        assert_eq!(shown.matches("not asked").count(), 2, "{shown}{told}");
        assert!(!told.contains("quorum"), "{told}");
    }
}

/// `status` asks all at once: the dead ones cost no time. Without a quorum it says so, and ends with 5; and
/// `--until-equal` keeps to its time, and ends with 4.
#[test]
fn status_says_when_there_is_no_quorum() {
    let mut cluster = Cluster::start(3);
    cluster.client("C1").section(&[("file_0", "A")]);
    cluster.wait_equal();
    let status = |cluster: &Cluster, more: &[&str]| {
        let asked = Instant::now();
        let mut command = cluster.holdfast();
        let output = command.arg("status").args(more).output().expect("runs");
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        (output.status.code(), told, asked.elapsed())
    };
    assert_eq!(status(&cluster, &["--until-equal", "10s"]).0, Some(0));
    // A replica that says nothing is waited for, but not beyond the time that was given.
    let silent = cluster.follower();
    cluster.pause(silent);
    let (code, _, patient) = status(&cluster, &[]);
    assert_eq!(code, Some(0));
    let (code, told, took) = status(&cluster, &["--until-equal", "1ms"]);
    assert_eq!(code, Some(4), "{told}");
    assert!(took < patient, "{took:?} against {patient:?}");
    cluster.resume(silent);

    let leader = cluster.leader();
    cluster.kill(leader);
    wait_for("another leader", LIMIT, || {
        status(&cluster, &[]).0 == Some(0)
    });
    let alone = cluster.follower();
    let others: Vec<u16> = cluster
        .ids()
        .into_iter()
        .filter(|id| *id != alone)
        .collect();
    others.iter().for_each(|id| cluster.kill(*id));
    let (code, told, took) = status(&cluster, &[]);
    assert_eq!(code, Some(5), "{told}");
    assert!(told.contains("no quorum: 1 of 3"), "{told}");
    assert!(took < LIMIT, "{took:?}");
    let (code, told, _) = status(&cluster, &["--until-equal", "500ms"]);
    assert_eq!(code, Some(4), "{told}");
}
