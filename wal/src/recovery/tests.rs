//! One test for each row of the decision table, and the ones that need no row.
//!
//! Most damage a real log in memory and scan it; where a fault cannot be made with one write at a time
//! (rows 7, 9, 10), the facts of a scan are changed by hand.

use std::sync::Arc;

use super::*;
use crate::batch::Body;
use crate::layout::{SUPERBLOCKS, segment_path};
use crate::record::{Record, RecordKind, SlotRange};
use crate::segment::SegmentHeader;
use crate::snapshot::{self, SnapshotHeader, SnapshotRef};
use crate::storage::{BLOCK_BYTES, Disk, Fault, MemDisk, Operation};
use crate::{Environment, Folder, Options, Writer};

const SEGMENT: u64 = 64 * 1024;
const BLOCK: u64 = BLOCK_BYTES as u64;

/// A log in memory that is damaged and judged.
struct Case {
    disk: MemDisk,
}

fn accept(slot: u64, ballot: u64) -> Record {
    let payload = vec![slot as u8; 5000].into();
    Record {
        kind: RecordKind::Accept,
        slot,
        ballot,
        payload,
    }
}

fn open(disk: &MemDisk) -> Writer {
    let shared = Arc::new(disk.clone());
    let folder = Folder::open(shared, 1, Environment::seeded(disk.calls())).unwrap();
    folder
        .open_log(Options {
            segment_bytes: SEGMENT,
        })
        .unwrap()
        .0
}

/// Slots 1 to `slots`, one batch of two blocks each, ballot 10; a marker at the end proves them.
fn log(slots: u64) -> Case {
    let case = unmarked(slots);
    let facts = case.facts();
    assert!(facts.segments.iter().all(|s| s.header().is_some()));
    case
}

fn unmarked(slots: u64) -> Case {
    let disk = MemDisk::new();
    let mut writer = open(&disk);
    for slot in 1..=slots {
        writer.commit(&[accept(slot, 10)], slot - 1).unwrap();
    }
    writer.idle_marker().unwrap();
    drop(writer);
    Case { disk }
}

/// The same without the marker: nothing proves the last batch.
fn unproven(slots: u64) -> Case {
    let disk = MemDisk::new();
    let mut writer = open(&disk);
    for slot in 1..=slots {
        writer.commit(&[accept(slot, 10)], slot - 1).unwrap();
    }
    drop(writer);
    Case { disk }
}

impl Case {
    fn facts(&self) -> Facts {
        survey(&self.disk).unwrap()
    }

    fn decide(&self) -> Decision {
        decide(&self.facts())
    }

    /// File and offset of the batch that holds the slot.
    fn place(&self, slot: u64) -> (String, u64) {
        for segment in self.facts().segments {
            let base = segment.header().unwrap().base;
            for batch in segment.batches() {
                if batch.records.iter().any(|r| r.header.slot == slot) {
                    return (segment.path.clone(), batch.header.lsn.0 - base.0);
                }
            }
        }
        panic!("no slot {slot}");
    }

    /// Flips a bit in the batch that holds the slot.
    fn flip(&self, slot: u64, offset: u64) {
        let (path, at) = self.place(slot);
        self.disk.flip_bit(&path, at + offset, 3);
    }

    fn newest(&self) -> String {
        self.facts()
            .segments
            .iter()
            .rev()
            .find(|s| s.header().is_some())
            .unwrap()
            .path
            .clone()
    }

    fn kill_headers(&self, path: &str) {
        self.disk.damage(path, 0, &[0xee; 64]);
        self.disk.damage(path, SEGMENT - BLOCK, &[0xee; 64]);
    }

    /// Opens for real and reads every slot: the right value, or an error; then what was lost.
    fn lost(&self, slots: u64) -> Vec<u64> {
        let writer = open(&self.disk);
        let is_lost = |slot: &u64| match writer.read(*slot) {
            Ok(Some(entry)) => {
                assert_eq!(entry.payload, vec![*slot as u8; 5000], "slot {slot}");
                false
            }
            Ok(None) => true,
            Err(_) => true,
        };
        (1..=slots).filter(is_lost).collect()
    }
}

#[track_caller]
fn expect_row(decision: &Decision, row: u8) {
    let found = decision
        .report
        .findings
        .iter()
        .any(|finding| finding.row == row);
    assert!(found, "no finding of row {row}:\n{}", decision.report);
}

#[track_caller]
fn expect_lost(decision: &Decision, first: u64, last: u64) {
    let Outcome::Faulty { ranges, max_ballot } = &decision.outcome else {
        panic!("not faulty:\n{}", decision.report);
    };
    let expected = SlotRange {
        first,
        last,
        ballot_max: 10,
    };
    assert_eq!(
        (&ranges[..], *max_ballot),
        (&[expected][..], 10),
        "{}",
        decision.report
    );
}

