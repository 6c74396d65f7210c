//! What is told of a whole log, verb by verb.

use std::fs;

use serde_json::{Value, json};

use crate::rig::{Rig, run, tell};
use crate::story::{self, ALICE, BOB, CHOSEN};

/// Every verb, as it may be asked of any folder.
pub(crate) const VERBS: [&[&str]; 16] = [
    &["ls"],
    &["dump"],
    &["dump", "--batches"],
    &["dump", "--payload", "hex"],
    &["verify"],
    &["explain"],
    &["stats"],
    &["tail", "-n", "3"],
    &["find", "--lock", "default"],
    &["find", "--client", "bob"],
    &["slot", "5"],
    &["timeline"],
    &["replay", "--at", "9"],
    &["history", "default"],
    &["super"],
    &["snap", "verify"],
];

/// No byte, name or time of any file changes, and every line for programs is an object.
#[test]
fn every_verb_only_reads() {
    let rig = Rig::empty();
    let mut log = rig.open(1);
    tell(&mut log);
    rig.save_snapshot(&mut log, 8);
    log.close().expect("close");
    let before = rig.contents();
    for verb in VERBS {
        let told = rig.run(verb).exits(0);
        let objects = rig.run(&[verb, &["--json"]].concat()).exits(0).objects();
        assert!(!objects.is_empty(), "{verb:?}");
        assert!(!told.out.trim().is_empty(), "{verb:?}");
        // The same by the other flag.
        let again = rig
            .run(&[verb, &["-o", "json"]].concat())
            .exits(0)
            .objects();
        assert_eq!(objects, again);
    }
    assert_eq!(rig.contents(), before);
}

#[test]
fn works_without_the_right_to_write() {
    use std::os::unix::fs::PermissionsExt;
    let rig = Rig::whole();
    for folder in ["", "wal", "snapshots"] {
        let path = rig.file(folder);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o555)).expect("allow to read");
    }
    rig.run(&["verify"]).exits(0);
    fs::set_permissions(rig.path(), fs::Permissions::from_mode(0o755)).expect("allow to clean up");
    for folder in ["wal", "snapshots"] {
        let path = rig.file(folder);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("allow to clean up");
    }
}

#[test]
fn dump_tells_commands_in_words() {
    let rig = Rig::whole();
    let said = rig.run(&["dump"]).exits(0);
    for words in [
        "node 2 begins to lead, grace 2s",
        "settings: 2 files, lease 20s, session 20s",
        "open session 3 for alice, ttl 1m",
        "acquire default lease 10s by session 3 seq 1",
        "append 5 bytes to file_0 under default token 1, place 1, by session 3 seq 2",
        "release default token 1 with 1 appends by session 3 seq 3",
        "force release of default token 3 (\"stuck\") by session 4 seq 2",
    ] {
        assert!(said.out.contains(words), "{words}: {}", said.out);
    }
    let acquire = rig.record(5);
    assert_eq!(acquire["ballot"], "7.2");
    assert_eq!(acquire["entry"]["command"], "acquire");
    assert_eq!(acquire["entry"]["lease_ms"], 10_000);
    let keys: Vec<&String> = acquire.as_object().expect("an object").keys().collect();
    let expected = [
        "v", "kind", "lsn", "segment", "offset", "batch", "type", "slot", "ballot", "bytes",
        "state", "time", "words", "entry",
    ];
    assert_eq!(keys, expected);
}

