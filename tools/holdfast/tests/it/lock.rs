//! `lock … -- CMD`: exit codes, signals, what joins, and that nothing outlives its lock.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process, test_kill_process};
use tempfile::TempDir;

use crate::replica::Replica;

fn lock(replica: &Replica, flags: &[&str], script: &str) -> Command {
    let mut command = replica.holdfast();
    command
        .arg("lock")
        .arg("default")
        .args(flags)
        .args(["--", "sh", "-c", script]);
    command
}

fn run(replica: &Replica, flags: &[&str], script: &str) -> Output {
    // CMD finds this very holdfast by name.
    let path = std::env::var("PATH").expect("PATH");
    let folder = Path::new(env!("CARGO_BIN_EXE_holdfast"))
        .parent()
        .expect("a folder");
    let mut command = lock(replica, flags, script);
    command.env("PATH", format!("{}:{path}", folder.display()));
    command
        .stdin(Stdio::null())
        .output()
        .expect("running holdfast")
}

#[track_caller]
fn check(replica: &Replica, script: &str, code: i32) -> Output {
    let output = run(replica, &[], script);
    assert_eq!(output.status.code(), Some(code), "{script}: {output:?}");
    output
}

fn cat(replica: &Replica, file: &str) -> String {
    let output = replica
        .holdfast()
        .args(["cat", file])
        .output()
        .expect("cat");
    String::from_utf8(output.stdout).expect("UTF-8")
}

/// Waits for a line that CMD writes when it has come so far.
fn first_line(child: &mut Child) -> String {
    let mut line = String::new();
    let stdout = child.stdout.take().expect("a pipe");
    BufReader::new(stdout).read_line(&mut line).expect("a line");
    line.trim().to_owned()
}

fn pid(text: &str) -> Pid {
    Pid::from_raw(text.parse().expect("a process id")).expect("a process id")
}

