//! Case 9, as far as it can be done from outside: the log's end cut or damaged, files lost, no room.
//! A failed sync and a power cut are for the in-memory disk of the simulator and of `wal`'s tests.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};
use tests::harness::http::get;
use tests::harness::patience::wait_for;
use tests::harness::words::{append, beside, release};
use tests::harness::{Client, Cluster, Plan};

use crate::small_disk::SmallDisk;

/// What a replica exits with whose log is damaged.
const EXIT_DAMAGED: i32 = 5;
/// What a replica exits with whose disk refused a write.
const EXIT_WRITE_FAILED: i32 = 6;
const LIMIT: Duration = Duration::from_secs(20);
/// The log is written in blocks of this size (`wal/FORMAT.md`).
const BLOCK: u64 = 4096;

#[test]
fn the_last_record_of_a_log_is_cut() {
    check_log_end("cut", |file, last| {
        file.set_len(last / BLOCK * BLOCK)
            .expect("a segment can be cut");
    });
}

#[test]
fn the_last_record_of_a_log_is_zeroed() {
    check_log_end("zeroed", |file, last| {
        let start = last / BLOCK * BLOCK;
        let zeros = vec![0; usize::try_from(last + 1 - start).expect("a block")];
        file.write_all_at(&zeros, start)
            .expect("a segment can be written");
    });
}

#[test]
fn the_last_record_of_a_log_is_damaged() {
    check_log_end("damaged", |file, last| {
        let mut byte = [0];
        file.read_exact_at(&mut byte, last)
            .expect("a segment can be read");
        file.write_all_at(&[byte[0] ^ 1], last)
            .expect("a segment can be written");
    });
}

/// Damages the end of one replica's log by hand. That replica either knows that nothing it had
/// acknowledged is gone and serves, or says what is damaged and does not; the others go on.
fn check_log_end(what: &str, damage: fn(&File, u64)) {
    let mut cluster = Cluster::start(3);
    let client = cluster.client("C1");
    section(&client, "before");
    cluster.kill_all();
    let (path, last) = last_byte(&cluster.data(3).join("wal"));
    let file = File::options()
        .read(true)
        .write(true)
        .open(&path)
        .expect("a segment opens");
    damage(&file, last);

    for id in cluster.ids() {
        cluster.spawn(id);
    }
    let mut refused = false;
    wait_for("replica 3 to serve or to refuse", LIMIT, || {
        refused = cluster.process(3).exited().is_some();
        refused || cluster.status(3).is_some()
    });
    if refused {
        let code = cluster.process(3).exit_code(LIMIT);
        let log = cluster.process(3).stderr();
        assert_eq!(
            code,
            Some(EXIT_DAMAGED),
            "{what}: a damaged log is exit code 5\n{log}"
        );
        let name = path.file_name().expect("a name").to_string_lossy();
        assert!(
            log.contains(&*name),
            "{what}: the refusal names {name}\n{log}"
        );
        cluster.kill(3);
    }
    cluster.leader();
    section(&client, "after");
    cluster.assert_file("file_0", "before\nafter\n");
    cluster.check_sections();
}

fn section(client: &Client, line: &str) {
    client.section(&[("file_0", &format!("{line}\n"))]);
}

/// The newest segment that holds anything, and its last byte that is not zero.
fn last_byte(folder: &Path) -> (PathBuf, u64) {
    let entries = std::fs::read_dir(folder).expect("the log's folder can be listed");
    let mut segments: Vec<PathBuf> = entries
        .map(|entry| entry.expect("a folder entry can be read").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "wal"))
        .collect();
    segments.sort();
    segments
        .into_iter()
        .rev()
        .find_map(|path| {
            let bytes = std::fs::read(&path).expect("a segment can be read");
            let last = bytes.iter().rposition(|byte| *byte != 0)?;
            Some((path, u64::try_from(last).expect("a file's size")))
        })
        .expect("a log holds something")
}

#[test]
fn deleted_files_are_rebuilt_from_the_log() {
    let mut cluster = Cluster::start(3);
    let client = cluster.client("C1");
    client.section(&[
        ("file_0", "one\n"),
        ("file_1", "two\n"),
        ("file_2", "three\n"),
    ]);
    cluster.wait_equal();
    cluster.kill(3);
    for name in ["file_0", "file_2", "file_50"] {
        std::fs::remove_file(cluster.data(3).join("files").join(name)).expect("the file was there");
    }
    cluster.start_replica(3);
    section(&client, "four");
    cluster.assert_file("file_0", "one\nfour\n");
    cluster.check_sections();

    cluster.kill(3);
    std::fs::remove_dir_all(cluster.data(3).join("files")).expect("the folder was there");
    cluster.start_replica(3);
    cluster.assert_file("file_0", "one\nfour\n");
    cluster.check_sections();
}