/// Nobody knows what was there, from this slot on: not which slots, and not which ballots.
#[track_caller]
fn expect_open(decision: &Decision, first: u64) {
    let expected = Outcome::Faulty {
        ranges: vec![SlotRange::open(first)],
        max_ballot: u64::MAX,
    };
    assert_eq!(decision.outcome, expected, "{}", decision.report);
}

#[test]
fn row_01_all_valid_is_clean() {
    let decision = log(20).decide();
    assert_eq!(decision.outcome, Outcome::Clean);
    assert_eq!(decision.report.findings, []);
    assert!(decision.live.len() >= 3, "the log spans segments");
    assert!(
        decision.carry.is_empty(),
        "the marker proves the last batch"
    );
}

#[test]
fn row_02_zeros_after_the_bound_are_the_end() {
    let decision = unproven(3).decide();
    assert_eq!(decision.outcome, Outcome::Clean);
    assert_eq!(decision.report.findings, []);
    assert_eq!(
        decision.carry.len(),
        1,
        "the last batch is carried, nothing proves it"
    );
    assert_eq!(decision.prev_end, decision.report.durable_bound);
}

#[test]
fn row_03_zeros_before_the_bound_are_a_lost_suffix() {
    let case = unmarked(3);
    let mut writer = open(&case.disk);
    writer.commit(&[accept(4, 10)], 0).unwrap();
    writer.durable_hint().unwrap();
    drop(writer);
    let (path, at) = case.place(4);
    case.disk
        .damage(&path, at, &vec![0; (SEGMENT - BLOCK - at) as usize]);
    let decision = case.decide();
    expect_row(&decision, 3);
    expect_open(&decision, 1);
}

#[test]
fn row_03_a_cut_file_is_a_lost_suffix() {
    let case = log(9);
    open(&case.disk).close().unwrap();
    let (path, at) = case.place(8);
    case.disk.truncate(&path, at);
    assert!(
        matches!(case.decide().outcome, Outcome::Faulty { .. }),
        "{}",
        case.decide().report
    );
}

#[test]
fn row_04_a_bad_header_after_the_bound_is_a_torn_tail() {
    let case = unproven(3);
    case.flip(3, 20);
    let decision = case.decide();
    expect_row(&decision, 4);
    assert_eq!(decision.outcome, Outcome::TornTail);
    assert_eq!(case.lost(3), [3]);
}

#[test]
fn row_04_a_bad_body_after_the_bound_is_a_torn_tail() {
    let case = unproven(3);
    case.flip(3, 4096 + 7);
    let decision = case.decide();
    expect_row(&decision, 4);
    assert_eq!(decision.outcome, Outcome::TornTail);
    assert_eq!(case.lost(3), [3]);
}

#[test]
fn row_05_a_bad_payload_below_the_bound_loses_its_slot() {
    let case = log(5);
    case.flip(2, 2000);
    let decision = case.decide();
    expect_row(&decision, 5);
    expect_lost(&decision, 2, 2);
    assert_eq!(case.lost(5), [2]);
}

#[test]
fn row_05_a_bad_directory_loses_the_slots_of_its_batch() {
    let case = log(5);
    case.flip(2, 128 + 8);
    let decision = case.decide();
    expect_row(&decision, 5);
    expect_lost(&decision, 2, 2);
    assert_eq!(case.lost(5), [2]);
}

#[test]
fn row_05_records_with_a_good_checksum_are_kept() {
    let case = log(1);
    let mut writer = open(&case.disk);
    writer
        .commit(&[accept(2, 10), accept(3, 10), accept(4, 10)], 0)
        .unwrap();
    writer.idle_marker().unwrap();
    drop(writer);
    case.flip(3, 128 + 5032 + 100);
    expect_lost(&case.decide(), 3, 3);
    assert_eq!(case.lost(4), [3]);
}

#[test]
fn row_06_one_bad_header_below_the_bound_loses_exactly_its_slots() {
    let case = log(5);
    case.flip(3, 10);
    let decision = case.decide();
    expect_row(&decision, 6);
    expect_lost(&decision, 3, 3);
    assert_eq!(case.lost(5), [3]);
}

#[test]
fn row_06_two_bad_headers_make_every_slot_suspect() {
    let case = log(6);
    case.flip(3, 10);
    case.flip(4, 10);
    let decision = case.decide();
    expect_row(&decision, 6);
    // What was written later cannot have been in them.
    expect_lost(&decision, 1, 5);
    // What is left may be older than what was lost, unless it has the highest ballot.
    assert_eq!(case.lost(6), [3, 4]);
}