/// The exit code of a process that must end by itself; one that does not is killed, and the test fails.
#[track_caller]
fn code_of(child: &mut Child) -> Option<i32> {
    let start = Instant::now();
    loop {
        if let Some(status) = child.try_wait().expect("its end") {
            return status.code();
        }
        if start.elapsed() > Duration::from_secs(20) {
            child.kill().expect("SIGKILL");
            child.wait().expect("its end");
            panic!("holdfast does not end");
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Waits until a process is gone.
#[track_caller]
fn wait_gone(pid: Pid) {
    let start = Instant::now();
    while test_kill_process(pid).is_ok() {
        assert!(
            start.elapsed() < Duration::from_secs(10),
            "process {pid:?} stayed behind"
        );
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn free(replica: &Replica) -> bool {
    let output = replica
        .holdfast()
        .args(["lock-status", "default"])
        .output()
        .expect("lock-status");
    String::from_utf8_lossy(&output.stdout).contains("free")
}

#[test]
fn the_exit_code_is_that_of_the_command() {
    let replica = Replica::start();
    check(&replica, "exit 0", 0);
    check(&replica, "exit 7", 7);
    check(&replica, "kill -USR1 $$", 128 + 10);
    let none = |program: &str| {
        let mut command = replica.holdfast();
        command
            .args(["lock", "default", "--", program])
            .output()
            .expect("holdfast")
            .status
            .code()
    };
    assert_eq!(none("/no/such/program"), Some(127));
    assert_eq!(none("/etc/passwd"), Some(126));
    assert!(free(&replica));
}

#[test]
fn the_command_knows_its_lock() {
    let replica = Replica::start();
    let output = check(
        &replica,
        "echo $HOLDFAST_LOCK $HOLDFAST_TOKEN $HOLDFAST_ENDPOINTS",
        0,
    );
    let text = String::from_utf8_lossy(&output.stdout);
    let words: Vec<_> = text.split_whitespace().collect();
    assert_eq!((words[0], words[2]), ("default", replica.address.as_str()));
    assert!(words[1].parse::<u64>().is_ok(), "{text}");
}

#[test]
fn standard_input_is_the_commands() {
    let replica = Replica::start();
    let mut child = lock(&replica, &[], "cat")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("lock");
    std::io::Write::write_all(&mut child.stdin.take().expect("a pipe"), b"through")
        .expect("writing");
    assert_eq!(
        child.wait_with_output().expect("its end").stdout,
        b"through"
    );
}

#[test]
fn appends_join_and_are_applied_if_the_command_succeeds() {
    let replica = Replica::start();
    check(
        &replica,
        "holdfast append file_1 A && printf B | holdfast append file_1 && holdfast append file_2 C",
        0,
    );
    assert_eq!(
        (cat(&replica, "file_1"), cat(&replica, "file_2")),
        ("AB".to_owned(), "C".to_owned())
    );
    check(
        &replica,
        "holdfast append file_1 lost; test -z \"$(holdfast cat file_1 | grep lost)\" || exit 9; exit 3",
        3,
    );
    assert_eq!(cat(&replica, "file_1"), "AB");
    // An inner lock of another name: the outer one is still found.
    check(
        &replica,
        "holdfast file create own && holdfast lock other -- sh -c 'holdfast append file_1 C && holdfast append own x'",
        0,
    );
    assert_eq!(
        (cat(&replica, "file_1"), cat(&replica, "own")),
        ("ABC".to_owned(), "x".to_owned())
    );
    check(&replica, "holdfast append nothing x", 3);
}

#[test]
fn busy_and_wait_over_are_124_or_as_told() {
    let replica = Replica::start();
    let mut holder = lock(&replica, &[], "echo in; sleep 60")
        .stdout(Stdio::piped())
        .spawn()
        .expect("lock");
    assert_eq!(first_line(&mut holder), "in");
    let code = |flags: &[&str]| run(&replica, flags, "exit 9").status.code();
    assert_eq!(code(&["--try"]), Some(124));
    assert_eq!(code(&["--wait", "200ms"]), Some(124));
    assert_eq!(code(&["--try", "-E", "0"]), Some(0));
    kill_process(Pid::from_child(&holder), Signal::TERM).expect("SIGTERM");
    assert_eq!(code_of(&mut holder), Some(128 + 15));
    assert_eq!(code(&["--try"]), Some(9), "the lock was not freed");
}

#[test]
fn signals_are_passed_on() {
    let replica = Replica::start();
    for (signal, code) in [
        (Signal::TERM, 41),
        (Signal::INT, 42),
        (Signal::USR1, 43),
        (Signal::HUP, 44),
    ] {
        let script = "trap 'exit 41' TERM; trap 'exit 42' INT; trap 'exit 43' USR1; trap 'exit 44' HUP; \
                      echo in; while :; do sleep 0.05; done";
        let mut child = lock(&replica, &[], script)
            .stdout(Stdio::piped())
            .spawn()
            .expect("lock");
        assert_eq!(first_line(&mut child), "in");
        kill_process(Pid::from_child(&child), signal).expect("a signal");
        assert_eq!(code_of(&mut child), Some(code));
    }
    assert!(free(&replica));
}

#[test]
fn nothing_stays_behind_when_holdfast_is_told_to_end() {
    let replica = Replica::start();
    for signal in [Signal::TERM, Signal::INT] {
        // The grandchild ignores what its parent dies of.
        let script = "(trap '' TERM INT; sleep 60) & echo $!; wait";
        let mut child = lock(&replica, &[], script)
            .stdout(Stdio::piped())
            .spawn()
            .expect("lock");
        let grandchild = pid(&first_line(&mut child));
        kill_process(Pid::from_child(&child), signal).expect("a signal");
        child.wait().expect("its end");
        wait_gone(grandchild);
    }
}

#[test]
fn a_killed_holdfast_takes_its_command_along() {
    let replica = Replica::start();
    // What a killed process cannot clean up goes with this folder.
    let folder = tempfile::tempdir().expect("a folder");
    let mut child = lock(&replica, &["--lease", "1s"], "echo $$; exec sleep 60")
        .env("XDG_RUNTIME_DIR", folder.path())
        .env("TMPDIR", folder.path())
        .stdout(Stdio::piped())
        .spawn()
        .expect("lock");
    let command = pid(&first_line(&mut child));
    child.kill().expect("SIGKILL");
    child.wait().expect("its end");
    wait_gone(command);
}

#[test]
fn a_lock_taken_away_ends_the_command_with_122() {
    let replica = Replica::start();
    let script =
        "trap 'echo warned; exit 0' TERM; echo $HOLDFAST_TOKEN; while :; do sleep 0.05; done";
    let child = lock(&replica, &["--lease", "2s"], script)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let mut child = child.expect("lock");
    let mut lines = BufReader::new(child.stdout.take().expect("a pipe")).lines();
    let token = lines.next().expect("a line").expect("text");
    let forced = replica
        .holdfast()
        .args([
            "force-release",
            "default",
            "--token",
            &token,
            "--reason",
            "test",
        ])
        .status();
    assert_eq!(forced.expect("force-release").code(), Some(0));
    assert_eq!(lines.next().expect("a line").expect("text"), "warned");
    assert_eq!(code_of(&mut child), Some(122));
}

/// The replica is gone for good: SIGTERM comes before the local deadline, SIGKILL at it.
#[test]
fn without_the_service_the_command_ends_at_its_deadline() {
    let mut replica = Replica::start();
    let folder = TempDir::new().expect("a folder");
    let mark = folder.path().join("warned");
    let script = format!(
        "trap 'touch {}' TERM; echo $$; while :; do sleep 0.02; done",
        mark.display()
    );
    let lease = Duration::from_secs(2);
    let mut child = lock(&replica, &["--lease", "2s", "--timeout", "300ms"], &script)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("lock");
    let command = pid(&first_line(&mut child));
    replica.kill();
    let killed = Instant::now();
    assert_eq!(code_of(&mut child), Some(122));
    assert!(mark.exists(), "no SIGTERM before the end");
    // The session is closed at the end, for at most a second.
    assert!(
        killed.elapsed() < lease + Duration::from_secs(2),
        "{:?}",
        killed.elapsed()
    );
    wait_gone(command);
}

#[test]
fn without_a_command_the_token_is_printed_and_the_lock_held_until_a_signal() {
    let replica = Replica::start();
    let mut child = replica
        .holdfast()
        .args(["lock", "default", "-o", "json"])
        .stdout(Stdio::piped())
        .spawn()
        .expect("lock");
    let line: serde_json::Value = serde_json::from_str(&first_line(&mut child)).expect("JSON");
    assert!(
        line["v"] == 1 && line["token"].is_u64() && line["lease_ms"] == 20_000,
        "{line}"
    );
    assert!(!free(&replica));
    kill_process(Pid::from_child(&child), Signal::TERM).expect("SIGTERM");
    assert_eq!(code_of(&mut child), Some(0));
    assert!(free(&replica));
}

#[test]
fn a_waiter_told_to_end_leaves_the_queue() {
    let replica = Replica::start();
    let mut holder = lock(&replica, &[], "echo in; sleep 60")
        .stdout(Stdio::piped())
        .spawn()
        .expect("lock");
    assert_eq!(first_line(&mut holder), "in");
    let mut waiter = lock(&replica, &[], "true").spawn().expect("lock");
    let waiting = || {
        let output = replica
            .holdfast()
            .args(["lock-status", "default", "-o", "json"])
            .output()
            .expect("lock-status");
        let status: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
        status["queue_len"].as_u64().expect("a number")
    };
    let start = Instant::now();
    while waiting() == 0 {
        assert!(start.elapsed() < Duration::from_secs(10));
    }
    kill_process(Pid::from_child(&waiter), Signal::TERM).expect("SIGTERM");
    assert_eq!(code_of(&mut waiter), Some(128 + 15));
    assert_eq!(waiting(), 0);
    kill_process(Pid::from_child(&holder), Signal::TERM).expect("SIGTERM");
    holder.wait().expect("its end");
}

/// The parent of a process, as `/proc` has it.
fn parent(process: Pid) -> Pid {
    let path = format!("/proc/{}/stat", process.as_raw_nonzero());
    let line = std::fs::read_to_string(path).expect("a process");
    let (_, rest) = line.rsplit_once(')').expect("a name");
    pid(rest.split_whitespace().nth(1).expect("a parent"))
}

/// A command that writes for as long as it lives, and a descendant in a session of its own that does too.
struct Writers {
    folder: TempDir,
    holdfast: Child,
    command: Pid,
    descendant: Pid,
}

impl Writers {
    fn start(replica: &Replica, flags: &[&str]) -> Writers {
        let folder = TempDir::new().expect("a folder");
        let log = folder.path().join("log");
        let write = format!("while :; do echo x >> {}; sleep 0.01; done", log.display());
        let script = format!("setsid sh -c 'echo $$; {write}' & sleep 0.2; echo $$; {write}");
        let mut holdfast = lock(replica, flags, &script)
            // What a killed process cannot clean up goes with this folder.
            .env("XDG_RUNTIME_DIR", folder.path())
            .env("TMPDIR", folder.path())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("lock");
        let mut lines = BufReader::new(holdfast.stdout.take().expect("a pipe")).lines();
        let mut line = || pid(&lines.next().expect("a line").expect("text"));
        let (first, second) = (line(), line());
        // The descendant may be slower to start.
        let ours = |process: Pid| parent(parent(process)) == Pid::from_child(&holdfast);
        let (descendant, command) = if ours(second) {
            (first, second)
        } else {
            (second, first)
        };
        Writers {
            folder,
            holdfast,
            command,
            descendant,
        }
    }

    /// The next holder sees nobody write beside it.
    #[track_caller]
    fn check_silent(&self, replica: &Replica) {
        let log = self.folder.path().join("log");
        let script = format!("wc -c < {0}; sleep 0.2; wc -c < {0}", log.display());
        let output = run(replica, &[], &script);
        let text = String::from_utf8_lossy(&output.stdout);
        let counts: Vec<_> = text.split_whitespace().collect();
        assert_eq!(
            (counts.len(), counts[0]),
            (2, counts[1]),
            "two holders wrote at once"
        );
        wait_gone(self.command);
        wait_gone(self.descendant);
    }
}

impl Drop for Writers {
    fn drop(&mut self) {
        // The others end with it. Their process ids may belong to somebody else by now.
        _ = self.holdfast.kill();
        _ = self.holdfast.wait();
    }
}

/// Ctrl-Z, SIGTTIN from a pipeline, a debugger: whatever stops holdfast stops its keep-alives, and the lease ends.
#[test]
fn a_stopped_holdfast_does_not_let_its_command_outlive_the_lock() {
    let replica = Replica::start();
    let mut writers = Writers::start(&replica, &["--lease", "1s"]);
    kill_process(Pid::from_child(&writers.holdfast), Signal::STOP).expect("SIGSTOP");
    writers.check_silent(&replica);
    kill_process(Pid::from_child(&writers.holdfast), Signal::CONT).expect("SIGCONT");
    assert_eq!(code_of(&mut writers.holdfast), Some(122));
}

#[test]
fn a_killed_holdfast_takes_along_what_left_the_group() {
    let replica = Replica::start();
    let writers = Writers::start(&replica, &["--lease", "1s"]);
    kill_process(Pid::from_child(&writers.holdfast), Signal::KILL).expect("SIGKILL");
    writers.check_silent(&replica);
}

#[test]
fn a_killed_keeper_takes_along_all_that_it_kept() {
    let replica = Replica::start();
    let mut writers = Writers::start(&replica, &[]);
    kill_process(parent(writers.command), Signal::KILL).expect("SIGKILL");
    writers.check_silent(&replica);
    assert_eq!(code_of(&mut writers.holdfast), Some(128 + 9));
}

/// A chain of processes, each of which writes, starts the next in a session of its own, and ends: whoever reads a list
/// of processes sees one that is gone already. Its first generation is CMD itself or a child of it.
#[test]
fn a_chain_of_processes_does_not_run_away_from_its_lock() {
    let replica = Replica::start();
    for victim in ["holdfast", "keeper"] {
        let folder = TempDir::new().expect("a folder");
        let (log, step) = (folder.path().join("log"), folder.path().join("step"));
        let text = "echo x >> $1; [ -e $1.stop ] || setsid sh $0 $1 & exit";
        std::fs::write(&step, text).expect("a script");
        let script = format!(
            "sh {} {}; echo $PPID; sleep 30",
            step.display(),
            log.display()
        );
        let mut holdfast = lock(&replica, &["--lease", "2s"], &script)
            .env("XDG_RUNTIME_DIR", folder.path())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("lock");
        let keeper = pid(&first_line(&mut holdfast));
        let killed = match victim {
            "keeper" => keeper,
            _ => Pid::from_child(&holdfast),
        };
        kill_process(killed, Signal::KILL).expect("SIGKILL");
        let script = format!("wc -c < {0}; sleep 0.2; wc -c < {0}", log.display());
        let output = run(&replica, &[], &script);
        std::fs::write(folder.path().join("log.stop"), "").expect("an end");
        holdfast.wait().expect("its end");
        let text = String::from_utf8_lossy(&output.stdout);
        let counts: Vec<_> = text.split_whitespace().collect();
        assert_eq!(counts.len(), 2, "{text}");
        assert_eq!(counts[0], counts[1], "the chain outlived its {victim}");
        assert_ne!(counts[0], "0");
    }
}

/// What a killed command was doing is done by its children now: they do not stay beside the next holder.
#[test]
fn a_killed_command_takes_along_what_it_started() {
    let replica = Replica::start();
    let mut writers = Writers::start(&replica, &[]);
    kill_process(writers.command, Signal::KILL).expect("SIGKILL");
    assert_eq!(code_of(&mut writers.holdfast), Some(128 + 9));
    writers.check_silent(&replica);
}

#[test]
fn a_killed_holdfast_leaves_no_socket() {
    let replica = Replica::start();
    let writers = Writers::start(&replica, &["--lease", "1s"]);
    let sockets = || {
        let entries = std::fs::read_dir(writers.folder.path()).expect("a folder");
        let names = entries.map(|entry| entry.expect("an entry").file_name());
        names
            .filter(|name| name.to_string_lossy().starts_with("holdfast-"))
            .count()
    };
    assert_eq!(sockets(), 1);
    let keeper = parent(writers.command);
    kill_process(Pid::from_child(&writers.holdfast), Signal::KILL).expect("SIGKILL");
    wait_gone(keeper);
    assert_eq!(sockets(), 0);
}

#[test]
fn one_told_to_end_takes_along_what_left_the_group() {
    let replica = Replica::start();
    let mut writers = Writers::start(&replica, &[]);
    kill_process(Pid::from_child(&writers.holdfast), Signal::TERM).expect("SIGTERM");
    assert_eq!(code_of(&mut writers.holdfast), Some(128 + 15));
    writers.check_silent(&replica);
}

#[test]
fn what_was_ignored_stays_ignored() {
    let replica = Replica::start();
    let script = format!(
        "trap '' HUP INT; exec {} lock default -- grep SigIgn: /proc/self/status",
        env!("CARGO_BIN_EXE_holdfast")
    );
    let output = replica
        .around(Command::new("sh").args(["-c", &script]))
        .output()
        .expect("sh");
    let text = String::from_utf8_lossy(&output.stdout);
    let mask = text.split_whitespace().nth(1).expect("a mask");
    let mask = u64::from_str_radix(mask, 16).expect("hexadecimal");
    // Signals 1 and 2.
    assert_eq!(mask & 0b11, 0b11, "{text}");
}

/// As with `sudo CMD`: holdfast may not signal what it started, and says so.
#[test]
fn a_command_out_of_reach_is_told() {
    if !rustix::process::geteuid().is_root() {
        // Only root can hand a process to another user.
        return;
    }
    let replica = Replica::start();
    let folder = TempDir::new().expect("a folder");
    let program = folder.path().join("holdfast");
    std::fs::copy(env!("CARGO_BIN_EXE_holdfast"), &program).expect("a copy");
    let become_root = folder.path().join("setpriv");
    let original = ["/usr/bin/setpriv", "/bin/setpriv"]
        .into_iter()
        .find(|path| Path::new(path).exists());
    std::fs::copy(original.expect("setpriv"), &become_root).expect("a copy");
    let all = std::os::unix::fs::PermissionsExt::from_mode;
    std::fs::set_permissions(&become_root, all(0o4755)).expect("set-user-id");
    std::fs::set_permissions(folder.path(), all(0o755)).expect("a mode");
    let mut child = replica
        .around(Command::new("setpriv").args(["--reuid=65534", "--clear-groups", "--"]))
        .arg(&program)
        .args(["lock", "default", "--"])
        .arg(&become_root)
        .args(["--reuid=0", "--", "sh", "-c", "echo $$; exec sleep 60"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("setpriv");
    let command = pid(&first_line(&mut child));
    kill_process(Pid::from_child(&child), Signal::TERM).expect("SIGTERM");
    let stderr = child.stderr.take().expect("a pipe");
    let mut lines = BufReader::new(stderr).lines();
    let told = lines.next().expect("a line").expect("text");
    assert!(
        told.contains(&format!("process {}", command.as_raw_nonzero())),
        "{told}"
    );
    kill_process(command, Signal::KILL).expect("SIGKILL");
    assert_eq!(code_of(&mut child), Some(128 + 9));
}

/// The section may have been applied or not: a code of its own, so that nobody runs CMD again by mistake.
#[test]
fn an_end_without_an_answer_is_121() {
    let mut replica = Replica::start();
    let node = replica.pid();
    let script = format!("holdfast append file_1 A && kill -9 {node}");
    let output = run(&replica, &["--timeout", "300ms"], &script);
    let text = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(121), "{text}");
    assert!(text.contains("unknown"), "{text}");
    replica.kill();
}

#[test]
fn a_waiter_is_told_its_place_and_who_is_in_the_way() {
    let replica = Replica::start();
    let mut command = replica.holdfast();
    let mut holder = command
        .args(["lock", "default", "--name", "ann"])
        .stdout(Stdio::piped())
        .spawn()
        .expect("lock");
    first_line(&mut holder);
    let output = run(&replica, &["--wait", "500ms"], "true");
    let text = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(124), "{text}");
    assert!(
        text.contains("waiting for lock default, position 1 behind ann"),
        "{text}"
    );
    assert!(text.contains("lock default was not free within 500ms; position 1 in the queue; held by ann with token"), "{text}");
    kill_process(Pid::from_child(&holder), Signal::TERM).expect("SIGTERM");
    assert_eq!(code_of(&mut holder), Some(0));
}

#[test]
fn a_lock_around_its_own_name_is_refused_and_not_waited_for() {
    let replica = Replica::start();
    let output = check(&replica, "holdfast lock default -- true", 123);
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(text.contains("wait for itself"), "{text}");
    check(
        &replica,
        "holdfast lock other -- holdfast lock third -- true",
        0,
    );
}

#[test]
fn the_lease_is_the_clusters_unless_told() {
    let replica = Replica::start_with(&["--default-lease", "7s"]);
    let mut child = replica
        .holdfast()
        .args(["lock", "default", "-o", "json"])
        .stdout(Stdio::piped())
        .spawn()
        .expect("lock");
    let line: serde_json::Value = serde_json::from_str(&first_line(&mut child)).expect("JSON");
    assert_eq!(line["lease_ms"], 7_000, "{line}");
    kill_process(Pid::from_child(&child), Signal::TERM).expect("SIGTERM");
    assert_eq!(code_of(&mut child), Some(0));
    let output = run(&replica, &["--lease", "100ms"], "true");
    let text = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(123), "{text}");
    assert!(
        text.contains("lease of 100 ms") && !text.contains("ttl"),
        "{text}"
    );
}
