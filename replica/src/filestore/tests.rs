use std::sync::Arc;

use paxos::{ClusterClock, Slot};
use statemachine::Machine;
use wal::storage::{Disk, Fault, MemDisk, Operation};

use super::restore::Found;
use super::*;

const A: FileId = FileId(2, 0);
const B: FileId = FileId(2, 1);

fn open(disk: &MemDisk) -> FileStore {
    FileStore::open(Arc::new(disk.clone())).expect("the folders can be made")
}

fn create(files: &mut FileStore, id: FileId, name: &str) {
    files
        .apply(&FileOp::Create {
            id,
            name: name.to_owned(),
        })
        .expect("created");
}

fn append(files: &mut FileStore, id: FileId, name: &str, offset: u64, text: &'static str) {
    let data = Bytes::from_static(text.as_bytes());
    files
        .apply(&FileOp::Write {
            id,
            name: name.to_owned(),
            offset,
            data,
        })
        .expect("written");
}

fn remove(files: &mut FileStore, id: FileId, name: &str) {
    files
        .apply(&FileOp::Remove {
            id,
            name: name.to_owned(),
        })
        .expect("removed");
}

fn fact(id: FileId, name: &str, content: &str) -> FileFact {
    FileFact {
        id,
        name: name.to_owned(),
        length: content.len() as u64,
        crc32: crc32fast::hash(content.as_bytes()),
        guard: "default".to_owned(),
    }
}

fn content(disk: &MemDisk, name: &str) -> String {
    let file = disk
        .open_read(&format!("files/{name}"))
        .expect("the file is there");
    let len = file.len().expect("measured") as usize;
    String::from_utf8(disk.peek(&format!("files/{name}"), 0, len)).expect("text")
}

fn read(id: FileId, name: &str, offset: u64, len: u32) -> FileRead {
    let origin = crate::engine::Origin {
        conn: crate::engine::ConnId(1),
        request: 1,
    };
    FileRead {
        origin,
        slot: Slot(9),
        id,
        name: name.to_owned(),
        offset,
        len,
        file_len: 9,
    }
}

fn job() -> SnapshotJob {
    SnapshotJob {
        slot: Slot(8),
        machine: Machine::new(),
        clock: ClusterClock::default(),
    }
}

/// Kills mutant f1, a restart without the cut: what was applied after the snapshot would be doubled by
/// the replay.
#[test]
fn a_restart_cuts_back_to_the_snapshot() {
    let disk = MemDisk::new();
    let mut files = open(&disk);
    create(&mut files, A, "a");
    append(&mut files, A, "a", 0, "one");
    files.sync_set().run().expect("synced");
    append(&mut files, A, "a", 3, "two");
    drop(files);

    let mut files = open(&disk);
    let facts = [fact(A, "a", "one")];
    assert_eq!(
        files
            .faults(&facts, Inspection::Checksums)
            .expect("looked at"),
        []
    );
    files
        .cut_back(&facts, Inspection::Checksums)
        .expect("cut back");
    assert_eq!(content(&disk, "a"), "one");
}

/// Kills mutant f2, a removal that unlinks: the snapshot names the file, so a restart needs it.
#[test]
fn a_removed_file_comes_back_for_the_replay() {
    let disk = MemDisk::new();
    let mut files = open(&disk);
    create(&mut files, A, "a");
    append(&mut files, A, "a", 0, "old");
    files.sync_set().run().expect("synced");
    remove(&mut files, A, "a");
    create(&mut files, B, "a");
    append(&mut files, B, "a", 0, "another file of that name");
    files.sync_set().run().expect("synced");
    for seed in 0..20 {
        let disk = disk.fork();
        disk.crash(seed);
        let mut files = open(&disk);
        let facts = [fact(A, "a", "old")];
        assert_eq!(
            files
                .faults(&facts, Inspection::Checksums)
                .expect("looked at"),
            []
        );
        files
            .cut_back(&facts, Inspection::Checksums)
            .expect("cut back");
        assert_eq!(content(&disk, "a"), "old");
        assert!(files.removed().is_empty());
    }
}

/// Two snapshots are kept, so what neither names goes only after the second one.
#[test]
fn removed_files_go_when_no_kept_snapshot_names_them() {
    let disk = MemDisk::new();
    let mut files = open(&disk);
    create(&mut files, A, "a");
    files.keep([fact(A, "a", "")].into_iter());
    remove(&mut files, A, "a");
    files.on_snapshot_saved(&job());
    assert_eq!(
        files.removed().iter().collect::<Vec<_>>(),
        [&A],
        "the older one names it"
    );
    files.on_snapshot_saved(&job());
    assert!(files.removed().is_empty());
    assert!(disk.list("removed").expect("listed").is_empty());
}