#[test]
fn row_07_a_later_header_that_does_not_cover_the_damage_is_dropped_with_it() {
    let case = unproven(5);
    let mut facts = case.facts();
    let segment = facts.segments.last_mut().unwrap();
    let [.., Item::Batch(before), Item::Batch(last), Item::Gap(_)] = &mut segment.items[..] else {
        panic!("{:?}", segment.items);
    };
    // As a pipelined writer would: the last batch was built before the one in front of it was durable.
    last.header.durable = before.header.lsn;
    let gap = Gap {
        start: before.header.lsn,
        end: last.header.lsn,
        kind: GapKind::Damaged,
    };
    let at = segment.items.len() - 3;
    segment.items[at] = Item::Gap(gap);
    let decision = decide(&facts);
    expect_row(&decision, 7);
    assert_eq!(decision.outcome, Outcome::TornTail);
    assert!(
        decision.carry.is_empty(),
        "nothing of the dropped tail is carried"
    );
}

#[test]
fn row_08_misplaced_blocks_are_damage_where_they_lie() {
    let case = log(5);
    let (path, from) = case.place(1);
    let (_, to) = case.place(3);
    let stale = case.disk.peek(&path, from, 2 * BLOCK_BYTES);
    case.disk.damage(&path, to, &stale);
    let decision = case.decide();
    expect_row(&decision, 8);
    expect_lost(&decision, 3, 3);
    assert_eq!(case.lost(5), [3]);
}

#[test]
fn row_09_a_gap_in_the_chain_is_a_lost_write() {
    let case = log(5);
    let mut facts = case.facts();
    let items = &mut facts.segments[0].items;
    let at = items
        .iter()
        .position(|i| matches!(i, Item::Batch(b) if b.header.max_slot == 3));
    items.remove(at.unwrap());
    let decision = decide(&facts);
    expect_row(&decision, 9);
    expect_lost(&decision, 3, 3);
}

#[test]
fn row_09_a_neighbour_that_knew_another_batch_makes_every_slot_suspect() {
    let mut facts = log(5).facts();
    for item in &mut facts.segments[0].items {
        match item {
            Item::Batch(batch) if batch.header.max_slot == 3 => batch.header.crc ^= 1,
            _ => {}
        }
    }
    let decision = decide(&facts);
    expect_row(&decision, 9);
    expect_lost(&decision, 1, 4);
}

#[test]
fn row_10_one_sequence_number_twice_is_a_fork() {
    let mut facts = log(5).facts();
    let items = &mut facts.segments[0].items;
    let Item::Batch(mut twin) = items[2].clone() else {
        panic!("a batch")
    };
    twin.header.wall_ns += 1;
    items.insert(3, Item::Batch(twin));
    let decision = decide(&facts);
    expect_row(&decision, 10);
    assert_eq!(decision.outcome, Outcome::Fatal);
}

#[test]
fn row_10_segments_that_contradict_each_other_are_a_fork() {
    let mut facts = log(20).facts();
    for header in facts.segments[1].headers.iter_mut().flatten() {
        header.base.0 += BLOCK;
    }
    let decision = decide(&facts);
    expect_row(&decision, 10);
    assert_eq!(decision.outcome, Outcome::Fatal);
}

/// Void tails are no fork: the same numbers stand before and after a carried batch.
#[test]
fn row_10_void_tails_are_not_read_as_log() {
    let case = unproven(3);
    drop(open(&case.disk));
    let facts = case.facts();
    let seqs: Vec<u64> = facts
        .segments
        .iter()
        .flat_map(|s| s.batches())
        .map(|b| b.header.batch_seq)
        .collect();
    assert!(
        seqs.windows(2).any(|pair| pair[0] == pair[1]),
        "a number stands twice: {seqs:?}"
    );
    assert_eq!(
        decide(&facts).outcome,
        Outcome::Clean,
        "{}",
        decide(&facts).report
    );
}

#[test]
fn row_11_an_unreadable_place_is_damage_there() {
    let case = log(5);
    let (path, at) = case.place(3);
    let bytes = at..at + 2 * BLOCK;
    case.disk.inject(Fault {
        bytes,
        ..Fault::always(&path, Operation::Read)
    });
    let facts = case.facts();
    let decision = decide(&facts);
    expect_row(&decision, 11);
    expect_lost(&decision, 3, 3);
}

/// Who may not read a file knows nothing about what it holds: nothing is judged, nothing changed, and the error names it.
#[test]
fn what_may_not_be_read_is_not_damaged() {
    let case = log(6);
    let saved = save(&case.disk, 3);
    let first = case.facts().segments[0].path.clone();
    let snapshot = crate::layout::snapshot_path(saved);
    let files = [
        &first,
        &case.newest(),
        SUPERBLOCKS[0],
        SUPERBLOCKS[1],
        &snapshot,
    ];
    for path in files {
        let disk = case.disk.fork();
        disk.deny(path);
        let told = survey(&disk).expect_err(path);
        assert!(
            told.is_denied() && told.to_string().contains(path),
            "{told}"
        );
        let folder = Folder::open(Arc::new(disk.clone()), 1, Environment::seeded(9));
        let opened = folder.and_then(|folder| folder.open_log(Options::default()));
        let told = opened.map(|_| ()).expect_err(path);
        assert!(
            told.is_denied() && told.to_string().contains(path),
            "{told}"
        );
        disk.heal();
        assert_eq!(decide(&survey(&disk).unwrap()).outcome, Outcome::Clean);
    }
}

