//! Arbitrary bytes in every file of the folder: no panic, no large allocation, no value that nobody wrote.

use std::sync::Arc;

use proptest::prelude::*;
use wal::storage::{Disk, MemDisk};
use wal::{Environment, Folder, Options, Record, RecordKind, scan, snapshot};

const SEGMENT: u64 = 32 * 1024;

fn options() -> Options {
    Options {
        segment_bytes: SEGMENT,
    }
}

/// A small log with a snapshot.
fn whole() -> MemDisk {
    let disk = MemDisk::new();
    let folder = Folder::open(Arc::new(disk.clone()), 1, Environment::seeded(1)).unwrap();
    let (mut log, _) = folder.open_log(options()).unwrap();
    for slot in 1..=8 {
        let payload = format!("value {slot}").into();
        log.commit(
            &[Record {
                kind: RecordKind::Accept,
                slot,
                ballot: 1,
                payload,
            }],
            0,
        )
        .unwrap();
    }
    let header = wal::SnapshotHeader {
        cluster: 0,
        slot: 4,
        membership: "".into(),
    };
    let saved = snapshot::save(&disk, &header, &mut &b"state"[..]).unwrap();
    log.snapshot_saved(saved).unwrap();
    log.close().unwrap();
    disk
}

/// Runs every reader of the crate over the folder.
fn read_all(disk: &MemDisk) {
    let facts = scan::survey(disk).unwrap();
    let decision = scan::decide(&facts);
    let _ = decision.report.to_string();
    for view in scan::records(&facts, &decision) {
        if let Ok(Some(payload)) = scan::payload(disk, view.segment, view.record) {
            assert!(
                payload.is_empty() || payload.starts_with(b"value"),
                "{payload:?}"
            );
        }
    }
    let mut follow = scan::Follow::from_segment(Arc::new(disk.clone()), 1);
    let _ = follow.poll();
    for slot in snapshot::list(disk).unwrap_or_default() {
        let _ = snapshot::inspect(disk, slot);
    }
    let Ok(folder) = Folder::open(Arc::new(disk.fork()), 1, Environment::seeded(2)) else {
        return;
    };
    let Ok((log, recovery)) = folder.open_log(options()) else {
        return;
    };
    for slot in 0..=recovery.last_slot.min(20) {
        if let Ok(Some(entry)) = log.read(slot) {
            assert_eq!(entry.payload, format!("value {slot}"));
        }
    }
}

const FILES: [&str; 5] = [
    "wal/super.0",
    "wal/super.1",
    "wal/0000000000000001.wal",
    "wal/0000000000000002.wal",
    "snapshots/0000000000000004.snap",
];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn arbitrary_bytes_over_a_real_folder(
        writes in prop::collection::vec(
            (0..FILES.len(), 0..SEGMENT, prop::collection::vec(any::<u8>(), 1..300)),
            1..6,
        ),
    ) {
        let disk = whole();
        for (file, at, bytes) in writes {
            disk.damage(FILES[file], at, &bytes);
        }
        read_all(&disk);
    }

    #[test]
    fn files_of_arbitrary_bytes(
        files in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..9000), FILES.len()),
        keep_super in any::<bool>(),
    ) {
        let disk = whole();
        for (path, bytes) in FILES.iter().zip(files).skip(if keep_super { 2 } else { 0 }) {
            disk.truncate(path, bytes.len() as u64);
            if !bytes.is_empty() {
                disk.damage(path, 0, &bytes);
            }
        }
        read_all(&disk);
    }

    /// Headers that lie, with checksums made right again: the structure is wrong, not the bytes.
    #[test]
    fn headers_with_impossible_fields_and_good_checksums(
        field in 8_usize..128,
        value in any::<u64>(),
        slot in 1_u64..8,
    ) {
        let disk = whole();
        let facts = scan::survey(&disk).unwrap();
        let segment = &facts.segments[0];
        let header = segment.header().unwrap();
        let found = segment.batches().find(|b| b.header.max_slot == slot);
        let Some(batch) = found else { return Ok(()) };
        let at = batch.header.lsn.0 - header.base.0;
        let mut bytes = disk.peek(&segment.path, at, 128);
        let width = 8.min(128 - field);
        bytes[field..field + width].copy_from_slice(&value.to_le_bytes()[..width]);
        let mut crc = crc32fast::Hasher::new_with_initial(header.salt as u32);
        crc.update(&bytes[8..]);
        bytes[4..8].copy_from_slice(&crc.finalize().to_le_bytes());
        disk.damage(&segment.path, at, &bytes);
        read_all(&disk);
    }

    /// Whatever is appended is read again, from the tail in memory and after reopening.
    #[test]
    fn what_is_appended_is_read(
        groups in prop::collection::vec(
            prop::collection::vec((1_u64..40, 1_u64..5, 0_usize..12_000), 1..6),
            1..12,
        ),
        closed in any::<bool>(),
    ) {
        let disk = MemDisk::new();
        let folder = Folder::open(Arc::new(disk.clone()), 1, Environment::seeded(1)).unwrap();
        let (mut log, _) = folder.open_log(options()).unwrap();
        let mut latest = std::collections::BTreeMap::new();
        for group in groups {
            let records: Vec<Record> = group
                .into_iter()
                .map(|(slot, ballot, bytes)| {
                    let payload: Vec<u8> = (0..bytes).map(|at| (at as u64 * slot + ballot) as u8).collect();
                    latest.insert(slot, payload.clone());
                    Record { kind: RecordKind::Accept, slot, ballot, payload: payload.into() }
                })
                .collect();
            log.commit(&records, 0).unwrap();
        }
        for (slot, payload) in &latest {
            prop_assert_eq!(&log.read(*slot).unwrap().unwrap().payload[..], &payload[..]);
        }
        if closed { log.close().unwrap() } else { drop(log) }
        let folder = Folder::open(Arc::new(disk.clone()), 1, Environment::seeded(2)).unwrap();
        let (log, recovery) = folder.open_log(options()).unwrap();
        prop_assert!(recovery.outcome.may_serve());
        for (slot, payload) in &latest {
            prop_assert_eq!(&log.read(*slot).unwrap().unwrap().payload[..], &payload[..]);
        }
    }
}

#[test]
fn the_readers_read_a_whole_folder() {
    let disk = whole();
    assert!(disk.exists(FILES[4]).unwrap());
    read_all(&disk);
}
