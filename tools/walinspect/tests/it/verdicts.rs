//! What is damage and what is not, and the exit code of each.

use std::fs;
use std::process::Command;

use serde_json::{Value, json};

use crate::rig::{Rig, run, tell};
use crate::story;

/// `verify` and `explain` agree on the code; both name the row and the file.
#[track_caller]
fn check(rig: &Rig, code: i32, outcome: &str, row: u64) -> Value {
    let verified = rig.run(&["verify", "--json"]).exits(code);
    let verdict = verified.kind("verdict").pop().expect("a verdict");
    assert_eq!(
        (&verdict["outcome"], &verdict["exit"]),
        (&json!(outcome), &json!(code))
    );
    let explained = rig.run(&["explain", "--json"]).exits(code);
    let found = explained.kind("outcome").pop().expect("an outcome");
    assert_eq!(found["outcome"], outcome);
    let findings = verified.kind("finding");
    let finding = findings.iter().find(|finding| finding["row"] == row);
    finding
        .unwrap_or_else(|| panic!("row {row} in {findings:?}"))
        .clone()
}

#[test]
fn a_whole_log() {
    let rig = Rig::whole();
    let said = rig.run(&["verify"]).exits(0).tells("clean: ");
    assert!(!said.out.contains("damage "), "{said:?}");
    rig.run(&["explain"]).exits(0).tells("nothing to do");
    rig.run(&["verify", "--strict"]).exits(0);
}

/// A file that the system does not let be read says nothing about what it holds. A link to itself stands for missing
/// permissions, which would not stop a test that runs as root.
#[test]
fn what_cannot_be_opened_is_an_error_and_not_damage() {
    let files = [
        "wal/super.0",
        "wal/super.1",
        "snapshots/0000000000000010.snap",
    ];
    let segment = wal::layout::segment_path(2);
    for name in files.into_iter().chain([&*segment]) {
        let rig = Rig::whole();
        let path = rig.file(name);
        let _ = fs::remove_file(&path);
        std::os::unix::fs::symlink(&path, &path).expect("a link");
        for verb in ["verify", "explain", "ls", "dump"] {
            let said = rig.run(&[verb]).exits(1).tells(name);
            assert_eq!(said.out, "", "{verb}");
        }
        run(&["verify", path.to_str().expect("plain")]).exits(1);
    }
}

/// On a screen of 80 columns no line of a table or summary is longer.
#[test]
fn tables_fit_a_screen() {
    let rig = Rig::whole();
    let path = rig.path().to_str().expect("plain");
    for verb in [
        &["ls"][..],
        &["verify"],
        &["history", "default"],
        &["stats"],
    ] {
        let said = Command::new(env!("CARGO_BIN_EXE_walinspect"))
            .args(verb)
            .args(["--dir", path])
            .env("COLUMNS", "80")
            .output()
            .expect("it runs");
        let text = String::from_utf8(said.stdout).expect("text");
        assert!(!text.is_empty(), "{verb:?}");
        let long: Vec<&str> = text
            .lines()
            .filter(|line| line.chars().count() > 80)
            .collect();
        assert!(long.is_empty(), "{verb:?}: {long:#?}");
    }
    let told = rig.run(&["ls"]).exits(0);
    assert!(told.out.contains("32 KiB"), "{told:?}");
}

/// A damaged file of users is found, with the exit code and the advice that a start would have.
#[test]
fn damaged_files_are_told() {
    let rig = Rig::empty();
    let mut log = rig.open(1);
    tell(&mut log);
    rig.save_snapshot(&mut log, story::CHOSEN);
    log.close().expect("close");
    rig.run(&["verify"]).exits(0);
    let written = |entry: &fs::DirEntry| entry.metadata().expect("look at it").len() > 0;
    let files = fs::read_dir(rig.file("files")).expect("list");
    let files = files.map(|entry| entry.expect("an entry")).filter(written);
    let damaged: Vec<_> = files.map(|entry| rig.flip(entry.path(), 0)).collect();
    assert!(!damaged.is_empty());
    // The log reaches back, so the files can be written again.
    let said = rig.run(&["explain"]).exits(3).tells("damaged");
    assert!(said.out.contains("files/"), "{said:?}");
    assert!(said.out.contains("writes these files again"), "{said:?}");
    rig.run(&["verify"]).exits(3).tells("crc32");
    // Whoever looks at the log alone is told of the log alone.
    rig.run(&["dump"]).exits(0);
}

