use super::*;
use crate::storage::SyncFailure;

fn disk_with_file(path: &str) -> (MemDisk, SharedFile) {
    let disk = MemDisk::new();
    disk.create_dir("wal").unwrap();
    disk.sync_dir("").unwrap();
    let file = disk.create(path).unwrap();
    disk.sync_dir("wal").unwrap();
    disk.sync_dir("").unwrap();
    (disk, file)
}

#[test]
fn synced_bytes_survive_every_crash() {
    for seed in 0..200 {
        let (disk, file) = disk_with_file("wal/a");
        file.write_at(b"kept", 0).unwrap();
        file.sync().unwrap();
        file.write_at(b"perhaps", 8192).unwrap();
        disk.crash(seed);
        assert_eq!(disk.peek("wal/a", 0, 4), b"kept", "seed {seed}");
    }
}

/// Over many seeds each fate of an unsynced block is seen: old, new, garbage.
#[test]
fn unsynced_blocks_are_kept_dropped_or_torn() {
    let (mut old, mut new, mut torn) = (0, 0, 0);
    for seed in 0..200 {
        let (disk, file) = disk_with_file("wal/a");
        file.write_at(&[1; 4096], 0).unwrap();
        file.sync().unwrap();
        file.write_at(&[2; 4096], 0).unwrap();
        disk.crash(seed);
        match disk.peek("wal/a", 0, 4096) {
            bytes if bytes == [1; 4096] => old += 1,
            bytes if bytes == [2; 4096] => new += 1,
            _ => torn += 1,
        }
    }
    assert!(
        old > 20 && new > 20 && torn > 20,
        "{old} old, {new} new, {torn} torn"
    );
}

#[test]
fn an_unsynced_name_may_be_lost_and_an_unsynced_remove_undone() {
    let (mut created, mut removed) = (0, 0);
    for seed in 0..100 {
        let (disk, _file) = disk_with_file("wal/a");
        disk.create("wal/b").unwrap();
        disk.remove("wal/a").unwrap();
        disk.crash(seed);
        created += u32::from(disk.exists("wal/b").unwrap());
        removed += u32::from(!disk.exists("wal/a").unwrap());
    }
    assert!(
        (10..90).contains(&created) && (10..90).contains(&removed),
        "{created} {removed}"
    );
}

#[test]
fn a_rename_is_old_or_new_and_never_neither() {
    for seed in 0..100 {
        let (disk, file) = disk_with_file("wal/a");
        file.write_at(b"new", 0).unwrap();
        file.sync().unwrap();
        disk.rename("wal/a", "wal/b").unwrap();
        disk.crash(seed);
        let names: Vec<String> = disk
            .list("wal")
            .unwrap()
            .into_iter()
            .map(|e| e.name)
            .collect();
        assert_eq!(names.len(), 1, "seed {seed}: {names:?}");
        assert_eq!(disk.peek(&format!("wal/{}", names[0]), 0, 3), b"new");
    }
}

#[test]
fn the_same_seed_gives_the_same_disk() {
    let run = |seed| {
        let (disk, file) = disk_with_file("wal/a");
        file.write_at(&[7; 3 * 4096], 100).unwrap();
        disk.crash(seed);
        disk.peek("wal/a", 0, 4 * 4096)
    };
    assert_eq!(run(5), run(5));
    assert!((0..20).any(|seed| run(seed) != run(5)));
}

/// The three page-cache behaviours after a failed sync, as a later crash and a dropped cache show them.
#[test]
fn a_failed_sync_leaves_what_was_ordered() {
    for (how, readable, after_sync_again) in [
        (SyncFailure::KeptDirty, b"new", b"new"),
        (SyncFailure::Reverted, b"old", b"old"),
        (SyncFailure::SilentlyClean, b"new", b"old"),
    ] {
        let (disk, file) = disk_with_file("wal/a");
        file.write_at_durable(b"old", 0).unwrap();
        file.sync().unwrap();
        disk.inject(Fault {
            after_sync: how,
            ..Fault::once("wal/a", Operation::Sync)
        });
        file.write_at_durable(b"new", 0).unwrap_err();
        assert_eq!(&disk.peek("wal/a", 0, 3), readable, "{how:?}");
        file.sync().unwrap();
        file.drop_cache(0, 4096);
        assert_eq!(&disk.peek("wal/a", 0, 3), after_sync_again, "{how:?}");
    }
}

#[test]
fn a_full_disk_refuses_growth_only() {
    let (disk, file) = disk_with_file("wal/a");
    disk.limit_room(Some(8192));
    file.write_at(&[1; 8192], 0).unwrap();
    file.write_at(&[2; 8192], 0).unwrap();
    let error = file.write_at(&[3; 1], 8192).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::StorageFull);
    drop(file);
    disk.remove("wal/a").unwrap();
    disk.sync_dir("wal").unwrap();
    disk.create("wal/b")
        .unwrap()
        .write_at(&[1; 8192], 0)
        .unwrap();
}

#[test]
fn a_halted_disk_fails_until_the_crash() {
    let (disk, file) = disk_with_file("wal/a");
    disk.halt_at(disk.calls() + 2);
    file.write_at(b"one", 0).unwrap();
    file.write_at(b"two", 0).unwrap_err();
    assert!(disk.is_halted());
    file.sync().unwrap_err();
    disk.crash(1);
    file.sync().unwrap_err();
    disk.open("wal/a").unwrap().sync().unwrap();
}

#[test]
fn a_crash_gives_the_lock_back() {
    let disk = MemDisk::new();
    let held = disk.lock("lock").unwrap();
    assert_eq!(
        disk.lock("lock").unwrap_err().kind(),
        io::ErrorKind::WouldBlock
    );
    disk.crash(0);
    let second = disk.lock("lock").unwrap();
    drop(held);
    assert!(
        disk.lock("lock").is_err(),
        "the old guard must not free the new lock"
    );
    drop(second);
    disk.lock("lock").unwrap();
}

#[test]
fn a_cut_and_regrown_file_shows_zeros() {
    let (disk, file) = disk_with_file("wal/a");
    file.write_at(&[9; 5000], 0).unwrap();
    file.set_len(10).unwrap();
    file.set_len(5000).unwrap();
    let bytes = disk.peek("wal/a", 0, 5000);
    assert_eq!(&bytes[..10], [9; 10]);
    assert!(bytes[10..].iter().all(|byte| *byte == 0));
    assert_eq!(file.len().unwrap(), 5000);
}
