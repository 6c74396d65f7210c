//! The holdfast command: locks, files and clusters, for people and scripts.

fn main() {}
