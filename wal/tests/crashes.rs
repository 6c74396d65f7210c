//! A crash at every single call to the disk: while the log opens, appends, rotates, promises, saves and names
//! snapshots, cuts its prefix and closes; and again, twice, while it recovers from that.
//!
//! After every one of them the log opens, holds everything that was acknowledged, and nothing else than what
//! was asked for.

use std::collections::BTreeMap;
use std::sync::Arc;

use wal::snapshot;
use wal::storage::{Disk, Fault, MemDisk, Operation, SyncFailure};
use wal::{
    Environment, Error, Folder, Options, Outcome, Record, RecordKind, SnapshotHeader, Writer,
};

const SEGMENT: u64 = 32 * 1024;

/// What the caller knows.
#[derive(Clone, Debug, Default)]
struct Known {
    /// Slot -> payload of every version that was ever asked for; the last is the newest.
    asked: BTreeMap<u64, Vec<Vec<u8>>>,
    /// Slot -> how many versions of it are acknowledged.
    acknowledged: BTreeMap<u64, usize>,
    born: bool,
    promised: u64,
    snapshot: u64,
    removed_below: u64,
}

impl Known {
    fn append(
        &mut self,
        log: &mut Writer,
        slot: u64,
        ballot: u64,
        bytes: usize,
    ) -> Result<(), Error> {
        let mut payload = format!("slot {slot} ballot {ballot} ").into_bytes();
        payload.resize(payload.len().max(bytes), b'.');
        let versions = self.asked.entry(slot).or_default();
        versions.push(payload.clone());
        let count = versions.len();
        let payload = payload.into();
        log.commit(
            &[Record {
                kind: RecordKind::Accept,
                slot,
                ballot,
                payload,
            }],
            slot - 1,
        )?;
        self.acknowledged.insert(slot, count);
        Ok(())
    }

    fn promise(&mut self, log: &mut Writer, ballot: u64) -> Result<(), Error> {
        let kind = RecordKind::Promise;
        log.commit(
            &[Record {
                kind,
                slot: 0,
                ballot,
                payload: "".into(),
            }],
            0,
        )?;
        self.promised = ballot;
        Ok(())
    }

    fn snapshot(&mut self, disk: &MemDisk, log: &mut Writer, slot: u64) -> Result<(), Error> {
        let header = SnapshotHeader {
            cluster: 5,
            slot,
            membership: "".into(),
        };
        let saved = snapshot::save(disk, &header, &mut &vec![slot as u8; 9000][..])?;
        log.snapshot_saved(saved)?;
        self.snapshot = slot;
        let kind = RecordKind::SnapshotMark;
        log.commit(
            &[Record {
                kind,
                slot,
                ballot: 0,
                payload: "".into(),
            }],
            0,
        )
    }

    /// Everything there is to do with a log.
    fn live(&mut self, disk: &MemDisk) -> Result<(), Error> {
        let mut folder = Folder::open(Arc::new(disk.clone()), 1, Environment::seeded(1))?;
        folder.store_birth(5, b"birth")?;
        self.born = true;
        let (mut log, _) = folder.open_log(Options {
            segment_bytes: SEGMENT,
        })?;
        self.promise(&mut log, 3)?;
        for slot in 1..=6 {
            self.append(&mut log, slot, 3, 20)?;
        }
        log.idle_marker()?;
        self.append(&mut log, 7, 3, 12_000)?;
        self.snapshot(disk, &mut log, 5)?;
        self.promise(&mut log, 9)?;
        for slot in 6..=10 {
            self.append(&mut log, slot, 9, 300)?;
        }
        log.durable_hint()?;
        self.snapshot(disk, &mut log, 9)?;
        log.prepare_ahead()?;
        // Gone in the superblock or not: slots up to the older snapshot may go from here on.
        self.removed_below = 6;
        log.remove_prefix(9, u64::MAX, 0)?;
        for slot in 11..=14 {
            self.append(&mut log, slot, 9, 5000)?;
        }
        log.close()
    }

