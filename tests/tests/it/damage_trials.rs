//! One replica is killed with `kill -9` under load, one file of its data folder is damaged in one place, and it is
//! started again. Either every section that was acknowledged is served, or the start ends with exit code 5 and names what
//! is damaged.
//!
//! Two outcomes are counted apart. The last groups of the log, if no marker, no later header and no hint outside the damage
//! proves them: damage there looks like a write that was under way, and zeros to the end like nothing at all. And rot that only shows while the replica runs: reads of that file are
//! refused then, and the next start decides.
//!
//! The default run has a few trials. All 500, or any others:
//!
//! ```text
//! HOLDFAST_TRIALS=500 cargo test -p tests --test it -- --ignored five_hundred_damaged_folders --nocapture
//! ```

use std::collections::BTreeMap;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use client::{Client, Options, Receipt};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use tests::harness::patience::until;
use tests::harness::{Cluster, Plan};
use wal::Lsn;
use wal::scan::{self, Facts};
use wal::storage::RealDisk;

const TRIALS: u64 = 500;
const SHORT: u64 = 6;
const EXIT_DAMAGED: i32 = 5;
const LIMIT: Duration = Duration::from_secs(30);
const BLOCK: u64 = 4096;
const WORKERS: u64 = 3;
const FILES: [&str; 3] = ["file_0", "file_1", "file_2"];
/// What a replica writes to its log when it finds rot while it runs.
const FOUND_ROT: &str = "Reads of it are refused";

#[test]
fn a_few_damaged_folders() {
    trials(1, SHORT);
}

#[test]
#[ignore = "ten minutes: HOLDFAST_TRIALS trials, 500 by default"]
fn five_hundred_damaged_folders() {
    trials(
        number("HOLDFAST_TRIALS_SEED", 1_000),
        number("HOLDFAST_TRIALS", TRIALS),
    );
}

fn number(variable: &str, default: u64) -> u64 {
    let given = std::env::var(variable).ok();
    given.map_or(default, |text| text.parse().expect("a number"))
}

