//! What reading a log back costs: a start that verifies all of it, then every slot in order and at random.
//!
//! `cargo run --release -p wal --example read_back -- [FOLDER] [ROUNDS]`
//!
//! The files are in the page cache, as they are for a replica that brings another one up to date. Each line is the
//! median over the rounds.

use std::sync::Arc;
use std::time::{Duration, Instant};

use wal::storage::RealDisk;
use wal::{Environment, Folder, Options, Reader, Record, RecordKind, Writer};

/// Bytes of payload, and how many records of that size are written: about 128 MiB each.
const SIZES: [(usize, u64); 3] = [(128, 400_000), (4 << 10, 30_000), (256 << 10, 500)];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let folder = arguments
        .next()
        .unwrap_or_else(|| "target/read_back".to_owned());
    let rounds: usize = arguments.next().map_or(Ok(5), |rounds| rounds.parse())?;
    println!(
        "{:>12} {:>10} {:>14} {:>14} {:>14}",
        "payload", "records", "open, ms", "in order, us", "random, us"
    );
    for (payload_bytes, records) in SIZES {
        let _ = std::fs::remove_dir_all(&folder);
        fill(&folder, payload_bytes, records)?;
        let mut taken: [Vec<f64>; 3] = Default::default();
        for round in 0..rounds {
            let since = Instant::now();
            let log = open(&folder)?;
            taken[0].push(since.elapsed().as_secs_f64() * 1e3);
            let reader = log.reader();
            let in_order = read(&reader, 1..=records)?;
            taken[1].push(micros_each(in_order, records));
            // A stride without a common divisor meets every slot once, far from the one before.
            let stride = 7_919 + 2 * round as u64;
            let scattered = (0..records).map(|nth| 1 + nth * stride % records);
            taken[2].push(micros_each(read(&reader, scattered)?, records));
        }
        let [open, in_order, random] = taken.map(median);
        println!("{payload_bytes:>12} {records:>10} {open:>14.1} {in_order:>14.2} {random:>14.2}");
    }
    std::fs::remove_dir_all(&folder)?;
    Ok(())
}

fn open(folder: &str) -> Result<Writer, Box<dyn std::error::Error>> {
    let disk = RealDisk::create_root(folder)?;
    let folder = Folder::open(Arc::new(disk), 1, Environment::of_machine())?;
    Ok(folder.open_log(Options::default())?.0)
}

fn fill(
    folder: &str,
    payload_bytes: usize,
    records: u64,
) -> Result<(), Box<dyn std::error::Error>> {
    let mut log = open(folder)?;
    let per_group = (1 << 20) / payload_bytes as u64;
    let mut slot = 1;
    while slot <= records {
        let group: Vec<Record> = (slot..=records.min(slot + per_group - 1))
            .map(|slot| Record {
                kind: RecordKind::Accept,
                slot,
                ballot: 1,
                payload: vec![slot as u8; payload_bytes].into(),
            })
            .collect();
        slot += group.len() as u64;
        log.commit(&group, 0)?;
    }
    log.close()?;
    Ok(())
}

fn read(
    reader: &Reader,
    slots: impl Iterator<Item = u64>,
) -> Result<Duration, Box<dyn std::error::Error>> {
    let since = Instant::now();
    for slot in slots {
        let entry = reader.read(slot)?.ok_or("a slot is missing")?;
        assert_eq!(entry.payload.first(), Some(&(slot as u8)));
    }
    Ok(since.elapsed())
}

fn micros_each(all: Duration, records: u64) -> f64 {
    all.as_secs_f64() * 1e6 / records as f64
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
