//! Every verb but `lock` and `shell`, against one replica.

use std::io::Write;
use std::process::{Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::replica::Replica;

fn run(replica: &Replica, words: &[&str]) -> Output {
    replica
        .holdfast()
        .args(words)
        .stdin(Stdio::null())
        .output()
        .expect("running holdfast")
}

#[track_caller]
fn text(replica: &Replica, words: &[&str], code: i32) -> String {
    let output = run(replica, words);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{words:?}: {errors}");
    String::from_utf8(output.stdout).expect("UTF-8")
}

#[track_caller]
fn json_lines(replica: &Replica, words: &[&str]) -> Vec<Value> {
    let words = [words, &["-o", "json"]].concat();
    let lines = text(replica, &words, 0);
    let values: Vec<Value> = lines
        .lines()
        .map(|line| serde_json::from_str(line).expect(line))
        .collect();
    assert!(values.iter().all(|value| value["v"] == 1), "{lines}");
    values
}

#[track_caller]
fn refused(replica: &Replica, words: &[&str], code: i32, name: &str) {
    let words = [words, &["-o", "json"]].concat();
    let output = run(replica, &words);
    assert_eq!(output.status.code(), Some(code), "{words:?}: {output:?}");
    let error: Value = serde_json::from_slice(&output.stderr).expect("an error object");
    assert_eq!(error["code"], name, "{words:?}: {error}");
}

#[test]
fn files_from_creation_to_removal() {
    let replica = Replica::start();
    text(&replica, &["file", "create", "log.txt"], 0);
    refused(&replica, &["file", "create", "log.txt"], 1, "exists");
    refused(&replica, &["file", "create", "a/b"], 1, "bad_name");
    text(
        &replica,
        &["file", "create", "shared", "--guard", "default"],
        0,
    );

    let stat = &json_lines(&replica, &["file", "stat", "log.txt"])[0];
    assert_eq!(
        (&stat["guard"], &stat["length"]),
        (&json!("log.txt"), &json!(0))
    );
    refused(&replica, &["file", "stat", "nothing"], 3, "no_such_file");

    text(&replica, &["append", "log.txt", "hello "], 0);
    let mut command = replica.holdfast();
    let mut append = command
        .args(["append", "log.txt"])
        .stdin(Stdio::piped())
        .spawn()
        .expect("append");
    append
        .stdin
        .take()
        .expect("a pipe")
        .write_all(b"world")
        .expect("writing");
    assert_eq!(append.wait().expect("append's end").code(), Some(0));
    assert_eq!(text(&replica, &["cat", "log.txt"], 0), "hello world");
    assert_eq!(
        text(
            &replica,
            &["cat", "log.txt", "--offset", "6", "--length", "3"],
            0
        ),
        "wor"
    );
    assert_eq!(
        text(&replica, &["cat", "log.txt", "--stale"], 0),
        "hello world"
    );
    let cat = &json_lines(&replica, &["cat", "log.txt", "--offset", "6"])[0];
    assert_eq!((&cat["data"], &cat["offset"]), (&json!("world"), &json!(6)));
    refused(&replica, &["cat", "nothing"], 3, "no_such_file");
    refused(&replica, &["append", "nothing", "x"], 3, "no_such_file");

    let names: Vec<_> = json_lines(&replica, &["file", "list"])
        .iter()
        .map(|file| file["name"].clone())
        .collect();
    assert_eq!(names.len(), 102, "100 files from the start, and two");
    assert!(names.contains(&json!("file_99")) && names.contains(&json!("shared")));

    text(&replica, &["file", "remove", "log.txt"], 0);
    refused(&replica, &["file", "remove", "log.txt"], 3, "no_such_file");
}

#[test]
fn a_large_append_goes_in_whole() {
    let replica = Replica::start();
    let data = vec![b'x'; (2 << 20) + 5];
    let mut command = replica.holdfast();
    let mut append = command
        .args(["append", "file_1", "-"])
        .stdin(Stdio::piped())
        .spawn()
        .expect("append");
    append
        .stdin
        .take()
        .expect("a pipe")
        .write_all(&data)
        .expect("writing");
    assert_eq!(append.wait().expect("append's end").code(), Some(0));
    assert_eq!(
        json_lines(&replica, &["file", "stat", "file_1"])[0]["length"],
        data.len()
    );
    assert!(run(&replica, &["cat", "file_1"]).stdout == data);
}

#[test]
fn locks_sessions_and_force() {
    let replica = Replica::start();
    assert!(json_lines(&replica, &["locks"]).is_empty());
    let free = &json_lines(&replica, &["lock-status", "a"])[0];
    assert_eq!(
        (&free["held"], &free["holder"]),
        (&json!(false), &Value::Null)
    );

    let mut command = replica.holdfast();
    let mut holder = command
        .args(["lock", "a", "--name", "ann"])
        .stdout(Stdio::piped())
        .spawn()
        .expect("lock");
    let mut line = String::new();
    let stdout = holder.stdout.take().expect("a pipe");
    std::io::BufRead::read_line(&mut std::io::BufReader::new(stdout), &mut line)
        .expect("the token");
    let token = line.trim().to_owned();

    let held = &json_lines(&replica, &["locks", "a"])[0];
    assert_eq!(
        (&held["lock"], &held["holder"]["name"]),
        (&json!("a"), &json!("ann"))
    );
    assert_eq!(held["holder"]["token"].to_string(), token);
    assert!(json_lines(&replica, &["locks", "b"]).is_empty());
    assert!(text(&replica, &["lock-status", "a"], 0).contains("held by ann"));
    assert_eq!(json_lines(&replica, &["sessions"])[0]["name"], "ann");

    text(&replica, &["check-token", "a", &token], 0);
    refused(&replica, &["check-token", "a", "999999"], 3, "stale_token");
    refused(
        &replica,
        &["force-release", "a", "--token", "999999", "--reason", "x"],
        3,
        "not_held",
    );
    text(
        &replica,
        &[
            "force-release",
            "a",
            "--token",
            &token,
            "--reason",
            "gone on holiday",
        ],
        0,
    );
    assert_eq!(
        holder.wait().expect("lock's end").code(),
        Some(122),
        "the holder was not told"
    );
}

#[test]
fn status_and_health() {
    let replica = Replica::start();
    // A read waits for a leader, which may take a moment on a busy machine.
    text(&replica, &["locks"], 0);
    let status = &json_lines(&replica, &["status"])[0];
    for field in [
        "id",
        "client",
        "peer",
        "http",
        "reachable",
        "role",
        "ballot",
        "chosen",
        "applied",
        "lag",
        "log_bytes",
        "state_hash",
        "version",
    ] {
        assert!(!status[field].is_null(), "{field}: {status}");
    }
    assert_eq!(
        (&status["reachable"], &status["role"]),
        (&json!(true), &json!("leader"))
    );
    assert_eq!(
        json_lines(&replica, &["status", "--until-equal", "5s"]).len(),
        1
    );
    let health = &json_lines(&replica, &["health"])[0];
    assert!(
        health["healthy"] == true && health["commit_us"].is_u64(),
        "{health}"
    );
}

#[test]
fn follow_goes_on_as_the_file_grows() {
    let replica = Replica::start();
    text(&replica, &["append", "file_0", "one\n"], 0);
    let mut command = replica.holdfast();
    let mut follow = command
        .args(["cat", "file_0", "--follow"])
        .stdout(Stdio::piped())
        .spawn()
        .expect("cat");
    let mut lines = std::io::BufRead::lines(std::io::BufReader::new(
        follow.stdout.take().expect("a pipe"),
    ));
    assert_eq!(lines.next().expect("a line").expect("text"), "one");
    text(&replica, &["append", "file_0", "two\n"], 0);
    assert_eq!(lines.next().expect("a line").expect("text"), "two");
    follow.kill().expect("killing cat");
    follow.wait().expect("cat's end");
}

#[test]
fn busy_and_wait_over() {
    let replica = Replica::start();
    let mut holder = replica
        .holdfast()
        .args(["lock", "default"])
        .stdout(Stdio::piped())
        .spawn()
        .expect("lock");
    let mut line = String::new();
    let stdout = holder.stdout.take().expect("a pipe");
    std::io::BufRead::read_line(&mut std::io::BufReader::new(stdout), &mut line)
        .expect("the token");
    refused(&replica, &["append", "file_0", "x", "--try"], 1, "busy");
    let start = Instant::now();
    refused(
        &replica,
        &["append", "file_0", "x", "--wait", "300ms"],
        1,
        "wait_timed_out",
    );
    assert!(start.elapsed() >= Duration::from_millis(290));
    holder.kill().expect("killing lock");
    holder.wait().expect("lock's end");
}

#[test]
fn a_wrong_port_as_endpoint_is_told_at_once() {
    let replica = Replica::start();
    text(&replica, &["locks"], 0);
    let http = json_lines(&replica, &["status"])[0]["http"].clone();
    let wrong = [
        (http.as_str().expect("an address"), "speaks HTTP"),
        (replica.peer.as_str(), "a replica's peer port"),
    ];
    for (address, told) in wrong {
        for verb in ["locks", "status", "health", "cat file_0 --stale"] {
            let mut words = vec!["--endpoints", address, "--timeout", "10m"];
            words.extend(verb.split(' '));
            let output = run(&replica, &words);
            let text = String::from_utf8_lossy(&output.stderr);
            assert_eq!(output.status.code(), Some(5), "{verb}: {text}");
            assert!(text.contains(told), "{verb}: {text}");
        }
    }
}

/// Names and reasons of others reach a terminal without what speaks to it, whatever the verb.
#[test]
fn nothing_that_others_named_speaks_to_the_terminal() {
    let replica = Replica::start();
    let (lock, name) = ("na\nme\u{1b}[2J", "ev\nil\u{1b}[31m\u{9b}31m");
    let mut holder = replica
        .holdfast()
        .args(["--name", name, "lock", lock])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("running holdfast");
    let mut token = String::new();
    let stdout = holder.stdout.take().expect("a pipe");
    std::io::BufRead::read_line(&mut std::io::BufReader::new(stdout), &mut token)
        .expect("the token");
    let token = token.trim();
    let reason = "be\u{1b}[2Jcause\nof";
    let lines: [&[&str]; 8] = [
        &["lock", lock, "--wait", "100ms", "--", "true"],
        &["lock", lock, "--try", "--", "true"],
        &["lock-status", lock],
        &["locks"],
        &["sessions"],
        &["check-token", lock, "1000000"],
        &["check-token", lock, token],
        &["force-release", lock, "--token", token, "--reason", reason],
    ];
    for words in lines {
        for form in ["table", "json"] {
            if words[0] == "force-release" && form == "json" {
                continue;
            }
            let output = run(&replica, &[words, &["-o", form]].concat());
            for bytes in [&output.stdout, &output.stderr] {
                printable(&format!("{words:?}"), bytes);
            }
        }
    }
    let output = holder.wait_with_output().expect("the holder's end");
    assert_eq!(output.status.code(), Some(122));
    printable("the victim", &output.stderr);
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(told.contains("be\\u{1b}[2Jcause\\nof"), "{told}");
}

/// No control character, and each line begins as this program's lines do.
#[track_caller]
fn printable(what: &str, bytes: &[u8]) {
    let text = String::from_utf8(bytes.to_vec()).expect("UTF-8");
    let odd = |c: char| c.is_control() && c != '\n';
    assert!(!text.contains(odd), "{what}: {text:?}");
    let forged = |line: &str| line.starts_with("me") || line.starts_with("il") || line == "of";
    assert!(!text.lines().any(forged), "{what}: {text:?}");
}
