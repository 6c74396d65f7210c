//! What the log does about a disk that has little room, and what it leaves on one.

use std::os::unix::fs::MetadataExt;
use std::sync::Arc;

use wal::snapshot::{self, SnapshotHeader, SnapshotRef};
use wal::storage::{Disk, Fault, MemDisk, Operation, RealDisk, SharedDisk};
use wal::{Environment, Error, Folder, NextSnapshots, Options, Record, RecordKind, Writer};

const SEGMENT: u64 = 64 << 10;

fn try_open(disk: &SharedDisk, segment_bytes: u64) -> Result<Writer, Error> {
    let folder = Folder::open(disk.clone(), 1, Environment::seeded(1))?;
    let (writer, recovery) = folder.open_log(Options { segment_bytes })?;
    assert!(recovery.outcome.may_serve(), "{}", recovery.report);
    Ok(writer)
}

fn open(disk: &MemDisk) -> Writer {
    let disk: SharedDisk = Arc::new(disk.clone());
    try_open(&disk, SEGMENT).expect("the log opens")
}

fn record(kind: RecordKind, slot: u64, bytes: usize) -> Record {
    Record {
        kind,
        slot,
        ballot: 10,
        payload: vec![slot as u8; bytes].into(),
    }
}

fn append(writer: &mut Writer, slots: std::ops::RangeInclusive<u64>) {
    for slot in slots {
        let entry = record(RecordKind::Accept, slot, 5000);
        writer.commit(&[entry], slot - 1).expect("appended");
    }
}

fn save(disk: &MemDisk, writer: &mut Writer, slot: u64) -> SnapshotRef {
    let header = SnapshotHeader {
        cluster: 0,
        slot,
        membership: "".into(),
    };
    let saved = snapshot::save(disk, &header, &mut &b"state"[..]).expect("saved");
    writer.snapshot_saved(saved).expect("named");
    let mark = record(RecordKind::SnapshotMark, slot, 0);
    writer.commit(&[mark], slot).expect("marked");
    saved
}

fn names(disk: &MemDisk, folder: &str) -> Vec<String> {
    let listed = disk.list(folder).expect("listed");
    listed.into_iter().map(|entry| entry.name).collect()
}

/// A log that asks again and again for its next segment must not write a full disk full each time.
#[test]
fn asking_for_a_segment_on_a_full_disk_changes_nothing() {
    let disk = MemDisk::new();
    let mut writer = open(&disk);
    disk.limit_room(Some(SEGMENT - 1));
    let before = disk.calls();
    for _ in 0..10 {
        let asked = writer.prepare_ahead();
        assert!(matches!(asked, Err(Error::NoSpace { .. })), "{asked:?}");
        assert!(writer.low_space());
    }
    assert_eq!(disk.calls(), before, "calls that change the disk");
    disk.limit_room(Some(SEGMENT));
    writer.prepare_ahead().expect("there is room again");
    assert!(!writer.low_space());
}

/// What is told to be reclaimable is what two more snapshots free, and then there is nothing more.
#[test]
fn two_snapshots_free_what_is_told_to_be_reclaimable() {
    let disk = MemDisk::new();
    let mut writer = open(&disk);
    let next = |slot, needed| NextSnapshots {
        slot,
        each_bytes: 1 << 20,
        needed,
        cap_bytes: u64::MAX,
    };
    let freed_by = |writer: &mut Writer, newest, needed| {
        let removed = writer.remove_prefix(newest, needed, u64::MAX);
        removed.expect("removed").bytes
    };
    append(&mut writer, 1..=40);
    save(&disk, &mut writer, 10);
    save(&disk, &mut writer, 30);
    // What the kept ones let go of is not counted, whether it is gone yet or not.
    let told = writer.reclaimable_bytes(&next(39, 99));
    assert!(freed_by(&mut writer, 30, 99) > 0);
    assert_eq!(writer.reclaimable_bytes(&next(39, 99)), told);
    let held = writer.reclaimable_bytes(&next(39, 25));
    assert!(held < told, "a member lacks slot 25: {held} of {told}");
    let small = NextSnapshots {
        each_bytes: 0,
        ..next(39, 99)
    };
    assert!(writer.reclaimable_bytes(&small) > told);

    save(&disk, &mut writer, 39);
    save(&disk, &mut writer, 40);
    let freed = freed_by(&mut writer, 40, 99);
    assert!(told > 0 && freed == told, "{freed} bytes of {told}");
    assert_eq!(writer.reclaimable_bytes(&next(39, 99)), 0);
}

/// A killed replica leaves a prepared segment. On a full disk that is all the room that the next start needs, also if
/// it is smaller than what is configured by then.
#[test]
fn a_start_on_a_full_disk_uses_the_prepared_segment() {
    let disk = MemDisk::new();
    let mut writer = open(&disk);
    append(&mut writer, 1..=3);
    writer.prepare_ahead().expect("room for one more");
    drop(writer);
    disk.kill();
    disk.limit_room(Some(0));
    let shared: SharedDisk = Arc::new(disk.clone());
    let mut writer = try_open(&shared, 4 * SEGMENT).expect("opens without room");
    append(&mut writer, 4..=5);
    assert_eq!(writer.last_slot(), 5);
}

