use std::sync::mpsc;

use super::*;
use crate::record::{Lsn, RecordKind};
use crate::storage::{Disk, Fault, MemDisk, Operation, RealDisk, SharedDisk};
use crate::{Environment, Folder, Options, Recovery};

mod beside;
mod gates;

/// Longer than anything takes; only a failing test waits so long.
const PATIENCE: Duration = Duration::from_secs(20);

fn open(disk: &SharedDisk) -> (Writer, Recovery) {
    let folder = Folder::open(disk.clone(), 1, Environment::seeded(1)).unwrap();
    let options = Options {
        segment_bytes: 256 * 1024,
    };
    folder.open_log(options).unwrap()
}

fn accept(slot: u64, bytes: usize) -> Record {
    let payload = vec![slot as u8; bytes].into();
    Record {
        kind: RecordKind::Accept,
        slot,
        ballot: 1,
        payload,
    }
}

fn start(disk: &SharedDisk, options: LogOptions) -> (Log, mpsc::Receiver<Progress>) {
    let (send, receive) = mpsc::channel();
    let told = move |progress| {
        let _ = send.send(progress);
    };
    (Log::start(open(disk).0, options, Box::new(told)), receive)
}

/// Waits until a condition holds.
#[track_caller]
fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let since = Instant::now();
    while !holds() {
        assert!(since.elapsed() < PATIENCE, "{what} did not happen");
        std::thread::yield_now();
    }
}

fn wait_for(told: &mpsc::Receiver<Progress>, position: u64) -> u64 {
    let mut wakes = 0;
    loop {
        wakes += 1;
        match told.recv_timeout(PATIENCE).expect("progress") {
            Progress::Durable { position: at } if at >= position => return wakes,
            Progress::Durable { .. } => {}
            Progress::Poisoned(error) => panic!("{error}"),
        }
    }
}

#[test]
fn positions_count_calls_and_become_durable_in_order() {
    let disk: SharedDisk = Arc::new(MemDisk::new());
    let (log, told) = start(&disk, LogOptions::default());
    for slot in 1..=500 {
        assert_eq!(log.submit(vec![accept(slot, 10)], 0).unwrap(), slot);
    }
    let mut last = 0;
    while last < 500 {
        match told.recv_timeout(PATIENCE).unwrap() {
            Progress::Durable { position } => {
                assert!(position > last, "{position} after {last}");
                last = position;
            }
            Progress::Poisoned(error) => panic!("{error}"),
        }
    }
    assert_eq!(log.durable(), 500);
    assert_eq!(
        log.reader().read(500).unwrap().unwrap().payload,
        vec![500_u64 as u8; 10]
    );
    log.close().unwrap();
    let (writer, recovery) = open(&disk);
    assert_eq!(
        (writer.last_slot(), recovery.outcome),
        (500, crate::Outcome::Clean)
    );
}

/// While one write is under way the rest gathers, and one wake tells of all of it.
#[test]
fn what_waits_is_written_as_one_group() {
    let disk: SharedDisk = Arc::new(MemDisk::new());
    let (log, told) = start(&disk, LogOptions::default());
    let (release, held) = mpsc::channel::<()>();
    log.with_writer(move |_| held.recv_timeout(PATIENCE).unwrap());
    for slot in 1..=300 {
        log.submit(vec![accept(slot, 100)], 0).unwrap();
    }
    assert!(log.oldest_unsynced_age() > Duration::ZERO);
    let before = log.stats().syncs;
    release.send(()).unwrap();
    assert_eq!(wait_for(&told, 300), 1, "one wake");
    assert_eq!(log.stats().syncs - before, 1, "one write");
    assert!(log.stats().bytes >= 30_000);
}

#[test]
fn an_idle_log_is_written_by_the_caller_and_wakes_nobody() {
    let disk: SharedDisk = Arc::new(MemDisk::new());
    let quiet = LogOptions {
        idle_delay: Duration::from_secs(3600),
        ..LogOptions::default()
    };
    let (log, told) = start(&disk, quiet);
    for slot in 1..=50 {
        let done = log.commit_inline(vec![accept(slot, 10)], 0).unwrap();
        assert_eq!(done, Submitted::Durable(slot));
        assert_eq!(log.durable(), slot);
    }
    assert!(told.try_recv().is_err());
    assert_eq!(log.oldest_unsynced_age(), Duration::ZERO);
}

