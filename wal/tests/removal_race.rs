//! A reader beside the removal of the prefix: a slot is there or it is gone, and never damaged.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use wal::storage::MemDisk;
use wal::{Environment, Folder, Options, Record, RecordKind, SnapshotHeader, snapshot};

const SLOTS: u64 = 40;

fn round() {
    let disk = MemDisk::new();
    let folder = Folder::open(Arc::new(disk.clone()), 1, Environment::seeded(1)).expect("opens");
    let segment_bytes = 32 * 1024;
    let (mut log, _) = folder.open_log(Options { segment_bytes }).expect("opens");
    let record = |kind, slot, bytes| Record {
        kind,
        slot,
        ballot: 1,
        payload: vec![7; bytes].into(),
    };
    for slot in 1..=SLOTS {
        let accept = record(RecordKind::Accept, slot, 10_000);
        log.commit(&[accept], slot).expect("writes");
    }
    for slot in [SLOTS / 2, SLOTS] {
        let (cluster, membership) = (0, "".into());
        let header = SnapshotHeader {
            cluster,
            slot,
            membership,
        };
        let saved = snapshot::save(&disk, &header, &mut &b"state"[..]).expect("saves");
        log.snapshot_saved(saved).expect("names");
        let mark = record(RecordKind::SnapshotMark, slot, 0);
        log.commit(&[mark], SLOTS).expect("writes");
    }
    let reader = log.reader();
    let (begun, done) = (AtomicBool::new(false), AtomicBool::new(false));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Acquire) {
                begun.store(true, Ordering::Release);
                reader.read(1).expect("there or gone");
            }
        });
        while !begun.load(Ordering::Acquire) {
            std::hint::spin_loop();
        }
        let removed = log.remove_prefix(SLOTS, u64::MAX, 0).expect("removes");
        done.store(true, Ordering::Release);
        assert!(removed.segments > 0);
    });
    assert_eq!(reader.read(1).expect("gone"), None);
}

#[test]
fn a_reader_beside_a_removal_sees_no_damage() {
    for _ in 0..100 {
        round();
    }
}
