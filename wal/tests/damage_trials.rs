//! A log under load is killed, then damaged in one place, then opened: everything that was told to be durable is read
//! back, or the log refuses to serve.
//!
//! Counted apart: a last group that no marker, no later header and no hint proves. Its damage alone looks like a write
//! that was under way, and zeros there like none at all; nobody who has only this folder can tell.
//!
//! `cargo test -p wal --test damage_trials -- --ignored` runs 500 trials; the default is a short version of it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use wal::scan::{self, Facts};
use wal::storage::{BLOCK_BYTES, MemDisk};
use wal::{Environment, Error, Folder, Log, LogOptions, Lsn, Options, Outcome, Record, RecordKind};

const BLOCK: u64 = BLOCK_BYTES as u64;
const SEGMENT: u64 = 16 * BLOCK;

#[test]
fn short() {
    trials(0..60);
}

#[test]
#[ignore = "500 trials: a minute"]
fn five_hundred() {
    trials(1_000..1_500);
}

fn trials(seeds: std::ops::Range<u64>) {
    let (mut served, mut refused, mut unproven) = (0, 0, 0);
    for seed in seeds {
        match trial(seed) {
            Verdict::Served => served += 1,
            Verdict::Refused => refused += 1,
            Verdict::Unproven => unproven += 1,
        }
    }
    println!("served {served}, refused {refused}, last group unproven {unproven}");
    assert!(served > 0 && refused > 0, "the trials reach both answers");
}

enum Verdict {
    Served,
    Refused,
    /// Something acknowledged is gone, and it was the last group, which nothing proved.
    Unproven,
}

fn trial(seed: u64) -> Verdict {
    let mut dice = Dice(seed);
    let disk = MemDisk::new();
    let told = load(&disk, &mut dice);
    disk.kill();
    let before = scan::survey(&disk).expect("a folder");
    let (what, fault) = damage(&disk, &before, &mut dice);
    let proven = proven(&before, fault);

    let environment = Environment::seeded(seed + 1);
    let folder = match Folder::open(Arc::new(disk), 1, environment) {
        Ok(folder) => folder,
        Err(Error::MetaLost(_)) => return Verdict::Refused,
        Err(error) => panic!("seed {seed}, {what}: {error}"),
    };
    let options = Options {
        segment_bytes: SEGMENT,
    };
    let (writer, recovery) = folder.open_log(options).expect("damage is no error");
    if !recovery.outcome.may_serve() {
        assert!(matches!(recovery.outcome, Outcome::Faulty { .. }));
        return Verdict::Refused;
    }
    let mut verdict = Verdict::Served;
    for (slot, payload) in &told {
        match writer.read(*slot) {
            Ok(Some(entry)) => assert_eq!(entry.payload, payload, "seed {seed}, {what}"),
            found => {
                assert!(
                    *slot > proven,
                    "seed {seed}, {what}: slot {slot} is lost without a report, {found:?}; slots up to {proven} were \
                     proven\n{}",
                    recovery.report
                );
                verdict = Verdict::Unproven;
            }
        }
    }
    verdict
}

/// Appends for a while, now and then with a pause for the marker or the hint, and stops in the middle of it. What was
/// told to be durable.
fn load(disk: &MemDisk, dice: &mut Dice) -> BTreeMap<u64, Vec<u8>> {
    let shared = Arc::new(disk.clone());
    let folder = Folder::open(shared, 1, Environment::seeded(dice.0)).expect("a folder");
    let options = Options {
        segment_bytes: SEGMENT,
    };
    let (writer, _) = folder.open_log(options).expect("a log");
    let options = LogOptions {
        idle_delay: Duration::from_millis(2),
        hint_interval: Duration::from_millis(4),
        ..LogOptions::default()
    };
    let log = Log::start(writer, options, Box::new(|_| {}));
    let mut sent = BTreeMap::new();
    let mut positions = Vec::new();
    let mut slot = 0;
    for _ in 0..10 + dice.below(30) {
        let mut group = Vec::new();
        for _ in 0..=dice.below(3) {
            slot += 1;
            let payload = vec![slot as u8; 1 + dice.below(9_000) as usize];
            sent.insert(slot, payload.clone());
            group.push(Record {
                kind: RecordKind::Accept,
                slot,
                ballot: 1 << 16 | 1,
                payload: payload.into(),
            });
        }
        let position = log.submit(group, slot).expect("it runs");
        positions.push((position, slot));
        match dice.below(12) {
            0 => pause(&log, position, Duration::from_millis(3)),
            1 => pause(&log, position, Duration::from_millis(12)),
            _ => {}
        }
    }
    if dice.below(2) == 0 {
        // Killed when it had come to rest, else with writes under way.
        pause(&log, slot_position(&positions), Duration::from_millis(12));
    }
    let durable = log.durable();
    drop(log);
    let last = positions
        .iter()
        .filter(|(position, _)| *position <= durable);
    let last = last.map(|(_, slot)| *slot).max().unwrap_or(0);
    sent.retain(|slot, _| *slot <= last);
    sent
}

