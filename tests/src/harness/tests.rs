//! The harness against programs that every Unix has.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use serde_json::json;

use super::{Process, Shell, http, patience, ports};
use crate::history::{Answer, Call, History};

const LIMIT: Duration = Duration::from_secs(10);

fn sh(script: &str) -> (Process, tempfile::TempDir) {
    let folder = tempfile::tempdir().expect("a folder");
    let mut command = Command::new("sh");
    command.args(["-c", script]);
    (Process::spawn("sh", &mut command, folder.path()), folder)
}

#[test]
fn lines_come_as_they_are_written_and_end_with_the_process() {
    let (mut process, _folder) = sh("echo one; read line; echo $line; echo why >&2; exit 7");
    let lines = process.stdout();
    assert_eq!(
        lines.wait_line(0, Instant::now() + LIMIT).as_deref(),
        Some("one")
    );
    process
        .take_stdin()
        .expect("piped")
        .write_all(b"two\n")
        .expect("it reads");
    assert_eq!(
        lines.wait_line(1, Instant::now() + LIMIT).as_deref(),
        Some("two")
    );
    assert_eq!(
        lines.wait_line(2, Instant::now() + LIMIT),
        None,
        "the output has ended"
    );
    assert_eq!(process.exit_code(LIMIT), Some(7));
    assert_eq!(process.stderr(), "why\n");
}

#[test]
fn a_line_that_does_not_come_is_waited_for_no_longer_than_asked() {
    let (process, _folder) = sh("sleep 60");
    let start = Instant::now();
    assert_eq!(
        process
            .stdout()
            .wait_line(0, start + Duration::from_millis(50)),
        None
    );
    assert!(start.elapsed() < LIMIT);
}

#[test]
fn a_paused_process_is_killed_all_the_same() {
    let (mut process, _folder) = sh("sleep 60");
    process.signal(Signal::STOP);
    process.kill();
    assert_eq!(process.exited().map(|status| status.code()), Some(None));
    process.signal(Signal::CONT);
}

#[test]
fn ports_are_handed_out_once() {
    let picked: std::collections::BTreeSet<_> = (0..50).map(|_| ports::pick()).collect();
    assert_eq!(picked.len(), 50);
}

#[test]
fn a_page_comes_with_its_code() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("a connection");
        let mut request = [0; 1024];
        let _ = stream.read(&mut request);
        let _ = stream.write_all(b"HTTP/1.1 503 No\r\ncontent-length: 4\r\n\r\nbody");
    });
    assert_eq!(
        http::get(address, "/readyz").expect("a page"),
        (503, "body".to_owned())
    );
}

#[test]
#[should_panic(expected = "in vain for: the moon")]
fn patience_ends() {
    patience::wait_for("the moon", Duration::from_millis(30), || false);
}

/// A shell of six lines: every acquire is granted with token 5, every append is unknown until it is
/// settled, whatever else is refused.
const PARROT: &str = r#"while read -r line; do
  id=${line#*\"id\":}; id=${id%%[!0-9]*}
  case $line in
    *acquire*) echo "{\"id\":$id,\"ok\":true,\"rc\":0,\"token\":5}";;
    *append*) echo "{\"id\":$id,\"ok\":false,\"rc\":6,\"code\":\"unknown\",\"message\":\"?\"}";;
    *settle*) echo "{\"id\":$id,\"ok\":true,\"rc\":0}";;
    *) echo "{\"id\":$id,\"ok\":false,\"rc\":2,\"code\":\"not_held\",\"message\":\"no\"}";;
  esac
done"#;

#[test]
fn a_shells_calls_are_noted_with_their_tokens_and_settled_outcomes() {
    let (process, _folder) = sh(PARROT);
    let history: Arc<History> = Arc::default();
    let shell = Shell::over("C1", process, Arc::clone(&history));
    assert_eq!(shell.acquire(), 5);
    let asked = shell.send(super::words::append("file_0", "A"));
    assert_eq!(shell.wait(&asked).code(), "unknown");
    shell.settle(&asked).done("settle");
    shell.refused(json!({"op": "release", "token": 4}), "not_held");
    let events = history.events();
    let seen: Vec<_> = events
        .iter()
        .map(|e| (&e.call, e.token, &e.answer))
        .collect();
    let append = Call::Append {
        file: "file_0".into(),
        data: b"A".to_vec(),
    };
    assert_eq!(
        seen,
        [
            (&Call::Acquire, Some(5), &Answer::Done),
            (&append, Some(5), &Answer::Done),
            (&Call::Release, Some(4), &Answer::Refused("not_held".into())),
        ]
    );
    assert!(
        events
            .iter()
            .all(|event| event.answered > Some(event.asked))
    );
}
