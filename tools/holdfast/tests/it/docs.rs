//! `docs/shell.md` is true: its conversations are held with a real replica, its table of codes is whole.

use std::io::Write;
use std::process::Stdio;

use serde_json::{Map, Value};
use statemachine::Refusal;

use crate::replica::Replica;

/// Fields whose numbers differ from run to run.
const ANY_NUMBER: [&str; 4] = ["token", "slot", "session_id", "left_ms"];

fn page() -> String {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/shell.md");
    std::fs::read_to_string(path).expect("docs/shell.md")
}

/// The conversations: what goes in, and what comes out.
fn conversations(page: &str) -> Vec<(String, Vec<Value>)> {
    let blocks = page
        .split("```shell\n")
        .skip(1)
        .map(|rest| rest.split("```").next().unwrap_or(rest));
    blocks
        .map(|block| {
            let marked = |mark| {
                block
                    .lines()
                    .filter_map(move |line| line.strip_prefix(mark))
            };
            let input = marked("> ").flat_map(|line| [line, "\n"]).collect();
            let output = marked("< ")
                .map(|line| serde_json::from_str(line).expect(line))
                .collect();
            (input, output)
        })
        .collect()
}

/// What the shell says to `input`, up to its end.
fn hold(replica: &Replica, input: &str) -> Vec<Value> {
    let mut command = replica.holdfast();
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
        .write_all(input.as_bytes())
        .expect("writing to the shell");
    let output = shell.wait_with_output().expect("the shell's end");
    assert_eq!(output.status.code(), Some(0));
    let text = String::from_utf8(output.stdout).expect("UTF-8");
    text.lines()
        .map(|line| serde_json::from_str(line).expect(line))
        .collect()
}

/// Blanks out what differs from run to run.
fn settled(answer: &Value) -> Value {
    let fields = answer.as_object().expect("an object");
    let blank = |(name, value): (&String, &Value)| {
        let value = match value {
            Value::Number(_) if ANY_NUMBER.contains(&name.as_str()) => "a number".into(),
            Value::String(text) if name == "message" && !text.is_empty() => "a sentence".into(),
            other => other.clone(),
        };
        (name.clone(), value)
    };
    Value::Object(fields.iter().map(blank).collect::<Map<_, _>>())
}

/// By id: answers to commands that run beside each other come in any order.
fn sorted(answers: &[Value]) -> Vec<Value> {
    let mut answers: Vec<_> = answers.iter().map(settled).collect();
    answers.sort_by_key(|answer| answer["id"].to_string());
    answers
}

#[test]
fn every_conversation_goes_as_written() {
    let replica = Replica::start();
    let conversations = conversations(&page());
    assert!(conversations.len() >= 4);
    for (input, expected) in conversations {
        let answers = hold(&replica, &input);
        assert_eq!(sorted(&answers), sorted(&expected), "after\n{input}");
    }
}

/// The rows of the table of codes: code and return code.
fn documented() -> Vec<(String, u8)> {
    let page = page();
    let (_, table) = page.split_once("## Codes").expect("a section on codes");
    let table = table.split("\n## ").next().unwrap_or(table);
    let mut rows = Vec::new();
    for line in table
        .lines()
        .filter(|line| line.starts_with("| `") && !line.starts_with("| `code`"))
    {
        let mut cells = line.split('|').map(str::trim).skip(1);
        let (codes, rc) = (cells.next().expect("codes"), cells.next().expect("an rc"));
        for code in codes.split(", ") {
            rows.push((code.trim_matches('`').to_owned(), rc.parse().expect(line)));
        }
    }
    rows
}

#[test]
fn every_refusal_that_a_shell_can_meet_is_documented() {
    let documented = documented();
    let rc_of = |code: &str| {
        documented
            .iter()
            .find(|(name, _)| name == code)
            .map(|(_, rc)| *rc)
    };
    let name = String::new;
    let refusals = [
        Refusal::SessionExpired,
        Refusal::WaitTimedOut,
        Refusal::Busy {
            lock: name(),
            holder: statemachine::SessionId(1),
            holder_name: name(),
        },
        Refusal::AlreadyHeld {
            token: statemachine::Token(1),
        },
        Refusal::AlreadyWaiting {
            seq: statemachine::Seq(1),
        },
        Refusal::QueueFull { limit: 1 },
        Refusal::TooManySessions { limit: 1 },
        Refusal::OutOfOrder { expected: 1 },
        Refusal::NoSuchFile { file: name() },
        Refusal::WrongGuard { guard: name() },
        Refusal::TooManyInFlight { limit: 1 },
        Refusal::Forgotten,
        Refusal::Cancelled,
    ];
    for refusal in refusals {
        assert_eq!(
            rc_of(refusal.code()),
            Some(refusal.rc()),
            "{}",
            refusal.code()
        );
    }
    for (code, rc) in [
        ("bad_request", 4),
        ("unavailable", 5),
        ("unknown", 6),
        ("not_leader", 5),
        ("not_held", 2),
        ("full", 4),
        ("bad_name", 4),
    ] {
        assert_eq!(rc_of(code), Some(rc), "{code}");
    }
}
