//! Load driver for Holdfast clusters.

fn main() {}
