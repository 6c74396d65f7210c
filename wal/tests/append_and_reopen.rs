//! The simple path, on both disks: open, append, read, close or crash, open again.

use std::sync::Arc;

use wal::storage::{Fault, MemDisk, Operation, RealDisk};
use wal::{
    Environment, Error, Folder, Options, Outcome, ReadError, Record, RecordKind, Recovery,
    SharedDisk, Writer,
};

const SEGMENT: u64 = 64 * 1024;

fn open(disk: &SharedDisk, seed: u64) -> (Writer, Recovery) {
    let folder = Folder::open(disk.clone(), 1, Environment::seeded(seed)).unwrap();
    folder
        .open_log(Options {
            segment_bytes: SEGMENT,
        })
        .unwrap()
}

fn accept(slot: u64, ballot: u64, payload: &[u8]) -> Record {
    Record {
        kind: RecordKind::Accept,
        slot,
        ballot,
        payload: payload.to_vec().into(),
    }
}

/// Runs a story on the real disk and on the one in memory.
fn on_both(story: impl Fn(SharedDisk)) {
    story(Arc::new(MemDisk::new()));
    let folder = tempfile::tempdir().unwrap();
    story(Arc::new(
        RealDisk::create_root(folder.path().join("data")).unwrap(),
    ));
}

#[test]
fn what_was_appended_is_read_again() {
    on_both(|disk| {
        let (mut log, recovery) = open(&disk, 1);
        assert_eq!(recovery.outcome, Outcome::Clean);
        assert_eq!(
            (
                recovery.first_slot,
                recovery.last_slot,
                recovery.incarnation
            ),
            (1, 0, 1)
        );
        for slot in 1..=40 {
            log.commit(&[accept(slot, 9, &vec![slot as u8; 5000])], slot - 1)
                .unwrap();
        }
        log.close().unwrap();

        let (log, recovery) = open(&disk, 2);
        assert_eq!(recovery.outcome, Outcome::Clean, "{}", recovery.report);
        assert!(
            recovery.report.findings.iter().all(|f| f.row == 15),
            "{}",
            recovery.report
        );
        assert_eq!(
            (
                recovery.last_slot,
                recovery.commit_slot,
                recovery.incarnation
            ),
            (40, 39, 2)
        );
        assert_eq!(
            recovery.promised, 9,
            "an accept at a ballot counts as its promise"
        );
        for slot in 1..=40 {
            let entry = log.read(slot).unwrap().unwrap();
            assert_eq!(
                (entry.ballot, &entry.payload[..]),
                (9, &vec![slot as u8; 5000][..])
            );
        }
        assert_eq!(log.read(41).unwrap(), None);
    });
}

#[test]
fn a_killed_process_loses_nothing() {
    on_both(|disk| {
        let mut next = 1;
        for life in 0..6 {
            let (mut log, recovery) = open(&disk, life);
            assert!(recovery.outcome.may_serve(), "{}", recovery.report);
            assert_eq!(
                recovery.last_slot,
                next - 1,
                "life {life}: {}",
                recovery.report
            );
            for _ in 0..5 {
                log.commit(
                    &[
                        accept(next, life, b"value"),
                        accept(next + 1, life, b"other"),
                    ],
                    0,
                )
                .unwrap();
                next += 2;
            }
            // Dropped without close: what a kill leaves.
        }
        let (log, _) = open(&disk, 99);
        for slot in 1..next {
            let expected: &[u8] = if slot % 2 == 1 { b"value" } else { b"other" };
            assert_eq!(log.read(slot).unwrap().unwrap().payload, expected);
        }
    });
}

/// Crash loops must not eat the disk: an empty newest segment is used again.
#[test]
fn restarts_without_appends_reuse_the_newest_segment() {
    let disk = MemDisk::new();
    let shared: SharedDisk = Arc::new(disk.clone());
    let (mut log, _) = open(&shared, 0);
    log.commit(&[accept(1, 1, b"one")], 0).unwrap();
    drop(log);
    let mut counts = Vec::new();
    for life in 1..=8 {
        let (log, recovery) = open(&shared, life);
        assert_eq!(recovery.outcome, Outcome::Clean, "{}", recovery.report);
        assert_eq!(log.read(1).unwrap().unwrap().payload, "one");
        drop(log);
        disk.crash(life);
        counts.push(wal::scan::survey(&disk).unwrap().segments.len());
    }
    assert_eq!(counts[2..], [counts[2]; 6], "{counts:?}");
}