#[test]
fn an_inline_commit_on_a_busy_log_queues_in_order() {
    let disk: SharedDisk = Arc::new(MemDisk::new());
    let (log, told) = start(&disk, LogOptions::default());
    let (release, held) = mpsc::channel::<()>();
    log.with_writer(move |_| held.recv_timeout(PATIENCE).unwrap());
    assert_eq!(log.submit(vec![accept(1, 10)], 0).unwrap(), 1);
    let queued = log.commit_inline(vec![accept(2, 10)], 0).unwrap();
    assert_eq!(queued, Submitted::Queued(2));
    release.send(()).unwrap();
    wait_for(&told, 2);
}

/// A full queue holds callers back, by bytes and by calls, and lets them go on.
#[test]
fn a_full_queue_holds_callers_back() {
    for options in [
        LogOptions {
            queue_calls_max: 4,
            ..LogOptions::default()
        },
        LogOptions {
            queue_bytes_max: 1000,
            ..LogOptions::default()
        },
    ] {
        let disk: SharedDisk = Arc::new(MemDisk::new());
        let (log, told) = start(&disk, options);
        let (release, held) = mpsc::channel::<()>();
        log.with_writer(move |_| held.recv_timeout(PATIENCE).unwrap());
        let submitted = AtomicU64::new(0);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                for slot in 1..=40 {
                    log.submit(vec![accept(slot, 200)], 0).unwrap();
                    submitted.store(slot, Ordering::Release);
                }
            });
            eventually("some submits", || submitted.load(Ordering::Acquire) >= 3);
            assert!(
                submitted.load(Ordering::Acquire) < 10,
                "the queue has no bound"
            );
            release.send(()).unwrap();
            wait_for(&told, 40);
        });
    }
}

/// Many threads, both ways in, on the real disk: everything acknowledged is there after reopening.
#[test]
fn many_threads_append_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let disk: SharedDisk = Arc::new(RealDisk::create_root(folder.path().join("data")).unwrap());
    let (log, _told) = start(&disk, LogOptions::default());
    let next = AtomicU64::new(0);
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let (log, next) = (&log, &next);
            scope.spawn(move || {
                let mut highest = 0;
                for round in 0..60 {
                    let slot = next.fetch_add(1, Ordering::Relaxed) + 1;
                    let records = vec![accept(slot, 700)];
                    if (thread + round) % 2 == 0 {
                        highest = log.submit(records, 0).unwrap();
                    } else if let Submitted::Durable(at) = log.commit_inline(records, 0).unwrap() {
                        assert!(log.durable() >= at);
                        assert!(log.reader().read(slot).unwrap().is_some());
                    }
                }
                eventually("the last submit", || log.durable() >= highest);
            });
        }
    });
    log.close().unwrap();
    let (writer, recovery) = open(&disk);
    assert_eq!(
        recovery.outcome,
        crate::Outcome::Clean,
        "{}",
        recovery.report
    );
    for slot in 1..=240 {
        assert_eq!(
            writer.read(slot).unwrap().unwrap().payload,
            vec![slot as u8; 700]
        );
    }
    assert!(writer.end().0 > 256 * 1024, "the log rotated");
}

#[test]
fn the_marker_follows_the_last_write() {
    let disk = MemDisk::new();
    let shared: SharedDisk = Arc::new(disk.clone());
    let (log, _told) = start(&shared, LogOptions::default());
    for slot in [1, 2] {
        log.commit_inline(vec![accept(slot, 10)], 0).unwrap();
        eventually("a marker", || {
            let facts = crate::scan::survey(&disk).unwrap();
            let decision = crate::scan::decide(&facts);
            decision.outcome.may_serve()
                && facts
                    .segments
                    .iter()
                    .flat_map(|s| s.batches())
                    .any(|b| b.header.max_slot == slot)
                && decision.carry.is_empty()
        });
    }
    drop(log);
}

