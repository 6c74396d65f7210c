//! A folder of the first build of 0.1.0 (log format 1.0) opens; afterwards it is one of this format.
//!
//! It was left by `kill -9` of a single replica: 130 sections, then two snapshots (slots 256 and 512), then the lock
//! `held` taken for ten minutes, then one section more. The log ends at slot 659 under ballot 1.1.

use std::sync::Arc;

use tests::harness::old_folder::unpack;
use tests::harness::{Cluster, Plan};
use wal::storage::RealDisk;
use wal::{Environment, Folder, Outcome};

const PACKED: &[u8] = include_bytes!("../data/folder-0.1.0.sparse");
const LAST_SLOT: u64 = 659;

/// What `file_N` held when the folder was packed.
fn expected(file: u64) -> String {
    let lines = (1..=130).filter(|line| line % 3 == file);
    let mut text: String = lines.map(|line| format!("line {line};")).collect();
    if file == 1 {
        text.push_str("after the snapshot;");
    }
    text
}

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

#[test]
fn a_replica_serves_a_folder_of_the_first_build() {
    let mut cluster: Cluster = Plan::new(1).cluster_name("holdfast").prepare();
    unpack(PACKED, cluster.data(1));
    cluster.start_all();
    cluster.leader();
    let client = cluster.client("C1");
    for file in 0..3 {
        client.assert_cat(&format!("file_{file}"), &expected(file));
    }
    let locks = cluster.holdfast().arg("locks").output();
    let locks = String::from_utf8(locks.expect("holdfast runs").stdout).expect("text");
    assert!(locks.contains("held"), "the lock is still held:\n{locks}");
    client.section(&[("file_2", "by this build;")]);
    client.assert_cat("file_2", &format!("{}by this build;", expected(2)));
}