/// Where the log begins after the only snapshot, nothing can bring a damaged file back.
#[test]
fn a_file_that_is_lost_for_good_is_told() {
    let rig = Rig::empty();
    let mut log = rig.open(1);
    tell(&mut log);
    // Only what is below the older of two snapshots is ever removed.
    rig.save_snapshot(&mut log, story::CHOSEN - 1);
    rig.save_snapshot(&mut log, story::CHOSEN);
    let removed = log.remove_prefix(story::CHOSEN, story::CHOSEN, 0);
    assert!(removed.expect("removed").first_slot > 1);
    log.close().expect("close");
    rig.run(&["verify"]).exits(0);
    fs::remove_file(rig.file("files/file_0")).expect("remove");
    let said = rig.run(&["explain"]).exits(4).tells("files-lost");
    assert!(said.out.contains("the node ends with 5"), "{said:?}");
    let path = rig.path().to_str().expect("plain");
    let narrow = Command::new(env!("CARGO_BIN_EXE_walinspect"))
        .args(["explain", "--dir", path])
        .env("COLUMNS", "80")
        .output()
        .expect("it runs");
    let narrow = String::from_utf8(narrow.stdout).expect("text");
    let mut sheet = narrow
        .lines()
        .skip_while(|line| !line.starts_with("outcome"));
    assert!(sheet.clone().count() > 10, "the advice is long: {narrow}");
    assert!(sheet.all(|line| line.chars().count() <= 80), "{narrow}");
    rig.run(&["verify"]).exits(4).tells("files/file_0");
}

/// What people read are lines, not escapes of lines.
#[test]
fn an_explanation_is_lines_of_words() {
    let rig = Rig::whole();
    rig.flip("wal/super.1", 20);
    let said = rig.run(&["explain"]).exits(3);
    assert!(!said.out.contains("\\n"), "{said:?}");
    assert!(
        said.out.lines().any(|line| line.starts_with("promised ")),
        "{said:?}"
    );
    assert!(
        said.out
            .lines()
            .any(|line| line.trim_start().starts_with("row 21: ")),
        "{said:?}"
    );
    fs::remove_file(rig.file("wal/super.0")).expect("remove");
    fs::remove_file(rig.file("wal/super.1")).expect("remove");
    rig.run(&["verify"]).exits(4).tells("2 damaged places");
}

/// The newest segment that holds batches, and the last batch with records in it.
fn last_batch(rig: &Rig) -> (u64, Value) {
    let batches = rig.run(&["dump", "--batches", "--json"]).kind("batch");
    let filled = |batch: &&Value| batch["records"] != 0;
    let last = batches.iter().rfind(filled).expect("a batch").clone();
    (last["segment"].as_u64().expect("a number"), last)
}

fn offset_of(rig: &Rig, slot: u64) -> (u64, u64) {
    let record = rig.record(slot);
    let number = |field: &str| record[field].as_u64().expect("a number");
    (number("segment"), number("offset"))
}

#[test]
fn a_torn_tail_is_normal_unless_strict() {
    let rig = Rig::killed();
    let (segment, offset) = offset_of(&rig, story::CHOSEN + 1);
    rig.flip(rig.segment(segment), offset + 40);
    let finding = check(&rig, 0, "torn-tail", 4);
    assert_eq!(finding["damage"], false);
    rig.run(&["verify", "--strict"]).exits(7);
    rig.run(&["ls", "--strict"]).exits(7);
    rig.run(&["timeline"]).exits(0).tells("torn tail");
}

#[test]
fn what_nothing_proves_durable_is_told_as_such() {
    let rig = Rig::killed();
    let last = rig.record(story::CHOSEN + 1);
    assert_eq!(last["state"], "unproven");
    let outcome = rig
        .run(&["explain", "--json"])
        .exits(0)
        .kind("outcome")
        .remove(0);
    assert_eq!(outcome["carried_batches"], 1);
}

#[test]
fn a_flipped_payload() {
    let rig = Rig::whole();
    let (segment, offset) = offset_of(&rig, 7);
    rig.flip(rig.segment(segment), offset + 40);
    let finding = check(&rig, 3, "faulty", 5);
    assert_eq!(
        finding["slots"],
        json!({"first": 7, "last": 7, "ballot_max": "7.2"})
    );
    assert_eq!(finding["offset"], offset);
    assert_eq!(finding["file"], wal::layout::segment_path(segment));
    // The other records are still there, and this one is told to be damaged.
    assert_eq!(rig.record(7)["state"], "damaged");
    assert_eq!(rig.record(8)["state"], "live");
    rig.run(&["slot", "7"]).exits(3).tells("lost");
    rig.run(&["replay"])
        .exits(3)
        .tells("stops before slot 7, which is damaged");
}

#[test]
fn a_flipped_batch_header() {
    let rig = Rig::whole();
    let (segment, offset) = offset_of(&rig, 7);
    rig.flip(rig.segment(segment), offset - 128 + 20);
    let finding = check(&rig, 3, "faulty", 6);
    assert_eq!(
        (&finding["slots"]["first"], &finding["slots"]["last"]),
        (&json!(7), &json!(7))
    );
}

#[test]
fn a_cut_segment() {
    let rig = Rig::whole();
    let (segment, last) = last_batch(&rig);
    let base = last["lsn"].as_u64().expect("a number") % (8 * 4096);
    let bytes = fs::read(rig.segment(segment)).expect("read");
    fs::write(rig.segment(segment), &bytes[..base as usize]).expect("cut");
    check(&rig, 4, "faulty", 3);
}

