//! Case 9, as far as it can be done from outside: the log's end cut or damaged, files lost, no room.
//! A failed sync and a power cut are for the in-memory disk of the simulator and of `wal`'s tests.

use std::fs::File;
use std::os::unix::fs::{FileExt, MetadataExt};
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
    segments(folder)
        .into_iter()
        .rev()
        .find_map(|path| {
            let bytes = std::fs::read(&path).expect("a segment can be read");
            let last = bytes.iter().rposition(|byte| *byte != 0)?;
            Some((path, u64::try_from(last).expect("a file's size")))
        })
        .expect("a log holds something")
}

/// Rot in a file under a running replica: reads of it are refused, and it is written again from the log.
#[test]
fn a_file_that_rots_is_written_again() {
    let mut cluster = Cluster::start(1);
    let client = cluster.client("C1");
    section(&client, "one");
    section(&client, "two");
    let path = cluster.data(1).join("files/file_0");
    let file = File::options().write(true).open(path).expect("it is there");
    file.write_all_at(b"X", 5).expect("it can be damaged");
    // The client asks again while it is refused; a wrong byte it never gets.
    client.assert_cat("file_0", "one\ntwo\n");
    wait_for("the word that it is well again", LIMIT, || {
        let log = cluster.process(1).stderr();
        log.contains("written again from the log: it can be read again")
    });
    client.assert_cat("file_0", "one\ntwo\n");
    let log = cluster.process(1).stderr();
    let warned = log
        .lines()
        .filter(|line| line.contains(" WARN ") && line.contains("file_0"));
    assert_eq!(warned.count(), 1, "{log}");
    section(&client, "three");
    cluster.assert_file("file_0", "one\ntwo\nthree\n");
    cluster.check_sections();
}

/// Rot that the log does not reach back to stays. Readers are told so at once and not to ask again; whoever looks at the
/// replica is told of the damage.
#[test]
fn a_file_that_stays_rotten_is_shown() {
    let cluster = Plan::new(1)
        .flag("--snapshot-after", "1MiB")
        .flag("--keep-log", "6MiB")
        .start();
    let client = cluster.client("C1");
    section(&client, "below the log");
    for _ in 0..16 {
        client.section(&[("file_1", &"x".repeat(1_000_000))]);
    }
    wait_for("the log to be cut", LIMIT, || {
        !cluster.data(1).join("wal/0000000000000001.wal").exists()
    });
    let path = cluster.data(1).join("files/file_0");
    let file = File::options().write(true).open(path).expect("it is there");
    file.write_all_at(b"X", 5).expect("it can be damaged");
    let run = |words: &[&str]| {
        let output = cluster.holdfast().args(words).output().expect("it runs");
        let text = [output.stdout, output.stderr].concat();
        let text = String::from_utf8_lossy(&text).into_owned();
        (output.status.code(), text)
    };
    let started = std::time::Instant::now();
    let (code, text) = run(&["cat", "file_0", "--timeout", "60s"]);
    assert_eq!(code, Some(5), "{text}");
    assert!(text.contains("damaged"), "{text}");
    assert!(started.elapsed() < LIMIT, "it asked again and again");
    assert_eq!(cluster.status(1).expect("a status")["files_damaged"], 1);
    let (_, metrics) = get(cluster.http_address(1), "/metrics").expect("a page");
    assert!(
        metrics.contains("holdfast_disk_files_damaged 1"),
        "{metrics}"
    );
    let (code, text) = run(&["status"]);
    assert_eq!(code, Some(0), "{text}");
    assert!(text.contains("DAMAGED"), "{text}");
    let (code, text) = run(&["status", "--until-equal", "100ms"]);
    assert_eq!(code, Some(4), "{text}");
    assert!(text.contains("files are damaged on replica 1"), "{text}");
}