#[test]
fn faults_say_what_is_missing() {
    let check = |damage: fn(&MemDisk), found: Found| {
        let disk = MemDisk::new();
        let mut files = open(&disk);
        create(&mut files, A, "a");
        append(&mut files, A, "a", 0, "some text");
        files.sync_set().run().expect("synced");
        drop(files);
        damage(&disk);
        let mut files = open(&disk);
        let facts = [fact(A, "a", "some text")];
        let faults = files
            .faults(&facts, Inspection::Checksums)
            .expect("looked at");
        assert_eq!(
            faults.iter().map(|fault| &fault.found).collect::<Vec<_>>(),
            [&found]
        );
        let text = faults[0].to_string();
        assert!(text.contains("file a") && text.contains("crc32"), "{text}");
    };
    check(|disk| disk.delete("files/a"), Found::Nothing);
    check(|disk| disk.truncate("files/a", 4), Found::Short(4));
    check(
        |disk| disk.damage("files/a", 0, b"S"),
        Found::Checksum(crc32fast::hash(b"Some text")),
    );
}

/// Reads of a file wait for its own check and for no other.
#[test]
fn the_background_check_goes_by_what_is_read() {
    let disk = MemDisk::new();
    let mut files = open(&disk);
    create(&mut files, A, "a");
    append(&mut files, A, "a", 0, "first");
    create(&mut files, B, "b");
    append(&mut files, B, "b", 0, "second");
    let facts = [fact(A, "a", "first"), fact(B, "b", "second")];
    files
        .cut_back(&facts, Inspection::Lengths)
        .expect("cut back");
    append(&mut files, B, "b", 6, " and more");

    assert!(matches!(
        files.read(&read(B, "b", 0, 3)),
        Err(ReadError::Unchecked)
    ));
    assert_eq!(files.check_slice(4), CheckStep::Working);
    assert_eq!(files.check_slice(4), CheckStep::Checked(B));
    assert_eq!(files.read(&read(B, "b", 7, 3)).expect("read"), "and");
    assert!(matches!(
        files.read(&read(A, "a", 0, 3)),
        Err(ReadError::Unchecked)
    ));
    assert!(!files.is_checked());
    assert_eq!(files.check_slice(100), CheckStep::Checked(A));
    assert_eq!(files.check_slice(100), CheckStep::Idle);
    assert!(files.is_checked());
}

/// Damage that the background check finds makes the next start look at every byte.
#[test]
fn damage_found_later_is_remembered() {
    let disk = MemDisk::new();
    let mut files = open(&disk);
    create(&mut files, A, "a");
    append(&mut files, A, "a", 0, "right");
    disk.damage("files/a", 0, b"f");
    files
        .cut_back(&[fact(A, "a", "right")], Inspection::Lengths)
        .expect("cut back");
    assert!(!files.is_recheck_due().expect("looked for"));
    let CheckStep::Damaged(text) = files.check_slice(100) else {
        panic!("damage is found")
    };
    assert!(
        text.contains("file a") && text.contains("first 5 bytes"),
        "{text}"
    );
    files.recheck_mark().make();
    assert!(open(&disk).is_recheck_due().expect("looked for"));
}

/// A write without room is whole when it is done again.
#[test]
fn a_full_disk_is_told_from_a_broken_one() {
    let disk = MemDisk::new();
    let mut files = open(&disk);
    create(&mut files, A, "a");
    disk.limit_room(Some(2));
    let data = Bytes::from_static(b"text");
    let op = FileOp::Write {
        id: A,
        name: "a".to_owned(),
        offset: 0,
        data,
    };
    assert!(matches!(files.apply(&op), Err(FileError::Full { .. })));
    disk.limit_room(None);
    files.apply(&op).expect("written");
    assert_eq!(content(&disk, "a"), "text");
    disk.inject(Fault::once("files/a", Operation::Write));
    assert!(matches!(files.apply(&op), Err(FileError::Failed { .. })));
}

/// A file that a snapshot names must not be lost between `removed/` and `files/`, whenever the power fails.
#[test]
fn moving_back_survives_a_crash_at_every_step() {
    let disk = MemDisk::new();
    let mut files = open(&disk);
    create(&mut files, A, "a");
    append(&mut files, A, "a", 0, "old");
    files.sync_set().run().expect("synced");
    remove(&mut files, A, "a");
    files.sync_set().run().expect("synced");
    drop(files);
    let facts = [fact(A, "a", "old")];
    for step in 1..=6 {
        for seed in 0..8 {
            let disk = disk.fork();
            let mut files = open(&disk);
            disk.halt_at(disk.calls() + step);
            let _ = files.cut_back(&facts, Inspection::Checksums);
            disk.crash(seed);
            let faults = open(&disk).faults(&facts, Inspection::Checksums);
            assert_eq!(faults.expect("looked at"), [], "step {step}, seed {seed}");
        }
    }
}

/// Two large files that are read by turns are both verified in the end: neither starts again.
#[test]
fn the_check_keeps_its_progress() {
    let disk = MemDisk::new();
    let mut files = open(&disk);
    create(&mut files, A, "a");
    append(&mut files, A, "a", 0, "first text");
    create(&mut files, B, "b");
    append(&mut files, B, "b", 0, "other text");
    let facts = [fact(A, "a", "first text"), fact(B, "b", "other text")];
    files
        .cut_back(&facts, Inspection::Lengths)
        .expect("cut back");
    for _ in 0..5 {
        for (id, name) in [(A, "a"), (B, "b")] {
            let unchecked = files.read(&read(id, name, 0, 3));
            assert!(matches!(unchecked, Err(ReadError::Unchecked)));
            files.check_slice(2);
        }
    }
    assert!(files.is_checked());
    assert_eq!(files.read(&read(B, "b", 6, 4)).expect("read"), "text");
}