#[test]
fn a_deleted_segment() {
    let rig = Rig::whole();
    fs::remove_file(rig.segment(2)).expect("remove");
    check(&rig, 4, "faulty", 16);
    let rig = Rig::whole();
    let (segment, _) = last_batch(&rig);
    fs::remove_file(rig.segment(segment)).expect("remove");
    let finding = check(&rig, 4, "faulty", 17);
    assert_eq!(finding["slots"], Value::Null, "told by the second finding");
    let explained = rig.run(&["explain", "--json"]).exits(4);
    let lost = &explained.kind("outcome")[0]["lost"];
    assert_eq!(
        lost,
        &json!([{"first": 1, "last": null, "ballot_max": null}])
    );
}

/// A verified snapshot stands for what is damaged: verdict, exit code and advice say the same.
#[test]
fn damage_below_a_snapshot_stops_no_start() {
    let rig = Rig::empty();
    let mut log = rig.open(1);
    crate::rig::tell(&mut log);
    rig.save_snapshot(&mut log, 8);
    log.close().expect("close");
    let (segment, offset) = offset_of(&rig, 7);
    rig.flip(rig.segment(segment), offset + 40);
    check(&rig, 3, "damaged", 5);
    rig.run(&["verify"]).exits(3).tells("damaged: ");
    let explained = rig.run(&["explain"]).exits(3);
    explained.tells("the node starts");
    let outcome = rig.run(&["explain", "--json"]).exits(3).kind("outcome");
    assert_eq!(outcome[0]["without_slots_to"], 7);
    assert_eq!(outcome[0]["first_slot"], 8);
}

#[test]
fn one_bad_copy_is_damage_that_costs_nothing() {
    let rig = Rig::whole();
    rig.flip("wal/super.1", 100);
    check(&rig, 3, "damaged", 21);
    let rig = Rig::whole();
    rig.flip(rig.segment(1), 60);
    check(&rig, 3, "damaged", 12);
}

#[test]
fn lost_superblocks() {
    let rig = Rig::whole();
    for copy in wal::layout::SUPERBLOCKS {
        fs::remove_file(rig.file(copy)).expect("remove");
    }
    check(&rig, 4, "meta-lost", 22);
    // What the log holds can be read all the same.
    let dumped = rig.run(&["dump", "--json"]).exits(4);
    assert_eq!(dumped.objects().len(), 1 + story::entries().len());
    let replayed = rig.run(&["replay", "--json"]).exits(4);
    assert_eq!(replayed.kind("state")[0]["slot"], story::CHOSEN);
}

#[test]
fn a_foreign_segment() {
    let rig = Rig::whole();
    let other = Rig::empty();
    let mut log = other.open(99);
    crate::rig::tell(&mut log);
    log.close().expect("close");
    fs::copy(other.segment(2), rig.segment(2)).expect("copy");
    check(&rig, 6, "fatal", 19);
}

#[test]
fn damaged_and_missing_snapshots() {
    let with_snapshot = || {
        let rig = Rig::empty();
        let mut log = rig.open(1);
        crate::rig::tell(&mut log);
        let saved = rig.save_snapshot(&mut log, 8);
        log.close().expect("close");
        (rig, wal::layout::snapshot_path(saved.slot))
    };
    let (rig, file) = with_snapshot();
    rig.run(&["snap", "verify"]).exits(0).tells("good");
    rig.flip(&file, 5_000);
    check(&rig, 3, "damaged", 26);
    rig.run(&["snap", "verify"]).exits(3).tells("damaged");
    let alone = rig.file(&file);
    run(&["verify", alone.to_str().expect("plain")]).exits(3);
    let (rig, file) = with_snapshot();
    fs::remove_file(rig.file(&file)).expect("remove");
    check(&rig, 3, "damaged", 26);
}

#[test]
fn what_is_no_log_is_refused() {
    let rig = Rig::empty();
    rig.run(&["verify"]).exits(6).tells("no data folder");
    fs::write(rig.file("notes.txt"), "hello").expect("write");
    rig.run(&["ls"]).exits(6);
    let notes = rig.file("notes.txt");
    run(&["dump", notes.to_str().expect("plain")]).exits(6);
    run(&["verify", "/dev/null"]).exits(6);
}

/// Somebody took the log away and left the data.
#[test]
fn a_folder_without_its_log() {
    let rig = Rig::whole();
    fs::write(rig.file("files/file_0"), "hello").expect("write");
    fs::remove_dir_all(rig.file("wal")).expect("remove");
    check(&rig, 4, "meta-lost", 22);
}

#[test]
fn usage_and_missing_files() {
    run(&["verify", "/no/such/folder"])
        .exits(1)
        .tells("/no/such/folder");
    run(&["verify"]).exits(2).tells("--dir");
    run(&["verify", "a", "--dir", "b"]).exits(2);
    run(&["--frobnicate"]).exits(2).tells("--frobnicate");
    run(&["find", "--dir", "/"]).exits(6);
    Rig::whole().run(&["find"]).exits(2).tells("--lock");
    Rig::whole().run(&["ls", "--from", "day:1"]).exits(2);
    for code in ["0  intact", "3  corruption", "7  torn tail"] {
        run(&["--help"]).exits(0).tells(code);
    }
}
