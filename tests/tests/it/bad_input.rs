//! Bad input: a clear message, the documented exit code (`docs/operations.md`), nothing lost.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use serde_json::Value;
use tests::harness::binaries::command;
use tests::harness::patience::wait_for;
use tests::harness::words::append;
use tests::harness::{Cluster, Plan, Process};

use crate::small_disk::SmallDisk;

const LIMIT: Duration = Duration::from_secs(20);

// What `node` exits with.
const USAGE: i32 = 2;
const ADDRESS_IN_USE: i32 = 3;
const DATA_REFUSED: i32 = 4;
const WRITE_FAILED: i32 = 6;

fn output(command: &mut Command) -> Output {
    command
        .stdin(Stdio::null())
        .output()
        .expect("the program runs")
}

/// Asserts exit code and that standard error says each of `words`.
#[track_caller]
fn assert_refused(output: &Output, code: i32, words: &[&str]) {
    let message = String::from_utf8_lossy(&output.stderr);
    assert_eq!(
        output.status.code(),
        Some(code),
        "exit code, with: {message}"
    );
    for word in words {
        assert!(
            message.contains(word),
            "the message names {word:?}: {message}"
        );
    }
    assert!(!message.contains("panicked"), "no panic: {message}");
}

/// Starts a replica again that must refuse: its exit code and what it said.
#[track_caller]
fn assert_serve_refuses(cluster: &Cluster, command: &mut Command, code: i32, words: &[&str]) {
    let mut process = Process::spawn("refused", command, cluster.folder());
    let exit = process.exit_code(LIMIT);
    let message = process.stderr();
    assert_eq!(exit, Some(code), "exit code, with: {message}");
    for word in words {
        assert!(
            message.contains(word),
            "the message names {word:?}: {message}"
        );
    }
    let said = process.stdout().all();
    assert!(
        said.is_empty(),
        "a replica that is not ready says nothing on standard output: {said:?}"
    );
}

/// A replica that is a whole cluster, on any ports.
fn alone(id: u16, cluster: &str, data: &Path) -> Command {
    let mut command = command("node");
    command
        .args([
            "serve",
            "--id",
            &id.to_string(),
            "--cluster",
            cluster,
            "--data",
        ])
        .arg(data);
    for port in ["--listen-client", "--listen-peer", "--listen-http"] {
        command.args([port, "127.0.0.1:0"]);
    }
    command
}

#[test]
fn unknown_flags() {
    let node = |args: &[&str]| output(command("node").args(args));
    assert_refused(&node(&["serve", "--frobnicate"]), USAGE, &["--frobnicate"]);
    assert_refused(
        &node(&["serve", "--files", "many"]),
        USAGE,
        &["--files", "many"],
    );
    assert_refused(&node(&["serve", "--peers", "1=a"]), USAGE, &["--peers"]);
    assert_refused(
        &node(&["serve", "--id", "2", "--peers", "1=127.0.0.1:1"]),
        USAGE,
        &["--peers"],
    );
    let holdfast = |args: &[&str]| output(command("holdfast").args(args));
    assert_refused(&holdfast(&["--frobnicate", "locks"]), 2, &["--frobnicate"]);
    assert_refused(&holdfast(&["shell", "--frobnicate"]), 2, &["--frobnicate"]);
    // `lock` keeps the small codes for the command that it runs.
    assert_refused(
        &holdfast(&["lock", "name", "--frobnicate"]),
        123,
        &["--frobnicate"],
    );
}

#[test]
fn unknown_flags_of_the_other_tools() {
    for tool in ["walinspect", "lockbench"] {
        let output = output(command(tool).arg("--frobnicate"));
        assert_refused(&output, 2, &["--frobnicate"]);
    }
}

/// Another replica sits on each port in turn. (Not this process: a socket of its own would for a
/// moment live on in every child that another test starts.)
#[test]
fn ports_in_use() {
    let cluster = Cluster::start(1);
    let client = cluster.client("C1");
    client.section(&[("file_0", "one\n")]);
    let ports = [
        ("--listen-client", cluster.client_address(1)),
        ("--listen-peer", cluster.peer_address(1)),
        ("--listen-http", cluster.http_address(1)),
    ];
    for (flag, address) in ports {
        let address = address.to_string();
        let mut command = command("node");
        command
            .args(["serve", "--data"])
            .arg(cluster.folder().join("other"));
        for port in ports.map(|(port, _)| port) {
            let free = "127.0.0.1:0";
            command.args([port, if port == flag { &address } else { free }]);
        }
        assert_serve_refuses(&cluster, &mut command, ADDRESS_IN_USE, &[flag, &address]);
    }
    client.section(&[("file_0", "two\n")]);
    cluster.assert_file("file_0", "one\ntwo\n");
}