    /// Opens what a crash left and holds it against what is known.
    #[track_caller]
    fn check(&self, disk: &MemDisk, what: &str) {
        let folder = Folder::open(Arc::new(disk.clone()), 1, Environment::seeded(2));
        let folder = folder.unwrap_or_else(|error| panic!("{what}: {error}"));
        if self.born {
            assert_eq!(folder.meta().cluster, 5, "{what}");
        }
        let (log, recovery) = folder
            .open_log(Options {
                segment_bytes: SEGMENT,
            })
            .unwrap();
        assert!(recovery.outcome.may_serve(), "{what}: {}", recovery.report);
        let promised = recovery.promised;
        assert!(
            promised >= self.promised,
            "{what}: promise {} became {promised}",
            self.promised
        );
        for (slot, versions) in &self.asked {
            let least = self.acknowledged.get(slot).copied().unwrap_or(0);
            match log.read(*slot).unwrap() {
                Some(entry) => {
                    let at = versions
                        .iter()
                        .rposition(|version| entry.payload == version);
                    let at = at.unwrap_or_else(|| {
                        panic!("{what}: slot {slot} has a value that nobody wrote")
                    });
                    assert!(
                        at + 1 >= least,
                        "{what}: slot {slot} went back to version {at}"
                    );
                }
                None if *slot < self.removed_below => {}
                None => assert_eq!(least, 0, "{what}: slot {slot} is lost\n{}", recovery.report),
            }
        }
        let newest = recovery
            .snapshots
            .first()
            .map_or(0, |snapshot| snapshot.slot);
        assert!(
            newest >= self.snapshot,
            "{what}: snapshot {} is lost",
            self.snapshot
        );
        for reference in &recovery.snapshots {
            let (_, payload) = snapshot::load(disk, reference).unwrap();
            assert_eq!(payload, vec![reference.slot as u8; 9000], "{what}");
        }
    }

    /// Opens what was left and appends once more: what is acknowledged now must survive as well.
    #[track_caller]
    fn go_on(&mut self, disk: &MemDisk, what: &str) {
        let folder = Folder::open(Arc::new(disk.clone()), 1, Environment::seeded(3)).unwrap();
        let (mut log, recovery) = folder
            .open_log(Options {
                segment_bytes: SEGMENT,
            })
            .unwrap();
        assert!(recovery.outcome.may_serve(), "{what}: {}", recovery.report);
        self.append(&mut log, 40, 50, 20).unwrap();
    }

    /// Opens, with the disk halting at its `call`-th change from now; whether it got through.
    fn recover_until(&self, disk: &MemDisk, call: u64) -> bool {
        disk.halt_at(disk.calls() + call);
        let opened =
            Folder::open(Arc::new(disk.clone()), 1, Environment::seeded(call)).and_then(|folder| {
                folder.open_log(Options {
                    segment_bytes: SEGMENT,
                })
            });
        opened.is_ok() && !disk.is_halted()
    }
}

/// Calls `each` with the disk as it was when the power failed, for every call of the story.
fn at_every_call(mut each: impl FnMut(u64, &Known, &MemDisk)) {
    for call in 1.. {
        let (disk, mut known) = (MemDisk::new(), Known::default());
        disk.halt_at(call);
        let ended = known.live(&disk).is_ok();
        each(call, &known, &disk);
        if ended {
            assert!(call > 100, "the story has only {call} calls");
            return;
        }
    }
}

#[test]
fn a_crash_at_every_call() {
    at_every_call(|call, known, halted| {
        for seed in 0..12 {
            let disk = halted.fork();
            disk.crash(seed * 1000 + call);
            known.check(&disk, &format!("call {call} seed {seed}"));
        }
    });
}

/// Also inside recovery, and inside the recovery from that.
#[test]
fn a_crash_at_every_call_of_recovery_twice() {
    at_every_call(|call, known, halted| {
        if call % 5 != 0 {
            return;
        }
        let first = halted.fork();
        first.crash(call);
        for second in 1..40 {
            let disk = first.fork();
            let through = known.recover_until(&disk, second);
            disk.crash(call + second);
            for third in [1, 2, 3, 5, 8, 11, 14] {
                let nested = disk.fork();
                known.recover_until(&nested, third);
                nested.crash(third);
                known.check(&nested, &format!("calls {call}, {second}, {third}"));
            }
            if through {
                break;
            }
        }
    });
}

/// A killed process leaves everything it wrote in the page cache.
#[test]
fn a_kill_at_every_call() {
    at_every_call(|call, known, halted| {
        let disk = halted.fork();
        disk.kill();
        known.check(&disk, &format!("killed at call {call}"));
        let later = disk.fork();
        later.crash(call);
        known.check(&later, &format!("killed at call {call}, then a crash"));
        let mut known = known.clone();
        let disk = halted.fork();
        disk.kill();
        known.go_on(&disk, &format!("killed at call {call}"));
        disk.crash(call);
        known.check(&disk, &format!("killed at call {call}, then a crash"));
    });
}

/// What a killed process left is only in the page cache when recovery begins to write beside it.
#[test]
fn a_kill_then_a_crash_at_every_call_of_recovery() {
    at_every_call(|call, known, halted| {
        let killed = halted.fork();
        killed.kill();
        for second in 1..40 {
            let disk = killed.fork();
            let through = known.recover_until(&disk, second);
            for seed in 0..4 {
                let disk = disk.fork();
                disk.crash(1000 * seed + call + second);
                known.check(
                    &disk,
                    &format!("killed at call {call}, a crash {second} later"),
                );
            }
            if through {
                break;
            }
        }
    });
}