#[test]
fn a_failed_write_poisons_the_log_for_everyone() {
    let disk = MemDisk::new();
    let shared: SharedDisk = Arc::new(disk.clone());
    let (log, told) = start(&shared, LogOptions::default());
    log.submit(vec![accept(1, 10)], 0).unwrap();
    wait_for(&told, 1);
    disk.inject(Fault::always(".wal", Operation::Sync));
    let (send, called) = mpsc::channel();
    // Either of these may find it first, or the marker does.
    let _ = log.submit(vec![accept(2, 10)], 0);
    log.with_writer(move |writer| send.send(writer.is_err()).unwrap());
    let told = std::iter::from_fn(|| told.recv_timeout(PATIENCE).ok());
    let poisoned = told
        .into_iter()
        .find(|progress| matches!(progress, Progress::Poisoned(_)));
    assert!(poisoned.is_some());
    assert!(
        called.recv_timeout(PATIENCE).unwrap(),
        "the call in the queue hears of it"
    );
    assert!(matches!(
        log.submit(vec![accept(3, 10)], 0),
        Err(Error::Poisoned)
    ));
    assert!(matches!(
        log.commit_inline(vec![accept(3, 10)], 0),
        Err(Error::Poisoned)
    ));
    assert_eq!(log.durable(), 1);
    log.close().unwrap_err();
}

#[test]
fn a_failed_inline_write_poisons_too() {
    let disk = MemDisk::new();
    let shared: SharedDisk = Arc::new(disk.clone());
    let quiet = LogOptions {
        idle_delay: Duration::from_secs(3600),
        ..LogOptions::default()
    };
    let (log, told) = start(&shared, quiet);
    disk.inject(Fault::always(".wal", Operation::Write));
    log.commit_inline(vec![accept(1, 10)], 0).unwrap_err();
    let progress = told.recv_timeout(PATIENCE).unwrap();
    assert!(matches!(progress, Progress::Poisoned(_)));
    assert!(matches!(
        log.submit(vec![accept(2, 10)], 0),
        Err(Error::Poisoned)
    ));
}

/// A full disk stalls the log like a slow one: low is told early, nothing fails, it goes on with room.
#[test]
fn a_full_disk_stalls_and_nothing_is_refused() {
    let disk = MemDisk::new();
    let shared: SharedDisk = Arc::new(disk.clone());
    let options = LogOptions {
        retry_interval: Duration::from_millis(1),
        ..LogOptions::default()
    };
    let (log, told) = start(&shared, options);
    disk.limit_room(Some(300 * 1024));
    let mut position = 0;
    for slot in 1..=120 {
        position = log.submit(vec![accept(slot, 8000)], 0).unwrap();
    }
    eventually("low space", || log.low_space());
    eventually("a stall", || {
        log.oldest_unsynced_age() > Duration::from_millis(5)
    });
    assert!(log.durable() < position);
    disk.limit_room(None);
    wait_for(&told, position);
    eventually("room again", || !log.low_space());
    log.close().unwrap();
}

#[test]
fn promises_are_in_both_superblocks_when_told() {
    let disk = MemDisk::new();
    let shared: SharedDisk = Arc::new(disk.clone());
    let (log, told) = start(&shared, LogOptions::default());
    for ballot in 1..=20 {
        let kind = RecordKind::Promise;
        let promise = Record {
            kind,
            slot: 0,
            ballot,
            payload: "".into(),
        };
        let position = log.submit(vec![promise], 0).unwrap();
        wait_for(&told, position);
        for seed in 0..4 {
            let copy = disk.fork();
            copy.crash(seed);
            let facts = crate::scan::survey(&copy).unwrap();
            let supers = facts.supers.iter().flatten();
            assert!(supers.map(|copy| copy.promised).max().unwrap() >= ballot);
        }
    }
}

#[test]
fn dropping_a_log_leaves_what_a_crash_leaves() {
    let disk = MemDisk::new();
    let shared: SharedDisk = Arc::new(disk.clone());
    let (log, told) = start(&shared, LogOptions::default());
    let position = log.submit(vec![accept(1, 10)], 0).unwrap();
    wait_for(&told, position);
    drop(log);
    disk.crash(3);
    assert!(open(&shared).0.read(1).unwrap().is_some());
    assert!(disk.exists("wal/0000000000000001.wal").unwrap());
}

