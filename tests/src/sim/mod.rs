//! The simulator: a whole cluster in one thread under one seed.
//!
//! Replicas run the server's own engine, agreement, state machine, log writer, file store and boot, on
//! disks in memory that lose or tear what was not synced. Clients are small models of the client
//! library. Everything else, the network, the clocks, the disks' speed and the faults, comes from the
//! seed; so a seed repeats a run to the byte. After every step the checks of [`check`] hold, or the run
//! ends and says which one did not.
//!
//! ```text
//! plan      what a seed is about           replica   disk, clock, process
//! event     what is going to happen        client    what a client asks, repeats, believes
//! world     what happens                   network   what arrives, when, how often
//! nemesis   what goes wrong                check     what must hold
//! ```

pub mod check;
mod client;
mod dice;
mod event;
pub mod marks;
mod nemesis;
mod network;
pub mod plan;
mod replica;
mod trace;
mod world;

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};

use check::Violation;
use marks::Marks;
use plan::Plan;
use world::World;

/// What a run came to that found nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Summary {
    /// The hash of everything that happened.
    pub hash: u64,
    /// Slots chosen.
    pub slots: u64,
    /// How long the simulation was, in microseconds of its own time.
    pub simulated_us: u64,
    /// What it went through.
    pub marks: Marks,
}

/// A run that found something.
#[derive(Clone, Debug)]
pub struct Failure {
    /// The seed.
    pub seed: u64,
    /// What was found.
    pub violation: Violation,
    /// The last lines of the trace.
    pub trace: Vec<String>,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for line in &self.trace {
            writeln!(f, "{line}")?;
        }
        writeln!(
            f,
            "seed {}: check {} failed",
            self.seed, self.violation.check
        )?;
        writeln!(f, "{}", self.violation.detail)?;
        write!(
            f,
            "repeat: cargo run -p tests --bin sim -- --seed {}",
            self.seed
        )
    }
}

/// Runs a seed.
///
/// # Errors
///
/// [`Failure`], with the last `trace_lines` lines of the trace of a second run of the same seed.
pub fn run(seed: u64, trace_lines: usize) -> Result<Summary, Box<Failure>> {
    match attempt(seed, 0) {
        (Ok(summary), _) => Ok(summary),
        (Err(violation), _) => {
            let (_, trace) = attempt(seed, trace_lines);
            Err(Box::new(Failure {
                seed,
                violation,
                trace,
            }))
        }
    }
}

/// Runs a seed twice and compares.
///
/// # Errors
///
/// [`Failure`]; check `D1` if the two runs differ.
pub fn run_twice(seed: u64, trace_lines: usize) -> Result<Summary, Box<Failure>> {
    let (first, second) = (run(seed, trace_lines)?, run(seed, trace_lines)?);
    if first == second {
        return Ok(first);
    }
    let detail = format!("hash {:016x}, then {:016x}", first.hash, second.hash);
    Err(Box::new(Failure {
        seed,
        violation: Violation {
            check: "D1",
            detail,
        },
        trace: Vec::new(),
    }))
}

fn attempt(seed: u64, trace_lines: usize) -> (Result<Summary, Violation>, Vec<String>) {
    let mut world = match World::new(Plan::draw(seed), trace_lines) {
        Ok(world) => world,
        Err(violation) => return (Err(violation), Vec::new()),
    };
    // An assertion of the code under test is a finding like any other.
    let verdict = catch_unwind(AssertUnwindSafe(|| world.run())).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
        Err(Violation {
            check: "panic",
            detail: text.unwrap_or_default(),
        })
    });
    let trace = world.trace.tail().cloned().collect();
    let summary = Summary {
        hash: world.trace_hash(),
        slots: world.slots(),
        simulated_us: world.now_us,
        marks: world.marks.clone(),
    };
    (verdict.map(|()| summary), trace)
}
