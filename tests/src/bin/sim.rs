//! The simulator's command line.
//!
//! `sim --seed N` repeats one run; `sim --seeds N` runs that many, from `--from` on; `--twice` runs each
//! seed twice and compares. Exit code 1, with the seed and the trace, if a check fails.

use std::process::ExitCode;
use std::time::Instant;

use clap::Parser;
use tests::sim::marks::Marks;
use tests::sim::{self, Failure, Summary};

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
    /// So many lines of the trace are shown of a run that fails.
    #[arg(long, default_value_t = 200)]
    lines: usize,
    /// Runs each seed twice and compares.
    #[arg(long)]
    twice: bool,
}

fn main() -> ExitCode {
    let flags = Flags::parse();
    // What a panic says comes with the trace.
    std::panic::set_hook(Box::new(|panic| {
        if let Some(place) = panic.location() {
            eprintln!("panic at {place}");
        }
    }));
    let seeds = match flags.seed {
        Some(seed) => seed..seed + 1,
        None => flags.from..flags.from.saturating_add(flags.seeds),
    };
    let started = Instant::now();
    let mut total = Summary {
        hash: 0,
        slots: 0,
        simulated_us: 0,
        marks: Marks::default(),
    };
    let count = seeds.end - seeds.start;
    for seed in seeds {
        match run(seed, &flags) {
            Ok(summary) => add(&mut total, &summary),
            Err(failure) => {
                eprintln!("{failure}");
                return ExitCode::from(1);
            }
        }
    }
    report(&total, count, started.elapsed().as_secs_f64());
    ExitCode::SUCCESS
}

fn run(seed: u64, flags: &Flags) -> Result<Summary, Box<Failure>> {
    if flags.twice {
        sim::run_twice(seed, flags.lines)
    } else {
        sim::run(seed, flags.lines)
    }
}

fn add(total: &mut Summary, summary: &Summary) {
    total.hash = total.hash.rotate_left(1) ^ summary.hash;
    total.slots += summary.slots;
    total.simulated_us += summary.simulated_us;
    total.marks.add(&summary.marks);
}

fn report(total: &Summary, count: u64, seconds: f64) {
    for (name, hits) in total.marks.iter() {
        println!("{hits:>10}  {name}");
    }
    println!(
        "{count} seeds, {:.0} s simulated in {seconds:.1} s, {} slots, trace {:016x}: all checks held",
        total.simulated_us as f64 / 1e6,
        total.slots,
        total.hash,
    );
}