#[test]
fn promises_survive_in_log_and_superblock() {
    on_both(|disk| {
        let (mut log, _) = open(&disk, 1);
        let promise = Record {
            kind: RecordKind::Promise,
            slot: 0,
            ballot: 77,
            payload: "".into(),
        };
        log.commit(&[promise], 0).unwrap();
        drop(log);
        let folder = Folder::open(disk.clone(), 1, Environment::seeded(2)).unwrap();
        assert_eq!(folder.meta().promised, 77);
        let (_, recovery) = folder
            .open_log(Options {
                segment_bytes: SEGMENT,
            })
            .unwrap();
        assert_eq!(recovery.promised, 77);
    });
}

#[test]
fn a_folder_has_one_owner_and_one_node() {
    on_both(|disk| {
        let held = Folder::open(disk.clone(), 1, Environment::seeded(1)).unwrap();
        let error = Folder::open(disk.clone(), 1, Environment::seeded(1)).unwrap_err();
        assert!(matches!(error, Error::InUse), "{error}");
        drop(held);
        let error = Folder::open(disk.clone(), 2, Environment::seeded(1)).unwrap_err();
        assert!(
            matches!(
                error,
                Error::ForeignNode {
                    found: 1,
                    expected: 2
                }
            ),
            "{error}"
        );
    });
}

#[test]
fn a_birth_record_is_stored_once() {
    on_both(|disk| {
        let mut folder = Folder::open(disk.clone(), 1, Environment::seeded(1)).unwrap();
        assert_eq!(folder.meta().cluster, 0);
        folder.store_birth(5, b"record").unwrap();
        folder.store_birth(5, b"record").unwrap();
        let error = folder.store_birth(6, b"record").unwrap_err();
        assert!(
            matches!(error, Error::BornElsewhere { found: 5 }),
            "{error}"
        );
        let (log, _) = folder
            .open_log(Options {
                segment_bytes: SEGMENT,
            })
            .unwrap();
        drop(log);
        let folder = Folder::open(disk, 1, Environment::seeded(1)).unwrap();
        assert_eq!(
            (folder.meta().cluster, &folder.meta().birth[..]),
            (5, &b"record"[..])
        );
    });
}

#[test]
fn large_records_and_large_groups_fit_or_are_refused() {
    let disk: SharedDisk = Arc::new(MemDisk::new());
    let folder = Folder::open(disk.clone(), 1, Environment::seeded(1)).unwrap();
    let (mut log, _) = folder
        .open_log(Options {
            segment_bytes: 1 << 20,
        })
        .unwrap();
    let large = vec![7; 900_000];
    log.commit(&[accept(1, 1, &large)], 0).unwrap();
    let many: Vec<Record> = (2..=1001)
        .map(|slot| accept(slot, 1, &[slot as u8; 3000]))
        .collect();
    log.commit(&many, 0).unwrap();
    let error = log
        .commit(&[accept(1002, 1, &vec![0; 1 << 20])], 0)
        .unwrap_err();
    assert!(matches!(error, Error::TooLarge { .. }), "{error}");
    let error = log.commit(&[accept(1 << 40, 1, b"far")], 0).unwrap_err();
    assert!(matches!(error, Error::SlotOutOfRange { .. }), "{error}");
    log.commit(&[accept(1002, 1, b"still open")], 0).unwrap();
    drop(log);
    let (log, _) = open(&disk, 2);
    assert_eq!(log.read(1).unwrap().unwrap().payload, large);
    for slot in 2..=1001 {
        assert_eq!(
            log.read(slot).unwrap().unwrap().payload,
            vec![slot as u8; 3000]
        );
    }
    assert_eq!(log.last_slot(), 1002);
}

#[test]
fn a_chosen_value_outranks_and_else_the_latest_counts() {
    let disk: SharedDisk = Arc::new(MemDisk::new());
    let (mut log, _) = open(&disk, 1);
    let chosen = Record {
        kind: RecordKind::Chosen,
        slot: 1,
        ballot: 0,
        payload: "chosen".into(),
    };
    log.commit(&[accept(1, 1, b"a"), accept(2, 1, b"a")], 0)
        .unwrap();
    log.commit(&[accept(2, 2, b"b"), chosen], 0).unwrap();
    log.commit(&[accept(1, 3, b"c")], 0).unwrap();
    for reopened in [false, true] {
        if reopened {
            drop(log);
            log = open(&disk, 2).0;
        }
        let one = log.read(1).unwrap().unwrap();
        assert_eq!(
            (one.kind, one.payload),
            (RecordKind::Chosen, "chosen".into())
        );
        assert_eq!(log.read(2).unwrap().unwrap().payload, "b");
    }
}