/// A snapshot of this slot, named by nothing.
fn save(disk: &MemDisk, slot: u64) -> u64 {
    let header = SnapshotHeader {
        cluster: 0,
        slot,
        membership: bytes::Bytes::new(),
    };
    let saved = snapshot::save(disk, &header, &mut &b"state"[..]).unwrap();
    saved.slot
}

#[test]
fn both_superblocks_gone_is_damage_in_a_folder_that_was_used() {
    let case = log(3);
    for path in SUPERBLOCKS {
        case.disk.delete(path);
    }
    let decision = case.decide();
    assert_eq!(decision.outcome, Outcome::MetaLost);
    assert_eq!(decision.report.damage().count(), 2);
    let unused = Case {
        disk: MemDisk::new(),
    };
    assert_eq!(unused.decide().report.damage().count(), 0);
}

/// Lines for people hold no runs of spaces that a broken string in the source would leave.
#[test]
fn advice_is_plain_text() {
    let case = log(3);
    let mut report = case.decide().report;
    for outcome in [
        Outcome::Clean,
        Outcome::MetaLost,
        Outcome::Fatal,
        Outcome::Faulty {
            ranges: Vec::new(),
            max_ballot: 0,
        },
    ] {
        report.outcome = outcome;
        assert!(!report.advice().contains("  "), "{}", report.advice());
    }
    report.outcome = Outcome::Clean;
    report.findings.push(Finding {
        row: 12,
        damage: true,
        file: String::new(),
        offset: 0,
        length: 0,
        what: String::new(),
        slots: None,
    });
    assert!(!report.advice().contains("  "), "{}", report.advice());
}

#[test]
fn row_11_an_error_that_passes_is_no_damage() {
    let case = log(5);
    let (path, at) = case.place(3);
    let bytes = at..at + 2 * BLOCK;
    case.disk.inject(Fault {
        bytes,
        ..Fault::once(&path, Operation::Read)
    });
    assert_eq!(case.decide().outcome, Outcome::Clean);
}

#[test]
fn row_12_one_bad_header_copy_is_reported_and_left_alone() {
    for offset in [0, SEGMENT - BLOCK] {
        let case = log(20);
        case.disk.flip_bit(&segment_path(2), offset + 50, 0);
        let decision = case.decide();
        expect_row(&decision, 12);
        assert_eq!(decision.outcome, Outcome::Clean, "{}", decision.report);
        assert_eq!(case.lost(20), []);
        expect_row(&case.decide(), 12);
    }
}

#[test]
fn row_13_a_segment_without_header_is_lost_as_a_whole() {
    let case = log(20);
    case.kill_headers(&segment_path(2));
    let decision = case.decide();
    expect_row(&decision, 13);
    // The next header knows that no higher slot was written before it.
    expect_lost(&decision, 1, 11);
}

#[test]
fn row_14_a_newest_segment_that_held_data_is_lost() {
    let case = log(20);
    case.kill_headers(&case.newest());
    let decision = case.decide();
    expect_row(&decision, 14);
    assert!(
        matches!(decision.outcome, Outcome::Faulty { .. }),
        "{}",
        decision.report
    );
}

#[test]
fn row_14_a_segment_torn_while_it_was_made_holds_nothing() {
    let case = log(3);
    let next = case.facts().segments.len() as u64 + 1;
    let file = case.disk.create(&segment_path(next)).unwrap();
    file.set_len(SEGMENT).unwrap();
    case.disk.damage(&segment_path(next), 8192, &[0xab; 5000]);
    let decision = case.decide();
    expect_row(&decision, 14);
    assert_eq!(decision.outcome, Outcome::Clean);
    assert_eq!(case.lost(3), [], "and the log opens over it");
}

#[test]
fn row_15_a_reserved_segment_is_normal() {
    let case = log(3);
    let mut writer = open(&case.disk);
    writer.prepare_ahead().unwrap();
    drop(writer);
    let decision = case.decide();
    expect_row(&decision, 15);
    assert_eq!(decision.outcome, Outcome::Clean);
}

#[test]
fn row_16_a_missing_segment_is_never_skipped() {
    let case = log(20);
    case.disk.delete(&segment_path(2));
    let decision = case.decide();
    expect_row(&decision, 16);
    expect_lost(&decision, 1, 11);
}

