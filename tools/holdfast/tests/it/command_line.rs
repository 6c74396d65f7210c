//! What needs no replica: usage, help, completion, and what happens when nobody is there.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::process::Output;

use serde_json::{Value, json};

use crate::replica::holdfast;

fn run(line: &str) -> Output {
    holdfast()
        .args(line.split_whitespace())
        .output()
        .expect("running holdfast")
}

#[track_caller]
fn check(line: &str, code: i32, stderr: &str) {
    let output = run(line);
    let text = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{line}: {text}");
    assert!(text.contains(stderr), "{line}: {text}");
    assert!(
        code == 0 || output.stdout.is_empty(),
        "{line}: an error on standard output"
    );
}

/// An address where nobody listens.
fn nobody() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.local_addr().expect("its address").to_string()
}

#[test]
fn usage_is_2_and_123_for_lock() {
    check("", 2, "Usage");
    check("frobnicate", 2, "frobnicate");
    check("cat", 2, "FILE");
    check("status --frob", 2, "--frob");
    check("lock", 123, "NAME");
    check("lock a --lease never", 123, "never");
    check("--pin lock a --frob", 123, "--frob");
    check("member list", 2, "member");
    check("snapshot save x", 2, "snapshot");
    check("lock a echo hi", 123, "put `--` before the command");
    check("lock a -c true", 123, "holdfast lock NAME -- sh -c");
    let tip = String::from_utf8_lossy(&run("lock a -c true").stderr).into_owned();
    assert!(!tip.contains("-- -c"), "{tip}");
    check("append file_8 --tyr", 2, "--tyr");
    check("lock a --", 123, "there is no command after `--`");
    check("lock a --lease 2s --try --", 123, "until a signal");
}

#[test]
fn endpoints_that_make_no_sense_are_usage() {
    check("--endpoints nowhere status", 2, "HOST:PORT");
    check("--endpoints 1=a:1,b:2 locks", 2, "mixed");
    check(
        "--endpoints http://127.0.0.1:1 locks",
        2,
        "without a scheme",
    );
    check("--endpoints , lock a", 123, "no endpoint");
}

#[test]
fn errors_are_objects_where_json_is_asked_for() {
    for line in [
        "cat -o json",
        "--output=json status --frob",
        "-o json --endpoints nowhere status",
    ] {
        let output = run(line);
        let error: Value = serde_json::from_slice(&output.stderr)
            .unwrap_or_else(|error| panic!("{line}: {error}"));
        assert_eq!(
            (&error["v"], &error["ok"], &error["code"]),
            (&json!(1), &json!(false), &json!("usage")),
            "{line}"
        );
        assert!(error["message"].is_string(), "{line}");
    }
}

#[test]
fn nobody_there_is_5_and_125_for_lock() {
    let nobody = nobody();
    check(
        &format!("--endpoints {nobody} --timeout 300ms locks"),
        5,
        "unavailable",
    );
    check(
        &format!("--endpoints {nobody} --timeout 300ms status"),
        5,
        &nobody,
    );
    check(
        &format!("--endpoints {nobody} --timeout 300ms append f x"),
        5,
        "unavailable",
    );
    check(
        &format!("--endpoints {nobody} --timeout 300ms lock a -- true"),
        125,
        "unavailable",
    );
}

/// Long before the timeout, and for every endpoint.
#[test]
fn nobody_there_is_told_at_once() {
    let (one, two) = (nobody(), nobody());
    for verb in ["locks", "append f x", "health", "status", "cat f --stale"] {
        let line = format!("--endpoints {one},{two} --timeout 10m {verb}");
        let told = format!(
            "connection refused by both of {one}, {two}; is a cluster running? try `node dev`"
        );
        check(&line, 5, &told);
    }
    check(
        &format!("--endpoints {one} --timeout 10m lock a -- true"),
        125,
        "connection refused",
    );
    check(
        "--endpoints no.such.host.invalid:1 --timeout 10m locks",
        5,
        "no.such.host.invalid:1: unknown host",
    );
    check(
        &format!("--endpoints no.such.host.invalid:1,{one} --timeout 10m status"),
        5,
        "no.such.host.invalid:1: unknown host",
    );
}

/// Whoever takes the connection and says nothing is named, and hears nothing but our protocol: words of another would
/// be logged as garbage by a replica that is only slow.
#[test]
fn a_silent_endpoint_is_named_and_spared() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("its address").to_string();
    let heard = std::thread::spawn(move || {
        let mut heard = Vec::new();
        for stream in listener.incoming() {
            let mut stream = stream.expect("a connection");
            let mut bytes = [0; 64];
            let n = stream.read(&mut bytes).expect("some bytes");
            if bytes.starts_with(b"END") {
                return heard;
            }
            heard.push(bytes[..n].to_vec());
            std::mem::forget(stream);
        }
        heard
    });
    for verb in ["locks", "status"] {
        let line = format!("--endpoints {address} --timeout 700ms {verb}");
        check(&line, 5, &address);
    }
    let mut end = std::net::TcpStream::connect(&address).expect("a connection");
    end.write_all(b"END").expect("the last word");
    let heard = heard.join().expect("the listener's end");
    assert!(!heard.is_empty());
    assert!(!heard.iter().any(|it| it.starts_with(b"GET")), "{heard:?}");
}

#[test]
fn help_and_completion_go_to_standard_output() {
    for (line, part) in [
        ("--help", "Exit codes"),
        ("lock --help", "122 the lock was lost"),
        ("--version", "holdfast "),
        ("completion bash", "complete -F"),
        ("completion fish", "check-token"),
    ] {
        let output = run(line);
        assert_eq!(output.status.code(), Some(0), "{line}");
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(text.contains(part), "{line}: {text}");
    }
}