/// The disks of all replicas are full: what is acknowledged waits, nothing is lost, and once there is
/// room all goes on.
#[test]
fn a_full_disk_that_is_freed_again_loses_nothing() {
    let Some(disk) = SmallDisk::mount("a_full_disk_that_is_freed_again_loses_nothing", 200) else {
        return;
    };
    let folder = |id: u16| disk.path().join(id.to_string());
    let plan = (1..=3).fold(Plan::new(3), |plan, id| plan.data_of(id, &folder(id)));
    let mut cluster = plan.start();
    let client = cluster.client("C1");
    section(&client, "before");
    cluster.wait_equal();

    disk.fill();
    let acquired = client.ask(json!({"op": "acquire", "lock": "default", "timeout_ms": 3_000}));
    if acquired.is_done() {
        // In what is left of the log's segment this may well go on.
        let line = "x".repeat(8_000) + "\n";
        client.ask(append("file_0", &line));
        let mut released = release();
        released["timeout_ms"] = json!(60_000);
        let asked = client.send(beside(released));
        let blocked = |cluster: &Cluster| {
            let waits = |status: &Value| status["effects_waiting"].as_u64() > Some(0);
            cluster.statuses().values().any(waits)
        };
        wait_for(
            "the release to be answered, or to wait for room",
            LIMIT,
            || client.is_answered(&asked) || blocked(&cluster),
        );
        disk.free();
        client.wait_within(&asked, Duration::from_secs(60));
    } else {
        disk.free();
    }
    for id in cluster.ids() {
        if let Some(status) = cluster.process(id).exited() {
            let log = cluster.process(id).stderr();
            assert_eq!(
                status.code(),
                Some(6),
                "a failed write is exit code 6\n{log}"
            );
            cluster.kill(id);
        }
    }
    cluster.start_all();
    cluster.leader();
    let other = cluster.client("C2");
    if client.ask(json!({"op": "abort", "lock": "default"})).code() == "unknown" {
        drop(client);
    }
    section(&other, "after");
    cluster.check_sections();
}

/// One full disk, the leader's, while the others have room: it hands over at once, says that it is not
/// ready, and is not made leader again while its disk is full, though it is the one preferred.
#[test]
fn a_leader_with_a_full_disk_hands_over() {
    let Some(disk) = SmallDisk::mount("a_leader_with_a_full_disk_hands_over", 200) else {
        return;
    };
    let plan = Plan::new(3).data_of(1, &disk.path().join("1"));
    let cluster = plan.flag("--prefer-leader", "lowest-id").start();
    let client = cluster.client("C1");
    wait_for("replica 1 to lead", LIMIT, || cluster.leader() == 1);
    section(&client, "before");
    let ready = |id| {
        let page = get(cluster.http_address(id), "/readyz");
        page.is_ok_and(|(code, _)| code == 200)
    };
    assert!(ready(1));

    disk.fill();
    // The log's segment has room left, the users' files have none.
    let line = "x".repeat(100_000);
    client.acquire();
    for number in 0..5 {
        // Each line once: the check at the end knows a section by its lines.
        let asked = client.send(append("file_1", &format!("{number} {line}\n")));
        client
            .wait_within(&asked, Duration::from_secs(60))
            .done("the service goes on");
    }
    client.release();
    wait_for("another to lead", LIMIT, || cluster.leader() != 1);
    wait_for("the full replica to say so", LIMIT, || !ready(1));
    let leader = cluster.leader();
    for number in 0..20 {
        section(&client, &format!("still {number}"));
        assert_eq!(cluster.leader(), leader, "a full disk is not preferred");
    }
    disk.free();
    wait_for("replica 1 to lead again", LIMIT, || cluster.leader() == 1);
    assert!(ready(1));
    section(&client, "after");
    cluster.check_sections();
}

/// A write that fails: the process says so and ends with 6, the others go on, and once the disk is
/// well again it catches up.
#[test]
fn a_failed_write_ends_the_process_and_nothing_else() {
    const PIECE: usize = 1 << 20;
    const PIECES: usize = 14;
    let mut cluster = Cluster::start(3);
    let client = cluster.client("C1");
    section(&client, "before");
    cluster.kill(3);
    // No file may grow beyond 6 MiB, or 12 where a shell counts in kilobytes; a segment has 4.
    let whole = cluster.command(3);
    let mut limited = Command::new("sh");
    limited.args(["-c", "trap '' XFSZ; ulimit -f 12288; exec \"$@\"", "sh"]);
    limited.arg(whole.get_program()).args(whole.get_args());
    cluster.spawn_as(3, limited);
    client.acquire();
    for letter in ('a'..).take(PIECES) {
        client.append("file_0", &(letter.to_string().repeat(PIECE - 1) + "\n"));
    }
    client.release();
    let code = cluster.process(3).exit_code(LIMIT);
    let log = cluster.process(3).stderr();
    assert_eq!(
        code,
        Some(EXIT_WRITE_FAILED),
        "a failed write is exit code 6\n{log}"
    );
    section(&client, "after");
    cluster.kill(3);
    cluster.start_replica(3);
    cluster.check_sections();
}
