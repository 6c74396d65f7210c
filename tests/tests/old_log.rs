//! The log of the first build of 0.1.0 (format 1.0), opened twice in one process.
//!
//! A test binary of its own: the lock on a folder belongs to an open file, which a child of the same process holds,
//! too, from its fork to its exec. Where other tests start programs, the second opening could find the folder in use.

use std::sync::Arc;

use tests::harness::old_folder::{PACKED, unpack};
use wal::storage::RealDisk;
use wal::{Environment, Folder, Outcome};

const LAST_SLOT: u64 = 659;

#[test]
fn a_log_of_format_1_opens_and_goes_on_as_format_2() {
    let folder = tempfile::tempdir().expect("a place for temporary folders");
    unpack(PACKED, folder.path());
    let major = |name: &str| {
        let bytes = std::fs::read(folder.path().join("wal").join(name)).expect("a file of the log");
        u16::from_le_bytes([bytes[8], bytes[9]])
    };
    assert_eq!(major("super.0"), 1);
    let mut peers = "";
    for life in 1..=2 {
        let disk = Arc::new(RealDisk::at(folder.path()));
        let opened = Folder::open(disk, 1, Environment::of_machine()).expect("the folder opens");
        assert_eq!(opened.meta().peers, peers);
        let (mut writer, recovery) = opened.open_log(wal::Options::default()).expect("its log");
        assert!(recovery.outcome.may_serve(), "{}", recovery.report);
        assert_eq!(recovery.report.damage().count(), 0, "{}", recovery.report);
        assert_eq!(recovery.last_slot, LAST_SLOT);
        assert_eq!(recovery.snapshots.len(), 2);
        for slot in 513..=LAST_SLOT {
            assert!(writer.read(slot).expect("a sound slot").is_some());
        }
        peers = "known";
        writer.note_peers(peers.into()).expect("the disk takes it");
        drop(writer);
        assert_eq!((major("super.0"), major("super.1")), (2, 2), "life {life}");
    }
    assert_eq!(
        major("0000000000000001.wal"),
        1,
        "old segments stay as they are"
    );
    let newest = std::fs::read_dir(folder.path().join("wal")).expect("the log");
    let newest = newest.map(|entry| entry.expect("a name").file_name());
    let newest = newest.filter(|name| name.to_string_lossy().ends_with(".wal"));
    let newest = newest.max().expect("a segment");
    assert_eq!(major(&newest.to_string_lossy()), 2);
    let disk = RealDisk::at(folder.path());
    let facts = wal::scan::survey(&disk).expect("it can be listed");
    assert_eq!(wal::scan::decide(&facts).outcome, Outcome::Clean);
}