#[test]
fn snapshots_and_removals_run_in_order_behind_submits() {
    let disk = MemDisk::new();
    let shared: SharedDisk = Arc::new(disk.clone());
    let (log, told) = start(&shared, LogOptions::default());
    let mut position = 0;
    for slot in 1..=120 {
        position = log.submit(vec![accept(slot, 8000)], 0).unwrap();
    }
    wait_for(&told, position);
    let (send, done) = mpsc::channel();
    for slot in [60, 100] {
        let header = crate::SnapshotHeader {
            cluster: 0,
            slot,
            membership: "".into(),
        };
        let saved = crate::snapshot::save(&disk, &header, &mut &b"state"[..]).unwrap();
        let send = send.clone();
        log.snapshot_saved(saved, move |result| send.send(result.is_ok()).unwrap());
        let kind = RecordKind::SnapshotMark;
        log.submit(
            vec![Record {
                kind,
                slot,
                ballot: 0,
                payload: "".into(),
            }],
            0,
        )
        .unwrap();
        assert!(done.recv_timeout(PATIENCE).unwrap());
    }
    let (send, removed) = mpsc::channel();
    log.remove_prefix(100, u64::MAX, 0, move |result| {
        send.send(result.unwrap()).unwrap()
    });
    let removed = removed.recv_timeout(PATIENCE).unwrap();
    assert!(
        removed.segments >= 1 && removed.first_slot <= 61,
        "{removed:?}"
    );
    assert_eq!(log.reader().first_slot(), removed.first_slot);
    assert_eq!(log.reader().read(1).unwrap(), None);
    assert!(log.reader().read(61).unwrap().is_some());
}

/// What is known of the peers goes past the queue, to both copies, and stays over promises and crashes.
#[test]
fn what_is_known_of_the_peers_is_in_both_superblocks_when_told() {
    let disk = MemDisk::new();
    let shared: SharedDisk = Arc::new(disk.clone());
    let (log, told) = start(&shared, LogOptions::default());
    for round in 1..=20_u8 {
        let (send, noted) = mpsc::channel();
        log.note_peers(vec![round; usize::from(round) * 64].into(), move |result| {
            send.send(result.is_ok()).unwrap();
        });
        assert!(noted.recv_timeout(PATIENCE).unwrap());
        let (kind, ballot) = (RecordKind::Promise, u64::from(round));
        let promise = Record {
            kind,
            slot: 0,
            ballot,
            payload: "".into(),
        };
        let position = log.submit(vec![promise], 0).unwrap();
        wait_for(&told, position);
        for lost in 0..2 {
            let copy = disk.fork();
            copy.crash(u64::from(round));
            copy.delete(crate::layout::SUPERBLOCKS[lost]);
            let (_, recovery) = open(&(Arc::new(copy) as SharedDisk));
            assert_eq!(recovery.peers, vec![round; usize::from(round) * 64]);
            assert!(recovery.promised >= ballot);
        }
    }
    // With the next write, whatever that is for.
    log.note_peers_later("later".into()).unwrap();
    let promise = Record {
        kind: RecordKind::Promise,
        slot: 0,
        ballot: 21,
        payload: "".into(),
    };
    let position = log.submit(vec![promise], 0).unwrap();
    wait_for(&told, position);
    let (_, recovery) = open(&(Arc::new(disk.fork()) as SharedDisk));
    assert_eq!(recovery.peers, "later");
    let (send, noted) = mpsc::channel();
    let too_many = vec![1; crate::PEERS_BYTES_MAX + 1];
    log.note_peers(too_many.into(), move |result| send.send(result).unwrap());
    let refused = noted.recv_timeout(PATIENCE).unwrap();
    assert!(
        matches!(refused, Err(Error::TooLarge { .. })),
        "{refused:?}"
    );
    log.close().unwrap();
}

