//! Every byte, every block, every pair of blocks, every cut of small logs: never a wrong value, and
//! nothing acknowledged is lost without a report.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use wal::storage::{BLOCK_BYTES, Disk, MemDisk};
use wal::{
    Environment, Error, Folder, Log, LogOptions, Lsn, Options, Outcome, Record, RecordKind, scan,
};

const SEGMENT: u64 = 32 * 1024;

/// A closed or killed log and what was acknowledged: slot -> (ballot, payload) of the latest version.
struct Small {
    disk: MemDisk,
    acknowledged: BTreeMap<u64, (u64, Vec<u8>)>,
    segments: Vec<String>,
}

fn payload(slot: u64, ballot: u64) -> Vec<u8> {
    format!("slot {slot} ballot {ballot} ")
        .repeat(1 + slot as usize % 4)
        .into_bytes()
}

/// How a log is written and left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Manner {
    /// By hand, and closed in order.
    Closed,
    /// By hand, and killed behind a marker and a hint.
    Killed,
    /// By the threads of a [`Log`], and closed in order.
    LogClosed,
    /// By the threads of a [`Log`], which then had nothing to do for a while, and killed.
    LogKilled,
}

const ALL: [Manner; 4] = [
    Manner::Closed,
    Manner::Killed,
    Manner::LogClosed,
    Manner::LogKilled,
];

fn small(closed: bool) -> Small {
    small_by(if closed {
        Manner::Closed
    } else {
        Manner::Killed
    })
}

/// Eleven batches over some segments; some slots are written again under a higher ballot.
fn small_by(manner: Manner) -> Small {
    let disk = MemDisk::new();
    let shared = Arc::new(disk.clone());
    let folder = Folder::open(shared, 1, Environment::seeded(1)).unwrap();
    let (mut log, _) = folder
        .open_log(Options {
            segment_bytes: SEGMENT,
        })
        .unwrap();
    let mut groups = Vec::new();
    let mut acknowledged = BTreeMap::new();
    for batch in 0..11_u64 {
        let (first, ballot) = if batch == 6 {
            (9, 2 << 16)
        } else {
            (batch * 2 + 1, 1 << 16)
        };
        let records = [first, first + 1].map(|slot| Record {
            kind: RecordKind::Accept,
            slot,
            ballot,
            payload: payload(slot, ballot).into(),
        });
        groups.push(records);
        for slot in [first, first + 1] {
            acknowledged.insert(slot, (ballot, payload(slot, ballot)));
        }
    }
    match manner {
        Manner::Closed | Manner::Killed => {
            for group in &groups {
                log.commit(group, 0).unwrap();
            }
            if manner == Manner::Closed {
                log.close().unwrap();
            } else {
                log.idle_marker().unwrap();
                log.durable_hint().unwrap();
            }
        }
        Manner::LogClosed | Manner::LogKilled => {
            let options = LogOptions {
                idle_delay: Duration::from_millis(2),
                hint_interval: Duration::from_millis(20),
                ..LogOptions::default()
            };
            let log = Log::start(log, options, Box::new(|_| {}));
            for group in groups {
                log.submit(group.to_vec(), 0).unwrap();
            }
            if manner == Manner::LogClosed {
                log.close().unwrap();
            } else {
                rest(&disk);
            }
        }
    }
    let segments = disk
        .list("wal")
        .unwrap()
        .into_iter()
        .map(|entry| format!("wal/{}", entry.name));
    let segments = segments.filter(|path| path.ends_with(".wal")).collect();
    Small {
        disk,
        acknowledged,
        segments,
    }
}

/// Waits until marker and hint have followed the last write.
fn rest(disk: &MemDisk) {
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        let facts = scan::survey(disk).unwrap();
        let batches = facts.segments.iter().flat_map(|s| s.batches());
        let with_records = batches.filter(|batch| batch.header.records > 0);
        let end = with_records.map(|batch| batch.header.end()).max();
        let written = facts.segments.iter().flat_map(|s| s.batches());
        let all_there = written.map(|batch| batch.header.max_slot).max() == Some(22);
        let hints = facts.supers.iter().flatten().map(|copy| copy.durable_hint);
        let marked = scan::decide(&facts).carry.is_empty();
        if all_there && marked && hints.max() >= Some(end.unwrap_or(Lsn(0))) {
            return;
        }
        assert!(Instant::now() < deadline, "no marker or no hint came");
        std::thread::sleep(Duration::from_millis(2));
    }
}

impl Small {
    /// Opens a damaged copy and holds it against what was acknowledged.
    #[track_caller]
    fn check(&self, what: &str, damage: impl FnOnce(&MemDisk)) {
        let disk = self.disk.fork();
        damage(&disk);
        let folder = match Folder::open(Arc::new(disk), 1, Environment::seeded(2)) {
            Ok(folder) => folder,
            Err(Error::MetaLost(_) | Error::NewerFormat { .. }) => return,
            Err(error) => panic!("{what}: {error}"),
        };
        let (log, recovery) = folder
            .open_log(Options {
                segment_bytes: SEGMENT,
            })
            .unwrap();
        let whole = match &recovery.outcome {
            Outcome::MetaLost | Outcome::Fatal => return,
            outcome => outcome.may_serve(),
        };
        for (slot, (ballot, value)) in &self.acknowledged {
            match log.read(*slot) {
                Ok(Some(entry)) if entry.ballot == *ballot => {
                    assert_eq!(entry.payload, value, "{what}: wrong value of slot {slot}");
                }
                found => {
                    assert!(
                        !whole,
                        "{what}: slot {slot} lost without a report, {found:?}\n{}",
                        recovery.report
                    );
                    let Outcome::Faulty { ranges, .. } = &recovery.outcome else {
                        unreachable!()
                    };
                    let covered = ranges
                        .iter()
                        .any(|r| r.contains(*slot) && r.ballot_max >= *ballot);
                    assert!(
                        covered,
                        "{what}: slot {slot} is lost outside the reported ranges\n{}",
                        recovery.report
                    );
                    assert!(
                        !matches!(found, Ok(Some(_))),
                        "{what}: an old value of slot {slot} is shown"
                    );
                }
            }
        }
    }