#[test]
fn row_17_a_missing_newest_segment_is_lost() {
    let case = log(20);
    case.disk.delete(&case.newest());
    let decision = case.decide();
    expect_row(&decision, 17);
    assert!(
        matches!(decision.outcome, Outcome::Faulty { .. }),
        "{}",
        decision.report
    );
}

/// The snapshot covers every slot that the superblock knows of, and still the last segment may have held more.
#[test]
fn row_17_a_missing_newest_segment_is_lost_above_a_snapshot_too() {
    let (case, [_, newest]) = with_snapshots();
    let mut writer = open(&case.disk);
    writer.commit(&[accept(25, 50)], 24).unwrap();
    writer.idle_marker().unwrap();
    drop(writer);
    case.disk.delete(&case.newest());
    let mut facts = case.facts();
    for copy in facts.supers.iter_mut().flatten() {
        copy.max_slot_ever = newest.slot;
        copy.durable_hint = crate::Lsn(0);
    }
    let decision = decide(&facts);
    expect_row(&decision, 17);
    expect_open(&decision, newest.slot + 1);
}

/// No crash shortens a segment: its length was durable before its name.
#[test]
fn row_03_a_file_cut_behind_everything_proven_is_a_lost_suffix() {
    for blocks in [2, 3] {
        let case = unmarked(3);
        let end = case.decide().report.end.0;
        let (path, at) = case.place(3);
        assert!(end > at);
        case.disk.truncate(&path, at + blocks * BLOCK);
        expect_open(&case.decide(), 1);
    }
    // Behind the marker of a close there was nothing.
    let case = log(3);
    open(&case.disk).close().unwrap();
    let end = case.decide().report.end.0 - SEGMENT;
    let newest = case.newest();
    case.disk.truncate(&newest, end);
    let decision = case.decide();
    assert_eq!(decision.outcome, Outcome::Clean, "{}", decision.report);
    assert!(decision.report.damage().count() > 0);
    assert_eq!(case.lost(3), []);
}

/// A batch that was written to the wrong place at the end of the log is no torn tail.
#[test]
fn row_08_a_batch_astray_behind_the_end_is_a_lost_suffix() {
    let case = unproven(3);
    let (path, from) = case.place(3);
    let batch = case.disk.peek(&path, from, 2 * BLOCK_BYTES);
    case.disk.damage(&path, from, &vec![0; batch.len()]);
    assert_eq!(case.decide().outcome, Outcome::Clean, "nobody can know");
    case.disk.damage(&path, from + 4 * BLOCK, &batch);
    let decision = case.decide();
    expect_row(&decision, 8);
    expect_open(&decision, 1);
}

/// Wherever the last record of a segment ends, there is room for the marker that proves it.
#[test]
fn the_marker_finds_room_at_every_end_of_a_segment() {
    let disk = MemDisk::new();
    let case = Case { disk: disk.clone() };
    let mut writer = open(&disk);
    for slot in 1..=24 {
        let bytes = [10, 5000, 9000][slot as usize % 3];
        let record = Record {
            payload: vec![1; bytes].into(),
            ..accept(slot, 10)
        };
        writer.commit(&[record], slot - 1).unwrap();
        writer.idle_marker().unwrap();
        let copy = Case { disk: disk.fork() };
        copy.flip(slot, 20);
        let outcome = copy.decide().outcome;
        assert!(
            matches!(outcome, Outcome::Faulty { .. }),
            "slot {slot} was acknowledged: {}",
            copy.decide().report
        );
    }
    assert!(case.facts().segments.len() > 2, "the log rotated");
}

/// The hint stops before a marker, so that one bit in an empty header loses nothing.
#[test]
fn a_damaged_marker_behind_the_hint_loses_nothing() {
    let case = unmarked(3);
    let mut writer = open(&case.disk);
    writer.commit(&[accept(4, 10)], 3).unwrap();
    writer.idle_marker().unwrap();
    writer.durable_hint().unwrap();
    drop(writer);
    let (path, at) = case.place(4);
    case.disk.flip_bit(&path, at + 2 * BLOCK + 20, 3);
    let decision = case.decide();
    assert!(decision.outcome.may_serve(), "{}", decision.report);
    assert_eq!(case.lost(4), []);
}