#[test]
fn dump_selects() {
    let rig = Rig::whole();
    let count = |arguments: &[&str]| {
        rig.run(&[&["dump", "--json"], arguments].concat())
            .exits(0)
            .objects()
            .len()
    };
    let all = 1 + story::entries().len();
    assert_eq!(count(&[]), all);
    assert_eq!(count(&["--type", "promise"]), 1);
    assert_eq!(count(&["--type", "accept,promise"]), all);
    assert_eq!(count(&["--ballot", "7.2"]), all);
    assert_eq!(count(&["--ballot", "7.1"]), 0);
    assert_eq!(count(&["--from", "5", "--to", "8"]), 4);
    assert_eq!(
        count(&["--to", "segment:1"]) + count(&["--from", "segment:2"]),
        all
    );
    assert_eq!(count(&["--from", "time:2000-01-01T00:00:00Z"]), all);
    assert_eq!(count(&["--to", "time:2000-01-01T00:00:00Z"]), 0);
    let bare = rig.run(&["dump", "--json", "--slot", "7", "--payload", "none"]);
    assert_eq!(bare.objects()[0].get("words"), None);
    let hex = rig.run(&["dump", "--json", "--slot", "7", "--payload", "hex"]);
    let payload = hex.objects()[0]["payload"].as_str().map(str::to_owned);
    assert!(payload.is_some_and(|hex| hex.contains("68656c6c6f")));
}

/// Each part of a folder can be looked at alone.
#[test]
fn log_folders_segments_and_snapshots_alone() {
    let rig = Rig::empty();
    let mut log = rig.open(1);
    tell(&mut log);
    let saved = rig.save_snapshot(&mut log, 8);
    log.close().expect("close");
    let whole = rig.run(&["dump"]).exits(0).out;
    let wal = rig.file("wal");
    assert_eq!(
        run(&["dump", wal.to_str().expect("plain")]).exits(0).out,
        whole
    );

    // A copy elsewhere has no snapshots beside it, and needs none.
    let cold = Rig::empty();
    let copy = cold.file("copy");
    fs::create_dir(&copy).expect("create");
    for entry in fs::read_dir(&wal).expect("list") {
        let path = entry.expect("an entry").path();
        fs::copy(&path, copy.join(path.file_name().expect("a name"))).expect("copy");
    }
    assert_eq!(
        run(&["dump", copy.to_str().expect("plain")]).exits(0).out,
        whole
    );
    run(&["verify", copy.to_str().expect("plain")]).exits(0);

    let mut parts = String::new();
    for seq in 1.. {
        let path = rig.segment(seq);
        let bytes = fs::read(&path).unwrap_or_default();
        if bytes.iter().all(|byte| *byte == 0) {
            break;
        }
        let renamed = cold.file("part");
        fs::write(&renamed, bytes).expect("write");
        run(&["verify", path.to_str().expect("plain")]).exits(0);
        parts += &run(&["dump", renamed.to_str().expect("plain")])
            .exits(0)
            .out;
    }
    assert_eq!(parts, whole);

    let snapshot = rig.file(&wal::layout::snapshot_path(saved.slot));
    let path = snapshot.to_str().expect("plain");
    run(&["verify", path]).exits(0);
    let state = run(&["replay", "--json", path])
        .exits(0)
        .kind("state")
        .remove(0);
    assert_eq!(
        (&state["slot"], &state["from_snapshot"]),
        (&json!(8), &json!(8))
    );
}

#[test]
fn ls_and_stats_count() {
    let rig = Rig::whole();
    let segments = rig.run(&["ls", "--json"]).exits(0).kind("segment");
    assert!(segments.len() > 3, "{segments:?}");
    assert_eq!(segments[0]["state"], "sealed");
    assert_eq!(segments[0]["first_slot"], 1);
    let records = |segment: &Value| segment["records"].as_u64().unwrap_or(0);
    let all = 1 + story::entries().len();
    assert_eq!(segments.iter().map(records).sum::<u64>(), all as u64);
    let stats = rig.run(&["stats", "--json"]).exits(0);
    let types = stats.kind("type");
    let total = types.last().expect("a sum");
    assert_eq!(
        (&total["type"], &total["records"]),
        (&json!("all"), &json!(all))
    );
    let acquires = types
        .iter()
        .find(|row| row["command"] == "acquire")
        .expect("acquires");
    assert_eq!(acquires["records"], 6);
    let batches = &stats.kind("batches")[0];
    assert_eq!(batches["with_records"], all);
    assert_eq!(batches["records_per_batch"]["max"], 1);
}