    fn blocks(&self) -> Vec<(String, u64)> {
        let count = SEGMENT / BLOCK_BYTES as u64;
        let of = |path: &String| {
            let path = path.clone();
            (0..count).map(move |block| (path.clone(), block * BLOCK_BYTES as u64))
        };
        self.segments.iter().flat_map(of).collect()
    }

    fn every_byte(&self, stride_of_zeros: u64, ways: &[u8]) {
        for path in &self.segments {
            let content = self.disk.peek(path, 0, SEGMENT as usize);
            for (at, byte) in content.iter().enumerate() {
                if *byte == 0 && !(at as u64).is_multiple_of(stride_of_zeros) {
                    continue;
                }
                for way in ways {
                    self.check(&format!("{path} byte {at} xor {way:#x}"), |disk| {
                        disk.damage(path, at as u64, &[byte ^ way]);
                    });
                }
            }
        }
    }
}

#[test]
fn every_byte() {
    small(true).every_byte(61, &[0x10]);
    small(false).every_byte(127, &[0x01]);
}

#[test]
#[ignore = "three ways for every byte, zeros too: minutes"]
fn every_byte_three_ways() {
    for closed in [true, false] {
        small(closed).every_byte(1, &[0x01, 0x80, 0xff]);
    }
}

#[test]
fn every_byte_of_the_superblocks() {
    let log = small(true);
    for path in ["wal/super.0", "wal/super.1"] {
        for at in 0..300 {
            log.check(&format!("{path} byte {at}"), |disk| {
                disk.flip_bit(path, at, 5)
            });
        }
    }
}

#[test]
fn every_block_zeroed_or_garbage_or_stale() {
    for log in [small(true), small(false)] {
        for (path, at) in log.blocks() {
            let stale = log
                .disk
                .peek(&log.segments[0], 2 * BLOCK_BYTES as u64, BLOCK_BYTES);
            for (how, bytes) in [
                ("zero", vec![0; BLOCK_BYTES]),
                ("garbage", vec![0xd7; BLOCK_BYTES]),
                ("stale", stale),
            ] {
                log.check(&format!("{path} block at {at} {how}"), |disk| {
                    disk.damage(&path, at, &bytes)
                });
            }
        }
    }
}

#[test]
fn every_pair_of_blocks() {
    let log = small(true);
    let blocks = log.blocks();
    for (at, one) in blocks.iter().enumerate() {
        for two in &blocks[at + 1..] {
            for byte in [0, 0x5a] {
                log.check(
                    &format!("{one:?} and {two:?} filled with {byte:#x}"),
                    |disk| {
                        disk.damage(&one.0, one.1, &[byte; BLOCK_BYTES]);
                        disk.damage(&two.0, two.1, &[byte; BLOCK_BYTES]);
                    },
                );
            }
        }
    }
}

#[test]
fn every_cut() {
    for log in ALL.map(small_by) {
        for path in &log.segments {
            for len in (0..SEGMENT).step_by(512) {
                log.check(&format!("{path} cut to {len}"), |disk| {
                    disk.truncate(path, len)
                });
            }
        }
    }
}

#[test]
fn zeros_to_the_end_from_every_block() {
    for log in ALL.map(small_by) {
        for (path, at) in log.blocks() {
            log.check(&format!("{path} zero from {at}"), |disk| {
                disk.damage(&path, at, &vec![0; (SEGMENT - at) as usize]);
            });
        }
    }
}

#[test]
fn every_file_deleted() {
    for log in ALL.map(small_by) {
        for path in log
            .segments
            .iter()
            .map(String::as_str)
            .chain(["wal/super.0", "wal/super.1"])
        {
            log.check(&format!("{path} deleted"), |disk| disk.delete(path));
        }
        log.check("all segments deleted", |disk| {
            log.segments.iter().for_each(|path| disk.delete(path))
        });
        log.check("both superblocks deleted", |disk| {
            disk.delete("wal/super.0");
            disk.delete("wal/super.1");
        });
    }
}

/// Damage found while the log is open: a reader never shows a wrong value.
#[test]
fn a_byte_that_rots_under_an_open_log_is_an_error() {
    let log = small(true);
    let disk = log.disk.fork();
    let folder = Folder::open(Arc::new(disk.clone()), 1, Environment::seeded(2)).unwrap();
    let (writer, _) = folder
        .open_log(Options {
            segment_bytes: SEGMENT,
        })
        .unwrap();
    for (at, byte) in disk
        .peek(&log.segments[1], 0, SEGMENT as usize)
        .into_iter()
        .enumerate()
    {
        if byte == 0 {
            continue;
        }
        disk.damage(&log.segments[1], at as u64, &[byte ^ 0x20]);
        for (slot, (_, value)) in &log.acknowledged {
            if let Ok(found) = writer.read(*slot) {
                assert_eq!(
                    found.map(|entry| entry.payload).as_deref(),
                    Some(&value[..]),
                    "byte {at}"
                );
            }
        }
        disk.damage(&log.segments[1], at as u64, &[byte]);
    }
}