/// A superblock from elsewhere is found out before anything is written.
#[test]
fn a_foreign_superblock_destroys_nothing() {
    type Edit = fn(&mut crate::Superblock);
    let edits: [Edit; 4] = [
        |block| block.disk ^= 1,
        |block| block.node = 9,
        |block| block.promised = 0,
        |block| block.incarnation = 0,
    ];
    for edit in edits {
        let case = log(3);
        let promise = Record {
            kind: RecordKind::Promise,
            payload: "".into(),
            ..accept(0, 99)
        };
        open(&case.disk).commit(&[promise], 0).unwrap();
        let mut foreign = case.facts().supers[1].clone().unwrap();
        foreign.sequence += 100;
        edit(&mut foreign);
        case.disk.damage(SUPERBLOCKS[1], 0, &foreign.encode());
        let content = |disk: &MemDisk| {
            let files = disk.list("wal").unwrap();
            let read = |e: crate::storage::DirEntry| {
                let bytes = disk.peek(&format!("wal/{}", e.name), 0, e.len as usize);
                (e.name, bytes)
            };
            files.into_iter().map(read).collect::<Vec<_>>()
        };
        let before = content(&case.disk);
        let shared: crate::SharedDisk = Arc::new(case.disk.clone());
        match Folder::open(shared.clone(), 1, Environment::seeded(1)) {
            Err(error) => assert!(matches!(error, crate::Error::ForeignNode { .. })),
            Ok(mut folder) => {
                let error = folder.store_birth(77, b"birth").unwrap_err();
                assert!(matches!(error, crate::Error::Damaged(_)), "{error}");
                drop(folder);
                let folder = Folder::open(shared, 1, Environment::seeded(1)).unwrap();
                let (_, recovery) = folder.open_log(Options::default()).unwrap();
                assert_eq!(recovery.outcome, Outcome::Fatal, "{}", recovery.report);
            }
        }
        assert!(before == content(&case.disk), "a refusal changes no byte");
    }
}

/// A mark names a slot, but neither the bytes of a snapshot nor its cluster.
#[test]
fn a_snapshot_that_only_a_mark_names_is_ignored() {
    let case = log(3);
    let mut writer = open(&case.disk);
    let header = SnapshotHeader {
        cluster: 9,
        slot: 2,
        membership: "".into(),
    };
    snapshot::save(&case.disk, &header, &mut &b"of another cluster"[..]).unwrap();
    let mark = Record {
        kind: RecordKind::SnapshotMark,
        slot: 2,
        ballot: 0,
        payload: "".into(),
    };
    writer.commit(&[mark], 2).unwrap();
    drop(writer);
    let decision = case.decide();
    expect_row(&decision, 27);
    assert_eq!(decision.snapshots, []);
}

#[test]
fn damage_below_a_verified_snapshot_stops_no_start() {
    type Damage = fn(&Case);
    let damages: [Damage; 4] = [
        |case| case.flip(20, 2000),
        |case| case.flip(20, 10),
        |case| case.flip(19, 128 + 8),
        |case| {
            case.flip(18, 10);
            case.flip(19, 10);
        },
    ];
    for (way, damage) in damages.into_iter().enumerate() {
        let (case, [_, newest]) = with_snapshots();
        damage(&case);
        let decision = case.decide();
        assert!(decision.outcome.may_serve(), "{way}: {}", decision.report);
        assert!(decision.report.damage().count() > 0);
        assert_eq!(decision.report.verdict(), "damaged");
        let gone = decision.report.without_slots_to;
        assert!((18..=newest.slot).contains(&gone), "{way}: {gone}");
        assert_eq!(decision.first_slot, gone + 1);
        let writer = open(&case.disk);
        for slot in 1..=gone {
            assert_eq!(writer.read(slot).unwrap(), None, "{way}: slot {slot}");
        }
        for slot in gone + 1..=24 {
            assert!(writer.read(slot).unwrap().is_some(), "{way}: slot {slot}");
        }
        // Without that snapshot they are lost.
        case.disk
            .damage(&crate::layout::snapshot_path(newest.slot), 4300, &[0xee]);
        let decision = case.decide();
        assert!(
            matches!(decision.outcome, Outcome::Faulty { .. }),
            "{way}: {}",
            decision.report
        );
    }
}

#[test]
fn a_segment_missing_below_a_verified_snapshot_stops_no_start() {
    let (case, [_, newest]) = with_snapshots();
    let facts = case.facts();
    let highest = |s: &SegmentFacts| s.batches().map(|b| b.header.max_slot).max();
    let below = facts
        .segments
        .iter()
        .rfind(|segment| highest(segment).is_some_and(|slot| slot <= newest.slot));
    let below = below.expect("a segment below the snapshot");
    assert!(highest(below) > Some(0));
    case.disk.delete(&below.path);
    let decision = case.decide();
    expect_row(&decision, 16);
    assert!(decision.outcome.may_serve(), "{}", decision.report);
    assert_eq!(case.decide().report.verdict(), "damaged");
    let writer = open(&case.disk);
    assert!(writer.read(24).unwrap().is_some());
}

#[test]
fn row_18_other_files_are_listed_and_left_alone() {
    let case = log(3);
    case.disk.create("wal/notes.txt").unwrap();
    let decision = case.decide();
    expect_row(&decision, 18);
    assert_eq!(decision.outcome, Outcome::Clean);
    drop(open(&case.disk));
    assert!(case.disk.exists("wal/notes.txt").unwrap());
}