/// A follower of a live log sees exactly what is proven durable, in order, across segments.
#[test]
fn a_follower_sees_what_is_proven() {
    on_both(|disk| {
        let (mut log, _) = open(&disk, 1);
        let mut follow = wal::scan::Follow::newest(disk.clone()).unwrap();
        let mut seen = Vec::new();
        for slot in 1..=30 {
            log.commit(&[accept(slot, 1, &[7; 5000])], 0).unwrap();
            let proven = follow.poll().unwrap();
            seen.extend(
                proven
                    .iter()
                    .flat_map(|batch| &batch.records)
                    .map(|record| record.slot),
            );
            assert_eq!(
                seen.len() as u64,
                slot - 1,
                "the last one is not proven yet"
            );
        }
        log.idle_marker().unwrap();
        let proven = follow.poll().unwrap();
        seen.extend(
            proven
                .iter()
                .flat_map(|batch| &batch.records)
                .map(|record| record.slot),
        );
        assert_eq!(seen, (1..=30).collect::<Vec<u64>>());
        assert!(follow.poll().unwrap().is_empty());
    });
}

#[test]
fn a_survey_tells_how_far_it_is() {
    on_both(|disk| {
        let (mut log, _) = open(&disk, 1);
        for slot in 1..=30 {
            log.commit(&[accept(slot, 1, &[7; 5000])], 0).unwrap();
        }
        drop(log);
        let most = std::sync::Mutex::new((0, 0));
        let watch = |told: wal::scan::Surveyed| {
            let mut most = most.lock().unwrap();
            *most = (most.0.max(told.bytes), told.of);
        };
        let facts = wal::scan::survey_watched(&*disk, &watch).unwrap();
        let (bytes, of) = *most.lock().unwrap();
        let all = facts
            .segments
            .iter()
            .map(|segment| segment.len)
            .sum::<u64>();
        assert_eq!((bytes, of), (all, all));
    });
}

/// A file that was mapped into memory would end the process with a signal here.
#[test]
fn what_the_disk_cannot_read_is_an_error_of_one_read() {
    let folder = tempfile::tempdir().unwrap();
    let disk: SharedDisk = Arc::new(RealDisk::create_root(folder.path()).unwrap());
    let (mut log, _) = open(&disk, 1);
    for slot in 1..=30 {
        log.commit(&[accept(slot, 1, &[7; 5000])], 0).unwrap();
    }
    log.close().unwrap();
    let (log, _) = open(&disk, 2);
    let reader = log.reader();
    assert!(reader.read(1).unwrap().is_some());
    let first = "wal/0000000000000001.wal";
    let file = std::fs::File::options()
        .write(true)
        .open(folder.path().join(first));
    file.unwrap().set_len(8192).unwrap();
    match reader.read(5) {
        Err(ReadError::Io { slot: 5, file, .. }) => assert_eq!(file, first),
        other => panic!("{other:?}"),
    }
    assert!(reader.read(30).unwrap().is_some(), "another file");
}

/// Read in order, so that pieces are read ahead, with a place that cannot be read in the middle of one.
#[test]
fn a_bad_sector_is_an_error_of_the_records_on_it() {
    let mem = MemDisk::new();
    let disk: SharedDisk = Arc::new(mem.clone());
    let (mut log, _) = open(&disk, 1);
    for slot in 1..=8 {
        log.commit(&[accept(slot, 1, &[slot as u8; 5000])], 0)
            .unwrap();
    }
    log.close().unwrap();
    let (log, _) = open(&disk, 2);
    let path = "wal/0000000000000001.wal";
    // Two blocks of markers and headers come first, and each record takes two.
    let at = (2 + 2 * 3) * 4096;
    mem.inject(Fault {
        bytes: at..at + 8192,
        ..Fault::always(path, Operation::Read)
    });
    let failed: Vec<u64> = (1..=8)
        .filter(|slot| match log.read(*slot) {
            Ok(Some(entry)) => {
                assert_eq!(entry.payload, vec![*slot as u8; 5000]);
                false
            }
            Err(ReadError::Io { file, .. }) => {
                assert_eq!(file, path);
                true
            }
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(failed, [4]);
}