/// After a failed sync nothing is believed and nothing retried, whatever the page cache shows then.
#[test]
fn a_failed_sync_at_every_place_poisons_and_loses_nothing_acknowledged() {
    for after_sync in [
        SyncFailure::KeptDirty,
        SyncFailure::Reverted,
        SyncFailure::SilentlyClean,
    ] {
        for operation in [Operation::Sync, Operation::Write] {
            for skip in 0..60 {
                let (disk, mut known) = (MemDisk::new(), Known::default());
                disk.inject(Fault {
                    after_sync,
                    skip,
                    ..Fault::once("wal/", operation)
                });
                let what = format!("{operation:?} {skip} failed, {after_sync:?}");
                let Err(error) = known.live(&disk) else {
                    continue;
                };
                assert!(matches!(error, Error::Io { .. }), "{what}: {error}");
                for then_crash in [false, true] {
                    let disk = disk.fork();
                    disk.kill();
                    if then_crash {
                        disk.crash(skip);
                    }
                    known.check(&disk, &what);
                    let mut known = known.clone();
                    known.go_on(&disk, &what);
                    disk.crash(skip + 1);
                    known.check(&disk, &what);
                }
            }
        }
    }
}

#[test]
fn a_poisoned_log_refuses_everything() {
    let disk = MemDisk::new();
    let folder = Folder::open(Arc::new(disk.clone()), 1, Environment::seeded(1)).unwrap();
    let (mut log, _) = folder
        .open_log(Options {
            segment_bytes: SEGMENT,
        })
        .unwrap();
    let mut known = Known::default();
    known.append(&mut log, 1, 1, 10).unwrap();
    disk.inject(Fault::once("wal/0", Operation::Sync));
    known.append(&mut log, 2, 1, 10).unwrap_err();
    for _ in 0..3 {
        let error = known.append(&mut log, 3, 1, 10).unwrap_err();
        assert!(matches!(error, Error::Poisoned), "{error}");
        assert!(matches!(log.idle_marker().unwrap_err(), Error::Poisoned));
    }
    assert!(
        log.read(1).unwrap().is_some(),
        "what was durable can be read"
    );
    assert_eq!(log.read(2).unwrap(), None, "what was not is not shown");
}

/// A full disk: nothing is lost, nothing poisoned, and it goes on once there is room.
#[test]
fn a_full_disk_refuses_and_goes_on_later() {
    for room in 0..40 {
        let disk = MemDisk::new();
        let mut known = Known::default();
        let folder = Folder::open(Arc::new(disk.clone()), 1, Environment::seeded(1)).unwrap();
        let (mut log, _) = folder
            .open_log(Options {
                segment_bytes: SEGMENT,
            })
            .unwrap();
        disk.limit_room(Some(room * 4096));
        let mut slot = 1;
        let error = loop {
            match known.append(&mut log, slot, 1, 3000) {
                Ok(()) => slot += 1,
                Err(error) => break error,
            }
        };
        assert!(
            matches!(
                error,
                Error::NoSpace {
                    segment_bytes: SEGMENT
                }
            ),
            "{error}"
        );
        assert!(log.low_space());
        disk.limit_room(None);
        known.append(&mut log, slot, 1, 3000).unwrap();
        assert!(!log.low_space());
        drop(log);
        disk.crash(room);
        known.check(&disk, "after a full disk");
    }
}

/// Appends behind a torn tail never happen: the torn bytes stay where they are, void.
#[test]
fn a_torn_tail_is_left_as_evidence() {
    let mut torn = 0;
    for seed in 0..60 {
        let disk = MemDisk::new();
        let mut known = Known::default();
        let folder = Folder::open(Arc::new(disk.clone()), 1, Environment::seeded(1)).unwrap();
        let (mut log, _) = folder
            .open_log(Options {
                segment_bytes: SEGMENT,
            })
            .unwrap();
        known.append(&mut log, 1, 1, 10).unwrap();
        disk.halt_at(disk.calls() + 1);
        known.append(&mut log, 2, 1, 5000).unwrap_err();
        drop(log);
        disk.crash(seed);
        let before = disk.peek("wal/0000000000000001.wal", 0, SEGMENT as usize);
        let folder = Folder::open(Arc::new(disk.clone()), 1, Environment::seeded(2)).unwrap();
        let (log, recovery) = folder
            .open_log(Options {
                segment_bytes: SEGMENT,
            })
            .unwrap();
        torn += u32::from(recovery.outcome == Outcome::TornTail);
        drop(log);
        let after = disk.peek("wal/0000000000000001.wal", 0, SEGMENT as usize);
        assert!(
            before == after,
            "seed {seed}: the old segment was written to"
        );
        known.check(&disk, &format!("seed {seed}"));
        assert!(disk.exists("wal/0000000000000002.wal").unwrap());
    }
    assert!(torn > 10, "only {torn} torn tails");
}