#[test]
fn row_19_a_foreign_file_is_refused() {
    type Edit = fn(&mut SegmentHeader);
    let edits: [Edit; 3] = [|h| h.node = 9, |h| h.disk ^= 1, |h| h.cluster = 7];
    for edit in edits {
        let mut facts = log(3).facts();
        facts.segments[0]
            .headers
            .iter_mut()
            .flatten()
            .for_each(edit);
        let decision = decide(&facts);
        expect_row(&decision, 19);
        assert_eq!(decision.outcome, Outcome::Fatal);
    }
}

#[test]
fn row_20_a_later_major_is_refused_and_a_later_minor_is_read() {
    let mut facts = log(3).facts();
    facts.segments[0].headers[0] = Err(crate::HeaderFault::Major(3));
    let decision = decide(&facts);
    expect_row(&decision, 20);
    assert_eq!(decision.outcome, Outcome::Fatal);

    let case = log(3);
    let mut header = case.facts().segments[0].header().unwrap().clone();
    header.minor += 1;
    for offset in [0, SEGMENT - BLOCK] {
        case.disk.damage(&segment_path(1), offset, &header.encode());
    }
    assert_eq!(case.decide().outcome, Outcome::Clean);
}

#[test]
fn row_21_one_bad_superblock_copy_is_written_again() {
    for copy in SUPERBLOCKS {
        let case = log(3);
        case.disk.flip_bit(copy, 100, 0);
        let decision = case.decide();
        expect_row(&decision, 21);
        assert_eq!(decision.outcome, Outcome::Clean);
        assert_eq!(case.lost(3), []);
        assert!(
            case.facts().supers.iter().all(Result::is_ok),
            "both are whole again"
        );
    }
}

#[test]
fn row_22_without_a_superblock_the_promise_may_be_lost() {
    let case = log(3);
    for copy in SUPERBLOCKS {
        case.disk.flip_bit(copy, 100, 0);
    }
    let decision = case.decide();
    expect_row(&decision, 22);
    assert_eq!(decision.outcome, Outcome::MetaLost);
    assert_eq!(decision.promised, 10, "a lower bound");
    let shared = Arc::new(case.disk.clone());
    let error = Folder::open(shared, 1, Environment::seeded(1)).unwrap_err();
    assert!(matches!(error, crate::Error::MetaLost(_)), "{error}");
    for copy in SUPERBLOCKS {
        case.disk.delete(copy);
    }
    assert_eq!(
        case.decide().outcome,
        Outcome::MetaLost,
        "deleted is lost too"
    );
}

#[test]
fn row_23_damage_that_hides_a_promise_does_not_lower_it() {
    let case = log(3);
    let mut writer = open(&case.disk);
    let promise = Record {
        kind: RecordKind::Promise,
        slot: 0,
        ballot: 99,
        payload: "".into(),
    };
    writer.commit(&[promise], 0).unwrap();
    writer.commit(&[accept(4, 10)], 0).unwrap();
    writer.idle_marker().unwrap();
    drop(writer);
    case.flip(0, 10);
    let decision = case.decide();
    expect_row(&decision, 6);
    assert_eq!(decision.promised, 99);
    assert_eq!(
        decision.outcome,
        Outcome::Clean,
        "no slot is lost:\n{}",
        decision.report
    );
    assert_eq!(decision.report.damage().count(), 1, "but it is reported");
}

#[test]
fn row_24_a_promise_that_only_the_log_holds_counts() {
    let case = log(3);
    let mut writer = open(&case.disk);
    let promise = Record {
        kind: RecordKind::Promise,
        slot: 0,
        ballot: 99,
        payload: "".into(),
    };
    writer.commit(&[promise], 0).unwrap();
    drop(writer);
    let mut facts = case.facts();
    for copy in facts.supers.iter_mut().flatten() {
        copy.promised = 12;
    }
    let decision = decide(&facts);
    expect_row(&decision, 24);
    assert_eq!((decision.outcome, decision.promised), (Outcome::Clean, 99));
}

#[test]
fn row_25_the_clean_flag_alone_never_counts() {
    let case = log(3);
    open(&case.disk).close().unwrap();
    assert_eq!(case.decide().report.findings, [], "closed in order");

    let mut longer = case.facts();
    for copy in longer.supers.iter_mut().flatten() {
        copy.durable_hint.0 -= 2 * BLOCK;
    }
    let decision = decide(&longer);
    expect_row(&decision, 25);
    assert_eq!(decision.outcome, Outcome::Clean);

    let (path, at) = case.place(3);
    case.disk
        .damage(&path, at, &vec![0; (SEGMENT - BLOCK - at) as usize]);
    let newest = case.newest();
    assert_ne!(
        newest, path,
        "the close wrote its marker to a newer segment"
    );
    case.disk.delete(&newest);
    assert!(
        matches!(case.decide().outcome, Outcome::Faulty { .. }),
        "{}",
        case.decide().report
    );
}

