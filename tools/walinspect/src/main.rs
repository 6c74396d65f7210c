//! Dumps, verifies and explains Holdfast logs and snapshots.

fn main() {}