#[test]
fn find_searches_by_each_key() {
    let rig = Rig::whole();
    let slots = |arguments: &[&str]| {
        let said = rig.run(&[&["find", "--json"], arguments].concat()).exits(0);
        let slot = |object: Value| object["slot"].as_u64().expect("a slot");
        said.objects().into_iter().map(slot).collect::<Vec<_>>()
    };
    assert_eq!(slots(&["--client", "bob"]), [4, 6, 11, 16]);
    assert_eq!(slots(&["--session", "4"]), [4, 6, 11, 16]);
    assert_eq!(slots(&["--file", "file_0"]), [7]);
    assert_eq!(
        slots(&["--lock", "default", "--client", "bob"]),
        [6, 11, 16]
    );
    assert_eq!(slots(&["--text", "stuck"]), [11]);
    assert_eq!(slots(&["--text", "hello"]), [7]);
    assert_eq!(slots(&["--lock", "other"]), [0; 0]);
}

#[test]
fn slot_tells_which_record_counts() {
    let rig = Rig::empty();
    let mut log = rig.open(1);
    tell(&mut log);
    // A later leader proposes slot 17 again; another value for 18 was fetched as chosen.
    let mut again = story::accept(CHOSEN + 1, &story::entries()[0]);
    again.ballot += 1 << 16;
    log.commit(&[again], CHOSEN).expect("accept");
    log.close().expect("close");
    let said = rig.run(&["slot", "--json", "17"]).exits(0);
    let ballots: Vec<Value> = said
        .kind("record")
        .iter()
        .map(|r| r["ballot"].clone())
        .collect();
    assert_eq!(ballots, ["7.2", "8.2"]);
    let slot = &said.kind("slot")[0];
    assert_eq!(
        (&slot["known"], &slot["counts_ballot"]),
        (&json!("accepted"), &json!("8.2"))
    );
    let slot = &rig.run(&["slot", "--json", "16"]).kind("slot")[0];
    assert_eq!(slot["known"], "chosen");
    rig.run(&["slot", "99"])
        .exits(0)
        .tells("not in this folder");
}

#[test]
fn timeline_tells_starts_and_leaders() {
    let rig = Rig::killed();
    let log = rig.open(2);
    log.close().expect("close");
    let moments = rig.run(&["timeline", "--json"]).exits(0).kind("moment");
    let what: Vec<&str> = moments
        .iter()
        .filter_map(|moment| moment["what"].as_str())
        .collect();
    for wanted in [
        "boot", "start", "promise", "leader", "settings", "carried", "close", "void",
    ] {
        assert!(what.contains(&wanted), "{wanted} in {what:?}");
    }
    assert_eq!(what.iter().filter(|what| **what == "start").count(), 2);
}

#[test]
fn replay_shows_the_state_of_any_slot() {
    let rig = Rig::whole();
    let at = |slot: u64| {
        let slot = slot.to_string();
        rig.run(&["replay", "--json", "--at", &slot]).exits(0)
    };
    let six = at(6);
    assert_eq!(six.kind("lock")[0]["session"], ALICE);
    assert_eq!(six.kind("waiter")[0]["session"], BOB);
    assert_eq!(six.kind("file")[0]["length"], 0);
    let eight = at(8);
    assert_eq!(eight.kind("lock")[0]["client"], "bob");
    assert_eq!(eight.kind("lock")[0]["token"], 2);
    assert_eq!(eight.kind("file")[0]["length"], 5);
    assert_eq!(eight.kind("state")[0]["cluster_time_ms"], 5_000);
    assert_eq!(at(9).kind("lock"), [Value::Null; 0]);
    // Slot 17 was accepted here, but nothing here says that it was chosen.
    let beyond = at(CHOSEN + 1).tells("stops before slot 17");
    let state = &beyond.kind("state")[0];
    assert_eq!(
        (&state["slot"], &state["stop"]),
        (&json!(CHOSEN), &json!("not_known_chosen"))
    );
}