#[test]
fn a_data_folder_of_another_cluster_or_id() {
    let mut cluster = Cluster::start(1);
    let client = cluster.client("C1");
    client.section(&[("file_0", "mine\n")]);
    cluster.stop(1);

    let mut other_cluster = alone(1, "another", cluster.data(1));
    assert_serve_refuses(
        &cluster,
        &mut other_cluster,
        DATA_REFUSED,
        &["another", "test"],
    );
    let mut other_id = alone(2, "test", cluster.data(1));
    assert_serve_refuses(&cluster, &mut other_id, DATA_REFUSED, &["1", "2"]);

    cluster.start_replica(1);
    cluster.assert_file("file_0", "mine\n");
}

#[test]
fn a_second_node_on_the_same_folder() {
    let cluster = Cluster::start(1);
    let client = cluster.client("C1");
    client.section(&[("file_0", "one\n")]);
    let mut second = alone(1, "test", cluster.data(1));
    assert_serve_refuses(&cluster, &mut second, DATA_REFUSED, &["in use"]);
    client.section(&[("file_0", "two\n")]);
    cluster.assert_file("file_0", "one\ntwo\n");
}

#[test]
fn a_full_disk_at_the_start() {
    let Some(disk) = SmallDisk::mount("a_full_disk_at_the_start", 2) else {
        return;
    };
    let cluster = Plan::new(1).data_of(1, &disk.path().join("1")).prepare();
    disk.fill();
    let mut command = cluster.command(1);
    assert_serve_refuses(&cluster, &mut command, WRITE_FAILED, &[]);
}

#[test]
fn a_wiped_disk_under_an_old_id() {
    let mut cluster = Cluster::start(3);
    let client = cluster.client("C1");
    client.section(&[("file_0", "one\n")]);
    cluster.wait_equal();
    cluster.kill(3);
    std::fs::remove_dir_all(cluster.data(3)).expect("the folder was there");
    let mut wiped = cluster.command(3);
    assert_serve_refuses(&cluster, &mut wiped, DATA_REFUSED, &["disk"]);
    client.section(&[("file_0", "two\n")]);
    cluster.assert_file("file_0", "one\ntwo\n");
}

#[test]
fn a_file_name_with_a_slash() {
    let cluster = Cluster::start(1);
    let client = cluster.client("C1");
    client.acquire();
    client.append("file_0", "A");
    for name in [
        "a/b",
        "../escaped",
        "/etc/escaped",
        "",
        ".",
        "-x",
        "a\u{0}b",
        &"x".repeat(256),
    ] {
        let refused = client.ask(append(name, "x"));
        assert!(
            ["bad_name", "no_such_file"].contains(&refused.code()),
            "{name:?}: expected bad_name or no_such_file, got {}",
            refused.0
        );
    }
    client.append("file_0", "A");
    client.release();
    let created = output(cluster.holdfast().args(["file", "create", "a/b"]));
    let message = String::from_utf8_lossy(&created.stderr);
    assert!(
        [Some(1), Some(2)].contains(&created.status.code()),
        "refused: {message}"
    );
    assert!(
        message.contains("a/b"),
        "the message names the name: {message}"
    );
    cluster.assert_file("file_0", "AA");
    assert!(!cluster.data(1).join("escaped").exists());
}

#[test]
fn a_data_file_cut_by_hand() {
    let mut cluster = Cluster::start(3);
    let client = cluster.client("C1");
    client.section(&[("file_0", "one\n"), ("file_1", "two\n")]);
    cluster.wait_equal();
    cluster.stop(2);
    let cut = |name: &str, length: u64| {
        let path = cluster.data(2).join("files").join(name);
        let file = std::fs::File::options()
            .write(true)
            .open(path)
            .expect("the file is there");
        file.set_len(length).expect("a file can be cut");
    };
    cut("file_0", 2);
    cut("file_1", 0);
    cluster.start_replica(2);
    client.section(&[("file_0", "three\n")]);
    cluster.assert_file("file_0", "one\nthree\n");
    cluster.assert_file("file_1", "two\n");
}

