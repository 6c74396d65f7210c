//! The commit slot in headers is believed at the next start, so it must never speak of a value that is
//! not on the disk yet.
//!
//! Slots hold values of an old leader that were never chosen; then the chosen ones come, as one call of
//! several groups and segments. Whatever a crash leaves of that, every slot up to the commit slot holds
//! the chosen value.

use std::sync::Arc;

use wal::storage::MemDisk;
use wal::{Environment, Error, Folder, Options, Record, RecordKind, Recovery, Writer};

const SEGMENT: u64 = 32 * 1024;
const SLOTS: u64 = 500;

fn open(disk: &MemDisk) -> Result<(Writer, Recovery), Error> {
    let folder = Folder::open(Arc::new(disk.clone()), 1, Environment::seeded(1))?;
    folder.open_log(Options {
        segment_bytes: SEGMENT,
    })
}

fn records(kind: RecordKind, ballot: u64, value: &'static str) -> Vec<Record> {
    let record = |slot| Record {
        kind,
        slot,
        ballot,
        payload: value.into(),
    };
    (1..=SLOTS).map(record).collect()
}

fn live(disk: &MemDisk, kind: RecordKind) -> Result<(), Error> {
    let (mut log, _) = open(disk)?;
    log.commit(&records(RecordKind::Accept, 1, "never chosen"), 0)?;
    log.commit(&records(kind, 2, "chosen"), SLOTS)
}

#[test]
fn a_crash_between_groups_chooses_no_old_value() {
    for kind in [RecordKind::Accept, RecordKind::Chosen] {
        let mut partly = 0;
        for call in 1.. {
            let disk = MemDisk::new();
            disk.halt_at(call);
            let ended = live(&disk, kind).is_ok();
            disk.crash(call);
            let (log, recovery) = open(&disk).expect("opens after every crash");
            let chosen = recovery.commit_slot.min(recovery.last_slot);
            for slot in 1..=chosen {
                let found = log.read(slot).expect("undamaged").expect("held");
                assert_eq!(
                    found.payload, "chosen",
                    "{kind} {slot} of {chosen}, call {call}"
                );
            }
            let new = |slot| {
                log.read(slot)
                    .is_ok_and(|r| r.is_some_and(|r| r.ballot == 2))
            };
            partly += u32::from(new(1) && !new(SLOTS));
            if ended {
                assert_eq!(chosen, SLOTS);
                break;
            }
        }
        assert!(partly > 0, "no crash fell between two groups");
    }
}