/// With a snapshot as its base a replay reaches the same state.
#[test]
fn replay_is_the_same_from_a_snapshot() {
    let plain = Rig::whole();
    let rig = Rig::empty();
    let mut log = rig.open(1);
    tell(&mut log);
    rig.save_snapshot(&mut log, 8);
    log.close().expect("close");
    let state = |rig: &Rig, slot: &str| {
        rig.run(&["replay", "--json", "--at", slot])
            .exits(0)
            .kind("state")
            .remove(0)
    };
    for (slot, base) in [("7", Value::Null), ("8", json!(8)), ("16", json!(8))] {
        let found = state(&rig, slot);
        assert_eq!(found["from_snapshot"], base);
        assert_eq!(found["hash"], state(&plain, slot)["hash"]);
    }
}

#[test]
fn history_tells_why_each_lost_it() {
    let rig = Rig::whole();
    let holds = rig
        .run(&["history", "default", "--json"])
        .exits(0)
        .kind("hold");
    let told: Vec<(u64, &str, &str)> = holds
        .iter()
        .map(|hold| {
            let text = |field: &str| hold[field].as_str().expect("text");
            (
                hold["token"].as_u64().expect("a token"),
                text("client"),
                text("why"),
            )
        })
        .collect();
    let expected = [
        (1, "alice", "released"),
        (2, "bob", "lease_ended"),
        (3, "alice", "forced"),
        (4, "alice", "aborted"),
        (5, "alice", "session_closed"),
        (6, "bob", "holds"),
    ];
    assert_eq!(told, expected);
    assert_eq!(holds[1]["waited_ms"], 2_000);
    assert_eq!(
        (&holds[1]["slot"], &holds[1]["end_slot"]),
        (&json!(8), &json!(9))
    );
    assert_eq!(
        (&holds[2]["forced_by"], &holds[2]["reason"]),
        (&json!(BOB), &json!("stuck"))
    );
    assert_eq!(holds[0]["from"], "2026-01-01T00:00:03.000Z");
    rig.run(&["history", "other"])
        .exits(0)
        .tells("nobody held it in slots 1 to 16");
}

/// A long-lived log begins with a snapshot: what was before is gone, and nothing is made up.
#[test]
fn a_log_whose_beginning_was_removed() {
    let rig = Rig::empty();
    let mut log = rig.open(1);
    tell(&mut log);
    rig.save_snapshot(&mut log, 8);
    rig.save_snapshot(&mut log, 12);
    log.remove_prefix(12, 12, 0).expect("cut the log");
    log.close().expect("close");
    rig.run(&["verify"]).exits(0);
    rig.run(&["slot", "2"])
        .exits(0)
        .tells("its effect is in the snapshot of slot 8");
    rig.run(&["replay", "--at", "7"])
        .exits(2)
        .tells("no state to begin with");
    let state = rig
        .run(&["replay", "--json", "--at", "10"])
        .exits(0)
        .kind("state")
        .remove(0);
    assert_eq!(
        (&state["slot"], &state["from_snapshot"]),
        (&json!(10), &json!(8))
    );
    // Bob was granted the lock in the slot of the snapshot.
    let history = rig.run(&["history", "default", "--json"]).exits(0);
    let history = history.tells("reaches back to slot 8");
    let tokens: Vec<Value> = history
        .kind("hold")
        .iter()
        .map(|hold| hold["token"].clone())
        .collect();
    assert_eq!(tokens, [2, 3, 4, 5, 6]);
}

/// A segment alone begins somewhere; that is no gap.
#[test]
fn a_segment_of_late_slots_alone() {
    let rig = Rig::empty();
    let mut log = rig.open(1);
    let entry = &story::entries()[2];
    for (millions, slot) in [4, 8, 12]
        .into_iter()
        .flat_map(|m| (0..8).map(move |s| (m, s)))
    {
        let slot = millions * 1_000_000 + slot;
        log.commit(&[story::accept(slot, entry)], slot - 1)
            .expect("accept");
    }
    log.close().expect("close");
    for seq in 2..=4 {
        let path = rig.segment(seq);
        run(&["verify", path.to_str().expect("plain")]).exits(0);
    }
}
