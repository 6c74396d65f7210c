//! The simulator's command line.
//!
//! `sim --seed N` repeats one run; `sim --seeds N` runs that many, from `--from` on, on all cores;
//! `--twice` runs each seed twice and compares; `--keep-going` lists every seed that fails instead of
//! stopping at the first. Exit code 1, with the seed and the trace, if a check fails.

use std::io::{IsTerminal, Write};
use std::ops::Range;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use clap::Parser;
use tests::sim::marks::Marks;
use tests::sim::plan::Plan;
use tests::sim::{self, Failure, Summary};

/// A third of a run went to the system's allocator, whose arenas of other threads grow page by page.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// How often a terminal is told how far the runs are.
const PROGRESS_EVERY: Duration = Duration::from_millis(500);

/// Runs simulated clusters and checks them after every step.
#[derive(Debug, Parser)]
#[command(name = "sim")]
struct Flags {
    /// Runs this one seed.
    #[arg(long, conflicts_with = "seeds")]
    seed: Option<u64>,
    /// Runs this many seeds.
    #[arg(long, default_value_t = 100)]
    seeds: u64,
    /// The first of them.
    #[arg(long, default_value_t = 0)]
    from: u64,
    /// Shows this many lines of the trace of a run that fails.
    #[arg(long, default_value_t = 200)]
    lines: usize,
    /// Runs each seed twice and compares.
    #[arg(long)]
    twice: bool,
    /// Leaves out all seeds but those where every disk is slow and faults spare a majority.
    #[arg(long)]
    slow_disks: bool,
    /// Goes on after a failure and lists all of them at the end, each in one line.
    #[arg(long)]
    keep_going: bool,
    /// Threads; by default one for each core.
    #[arg(long)]
    jobs: Option<usize>,
}

fn main() -> ExitCode {
    let flags = Flags::parse();
    // The text of a panic comes with the trace.
    std::panic::set_hook(Box::new(|panic| {
        if let Some(place) = panic.location() {
            eprintln!("panic at {place}");
        }
    }));
    let seeds = match flags.seed {
        Some(seed) => seed..seed + 1,
        None => flags.from..flags.from.saturating_add(flags.seeds),
    };
    let mut tally = Tally::new(seeds.end - seeds.start);
    run_all(seeds, &flags, &mut tally);
    tally.report();
    if tally.failures.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::from(1)
    }
}

/// Runs the seeds on all threads and adds up their results as they come.
fn run_all(seeds: Range<u64>, flags: &Flags, tally: &mut Tally) {
    let cores = thread::available_parallelism().map_or(1, usize::from);
    let jobs = flags.jobs.unwrap_or(cores).max(1);
    let next = AtomicU64::new(seeds.start);
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        let (results, finished) = mpsc::channel();
        for _ in 0..jobs {
            let (results, next, stop) = (results.clone(), &next, &stop);
            scope.spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if flags.slow_disks
                        && seed < seeds.end
                        && !Plan::draw(seed).watches_slow_disks()
                    {
                        continue;
                    }
                    if seed >= seeds.end || results.send((seed, run(seed, flags))).is_err() {
                        return;
                    }
                }
            });
        }
        drop(results);
        loop {
            match finished.recv_timeout(PROGRESS_EVERY) {
                Ok((seed, Ok(summary))) => tally.add(seed, &summary),
                Ok((_, Err(failure))) => {
                    if !flags.keep_going {
                        stop.store(true, Ordering::Relaxed);
                    }
                    tally.fail(failure, flags.keep_going);
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
            tally.show_progress();
        }
    });
}

fn run(seed: u64, flags: &Flags) -> Result<Summary, Box<Failure>> {
    if flags.twice {
        sim::run_twice(seed, flags.lines)
    } else {
        sim::run(seed, flags.lines)
    }
}

/// The results so far.
struct Tally {
    wanted: u64,
    done: u64,
    failures: Vec<Failure>,
    /// Of all runs together, whatever the order in which they ended.
    hash: u64,
    slots: u64,
    simulated_us: u64,
    marks: Marks,
    started: Instant,
    shown: Instant,
}

impl Tally {
    fn new(wanted: u64) -> Tally {
        let now = Instant::now();
        Tally {
            wanted,
            done: 0,
            failures: Vec::new(),
            hash: 0,
            slots: 0,
            simulated_us: 0,
            marks: Marks::default(),
            started: now,
            shown: now,
        }
    }

    fn add(&mut self, seed: u64, summary: &Summary) {
        self.done += 1;
        // A sum does not depend on which thread was first; the rotation ties a hash to its seed.
        self.hash = self
            .hash
            .wrapping_add(summary.hash.rotate_left((seed % 63) as u32));
        self.slots += summary.slots;
        self.simulated_us += summary.simulated_us;
        self.marks.add(&summary.marks);
    }

    fn fail(&mut self, failure: Box<Failure>, in_short: bool) {
        self.done += 1;
        if in_short {
            let detail = failure.violation.detail.lines().next().unwrap_or_default();
            println!(
                "seed {} fails {}: {detail}",
                failure.seed, failure.violation.check
            );
        } else {
            eprintln!("{failure}");
        }
        self.failures.push(*failure);
    }

    /// One line that is written over, and only where a person looks at it.
    fn show_progress(&mut self) {
        if self.shown.elapsed() < PROGRESS_EVERY || !std::io::stderr().is_terminal() {
            return;
        }
        self.shown = Instant::now();
        let seconds = self.started.elapsed().as_secs_f64();
        eprint!(
            "\r{} of {} seeds, {:.1} seeds/s, {:.2} simulated hours, {} failed ",
            self.done,
            self.wanted,
            self.done as f64 / seconds,
            self.simulated_us as f64 / 3.6e9,
            self.failures.len(),
        );
        let _ = std::io::stderr().flush();
    }

    fn report(&self) {
        for (name, hits) in self.marks.iter() {
            println!("{hits:>10}  {name}");
        }
        let seconds = self.started.elapsed().as_secs_f64();
        let verdict = match self.failures.len() {
            0 => "all checks held".to_owned(),
            failed => format!("{failed} FAILED"),
        };
        println!(
            "{} seeds, {:.0} s simulated in {seconds:.1} s, {} slots, trace {:016x}: {verdict}",
            self.done,
            self.simulated_us as f64 / 1e6,
            self.slots,
            self.hash,
        );
    }
}