fn trials(first: u64, count: u64) {
    let mut counts: BTreeMap<(&str, Verdict), u64> = BTreeMap::new();
    let mut most_lost = 0;
    for seed in first..first + count {
        let (target, verdict, lost) = trial(seed);
        *counts.entry((target, verdict)).or_default() += 1;
        most_lost = most_lost.max(lost);
    }
    println!("{count} trials from HOLDFAST_TRIALS_SEED={first} on");
    for ((target, verdict), count) in counts {
        println!("{target:<12} {:<25} {count}", format!("{verdict:?}"));
    }
    println!("at most {most_lost} sections lost at once that nothing proved");
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Verdict {
    /// All that was acknowledged is there.
    Served,
    /// Exit code 5, and the damage is named.
    Refused,
    /// Reads of the file were refused, then it was rebuilt at the next start.
    RefusedReadsThenServed,
    /// Reads of the file were refused, then the next start was.
    RefusedReadsThenRefused,
    /// The end of the log is gone, and nothing outside the damage proved that there was more.
    UnprovenLost,
}

/// A section that was acknowledged: a line in one file, and the slot that applied it.
#[derive(Clone, Debug)]
struct Acknowledged {
    file: &'static str,
    line: String,
    slot: u64,
}

type Told = Arc<Mutex<Vec<Acknowledged>>>;

/// What was damaged, what came of it, and how many acknowledged sections that nothing proved are gone.
fn trial(seed: u64) -> (&'static str, Verdict, usize) {
    let mut dice = ChaCha8Rng::seed_from_u64(seed);
    let plan = Plan::new(1).flag("--snapshot-after", "256KiB");
    let mut cluster = plan.start();
    let told = Told::default();
    let lives = if dice.random_bool(0.3) { 2 } else { 1 };
    for life in 0..lives {
        if life > 0 {
            cluster.start_replica(1);
        }
        work_until_killed(&mut cluster, life, &told, &mut dice);
    }
    let told = told.lock().expect("no panic").clone();
    let before = scan::survey(&RealDisk::at(cluster.data(1))).expect("a folder");
    let damage = Damage::choose(cluster.data(1), &before, &mut dice);
    let proven = damage.proven(&before);
    damage.strike(cluster.data(1));
    let what = format!(
        "HOLDFAST_TRIALS_SEED={seed} HOLDFAST_TRIALS=1: {:?} of {}",
        damage.fault, damage.path
    );

    let mut lost = 0;
    let verdict = match start(&mut cluster, &damage, &what) {
        Start::Refused => Verdict::Refused,
        Start::Serves => match judge(&mut cluster, &told, proven, &what) {
            Some(0) => Verdict::Served,
            Some(unproven) => {
                lost = unproven;
                Verdict::UnprovenLost
            }
            None => {
                cluster.kill(1);
                match start(&mut cluster, &damage, &what) {
                    Start::Refused => Verdict::RefusedReadsThenRefused,
                    Start::Serves => {
                        let lost = judge(&mut cluster, &told, proven, &what);
                        assert_eq!(lost, Some(0), "{what}: rot was served");
                        Verdict::RefusedReadsThenServed
                    }
                }
            }
        },
    };
    (damage.target(), verdict, lost)
}

fn endpoint(cluster: &Cluster) -> [String; 1] {
    [cluster.client_address(1).to_string()]
}

fn options(timeout: Duration) -> Options {
    Options {
        timeout,
        // What a killed client held is free again soon.
        session_ttl: Some(Duration::from_secs(2)),
        ..Options::default()
    }
}

/// Several clients add a line in each section, until the replica is killed in the middle of it.
fn work_until_killed(cluster: &mut Cluster, life: u64, told: &Told, dice: &mut ChaCha8Rng) {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .expect("a runtime");
    let long = dice.random_bool(0.5);
    for worker in 0..WORKERS {
        let (at, told, seed) = (endpoint(cluster), Arc::clone(told), dice.random());
        runtime.spawn(async move {
            let mut dice = ChaCha8Rng::seed_from_u64(seed);
            let client = Client::connect_with(
                client::Endpoints::parse(at).expect("an address"),
                options(LIMIT),
            );
            let client = client.await.expect("a client");
            for section in 0.. {
                let file = FILES[dice.random_range(0..FILES.len())];
                let bytes = dice.random_range(0..if long { 60_000 } else { 60 });
                let text = "x".repeat(bytes);
                let line = format!("life {life} worker {worker} section {section} {bytes} {text}");
                let Ok(guard) = client.lock("default").acquire().await else {
                    continue;
                };
                drop(guard.append(file, format!("{line}\n")));
                let Ok(Receipt { slot, .. }) = guard.release().await else {
                    continue;
                };
                told.lock()
                    .expect("no panic")
                    .push(Acknowledged { file, line, slot });
            }
        });
    }
    let wanted = told.lock().expect("no panic").len() + dice.random_range(5..60);
    until("sections to be acknowledged", LIMIT, || {
        (told.lock().expect("no panic").len() >= wanted).then_some(())
    });
    std::thread::sleep(Duration::from_millis(dice.random_range(0..300)));
    cluster.kill(1);
    runtime.shutdown_background();
}

#[derive(Debug, PartialEq, Eq)]
enum Start {
    Serves,
    Refused,
}

/// Starts the replica on what is left. If it refuses, that is with exit code 5, and the damaged file is named.
fn start(cluster: &mut Cluster, damage: &Damage, what: &str) -> Start {
    cluster.spawn(1);
    let process = cluster.process(1);
    let serves = until("a start or a refusal", LIMIT, || {
        let serves = !process.stdout().all().is_empty();
        (serves || process.exited().is_some()).then_some(serves)
    });
    if serves {
        return Start::Serves;
    }
    let code = process.exit_code(LIMIT);
    let log = said_since_start(cluster);
    assert_eq!(
        code,
        Some(EXIT_DAMAGED),
        "{what}: damage is exit code 5\n{log}"
    );
    let name = damage.path.rsplit('/').next().expect("a name");
    assert!(
        log.contains(name),
        "{what}: the refusal names {name}\n{log}"
    );
    cluster.kill(1);
    Start::Refused
}

/// What the replica has logged in its present life.
fn said_since_start(cluster: &mut Cluster) -> String {
    let log = cluster.process(1).stderr();
    let said = log.rsplit("starting this replica").next();
    said.unwrap_or_default().to_owned()
}

/// Compares the files with what was acknowledged, as the service reads them; `None` if it refuses to read one. Returns
/// how many sections are gone; whatever was proven is there.
fn judge(cluster: &mut Cluster, told: &[Acknowledged], proven: u64, what: &str) -> Option<usize> {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let endpoints = client::Endpoints::parse(endpoint(cluster)).expect("an address");
    let client = Client::lazy(endpoints, options(Duration::from_secs(1)));
    let mut lost = 0;
    for file in FILES {
        let text = runtime.block_on(read(cluster, &client, file, what))?;
        let text = String::from_utf8(text).unwrap_or_else(|_| panic!("{what}: {file} is no text"));
        let mut lines: Vec<&str> = text.lines().collect();
        for line in &lines {
            let mut words = line.split(' ').skip(6);
            let bytes = words.next().and_then(|word| word.parse().ok());
            let whole =
                words.next().map(str::len) == bytes && line.ends_with('x') | line.ends_with(' ');
            assert!(whole, "{what}: {file} has {line:.80}");
        }
        let all = lines.len();
        lines.sort_unstable();
        lines.dedup();
        assert_eq!(all, lines.len(), "{what}: a section is there twice");
        for section in told.iter().filter(|section| section.file == file) {
            if lines.binary_search(&&*section.line).is_err() {
                let slot = section.slot;
                assert!(
                    slot > proven,
                    "{what}: the section of slot {slot} was acknowledged and is lost without a word; slots up to {proven} \
                     were proven: {:.60}\n{}",
                    section.line,
                    cluster.process(1).stderr()
                );
                lost += 1;
            }
        }
    }
    // It goes on from there.
    let after = runtime.block_on(async {
        let client =
            Client::connect_with(client.link().endpoints().clone(), options(LIMIT)).await?;
        let guard = client.lock("another").acquire().await?;
        guard.release().await
    });
    assert!(after.is_ok(), "{what}: {after:?}");
    Some(lost)
}

/// A whole file; `None` if the replica refuses to read it because of rot.
async fn read(cluster: &mut Cluster, client: &Client, file: &str, what: &str) -> Option<Vec<u8>> {
    let deadline = Instant::now() + LIMIT;
    loop {
        match client.reader().read_all(file).await {
            Ok(read) => return Some(read.value.to_vec()),
            Err(_) if said_since_start(cluster).contains(FOUND_ROT) => return None,
            Err(error) => assert!(Instant::now() < deadline, "{what}: {error}"),
        }
    }
}

#[derive(Clone, Copy, Debug)]
enum Fault {
    /// One bit, in this byte.
    Bit {
        at: u64,
    },
    /// So many bytes.
    Zeros {
        at: u64,
        bytes: u64,
    },
    CutTo(u64),
    Deleted,
}

/// One fault in one file.
#[derive(Debug)]
struct Damage {
    /// In the data folder.
    path: String,
    fault: Fault,
}

impl Damage {
    fn choose(data: &Path, facts: &Facts, dice: &mut ChaCha8Rng) -> Damage {
        let target = dice.random_range(0..10);
        let superblock = || format!("wal/super.{}", target % 2);
        let mut one_of = |folder: &str| {
            let names = files_with_content(&data.join(folder));
            (!names.is_empty()).then(|| {
                let name = &names[dice.random_range(0..names.len())];
                let length = std::fs::metadata(data.join(folder).join(name))
                    .expect("a file")
                    .len();
                (format!("{folder}/{name}"), length)
            })
        };
        let (path, length) = match target {
            0 | 1 => Some((superblock(), 4096)),
            2 | 3 => one_of("snapshots"),
            4 | 5 => one_of("files"),
            _ => None,
        }
        .unwrap_or_else(|| segment(facts, dice));
        let at = dice.random_range(0..length.max(1));
        let fault = match dice.random_range(0..5) {
            0 => Fault::Bit { at },
            1 => {
                let at = at / BLOCK * BLOCK;
                let bytes = (dice.random_range(1..4) * BLOCK).min(length - at);
                Fault::Zeros { at, bytes }
            }
            2 => Fault::Zeros {
                at,
                bytes: length - at,
            },
            3 => Fault::CutTo(at),
            _ => Fault::Deleted,
        };
        Damage { path, fault }
    }

    fn target(&self) -> &'static str {
        match self.path.split(['/', '.']).collect::<Vec<_>>()[..] {
            ["wal", "super", ..] => "superblock",
            ["wal", ..] => "segment",
            ["snapshots", ..] => "snapshot",
            _ => "file",
        }
    }

    fn strike(&self, data: &Path) {
        let path = data.join(&self.path);
        let file = File::options()
            .read(true)
            .write(true)
            .open(&path)
            .expect("it is there");
        match self.fault {
            Fault::Bit { at } => {
                let mut byte = [0];
                file.read_exact_at(&mut byte, at).expect("read");
                file.write_all_at(&[byte[0] ^ 1 << (at % 8)], at)
                    .expect("written");
            }
            Fault::Zeros { at, bytes } => {
                let zeros = vec![0; usize::try_from(bytes).expect("a file's length")];
                file.write_all_at(&zeros, at).expect("written");
            }
            Fault::CutTo(length) => file.set_len(length).expect("cut"),
            Fault::Deleted => std::fs::remove_file(path).expect("deleted"),
        }
    }

    /// The highest slot whose loss this fault cannot hide.
    fn proven(&self, facts: &Facts) -> u64 {
        let bound = match self.fault {
            // What lies elsewhere can be built again, or it is known to be missing. No crash shortens a file.
            _ if self.target() != "segment" => return u64::MAX,
            Fault::CutTo(_) | Fault::Deleted => return u64::MAX,
            // Whatever proves a group stands in another place.
            Fault::Bit { .. } => scan::decide(facts).report.durable_bound,
            // Zeros may cover a group and its proof in the same file; the hint stands in another.
            Fault::Zeros { .. } => {
                let hints = facts.supers.iter().flatten().map(|copy| copy.durable_hint);
                hints.max().unwrap_or(Lsn(0))
            }
        };
        let batches = facts.segments.iter().flat_map(|segment| segment.batches());
        let within = batches.filter(|batch| batch.header.end() <= bound);
        let slots = within.map(|batch| batch.header.max_slot_ever);
        slots.max().unwrap_or(0)
    }
}

fn files_with_content(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).expect("a folder");
    let paths = entries.map(|entry| entry.expect("an entry").path());
    let with_content = |path: &PathBuf| {
        std::fs::metadata(path).is_ok_and(|found| found.is_file() && found.len() > 0)
    };
    let mut names: Vec<String> = paths
        .filter(with_content)
        .filter_map(|path| Some(path.file_name()?.to_string_lossy().into_owned()))
        .collect();
    names.sort();
    names
}

/// A segment that is in use, the newest half of the time, with the bytes used in it.
fn segment(facts: &Facts, dice: &mut ChaCha8Rng) -> (String, u64) {
    let used = |segment: &&scan::SegmentFacts| segment.header().is_some();
    let live: Vec<_> = facts.segments.iter().filter(used).collect();
    let one = if dice.random_bool(0.5) {
        live.len() - 1
    } else {
        dice.random_range(0..live.len())
    };
    let base = live[one].header().expect("it is in use").base.0;
    let end = live[one]
        .batches()
        .last()
        .map(|batch| batch.header.end().0 - base);
    (live[one].path.clone(), end.unwrap_or(BLOCK))
}