#[test]
fn a_superblock_that_cannot_be_written_poisons_the_log_and_is_told() {
    let disk = MemDisk::new();
    let shared: SharedDisk = Arc::new(disk.clone());
    let (log, told) = start(&shared, LogOptions::default());
    disk.inject(Fault::always("super.1", Operation::Sync));
    let (send, noted) = mpsc::channel();
    log.note_peers("known".into(), move |result| send.send(result).unwrap());
    assert!(noted.recv_timeout(PATIENCE).unwrap().is_err());
    let progress = told.recv_timeout(PATIENCE).unwrap();
    assert!(matches!(progress, Progress::Poisoned(_)));
    let (send, noted) = mpsc::channel();
    log.note_peers("more".into(), move |result| send.send(result).unwrap());
    assert!(noted.recv_timeout(PATIENCE).unwrap().is_err());
}

/// How far the superblock on the disk says the log is durable.
fn hint_on_disk(disk: &MemDisk) -> Lsn {
    let facts = crate::scan::survey(disk).unwrap();
    let hints = facts.supers.iter().flatten().map(|copy| copy.durable_hint);
    hints.max().unwrap_or_default()
}

/// Where the last batch with records ends.
fn records_end(disk: &MemDisk) -> Lsn {
    let facts = crate::scan::survey(disk).unwrap();
    let batches = facts.segments.iter().flat_map(|s| s.batches());
    let ends = batches.filter(|b| b.header.records > 0);
    ends.map(|b| b.header.end()).max().unwrap_or_default()
}

/// Nothing is submitted after the second append, and still the hint follows it.
#[test]
fn the_durable_hint_follows_an_idle_log() {
    let disk = MemDisk::new();
    let shared: SharedDisk = Arc::new(disk.clone());
    let options = LogOptions {
        idle_delay: Duration::from_secs(3600),
        hint_interval: Duration::from_millis(100),
        ..LogOptions::default()
    };
    let (log, told) = start(&shared, options);
    for slot in 1..=2 {
        let position = log.submit(vec![accept(slot, 10)], 0).unwrap();
        wait_for(&told, position);
    }
    eventually("the hint", || hint_on_disk(&disk) >= records_end(&disk));
    log.commit_inline(vec![accept(3, 10)], 0).unwrap();
    eventually("the hint of an inline commit", || {
        hint_on_disk(&disk) >= records_end(&disk)
    });
}

#[test]
fn the_durable_hint_follows_a_caller_who_never_rests() {
    let disk = MemDisk::new();
    let shared: SharedDisk = Arc::new(disk.clone());
    let options = LogOptions {
        hint_interval: Duration::from_millis(5),
        idle_delay: Duration::from_secs(3600),
        ..LogOptions::default()
    };
    let (log, _told) = start(&shared, options);
    log.commit_inline(vec![accept(1, 10)], 0).unwrap();
    let first = records_end(&disk);
    let mut slot = 1;
    eventually("the hint", || {
        for _ in 0..20 {
            slot += 1;
            log.commit_inline(vec![accept(slot, 10)], 0).unwrap();
        }
        hint_on_disk(&disk) >= first
    });
}

/// A segment that no superblock names could go, with all its records, without anyone missing it.
#[test]
fn no_record_is_durable_in_a_segment_that_the_superblock_does_not_name() {
    let disk = MemDisk::new();
    let shared: SharedDisk = Arc::new(disk.clone());
    let (log, told) = start(&shared, LogOptions::default());
    disk.inject(Fault::always("super.0", Operation::Write));
    let mut durable = 0;
    for slot in 1..=40 {
        // The log is poisoned once the superblock's thread has met the fault.
        let _ = log.submit(vec![accept(slot, 8000)], 0);
    }
    while let Ok(progress) = told.recv_timeout(PATIENCE) {
        match progress {
            Progress::Durable { position } => durable = position,
            Progress::Poisoned(_) => break,
        }
    }
    drop(log);
    let facts = crate::scan::survey(&disk).unwrap();
    let named = facts
        .supers
        .iter()
        .flatten()
        .map(|copy| copy.newest_segment);
    let named = named.max().unwrap();
    let within = facts.segments.iter().filter(|s| s.seq <= named);
    let highest = within.flat_map(|s| s.batches()).map(|b| b.header.max_slot);
    assert!(
        durable <= highest.max().unwrap(),
        "slot {durable} was told to be durable, in a segment behind {named}"
    );
}
