//! The harness against programs that every Unix has.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::process::Command;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use super::{Process, http, patience, ports};

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
