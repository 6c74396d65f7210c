//! A sample of simulated runs in every test run; many more by `sim --seeds N`.

use tests::sim;

/// Runs from this seed on, so many of them.
const SEEDS: std::ops::Range<u64> = 0..60;

/// Lines of the trace in a failure's report.
const TRACE_LINES: usize = 200;

/// Seeds that once found a bug, one a line, with a word on what it was.
const KEPT: &str = include_str!("simulation.seeds");

fn check(seeds: impl Iterator<Item = u64>) {
    for seed in seeds {
        if let Err(failure) = sim::run(seed, TRACE_LINES) {
            panic!("{failure}");
        }
    }
}

#[test]
fn a_sample_of_seeds_holds() {
    check(SEEDS);
}

#[test]
fn seeds_that_once_failed_hold() {
    let lines = KEPT
        .lines()
        .filter(|line| !line.starts_with('#') && !line.is_empty());
    check(lines.map(|line| {
        let seed = line.split_whitespace().next().expect("a line is not empty");
        seed.parse().expect("a line begins with a seed")
    }));
}

/// D1: the same seed, the same run, to the byte.
#[test]
fn a_seed_repeats() {
    for seed in [3, 17] {
        if let Err(failure) = sim::run_twice(seed, TRACE_LINES) {
            panic!("{failure}");
        }
    }
}
