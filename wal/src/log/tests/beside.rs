//! What a commit costs, and what runs beside it.

use super::gates::GateDisk;
use super::*;

const SUPER: &str = "wal/super.";
const FIRST: &str = "wal/0000000000000001.wal";
const NEVER: Duration = Duration::from_secs(3600);

/// A log that settles only when it is closed.
fn restless() -> LogOptions {
    LogOptions {
        idle_delay: NEVER,
        hint_interval: NEVER,
        ..LogOptions::default()
    }
}

fn gated(options: LogOptions) -> (GateDisk, Log, Told) {
    let disk = GateDisk::new();
    let shared: SharedDisk = Arc::new(disk.clone());
    let (log, told) = start(&shared, options);
    (disk.clone(), log, Told(told, disk))
}

/// What the log tells. Goes before the log when a test fails, and opens the gates so that the log can end.
struct Told(mpsc::Receiver<Progress>, GateDisk);

impl std::ops::Deref for Told {
    type Target = mpsc::Receiver<Progress>;

    fn deref(&self) -> &mpsc::Receiver<Progress> {
        &self.0
    }
}

impl Drop for Told {
    fn drop(&mut self) {
        self.1.open_all();
    }
}

fn promise(ballot: u64) -> Record {
    Record {
        kind: RecordKind::Promise,
        slot: 0,
        ballot,
        payload: "".into(),
    }
}

fn mark(slot: u64) -> Record {
    Record {
        kind: RecordKind::SnapshotMark,
        slot,
        ballot: 0,
        payload: "".into(),
    }
}

#[test]
fn a_commit_costs_one_flush_alone_or_with_others() {
    let (disk, log, told) = gated(restless());
    let (wal, supers) = (disk.syncs(FIRST), disk.syncs(SUPER));
    for slot in 1..=20 {
        let done = log.commit_inline(vec![accept(slot, 10)], 0).unwrap();
        assert_eq!(done, Submitted::Durable(slot));
        assert_eq!(disk.syncs(FIRST), wal + slot as usize);
    }
    let (release, held) = mpsc::channel::<()>();
    log.with_writer(move |_| held.recv_timeout(PATIENCE).unwrap());
    for slot in 21..=100 {
        log.submit(vec![accept(slot, 10)], 0).unwrap();
    }
    release.send(()).unwrap();
    wait_for(&told, 100);
    assert_eq!(disk.syncs(FIRST), wal + 21, "80 commits that wait cost one");
    assert_eq!(disk.syncs(SUPER), supers);
    log.close().unwrap();
    assert_eq!(disk.syncs(FIRST), wal + 22, "the marker of the close");
    assert_eq!(disk.syncs(SUPER), supers + 2, "the flag of the close");
}

/// A commit that is followed by a rest costs three: itself, the marker and one copy of the superblock.
#[test]
fn a_rest_costs_one_marker_and_one_hint() {
    let options = LogOptions {
        idle_delay: Duration::from_millis(1),
        ..restless()
    };
    let (disk, log, _told) = gated(options);
    let (wal, supers) = (disk.syncs(FIRST), disk.syncs(SUPER));
    for slot in 1..=4 {
        log.commit_inline(vec![accept(slot, 10)], 0).unwrap();
        let rests = slot as usize;
        eventually("a rest", || {
            let settled = disk.syncs(FIRST) >= wal + 2 * rests;
            settled && disk.syncs(SUPER) >= supers + rests
        });
        assert!(hint_on_disk(&disk.disk) >= records_end(&disk.disk));
    }
    log.close().unwrap();
    assert_eq!(disk.syncs(FIRST), wal + 8 + 1);
    assert_eq!(disk.syncs(SUPER), supers + 4 + 2);
    assert!(disk.syncs("super.0") >= 2 && disk.syncs("super.1") >= 2);
}

/// The two syncs of the superblock's copies and that of the log, in any order.
#[test]
fn a_promise_is_written_beside_the_log() {
    let (disk, log, told) = gated(restless());
    let supers = disk.syncs(SUPER);
    disk.shut(FIRST, Operation::Sync);
    let position = log.submit(vec![promise(7)], 0).unwrap();
    eventually("both copies", || disk.syncs(SUPER) == supers + 2);
    assert!(disk.holds(FIRST) && log.durable() < position);
    disk.open_all();
    wait_for(&told, position);

    // And the other way around: what follows is flushed as well, but nothing is told before the promise is safe.
    let wal = disk.syncs(FIRST);
    disk.shut(SUPER, Operation::Sync);
    let promised = log.submit(vec![promise(8)], 0).unwrap();
    eventually("the promise in the log", || disk.syncs(FIRST) == wal + 1);
    let queued = log.commit_inline(vec![accept(1, 10)], 0).unwrap();
    assert_eq!(queued, Submitted::Queued(promised + 1));
    eventually("what follows", || disk.syncs(FIRST) == wal + 2);
    assert_eq!(log.durable(), position);
    assert!(told.try_recv().is_err());
    assert!(log.oldest_unsynced_age() > Duration::ZERO);
    disk.open_all();
    wait_for(&told, promised + 1);
    assert_eq!(log.oldest_unsynced_age(), Duration::ZERO);
    log.close().unwrap();
}