/// A segment that cannot be unlinked holds nothing up, and goes with the next removal.
#[test]
fn an_unlink_that_fails_is_tried_again() {
    let disk = MemDisk::new();
    let mut writer = open(&disk);
    append(&mut writer, 1..=30);
    save(&disk, &mut writer, 15);
    save(&disk, &mut writer, 25);
    let first = names(&disk, "wal")[0].clone();
    disk.inject(Fault::once(&first, Operation::Name));
    let removed = writer.remove_prefix(25, u64::MAX, 0).expect("removed");
    assert!(removed.segments > 0, "{removed:?}");
    assert!(names(&disk, "wal").contains(&first));
    append(&mut writer, 31..=32);
    writer.remove_prefix(25, u64::MAX, 0).expect("nothing more");
    assert!(!names(&disk, "wal").contains(&first));
}

/// A crash between the superblock and the unlinks leaves segments that nobody counts: the next open removes them.
#[test]
fn a_removal_cut_short_leaves_no_orphans() {
    let disk = MemDisk::new();
    let mut writer = open(&disk);
    append(&mut writer, 1..=30);
    save(&disk, &mut writer, 15);
    save(&disk, &mut writer, 25);
    disk.inject(Fault::always(".wal", Operation::Name));
    let removed = writer.remove_prefix(25, u64::MAX, 0).expect("removed");
    drop(writer);
    disk.kill();
    let orphans = names(&disk, "wal").len();
    drop(open(&disk));
    let left = names(&disk, "wal").len();
    assert!(
        left as u64 <= orphans as u64 + 1 - removed.segments,
        "{orphans} files became {left}, {removed:?}"
    );
}

/// Failed snapshots leave nothing, and what a crash left of one goes with the next, whatever its slot.
#[test]
fn failed_snapshots_leave_no_heap() {
    let disk = MemDisk::new();
    let mut writer = open(&disk);
    append(&mut writer, 1..=3);
    disk.create("snapshots/0000000000000001.tmp").expect("left");
    disk.limit_room(Some(5000));
    for slot in [1, 2, 3] {
        let header = SnapshotHeader {
            cluster: 0,
            slot,
            membership: "".into(),
        };
        let state = vec![7; 100_000];
        let error = snapshot::save(&disk, &header, &mut &state[..]).expect_err("no room");
        assert!(error.is_no_space(), "{error}");
        assert_eq!(names(&disk, "snapshots"), [""; 0], "slot {slot}");
    }
    disk.limit_room(None);
    save(&disk, &mut writer, 3);
}

/// A snapshot that was found damaged must not take the place of the good one before it.
#[test]
fn a_damaged_snapshot_is_never_the_previous_one() {
    let disk = MemDisk::new();
    let mut writer = open(&disk);
    append(&mut writer, 1..=12);
    let good = save(&disk, &mut writer, 5);
    let bad = save(&disk, &mut writer, 10);
    drop(writer);
    disk.flip_bit(&wal::layout::snapshot_path(bad.slot), 5000, 0);

    let mut writer = open(&disk);
    append(&mut writer, 13..=14);
    let newest = save(&disk, &mut writer, 14);
    drop(writer);
    snapshot::verify(&disk, &good).expect("the good one is still there");
    let shared: SharedDisk = Arc::new(disk.clone());
    let folder = Folder::open(shared, 1, Environment::seeded(1)).expect("opens");
    assert_eq!(folder.meta().snapshot, Some(newest));
    assert_eq!(folder.meta().previous_snapshot, Some(good));
}

/// Each start begins a new segment. The unused rest of the one before goes back to the disk.
#[test]
fn crash_loops_take_little_room() {
    const STARTS: u64 = 12;
    const LARGE: u64 = 4 << 20;
    let folder = tempfile::tempdir().expect("a folder");
    for start in 1..=STARTS {
        let disk: SharedDisk = Arc::new(RealDisk::at(folder.path()));
        let mut writer = try_open(&disk, LARGE).expect("the log opens");
        append(&mut writer, start..=start);
        writer.prepare_ahead().expect("room");
    }
    let listed = std::fs::read_dir(folder.path().join("wal")).expect("listed");
    let taken: u64 = listed
        .map(|entry| entry.expect("an entry").metadata().expect("its size"))
        .map(|meta| meta.blocks() * 512)
        .sum();
    // The active segment and the prepared one are whole; each earlier start left a few blocks.
    let bound = 2 * LARGE + STARTS * (128 << 10);
    assert!(
        taken <= bound,
        "{taken} bytes after {STARTS} starts, bound {bound}"
    );
    let disk: SharedDisk = Arc::new(RealDisk::at(folder.path()));
    let writer = try_open(&disk, LARGE).expect("the log opens");
    assert_eq!(writer.last_slot(), STARTS);
    for slot in 1..=STARTS {
        assert!(writer.read(slot).expect("read").is_some(), "slot {slot}");
    }
    assert!(writer.log_bytes() < bound, "{} bytes", writer.log_bytes());
    assert!(
        writer.segments_since(1) >= STARTS - 1,
        "each start begins one"
    );
}
