//! `shell`, driven by lines as a program does it.

use std::io::{BufRead, BufReader, Lines, Read, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use crate::replica::Replica;

struct Shell {
    process: Child,
    input: ChildStdin,
    output: Lines<BufReader<ChildStdout>>,
}

impl Shell {
    fn start(replica: &Replica, flags: &[&str]) -> Shell {
        let mut command = replica.holdfast();
        command.arg("shell").args(flags);
        Shell::of(command)
    }

    fn of(mut command: Command) -> Shell {
        let mut process = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the shell");
        let input = process.stdin.take().expect("a pipe");
        let output = BufReader::new(process.stdout.take().expect("a pipe")).lines();
        Shell {
            process,
            input,
            output,
        }
    }

    fn say(&mut self, line: impl std::fmt::Display) {
        writeln!(self.input, "{line}").expect("writing to the shell");
    }

    fn hear(&mut self) -> Value {
        let line = self.output.next().expect("an answer").expect("text");
        serde_json::from_str(&line).unwrap_or_else(|error| panic!("{line}: {error}"))
    }

    /// Says one line and hears its answer.
    fn ask(&mut self, line: Value) -> Value {
        self.say(&line);
        self.hear()
    }

    /// Asks, and expects success.
    #[track_caller]
    fn done(&mut self, line: Value) -> Value {
        let answer = self.ask(line.clone());
        assert_eq!(
            (&answer["ok"], &answer["rc"], &answer["id"]),
            (&json!(true), &json!(0), &line["id"]),
            "{line}: {answer}"
        );
        answer
    }

    /// Asks, and expects this code.
    #[track_caller]
    fn refused(&mut self, line: Value, rc: u8, code: &str) -> Value {
        let answer = self.ask(line.clone());
        assert_eq!(
            (&answer["ok"], &answer["rc"], &answer["code"]),
            (&json!(false), &json!(rc), &json!(code)),
            "{line}: {answer}"
        );
        answer
    }

    fn end(self) -> (Option<i32>, Vec<Value>) {
        let Shell {
            mut process,
            input,
            output,
        } = self;
        drop(input);
        let rest = output
            .map(|line| serde_json::from_str(&line.expect("text")).expect("JSON"))
            .collect();
        (process.wait().expect("its end").code(), rest)
    }
}

#[test]
fn the_end_of_input_frees_what_was_held_and_discards_what_was_pending() {
    let replica = Replica::start();
    let mut first = Shell::start(&replica, &[]);
    first.done(json!({"id":1,"op":"acquire"}));
    first.done(json!({"id":2,"op":"append","file":"file_0","data":"gone"}));
    let mut second = Shell::start(&replica, &["--events"]);
    second.say(json!({"id":1,"op":"acquire","bg":true}));
    assert_eq!(
        second.hear(),
        json!({"id":1,"event":"waiting","position":1})
    );
    assert_eq!(first.end(), (Some(0), vec![]));
    let granted = second.hear();
    assert!(
        granted["ok"] == true && granted["token"].is_u64(),
        "{granted}"
    );
    assert_eq!(
        second.done(json!({"id":2,"op":"cat","file":"file_0"}))["data"],
        ""
    );
    assert_eq!(second.end().0, Some(0));
}

#[test]
fn sigterm_closes_all_and_answers_what_waits() {
    let replica = Replica::start();
    let mut shell = Shell::start(&replica, &[]);
    shell.done(json!({"id":1,"op":"acquire"}));
    shell.done(json!({"id":2,"op":"open","session":"b"}));
    shell.say(json!({"id":3,"op":"acquire","session":"b"}));
    let mut other = Shell::start(&replica, &[]);
    while other.done(json!({"id":1,"op":"lock_status"}))["queue_len"] == 0 {}
    kill_process(Pid::from_child(&shell.process), Signal::TERM).expect("SIGTERM");
    let answer = shell.hear();
    assert_eq!(
        (&answer["id"], &answer["code"]),
        (&json!(3), &json!("cancelled")),
        "{answer}"
    );
    assert_eq!(shell.process.wait().expect("its end").code(), Some(0));
    let status = other.done(json!({"id":2,"op":"lock_status"}));
    assert_eq!(
        (&status["held"], &status["queue_len"]),
        (&json!(false), &json!(0))
    );
}

#[test]
fn commands_beside_each_other_keep_the_order_of_their_lines() {
    let replica = Replica::start();
    let mut shell = Shell::start(&replica, &[]);
    shell.done(json!({"id":0,"op":"acquire"}));
    for id in 1..=50 {
        shell.say(json!({"id":id,"op":"append","file":"file_0","data":format!("{id},"),"bg":true}));
    }
    let mut ids: Vec<_> = (1..=50)
        .map(|_| shell.hear()["id"].as_u64().expect("an id"))
        .collect();
    ids.sort_unstable();
    assert_eq!(ids, (1..=50).collect::<Vec<_>>());
    shell.done(json!({"id":51,"op":"release"}));
    let expected: String = (1..=50).map(|id| format!("{id},")).collect();
    assert_eq!(
        shell.done(json!({"id":52,"op":"cat","file":"file_0"}))["data"],
        expected
    );
}

/// With the reason, whether or not events are wanted.
#[test]
fn a_forced_release_is_told_to_the_shell() {
    let replica = Replica::start();
    for flags in [&["--events"][..], &[]] {
        let mut command = replica.holdfast();
        command.arg("shell").args(flags).stderr(Stdio::piped());
        let mut shell = Shell::of(command);
        let mut errors = shell.process.stderr.take().expect("a pipe");
        let token = shell.done(json!({"id":1,"op":"acquire"}))["token"].to_string();
        let force = ["force-release", "default", "--token", &token];
        let reason = ["--reason", "maintenance"];
        let forced = replica.holdfast().args(force).args(reason).status();
        assert_eq!(forced.expect("it runs").code(), Some(0));
        shell.say(json!({"id":2,"op":"append","file":"file_0","data":"x"}));
        shell.say(json!({"id":3,"op":"sleep","ms":100}));
        let (_, heard) = shell.end();
        let told = if flags.is_empty() {
            let mut text = String::new();
            errors.read_to_string(&mut text).expect("text");
            text
        } else {
            let lost = heard.iter().find(|line| line["event"] == "lost");
            let lost = lost.unwrap_or_else(|| panic!("no loss: {heard:?}"));
            assert_eq!(lost["code"], "not_held");
            lost["message"].to_string()
        };
        assert!(told.contains("maintenance"), "{told}");
    }
}

#[test]
fn a_lease_that_nothing_extends_is_lost_and_the_service_says_so() {
    let replica = Replica::start();
    let mut shell = Shell::start(&replica, &["--events"]);
    let token =
        shell.done(json!({"id":1,"op":"acquire","lease_ms":500,"renew":false}))["token"].clone();
    shell.done(json!({"id":2,"op":"append","file":"file_0","data":"x"}));
    // Told while the next command still sleeps.
    shell.say(json!({"id":3,"op":"sleep","ms":1100}));
    let lost = shell.hear();
    assert_eq!(
        (&lost["id"], &lost["event"], &lost["token"]),
        (&json!(1), &json!("lost"), &token)
    );
    // Lost by this machine's clock, which is careful; then by the service's.
    assert_eq!(shell.hear(), json!({"id":3,"ok":true,"rc":0}));
    shell.refused(
        json!({"id":4,"op":"append","file":"file_0","data":"y"}),
        2,
        "not_held",
    );
    let again = shell.done(json!({"id":5,"op":"acquire"}))["token"].clone();
    shell.refused(json!({"id":6,"op":"release","token":token}), 2, "not_held");
    assert!(again.as_u64() > token.as_u64());
    shell.done(json!({"id":7,"op":"append","file":"file_0","data":"z"}));
    assert_eq!(
        shell.done(json!({"id":8,"op":"release"}))["lengths"],
        json!({"file_0":1})
    );
}

#[test]
fn a_session_without_keep_alives_expires() {
    let replica = Replica::start();
    let mut shell = Shell::start(&replica, &["--session-ttl", "500ms"]);
    shell.done(json!({"id":1,"op":"acquire","lease_ms":60_000}));
    shell.done(json!({"id":2,"op":"keep_alive","auto":false}));
    shell.done(json!({"id":3,"op":"sleep","ms":1500}));
    shell.refused(
        json!({"id":4,"op":"append","file":"file_0","data":"x"}),
        2,
        "session_expired",
    );
    shell.refused(json!({"id":5,"op":"keep_alive"}), 2, "session_expired");
    shell.done(json!({"id":6,"op":"open"}));
    shell.done(json!({"id":7,"op":"acquire","wait_ms":0}));
}

#[test]
fn an_unknown_end_is_settled_when_the_service_is_back() {
    let mut replica = Replica::start();
    let mut shell = Shell::start(&replica, &["--session-ttl", "60s"]);
    shell.done(json!({"id":1,"op":"acquire","lease_ms":60_000}));
    shell.done(json!({"id":2,"op":"append","file":"file_0","data":"A"}));
    replica.kill();
    let answer =
        shell.ask(json!({"id":3,"op":"append","file":"file_0","data":"B","timeout_ms":300}));
    let rc = answer["rc"].as_u64();
    assert!(rc == Some(5) || rc == Some(6), "{answer}");
    replica.restart();
    if rc == Some(6) {
        shell.done(json!({"id":4,"op":"settle","of":3,"timeout_ms":20_000}));
    } else {
        shell.refused(json!({"id":4,"op":"settle","of":3}), 4, "bad_request");
        shell.done(json!({"id":4,"op":"append","file":"file_0","data":"B","timeout_ms":20_000}));
    }
    assert_eq!(
        shell.done(json!({"id":5,"op":"release"}))["lengths"],
        json!({"file_0":2})
    );
}

#[test]
fn one_replica_alone_can_be_asked() {
    let replica = Replica::start();
    let mut command = replica.holdfast();
    command
        .arg("shell")
        .env("HOLDFAST_ENDPOINTS", format!("1={}", replica.address));
    let mut shell = Shell::of(command);
    shell.done(json!({"id":1,"op":"acquire","endpoint":"1"}));
    shell.done(json!({"id":2,"op":"append","file":"file_0","data":"A","endpoint":"1"}));
    shell.done(json!({"id":3,"op":"release","endpoint":"1"}));
    let cat = shell.done(json!({"id":4,"op":"cat","file":"file_0","endpoint":"1","stale":true}));
    assert!(cat["data"] == "A" && cat["slot"].is_u64(), "{cat}");
    let replicas = shell.done(json!({"id":5,"op":"status","endpoint":"1"}))["replicas"].clone();
    assert_eq!(
        (&replicas[0]["id"], &replicas[0]["reachable"]),
        (&json!(1), &json!(true))
    );
    shell.refused(
        json!({"id":6,"op":"files","endpoint":"9"}),
        4,
        "bad_request",
    );
    shell.refused(
        json!({"id":7,"op":"files","endpoint":"127.0.0.1:1","timeout_ms":200}),
        5,
        "unavailable",
    );
}

#[test]
fn bytes_of_any_kind_and_long_lines() {
    let replica = Replica::start();
    let mut shell = Shell::start(&replica, &[]);
    shell.done(json!({"id":1,"op":"acquire"}));
    shell.done(json!({"id":2,"op":"append","file":"file_0","data_b64":"AP8="}));
    let large = "x".repeat(1 << 20);
    shell.done(json!({"id":3,"op":"append","file":"file_1","data":large}));
    let too_large = "x".repeat((1 << 20) + 1);
    shell.refused(
        json!({"id":4,"op":"append","file":"file_1","data":too_large}),
        4,
        "too_large",
    );
    shell.say("y".repeat((24 << 20) + 1));
    let bad = shell.hear();
    assert_eq!(
        (&bad["id"], &bad["code"]),
        (&Value::Null, &json!("bad_request"))
    );
    shell.done(json!({"id":5,"op":"release"}));
    assert_eq!(
        shell.done(json!({"id":6,"op":"cat","file":"file_0"}))["data_b64"],
        "AP8="
    );
    assert_eq!(
        shell.done(json!({"id":7,"op":"cat","file":"file_1"}))["data"],
        large
    );
    let files = shell.done(json!({"id":8,"op":"files"}))["files"].clone();
    let file = files
        .as_array()
        .expect("a list")
        .iter()
        .find(|file| file["name"] == "file_1")
        .expect("file_1")
        .clone();
    assert_eq!(
        (&file["length"], &file["guard"]),
        (&json!(1 << 20), &json!("default"))
    );
}

#[test]
fn words_for_people() {
    let replica = Replica::start();
    let mut command = replica.holdfast();
    let script = "# a comment\n\nacquire lease=2s\nappend file_0 \"two words\" \nrelease\ncat file_0\nfly\nhelp\nexit\nfiles\n";
    let mut shell = command
        .arg("shell")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("the shell");
    shell
        .stdin
        .take()
        .expect("a pipe")
        .write_all(script.as_bytes())
        .expect("writing");
    let output = shell.wait_with_output().expect("its end");
    assert_eq!(output.status.code(), Some(0));
    let text = String::from_utf8(output.stdout).expect("UTF-8");
    for part in [
        "#1 ok token=",
        "#2 ok pending_bytes=9",
        "#3 ok slot=",
        "two words",
        "there is no command \\\"fly\\\"",
        "settle N",
    ] {
        assert!(text.contains(part), "{part} is not in\n{text}");
    }
    assert!(!text.contains("file_99"), "went on after exit");
}
