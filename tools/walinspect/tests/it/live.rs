//! A log that somebody writes while it is looked at.

use std::collections::VecDeque;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::time::Duration;

use bytes::Bytes;
use wal::storage::RealDisk;
use wal::{Record, RecordKind, SnapshotHeader, SnapshotRef, Writer};

use crate::rig::{Rig, tell};
use crate::story;

/// Long enough for a machine with much else to do.
const PATIENCE: Duration = Duration::from_secs(20);

/// Ends with the test.
struct Following(Child);

impl Drop for Following {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A record is shown once it is proven durable, not before.
#[test]
fn tail_follows_what_becomes_durable() {
    let rig = Rig::empty();
    let mut log = rig.open(1);
    let entries = story::entries();
    log.commit(&[story::accept(1, &entries[0])], 0)
        .expect("accept");
    log.idle_marker().expect("marker");
    let mut child = Command::new(env!("CARGO_BIN_EXE_walinspect"))
        .args(["tail", "-f", "--json", "--dir"])
        .arg(rig.path())
        .stdout(Stdio::piped())
        .spawn()
        .expect("the program runs");
    let lines = BufReader::new(child.stdout.take().expect("its output")).lines();
    let _following = Following(child);
    let (sender, told) = mpsc::channel();
    std::thread::spawn(move || {
        for line in lines.map_while(Result::ok) {
            if sender.send(line).is_err() {
                return;
            }
        }
    });
    let next = || {
        let line = told.recv_timeout(PATIENCE).expect("a record in time");
        let object: serde_json::Value = serde_json::from_str(&line).expect("an object");
        let dumped = rig.record(object["slot"].as_u64().expect("a slot"));
        // The same as `dump` says, but that by then more may have been proven.
        assert_eq!(
            (&object["lsn"], &object["offset"]),
            (&dumped["lsn"], &dumped["offset"])
        );
        object["slot"].as_u64().expect("a slot")
    };
    assert_eq!(next(), 1);
    // Over several segments, so that it has to go on to the next file.
    for (slot, entry) in (2..).zip(&entries[1..]) {
        log.commit(&[story::accept(slot, entry)], slot - 1)
            .expect("accept");
        if slot > 2 {
            assert_eq!(next(), slot - 1);
        }
    }
    log.idle_marker().expect("marker");
    assert_eq!(next(), entries.len() as u64);
}

/// What is under way is not damage, whenever it is looked at: appends, new segments, superblocks, snapshots, removals.
#[test]
fn a_log_under_load_is_never_damaged() {
    let rig = Rig::empty();
    let mut log = rig.open(1);
    tell(&mut log);
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let entry = &story::entries()[2];
            let mut kept = VecDeque::new();
            for slot in story::CHOSEN + 2.. {
                log.commit(&[story::accept(slot, entry)], slot - 1)
                    .expect("accept");
                if slot % 10 == 0 {
                    snapshot_and_cut(&rig, &mut log, &mut kept, slot);
                }
                if done.load(Ordering::Relaxed) {
                    return;
                }
            }
        });
        // However the looks end, the writer must.
        let looks = std::panic::catch_unwind(|| {
            for _ in 0..100 {
                rig.run(&["verify"]).exits(0);
                rig.run(&["timeline"]).exits(0);
                rig.run(&["dump"]).exits(0);
            }
        });
        done.store(true, Ordering::Relaxed);
        looks.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    });
}

/// Keeps two snapshots and the log between them, as a replica does.
fn snapshot_and_cut(rig: &Rig, log: &mut Writer, kept: &mut VecDeque<SnapshotRef>, slot: u64) {
    let disk = RealDisk::at(rig.path());
    let header = SnapshotHeader {
        cluster: 0,
        slot,
        membership: Bytes::new(),
    };
    let saved = wal::snapshot::save(&disk, &header, &mut &b"state"[..]).expect("save");
    log.snapshot_saved(saved).expect("name it");
    let mark = Record {
        kind: RecordKind::SnapshotMark,
        slot,
        ballot: 0,
        payload: Bytes::new(),
    };
    log.commit(&[mark], slot).expect("mark it");
    kept.push_back(saved);
    if kept.len() > 2 {
        kept.pop_front();
    }
    log.remove_prefix(slot, slot, 0).expect("cut the log");
    wal::snapshot::prune(&disk, kept.make_contiguous()).expect("remove old snapshots");
}
