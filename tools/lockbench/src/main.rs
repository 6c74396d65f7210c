//! Load driver for Holdfast clusters.

mod args;
mod cluster;
mod exclusion;
mod latency;
mod report;
mod sync_loop;
mod usage;

fn main() {}