/// A log whose first segments are gone, covered by two snapshots.
fn with_snapshots() -> (Case, [SnapshotRef; 2]) {
    let case = log(1);
    let mut writer = open(&case.disk);
    let mut saved = Vec::new();
    for slot in 2..=24 {
        writer.commit(&[accept(slot, 10)], slot - 1).unwrap();
        if slot == 14 || slot == 20 {
            let header = SnapshotHeader {
                cluster: 0,
                slot,
                membership: "".into(),
            };
            let reference = snapshot::save(&case.disk, &header, &mut &b"state"[..]).unwrap();
            writer.snapshot_saved(reference).unwrap();
            let kind = RecordKind::SnapshotMark;
            let mark = Record {
                kind,
                slot,
                ballot: 0,
                payload: "".into(),
            };
            writer.commit(&[mark], slot - 1).unwrap();
            saved.push(reference);
        }
    }
    let removed = writer.remove_prefix(20, u64::MAX, 0).unwrap();
    assert!(
        removed.segments > 0 && removed.first_slot <= 15,
        "{removed:?}"
    );
    writer.idle_marker().unwrap();
    drop(writer);
    (case, [saved[0], saved[1]])
}

#[test]
fn row_26_a_bad_snapshot_falls_back_to_the_previous_one() {
    let (case, [older, newer]) = with_snapshots();
    assert_eq!(case.decide().snapshots, [newer, older]);
    case.disk
        .flip_bit(&crate::layout::snapshot_path(newer.slot), 5000, 0);
    let decision = case.decide();
    expect_row(&decision, 26);
    assert_eq!(
        (decision.outcome, &decision.snapshots[..]),
        (Outcome::Clean, &[older][..])
    );
}

#[test]
fn row_26_without_any_snapshot_the_removed_slots_are_lost() {
    let (case, [older, newer]) = with_snapshots();
    case.disk.delete(&crate::layout::snapshot_path(newer.slot));
    case.disk
        .flip_bit(&crate::layout::snapshot_path(older.slot), 5000, 0);
    let decision = case.decide();
    expect_row(&decision, 26);
    let first_slot = decision.first_slot;
    expect_lost(&decision, 1, first_slot - 1);
}

#[test]
fn row_27_a_snapshot_that_nothing_names_is_ignored() {
    let (case, [older, newer]) = with_snapshots();
    let header = SnapshotHeader {
        cluster: 0,
        slot: 23,
        membership: "".into(),
    };
    snapshot::save(&case.disk, &header, &mut &b"too early"[..]).unwrap();
    let decision = case.decide();
    expect_row(&decision, 27);
    assert_eq!(decision.snapshots, [newer, older]);
}

#[test]
fn row_28_a_partial_snapshot_is_kept_for_resume() {
    let (case, _) = with_snapshots();
    case.disk
        .create("snapshots/0000000000000040.partial")
        .unwrap();
    let decision = case.decide();
    expect_row(&decision, 28);
    assert_eq!(decision.outcome, Outcome::Clean);
    drop(open(&case.disk));
    assert!(
        case.disk
            .exists("snapshots/0000000000000040.partial")
            .unwrap()
    );
}

#[test]
fn row_29_an_impossible_record_under_a_good_checksum_is_a_bug() {
    let mut facts = log(3).facts();
    let Item::Batch(batch) = &mut facts.segments[0].items[1] else {
        panic!("a batch")
    };
    batch.body = Body::Impossible("payload length");
    let decision = decide(&facts);
    expect_row(&decision, 29);
    assert_eq!(decision.outcome, Outcome::Fatal);
}

#[test]
fn an_empty_folder_is_clean() {
    assert_eq!(decide(&Facts::default()).outcome, Outcome::Clean);
}

#[test]
fn a_log_that_may_not_serve_is_not_changed() {
    let case = log(5);
    case.flip(3, 10);
    let before = case.disk.calls();
    let mut writer = open(&case.disk);
    let error = writer.commit(&[accept(6, 10)], 0).unwrap_err();
    assert!(
        matches!(&error, crate::Error::Damaged(why) if why.contains("slot 3")),
        "{error}"
    );
    drop(writer);
    let facts = case.facts();
    assert_eq!(facts.segments.len(), 1, "no segment was started");
    // Only the lock, the syncs before the scan.
    assert!(
        case.disk.calls() - before <= 8,
        "{} calls",
        case.disk.calls() - before
    );
}

#[test]
fn the_report_names_file_place_slots_and_what_to_do() {
    let case = log(5);
    case.flip(3, 10);
    let text = case.decide().report.to_string();
    for part in [
        "outcome faulty",
        "wal/0000000000000001.wal bytes 24576..32768",
        "slot 3",
        "proves",
        "advice",
    ] {
        assert!(text.contains(part), "no {part:?} in\n{text}");
    }
}