/// What creates, moves or syncs is done by the job and not by whoever begins it, and a removal syncs nothing at all.
#[test]
fn nothing_waits_for_the_disk_but_jobs() {
    let disk = MemDisk::new();
    let mut files = open(&disk);
    let mut calls = |op: FileOp| {
        let before = disk.calls();
        let job = files.begin(&op).expect("begun").expect("a job");
        assert_eq!(disk.calls(), before, "{op:?} is only begun");
        assert!(files.finish(job.run()).expect("done"));
        disk.calls() - before
    };
    let name = || "a".to_owned();
    assert_eq!(
        calls(FileOp::Create {
            id: A,
            name: name()
        }),
        1
    );
    assert_eq!(
        calls(FileOp::Remove {
            id: A,
            name: name()
        }),
        1
    );
    // The removal must be durable before a file of the same name is made: both folders are synced.
    assert_eq!(
        calls(FileOp::Create {
            id: B,
            name: name()
        }),
        3
    );
    let other = FileId(3, 0);
    let create = FileOp::Create {
        id: other,
        name: "b".to_owned(),
    };
    assert_eq!(calls(create), 1);
}

/// The kernel tells of a failed write-back only those who had the file open then. So it stays open until it is synced.
#[test]
fn a_lost_write_back_is_never_missed() {
    let disk = MemDisk::new();
    let mut files = open(&disk);
    create(&mut files, A, "a");
    append(&mut files, A, "a", 0, "text");
    for n in 0..300 {
        create(&mut files, FileId(3, n), &format!("other_{n}"));
    }
    disk.lose_write_back("files/a");
    let synced = files.sync_set().run();
    assert!(
        matches!(synced, Err(FileError::Failed { .. })),
        "{synced:?}"
    );
}

/// Many files written to are synced some at a time, so that not all of them need to be open.
#[test]
fn files_held_open_are_bounded() {
    let disk = MemDisk::new();
    let mut files = open(&disk);
    for n in 0..3 * DIRTY_MAX as u32 {
        create(&mut files, FileId(3, n), &format!("file_{n}"));
        assert!(files.dirty.len() <= DIRTY_MAX);
    }
}

/// A sync that finds no room may leave bytes in the cache that are never written. They are written again.
#[test]
fn a_sync_without_room_is_repeated_whole() {
    let disk = MemDisk::new();
    let mut files = open(&disk);
    create(&mut files, A, "a");
    append(&mut files, A, "a", 0, "text");
    let no_room = Fault {
        full: true,
        after_sync: wal::storage::SyncFailure::SilentlyClean,
        ..Fault::once("files/a", Operation::Sync)
    };
    disk.inject(no_room);
    let set = files.sync_set();
    assert!(matches!(set.run(), Err(FileError::Full { .. })));
    files.sync_failed(set);
    append(&mut files, A, "a", 4, " and more");
    files.sync_set().run().expect("there is room again");
    for seed in 0..8 {
        let disk = disk.fork();
        disk.crash(seed);
        assert_eq!(content(&disk, "a"), "text and more");
    }
}

/// Every read is checked. Only the damaged file is refused.
#[test]
fn rot_is_never_served() {
    let disk = MemDisk::new();
    let mut files = open(&disk);
    create(&mut files, A, "a");
    append(&mut files, A, "a", 0, "first");
    append(&mut files, A, "a", 5, " text");
    create(&mut files, B, "b");
    append(&mut files, B, "b", 0, "other");
    assert_eq!(files.read(&read(A, "a", 3, 4)).expect("read"), "st t");
    disk.flip_bit("files/a", 7, 1);
    let found = files.read(&read(A, "a", 0, 2));
    assert!(
        matches!(&found, Err(ReadError::Failed(FileError::Rotten { from: 0, to: 10, path })) if path == "files/a"),
        "{found:?}"
    );
    assert!(!files.is_damaged());
    files.note_damage(A, "a", "bytes 0 to 10 are not what was written");
    assert!(files.is_damaged());
    let found = files.read(&read(A, "a", 0, 2));
    assert!(
        matches!(found, Err(ReadError::Damaged { lasting: false, .. })),
        "{found:?}"
    );
    assert_eq!(files.read(&read(B, "b", 0, 5)).expect("read"), "other");

    // What a start has verified is checked as well.
    let mut files = open(&disk);
    let facts = [fact(B, "b", "other")];
    files.faults(&facts, Inspection::Checksums).expect("looked");
    files
        .cut_back(&facts, Inspection::Checksums)
        .expect("cut back");
    assert_eq!(files.read(&read(B, "b", 1, 2)).expect("read"), "th");
    disk.flip_bit("files/b", 4, 0);
    assert!(files.read(&read(B, "b", 1, 2)).is_err());
}