fn slot_position(positions: &[(u64, u64)]) -> u64 {
    positions.last().map_or(0, |(position, _)| *position)
}

/// Waits until the position is durable, then for a while longer.
fn pause(log: &Log, position: u64, longer: Duration) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while log.durable() < position {
        assert!(Instant::now() < deadline, "the log stands still");
        std::thread::sleep(Duration::from_micros(200));
    }
    std::thread::sleep(longer);
}

/// The highest slot whose loss the fault cannot hide.
fn proven(facts: &Facts, fault: Fault) -> u64 {
    let bound = match fault {
        // No crash shortens a file or takes it away, so nothing may be lost in silence.
        Fault::Gone => return u64::MAX,
        // One place: whatever proves a group stands elsewhere.
        Fault::Bit => scan::decide(facts).report.durable_bound,
        // Zeros may cover a group and its proof in the same file; the hint stands in another.
        Fault::Zeros => {
            let hints = facts.supers.iter().flatten().map(|copy| copy.durable_hint);
            hints.max().unwrap_or(Lsn(0))
        }
    };
    let batches = facts.segments.iter().flat_map(|segment| segment.batches());
    let within = batches.filter(|batch| batch.header.end() <= bound);
    let slots = within.map(|batch| batch.header.max_slot_ever);
    slots.max().unwrap_or(0)
}

#[derive(Clone, Copy)]
enum Fault {
    Bit,
    Zeros,
    Gone,
}

/// One fault at a random place: a bit, a stretch of zeros, a cut, or a file gone.
fn damage(disk: &MemDisk, facts: &Facts, dice: &mut Dice) -> (String, Fault) {
    let live: Vec<_> = facts
        .segments
        .iter()
        .filter(|s| s.header().is_some())
        .collect();
    // The newest half of the time: there the end of the log is.
    let segment = match dice.below(2) {
        0 => live[live.len() - 1],
        _ => live[dice.below(live.len() as u64) as usize],
    };
    let path = &segment.path;
    let used = segment.batches().last().map_or(BLOCK, |batch| {
        batch.header.end().0 - segment.header().expect("it is live").base.0
    });
    let block = dice.below(used.div_ceil(BLOCK)) * BLOCK;
    match dice.below(5) {
        0 => {
            let at = block + dice.below(BLOCK);
            disk.flip_bit(path, at, (dice.below(8)) as u8);
            (format!("a bit at {at} of {path}"), Fault::Bit)
        }
        1 => {
            let blocks = 1 + dice.below(3);
            disk.damage(
                path,
                block,
                &vec![0; (blocks * BLOCK).min(segment.len - block) as usize],
            );
            let what = format!("{blocks} blocks of zeros at {block} of {path}");
            (what, Fault::Zeros)
        }
        2 => {
            disk.damage(path, block, &vec![0; (segment.len - block) as usize]);
            (format!("zeros from {block} on in {path}"), Fault::Zeros)
        }
        3 => {
            disk.truncate(path, block);
            (format!("{path} cut to {block}"), Fault::Gone)
        }
        _ => {
            disk.delete(path);
            (format!("{path} deleted"), Fault::Gone)
        }
    }
}

/// Numbers that look random and follow from the seed.
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: u64) -> u64 {
        // SplitMix64: Steele, Lea, Flood, "Fast splittable pseudorandom number generators" (2014).
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % bound.max(1)
    }
}