/// A promise that comes while another write is under way goes into the very next one.
#[test]
fn a_promise_waits_for_one_copy_at_most() {
    let (disk, log, told) = gated(LogOptions {
        hint_interval: Duration::from_millis(1),
        ..restless()
    });
    let (wal, supers) = (disk.syncs(FIRST), disk.syncs(SUPER));
    disk.shut(SUPER, Operation::Sync);
    log.commit_inline(vec![accept(1, 10)], 0).unwrap();
    eventually("the hint begins", || disk.holds(SUPER));
    let (send, noted) = mpsc::channel();
    log.note_peers("known".into(), move |result| drop(send.send(result)));
    let position = log.submit(vec![promise(7)], 0).unwrap();
    eventually("the promise in the log", || disk.syncs(FIRST) == wal + 2);
    disk.open_all();
    wait_for(&told, position);
    noted.recv_timeout(PATIENCE).unwrap().unwrap();
    let facts = crate::scan::survey(&disk.disk).unwrap();
    for copy in facts.supers.iter().flatten() {
        assert_eq!((copy.promised, &copy.peers[..]), (7, &b"known"[..]));
    }
    // The hint's own, then two that hold everything; one more hint may have followed.
    let syncs = disk.syncs(SUPER) - supers;
    assert!(syncs <= 4, "{syncs}");
}

/// Neither the superblock's writes nor the removal of files holds back an append.
#[test]
fn snapshots_are_named_and_files_removed_beside_appends() {
    let (disk, log, told) = gated(restless());
    let mut position = 0;
    for slot in 1..=80 {
        position = log.submit(vec![accept(slot, 8000)], 0).unwrap();
    }
    wait_for(&told, position);
    let mut next = 80;
    let mut commit_next = || {
        next += 1;
        // The log thread may just be busy with something; it is not held up for long.
        if let Submitted::Queued(position) = log.commit_inline(vec![accept(next, 10)], 0).unwrap() {
            wait_for(&told, position);
        }
    };
    let (send, named) = mpsc::channel();
    for slot in [20, 40, 60] {
        let header = crate::SnapshotHeader {
            cluster: 0,
            slot,
            membership: "".into(),
        };
        let saved = crate::snapshot::save(&disk, &header, &mut &b"state"[..]).unwrap();
        disk.shut(SUPER, Operation::Sync);
        disk.shut("snapshots/", Operation::Name);
        let send = send.clone();
        log.snapshot_saved(saved, move |result| send.send(result).unwrap());
        eventually("the naming", || disk.holds(SUPER));
        commit_next();
        assert!(named.try_recv().is_err());
        disk.open_gate(SUPER);
        named.recv_timeout(PATIENCE).unwrap().unwrap();
        if slot == 60 {
            eventually("the removal of an old snapshot", || {
                disk.holds("snapshots/")
            });
            commit_next();
        }
        disk.open_all();
    }
    commit_next();
    log.commit_inline(vec![mark(60)], 0).unwrap();
    let (send, removed) = mpsc::channel();
    disk.shut(SUPER, Operation::Sync);
    disk.shut(FIRST, Operation::Name);
    log.remove_prefix(60, u64::MAX, 0, move |result| send.send(result).unwrap());
    eventually("the superblock", || disk.holds(SUPER));
    commit_next();
    assert!(disk.exists(FIRST).unwrap() && !disk.holds(FIRST));
    disk.open_gate(SUPER);
    let copies = || crate::scan::survey(&disk.disk).unwrap().supers;
    eventually("the removal of a file", || disk.holds(FIRST));
    assert!(copies().iter().flatten().all(|copy| copy.first_segment > 1));
    commit_next();
    disk.open_all();
    let removed = removed.recv_timeout(PATIENCE).unwrap().unwrap();
    assert!(removed.segments >= 1 && !disk.exists(FIRST).unwrap());
    assert_eq!(crate::snapshot::list(&disk).unwrap(), [40, 60]);
    log.close().unwrap();
}