/// Damage of a value that a verified snapshot stands for stops no start, and is one warning.
#[test]
fn damage_below_a_snapshot_is_one_warning() {
    let mut cluster = Plan::new(1).flag("--snapshot-after", "1MiB").start();
    let client = cluster.client("C1");
    section(&client, "a value below the snapshot");
    for line in ["a", "b", "c", "d"] {
        section(&client, &line.repeat(900_000));
    }
    wait_for("a snapshot", LIMIT, || {
        cluster.process(1).stderr().contains("snapshot taken")
    });
    // Behind the snapshot's mark.
    section(&client, "after");
    cluster.kill(1);
    let path = cluster.data(1).join("wal/0000000000000001.wal");
    let bytes = std::fs::read(&path).expect("the first segment is there");
    let needle = b"a value below the snapshot";
    let at = bytes
        .windows(needle.len())
        .position(|found| found == needle);
    let file = File::options().write(true).open(&path).expect("it opens");
    let at = u64::try_from(at.expect("the value is in the log")).expect("a file's size");
    file.write_all_at(b"A", at).expect("it can be damaged");

    cluster.start_replica(1);
    section(&client, "on");
    let log = cluster.process(1).stderr();
    let warnings: Vec<&str> = log.lines().filter(|line| line.contains(" WARN ")).collect();
    let [warning] = warnings[..] else {
        panic!("one warning\n{log}")
    };
    for part in [
        "1 damaged place",
        "a verified snapshot stands for the values",
        "A new snapshot follows",
    ] {
        assert!(warning.contains(part), "{part}: {warning}");
    }
    cluster.check_sections();
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

    client.acquire();
    client.append("file_0", &("x".repeat(80_000) + "\n"));
    disk.fill();
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
    wait_for("new work to be refused", LIMIT, || {
        let statuses = cluster.statuses();
        statuses.len() == 3
            && statuses
                .values()
                .all(|status| !status["refuses_work"].is_null())
    });
    let other = cluster.client("C2");
    let asked_in_vain =
        other.send(json!({"op": "acquire", "lock": "default", "timeout_ms": 2_000}));
    let refused = other.wait(&asked_in_vain);
    let why = refused.0["message"].as_str().unwrap_or_default();
    assert!(!refused.is_done() && why.contains("disk"), "{}", refused.0);
    if refused.code() == "unknown" {
        // Its last attempt was under way when its time was up. Given up, so that it does not hold the lock later.
        let _ = other.cancel(&asked_in_vain);
    }
    disk.free();
    client.wait_within(&asked, Duration::from_secs(60));
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

    // Each line once: the check at the end knows a section by its lines.
    let line = "x".repeat(100_000);
    client.acquire();
    for number in 0..5 {
        client.append("file_1", &format!("{number} {line}\n"));
    }
    disk.fill();
    // The log's segment has room for the release left, the users' files have none for what it writes. Its answer does
    // not wait there: the next leader gives it.
    release_at_last(&client);
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

/// Without a prepared segment and without room for another one a start cannot go on. It waits and says so.
#[test]
fn a_start_on_a_full_disk_waits_for_room() {
    let Some(disk) = SmallDisk::mount("a_start_on_a_full_disk_waits_for_room", 60) else {
        return;
    };
    let folder = disk.path().join("1");
    let mut cluster = Plan::new(1).data_of(1, &folder).start();
    let client = cluster.client("C1");
    section(&client, "before");
    let prepared = || {
        let is_zero = |path: &PathBuf| {
            std::fs::read(path).is_ok_and(|bytes| bytes.iter().all(|byte| *byte == 0))
        };
        segments(&folder.join("wal")).into_iter().find(is_zero)
    };
    // Killed earlier, it would leave a half-made one, whose room the start can use.
    wait_for("the next segment to be prepared", LIMIT, || {
        prepared().is_some()
    });
    cluster.kill(1);
    std::fs::remove_file(prepared().expect("it stays")).expect("a file can be removed");
    disk.fill();
    cluster.spawn(1);
    wait_for("the replica to say that it waits", LIMIT, || {
        let log = cluster.process(1).stderr();
        log.contains("the start waits until there is room")
    });
    disk.free();
    wait_for("the replica to serve", LIMIT, || {
        cluster.status(1).is_some()
    });
    section(&client, "after");
    cluster.check_sections();
}

/// `docs/operations.md` says how much disk a replica takes. Neither load nor restarts nor kills take more.
#[test]
fn the_data_folder_stays_within_the_documented_bound() {
    const TRIGGER: u64 = 1 << 20;
    const GRACE: u64 = 1 << 20;
    const SEGMENT: u64 = 4 << 20;
    const SECTION: u64 = 400_000;
    const ROUNDS: u64 = 12;
    let mut cluster = Plan::new(1).flag("--snapshot-after", "1MiB").start();
    let client = cluster.client("C1");
    let data = cluster.data(1).to_owned();
    let mut written = 0;
    for round in 0..ROUNDS {
        let sections = [0, 1, 8][round as usize % 3];
        for number in 0..sections {
            let filler = "x".repeat(SECTION as usize);
            section(&client, &format!("{round} {number} {filler}"));
        }
        written += sections * (SECTION + BLOCK);
        let bound = |written: u64| {
            let snapshot = lengths(&data.join("snapshots")).max().unwrap_or(0);
            written + 3 * snapshot + 2 * (TRIGGER + GRACE) + SEGMENT + 2 * SEGMENT
        };
        // At worst all sections of a round come while one snapshot is written, and again while the other is.
        let meanwhile = 2 * sections * (SECTION + 4 * BLOCK);
        let taken = bytes_on_disk(&data);
        let most = bound(written) + meanwhile;
        assert!(
            taken <= most,
            "round {round}: {taken} bytes on disk, of {most}"
        );
        if round % 2 == 0 {
            cluster.kill(1);
        } else {
            cluster.stop(1);
        }
        cluster.start_replica(1);
        section(&client, &format!("round {round}"));
        written += BLOCK;
        wait_for(
            "the data folder to be as small as documented",
            LIMIT,
            || bytes_on_disk(&data) <= bound(written),
        );
    }
    cluster.check_sections();
}

/// The cluster's own work fills the disks of all replicas. New work is refused by an answer that says why; whoever holds
/// a lock keeps it, and what was taken is applied. With more space the service goes on by itself.
#[test]
fn full_disks_everywhere_take_no_new_work_and_apply_what_was_taken() {
    const DISK_MEGABYTES: u32 = 64;
    const LEFT: u64 = 28 << 20;
    const PIECE: usize = 500_000;
    let name = "full_disks_everywhere_take_no_new_work_and_apply_what_was_taken";
    let disks: Vec<SmallDisk> = (0..3)
        .map_while(|_| SmallDisk::mount(name, DISK_MEGABYTES))
        .collect();
    if disks.len() < 3 {
        return;
    }
    let plan = (1..).zip(&disks).fold(
        Plan::new(3).flag("--snapshot-after", "1MiB"),
        |plan, (id, disk)| plan.data_of(id, &disk.path().join("data")),
    );
    let mut cluster = plan.start();
    let (client, holder) = (cluster.client("C1"), cluster.client("C2"));
    section(&client, "before");
    let made = cluster.holdfast().args(["file", "create", "kept"]).status();
    assert!(made.is_ok_and(|status| status.success()));
    holder.done(json!({"op": "acquire", "lock": "kept", "lease_ms": 3_000}));
    disks.iter().for_each(|disk| disk.fill_but(LEFT));

    // A refused append leaves it to its section to make room for the next one; a refused acquire is the end.
    let (mut pieces, mut refusal) = (0, None);
    for _ in 0..40 {
        let acquire = json!({"op": "acquire", "lock": "default", "timeout_ms": 3_000});
        let asked = client.send(acquire);
        let acquired = client.wait(&asked);
        match acquired.code() {
            "" => {}
            // It was on its way while one full replica handed over to another: given up, and asked again.
            "unknown" => {
                let _ = client.cancel(&asked);
                continue;
            }
            _ => {
                refusal = Some(acquired);
                break;
            }
        }
        for _ in 0..6 {
            let mut piece = append("file_1", &format!("{pieces} {}\n", "x".repeat(PIECE)));
            piece["timeout_ms"] = json!(2_000);
            pieces += 1;
            if !client.ask(piece).is_done() {
                break;
            }
        }
        release_at_last(&client);
    }
    let refusal = refusal.expect("the disks are full at last");
    assert!(pieces > 4, "{pieces} pieces of {PIECE} bytes were taken");
    assert_eq!(refusal.code(), "unavailable", "{}", refusal.0);
    assert!(
        refusal.0["message"]
            .as_str()
            .is_some_and(|why| why.contains("disk")),
        "{}",
        refusal.0
    );
    for id in cluster.ids() {
        let log = cluster.process(id).stderr();
        assert!(
            !log.contains("no space for the data files"),
            "the reserve is kept\n{log}"
        );
    }
    let leader = cluster.leader();
    let (code, why) = get(cluster.http_address(leader), "/readyz").expect("a page");
    assert!(code == 503 && why.contains("disk"), "{code} {why}");

    disks.iter().for_each(SmallDisk::free);
    holder.done(json!({"op": "append", "lock": "kept", "file": "kept", "data": "still held\n"}));
    holder.done(json!({"op": "release", "lock": "kept"}));
    wait_for("every replica to be ready", LIMIT, || {
        let ready =
            |id: &u16| get(cluster.http_address(*id), "/readyz").is_ok_and(|(code, _)| code == 200);
        cluster.ids().iter().all(ready)
    });
    section(&client, "after");
    cluster.check_sections();
}

/// The disks of all replicas are filled by the cluster's own work. While new work is refused, every replica gives back
/// what it can without a restart; removing a file makes room, and the service goes on.
#[test]
fn full_disks_are_emptied_by_removing_a_file() {
    const DISK_MEGABYTES: u32 = 64;
    const LEFT: u64 = 32 << 20;
    let name = "full_disks_are_emptied_by_removing_a_file";
    let disks: Vec<SmallDisk> = (0..3)
        .map_while(|_| SmallDisk::mount(name, DISK_MEGABYTES))
        .collect();
    if disks.len() < 3 {
        return;
    }
    let plan = (1..).zip(&disks).fold(
        Plan::new(3).flag("--snapshot-after", "32MiB"),
        |plan, (id, disk)| plan.data_of(id, &disk.path().join("data")),
    );
    let mut cluster = plan.start();
    let client = cluster.client("C1");
    section(&client, "before");
    // The check of sections at the end knows nothing of what is in it.
    let made = cluster.holdfast().args(["file", "create", "big"]).status();
    assert!(made.is_ok_and(|status| status.success()));
    disks.iter().for_each(|disk| disk.fill_but(LEFT));
    let piece = cluster.folder().join("piece");
    std::fs::write(&piece, "x".repeat(900_000)).expect("a file can be written");
    let run = |cluster: &Cluster, words: &[&str]| {
        let piece = File::open(&piece).expect("it is there");
        let output = cluster.holdfast().args(words).stdin(piece).output();
        let output = output.expect("it runs");
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        (output.status.code(), text)
    };
    // The segment in use and the one prepared after it; nothing that only snapshots keep.
    let is_cut = |cluster: &Cluster, id: u16| {
        let folder = |name| lengths(&cluster.data(id).join(name)).sum::<u64>();
        segments(&cluster.data(id).join("wal")).len() <= 2
            && folder("removed") == 0
            && folder("snapshots") < 256 << 10
    };
    const UNAVAILABLE: Option<i32> = Some(5);
    // What is given back may be used up again before new work is refused for good.
    wait_for(
        "new work to be refused, with the log cut everywhere",
        2 * LIMIT,
        || {
            let (code, why) = run(&cluster, &["append", "big", "--timeout", "1s"]);
            let refused = code == UNAVAILABLE && why.contains("disk is nearly full");
            refused && cluster.ids().iter().all(|id| is_cut(&cluster, *id))
        },
    );
    for id in cluster.ids() {
        let log = cluster.process(id).stderr();
        assert!(!log.contains("no space for the data files"), "{log}");
    }

    let (code, why) = run(&cluster, &["file", "remove", "big", "--timeout", "20s"]);
    assert_eq!(code, Some(0), "{why}");
    wait_for("every replica to be ready", LIMIT, || {
        let ready =
            |id: &u16| get(cluster.http_address(*id), "/readyz").is_ok_and(|(code, _)| code == 200);
        cluster.ids().iter().all(ready)
    });
    section(&client, "after");
    cluster.check_sections();
}

/// Releases, however long that takes.
fn release_at_last(client: &Client) {
    let mut released = release();
    released["timeout_ms"] = json!(60_000);
    let asked = client.send(released);
    client
        .wait_within(&asked, Duration::from_secs(60))
        .done("a release is always applied");
}

fn lengths(folder: &Path) -> impl Iterator<Item = u64> {
    let entries = std::fs::read_dir(folder).expect("a folder can be listed");
    entries.filter_map(|entry| Some(entry.ok()?.metadata().ok()?.len()))
}

/// What the files of a folder take on the disk, holes left out. Files may come and go meanwhile.
fn bytes_on_disk(folder: &Path) -> u64 {
    let entries = std::fs::read_dir(folder).expect("a folder can be listed");
    let bytes = entries.filter_map(|entry| {
        let entry = entry.ok()?;
        let found = entry.metadata().ok()?;
        Some(if found.is_dir() {
            bytes_on_disk(&entry.path())
        } else {
            found.blocks() * 512
        })
    });
    bytes.sum()
}

fn segments(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).expect("the log's folder can be listed");
    let mut segments: Vec<PathBuf> = entries
        .map(|entry| entry.expect("a folder entry can be read").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "wal"))
        .collect();
    segments.sort();
    segments
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
