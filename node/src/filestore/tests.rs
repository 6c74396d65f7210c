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
    files.on_snapshot_saved(&job()).expect("saved");
    assert_eq!(
        files.removed().iter().collect::<Vec<_>>(),
        [&A],
        "the older one names it"
    );
    files.on_snapshot_saved(&job()).expect("saved");
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
        let files = open(&disk);
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
