use super::*;
use crate::storage::{Disk, MemDisk};

fn disk() -> MemDisk {
    let disk = MemDisk::new();
    disk.create_dir(SNAPSHOTS).unwrap();
    disk.sync_dir("").unwrap();
    disk
}

fn header(slot: u64) -> SnapshotHeader {
    SnapshotHeader {
        cluster: 7,
        slot,
        membership: Bytes::from_static(b"members"),
    }
}

fn payload(bytes: usize) -> Vec<u8> {
    (0..bytes).map(|at| (at * 31 % 251) as u8).collect()
}

#[test]
fn what_was_saved_is_loaded() {
    for bytes in [
        0,
        1,
        8192,
        CHUNK_BYTES - 1,
        CHUNK_BYTES,
        CHUNK_BYTES + 1,
        3 * CHUNK_BYTES + 77,
    ] {
        let disk = disk();
        let saved = save(&disk, &header(5), &mut &payload(bytes)[..]).unwrap();
        let (found, content) = load(&disk, &saved).unwrap();
        assert_eq!(
            (found, content),
            (header(5), payload(bytes)),
            "{bytes} bytes"
        );
        assert_eq!(inspect(&disk, 5).unwrap(), saved);
        assert_eq!(list(&disk).unwrap(), [5]);
    }
}

#[test]
fn replicas_write_the_same_bytes() {
    let (one, two) = (disk(), disk());
    let a = save(&one, &header(5), &mut &payload(9000)[..]).unwrap();
    let b = save(&two, &header(5), &mut &payload(9000)[..]).unwrap();
    assert_eq!(a, b);
    let path = layout::snapshot_path(5);
    let bytes = a.length as usize;
    assert_eq!(one.peek(&path, 0, bytes), two.peek(&path, 0, bytes));
}

#[test]
fn every_damaged_byte_is_seen() {
    let disk = disk();
    let saved = save(&disk, &header(5), &mut &payload(9000)[..]).unwrap();
    let path = layout::snapshot_path(5);
    for at in 0..saved.length {
        // Only the table behind the last unit and the header's reserved part are not covered twice.
        disk.flip_bit(&path, at, (at % 8) as u8);
        assert!(
            load(&disk, &saved).is_err(),
            "byte {at} of {}",
            saved.length
        );
        disk.flip_bit(&path, at, (at % 8) as u8);
    }
    for len in (0..saved.length).step_by(97) {
        let cut = disk.fork();
        cut.truncate(&path, len);
        assert!(load(&cut, &saved).is_err(), "cut to {len}");
    }
}

#[test]
fn a_snapshot_of_another_content_is_not_the_one_named() {
    let disk = disk();
    let first = save(&disk, &header(5), &mut &payload(100)[..]).unwrap();
    save(&disk, &header(5), &mut &payload(101)[..]).unwrap();
    let error = load(&disk, &first).unwrap_err();
    assert!(matches!(error, Error::BadSnapshot { .. }), "{error}");
}

#[test]
fn a_crash_at_any_call_leaves_none_or_a_whole_one() {
    let (mut none, mut whole) = (0, 0);
    for call in 1.. {
        let disk = disk();
        disk.halt_at(disk.calls() + call);
        let done = save(&disk, &header(5), &mut &payload(300_000)[..]).is_ok();
        disk.crash(call);
        match list(&disk).unwrap()[..] {
            [] => none += 1,
            _ => {
                inspect(&disk, 5).unwrap();
                whole += 1;
            }
        }
        if done {
            assert!(whole > 0 && none > 0);
            return;
        }
    }
}

#[test]
fn a_disk_that_loses_a_write_is_caught_at_once() {
    use crate::storage::{Fault, Operation, SyncFailure};
    let disk = disk();
    // The sync reports an error: the snapshot must not appear.
    disk.inject(Fault {
        after_sync: SyncFailure::SilentlyClean,
        ..Fault::once("snapshots/", Operation::Sync)
    });
    assert!(save(&disk, &header(5), &mut &payload(100)[..]).is_err());
    assert_eq!(list(&disk).unwrap(), Vec::<u64>::new());
}

#[test]
fn pruning_keeps_what_is_named_and_newer() {
    let disk = disk();
    let saved: Vec<SnapshotRef> = [1, 2, 3, 4]
        .map(|slot| save(&disk, &header(slot), &mut &payload(10)[..]).unwrap())
        .to_vec();
    prune(&disk, &saved[1..3]).unwrap();
    assert_eq!(list(&disk).unwrap(), [2, 3, 4]);
}