#[test]
fn garbage_on_each_port() {
    let mut cluster = Cluster::start(3);
    let client = cluster.client("C1");
    client.acquire();
    client.append("file_0", "one\n");
    for id in cluster.ids() {
        let ports = [
            cluster.client_address(id),
            cluster.peer_address(id),
            cluster.http_address(id),
        ];
        for address in ports {
            for garbage in garbage() {
                send_and_wait_for_the_end(address, &garbage);
            }
        }
    }
    client.append("file_0", "two\n");
    client.release();
    for id in cluster.ids() {
        assert_eq!(cluster.process(id).exited(), None, "replica {id} serves on");
    }
    cluster.assert_file("file_0", "one\ntwo\n");
    cluster.check_sections();
}

/// Noise; another protocol; a frame that claims 4 GiB; a wrong checksum; a good frame of nonsense.
fn garbage() -> Vec<Vec<u8>> {
    let sealed = net::Sealed::new(bytes::Bytes::from_static(b"nonsense")).expect("small");
    let good = [sealed.header(), &sealed.body()[..]].concat();
    let mut wrong = good.clone();
    wrong[5] ^= 1;
    let noise: Vec<u8> = (0..4096_u32)
        .map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8)
        .collect();
    vec![
        noise,
        b"\x16\x03\x01 no TLS here\r\n\r\n".to_vec(),
        vec![0xff; 64],
        wrong,
        good,
    ]
}

/// Whatever the other side answers, it is to hang up once we have.
fn send_and_wait_for_the_end(address: SocketAddr, bytes: &[u8]) {
    let mut stream = TcpStream::connect(address).expect("the port takes connections");
    stream.set_read_timeout(Some(LIMIT)).expect("a timeout");
    // It may hang up before all is sent.
    let _ = stream.write_all(bytes);
    let _ = stream.shutdown(std::net::Shutdown::Write);
    let mut answer = Vec::new();
    if let Err(error) = stream.read_to_end(&mut answer) {
        assert_ne!(
            error.kind(),
            std::io::ErrorKind::WouldBlock,
            "{address} does not hang up"
        );
    }
}

#[test]
fn other_files_on_one_node() {
    let mut cluster = Cluster::start(3);
    let client = cluster.client("C1");
    client.section(&[("file_99", "one\n")]);
    cluster.stop(2);
    cluster.set_flag_of(2, "--files", "7");
    cluster.start_replica(2);
    client.section(&[("file_99", "two\n")]);
    cluster.assert_file("file_99", "one\ntwo\n");
    assert_eq!(cluster.equal_files().len(), 100);
    wait_for("replica 2 to warn of its --files", LIMIT, || {
        cluster
            .process(2)
            .stderr()
            .lines()
            .any(|line| line.contains("WARN") && line.contains("files"))
    });
}

#[test]
fn bad_shell_lines() {
    let cluster = Cluster::start(1);
    let mut shell = cluster.client("C1");
    let bad = |line: &str| {
        let number = shell.output().len();
        shell.write(&format!("{line}\n"));
        let deadline = std::time::Instant::now() + LIMIT;
        let answer = shell.output_lines().wait_line(number, deadline);
        let answer = answer.unwrap_or_else(|| panic!("no answer to {line:.60}"));
        let answer: Value = serde_json::from_str(&answer).expect("an answer is JSON");
        assert_eq!(answer["code"], "bad_request", "{line:.60}: {answer}");
        assert!(answer["message"].is_string(), "{answer}");
        answer["id"].clone()
    };
    assert_eq!(bad(r#"{"id":900,"op":"frobnicate"}"#), 900);
    assert_eq!(bad(r#"{"id":901,"op":"append","file":7}"#), 901);
    assert_eq!(bad(r#"{"id":902,"op":"acquire","lease":2}"#), 902);
    assert_eq!(bad(r#"{"id":"x"}"#), "x");
    assert_eq!(bad("{"), Value::Null);
    assert_eq!(
        bad(&format!("{{\"id\":1,\"x\":\"{}\"}}", "x".repeat(25 << 20))),
        Value::Null
    );
    shell.section(&[("file_0", "A")]);
    assert_eq!(
        shell.finish(),
        Some(0),
        "the end of its input is the end of the shell"
    );
    cluster.assert_file("file_0", "A");
}
