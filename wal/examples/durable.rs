//! What a durable append costs beside the raw limit of the same disk, interleaved in one process.
//!
//! `cargo run --release -p wal --example durable -- [FOLDER] [ROUNDS]`
//!
//! Raw: 4 KiB `pwritev2(RWF_DSYNC)` on a zero-filled file. Inline: one caller, 128 bytes, written by the caller. Queue:
//! one caller, 128 bytes, through the log thread and back by one wake. Group: 64 callers at once through the queue,
//! records a second, beside what one durable write of the same bytes at a time would give.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use wal::storage::{Disk, RealDisk, SharedFile};
use wal::{Environment, Folder, Log, LogOptions, Options, Progress, Record, RecordKind, Submitted};

const PER_ROUND: usize = 400;
const RAW_BYTES: u64 = 64 << 20;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let folder = arguments
        .next()
        .unwrap_or_else(|| "target/durable".to_owned());
    let rounds: usize = arguments.next().map_or(Ok(12), |rounds| rounds.parse())?;
    let _ = std::fs::remove_dir_all(&folder);
    let disk = RealDisk::create_root(&folder)?;
    let mut raw = Raw::new(&disk)?;
    let log = Rig::start(disk.clone())?;
    let mut samples: [Vec<Vec<u64>>; 3] = Default::default();
    let mut per_second = Vec::new();
    for round in 0..rounds + 1 {
        // In turn first, second and third: none always follows the busiest.
        let mut taken: [Vec<u64>; 3] = Default::default();
        for turn in 0..3 {
            let kind = (round + turn) % 3;
            taken[kind] = match kind {
                0 => raw.round()?,
                1 => log.round(true)?,
                _ => log.round(false)?,
            };
        }
        per_second.push(log.many(64)?);
        // The first round warms up.
        if round > 0 {
            for (samples, taken) in samples.iter_mut().zip(&mut taken) {
                taken.sort_unstable();
                samples.push(std::mem::take(taken));
            }
        }
    }
    let base = median(&samples[0], 50.0);
    println!("{rounds} rounds of {PER_ROUND}, medians of each round's percentile, microseconds");
    println!(
        "{:<28} {:>8} {:>8} {:>8} {:>8}",
        "", "p50", "p99", "p99.9", "p50/raw"
    );
    for (name, samples) in ["raw 4 KiB RWF_DSYNC", "inline, 128 B", "queue, 128 B"]
        .iter()
        .zip(&samples)
    {
        let [p50, p99, p999] = [50.0, 99.0, 99.9].map(|p| median(samples, p));
        let ratio = p50 / base;
        println!("{name:<28} {p50:>8.1} {p99:>8.1} {p999:>8.1} {ratio:>8.2}");
    }
    per_second.sort_by(f64::total_cmp);
    println!(
        "queue, 64 callers, 128 B: {:.0} records/s",
        per_second[per_second.len() / 2]
    );
    let stats = log.log.stats();
    println!("{} syncs, {} MiB written", stats.syncs, stats.bytes >> 20);
    log.log.close()?;
    reopen(&disk)?;
    std::fs::remove_dir_all(&folder)?;
    Ok(())
}

/// A start: every checksum of the log is verified, with the files in the page cache.
fn reopen(disk: &RealDisk) -> Result<(), wal::Error> {
    let since = Instant::now();
    let folder = Folder::open(Arc::new(disk.clone()), 1, Environment::of_machine())?;
    let (writer, recovery) = folder.open_log(Options::default())?;
    let (ms, mib) = (
        since.elapsed().as_secs_f64() * 1e3,
        writer.log_bytes() >> 20,
    );
    let slots = recovery.last_slot;
    println!(
        "start with {slots} records in {mib} MiB: {ms:.0} ms, {}",
        recovery.outcome.name()
    );
    Ok(())
}

/// The limit: what the disk itself takes.
struct Raw {
    file: SharedFile,
    at: u64,
}

impl Raw {
    fn new(disk: &RealDisk) -> std::io::Result<Raw> {
        let file = disk.create("raw")?;
        for at in 0..RAW_BYTES >> 20 {
            file.write_at(&vec![0; 1 << 20], at << 20)?;
        }
        file.sync()?;
        Ok(Raw { file, at: 0 })
    }

    fn round(&mut self) -> std::io::Result<Vec<u64>> {
        let block = vec![7; 4096];
        let mut taken = Vec::with_capacity(PER_ROUND);
        for _ in 0..PER_ROUND {
            let since = Instant::now();
            self.file.write_at_durable(&block, self.at)?;
            taken.push(since.elapsed().as_nanos() as u64);
            self.at = (self.at + 4096) % RAW_BYTES;
        }
        Ok(taken)
    }
}

/// The log, and what its callback tells.
struct Rig {
    log: Log,
    told: Arc<(Mutex<u64>, Condvar)>,
    slot: AtomicU64,
}

impl Rig {
    fn start(disk: RealDisk) -> Result<Rig, wal::Error> {
        let folder = Folder::open(Arc::new(disk), 1, Environment::of_machine())?;
        let (writer, _) = folder.open_log(Options::default())?;
        let told = Arc::new((Mutex::new(0), Condvar::new()));
        let tell = told.clone();
        let log = Log::start(
            writer,
            LogOptions::default(),
            Box::new(move |progress| {
                if let Progress::Durable { position } = progress {
                    *tell.0.lock().expect("no panic") = position;
                    tell.1.notify_all();
                }
            }),
        );
        Ok(Rig {
            log,
            told,
            slot: AtomicU64::new(0),
        })
    }

    fn record(&self) -> Vec<Record> {
        let slot = self.slot.fetch_add(1, Ordering::Relaxed) + 1;
        let payload = vec![3; 128].into();
        vec![Record {
            kind: RecordKind::Accept,
            slot,
            ballot: 1,
            payload,
        }]
    }

    fn wait(&self, position: u64) {
        let mut told = self.told.0.lock().expect("no panic");
        while *told < position {
            told = self.told.1.wait(told).expect("no panic");
        }
    }

    fn round(&self, inline: bool) -> Result<Vec<u64>, wal::Error> {
        let mut taken = Vec::with_capacity(PER_ROUND);
        for _ in 0..PER_ROUND {
            let record = self.record();
            let since = Instant::now();
            if inline {
                if let Submitted::Queued(position) = self.log.commit_inline(record, 0)? {
                    self.wait(position);
                }
            } else {
                self.wait(self.log.submit(record, 0)?);
            }
            taken.push(since.elapsed().as_nanos() as u64);
        }
        Ok(taken)
    }

    /// Keeps so many records waiting, for 200 ms.
    fn many(&self, deep: u64) -> Result<f64, wal::Error> {
        let since = Instant::now();
        let (mut last, mut count) = (0, 0_u64);
        while since.elapsed() < Duration::from_millis(200) {
            last = self.log.submit(self.record(), 0)?;
            count += 1;
            self.wait(last.saturating_sub(deep));
        }
        self.wait(last);
        Ok(count as f64 / since.elapsed().as_secs_f64())
    }
}

/// The median over rounds of a percentile, in microseconds.
fn median(rounds: &[Vec<u64>], percentile: f64) -> f64 {
    let mut values: Vec<u64> = rounds
        .iter()
        .map(|sorted| sorted[((sorted.len() - 1) as f64 * percentile / 100.0) as usize])
        .collect();
    values.sort_unstable();
    values[values.len() / 2] as f64 / 1000.0
}
