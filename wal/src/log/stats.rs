//! Counts of a running log.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Upper bounds of the buckets of [`LogStats::sync_buckets`], in microseconds; one more bucket is unbounded.
pub const SYNC_BUCKETS_US: [u64; 15] = [
    50, 100, 150, 200, 300, 500, 1_000, 2_000, 4_000, 8_000, 16_000, 64_000, 256_000, 1_000_000,
    4_000_000,
];

/// Counts since the start of the log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LogStats {
    /// Durable writes of groups.
    pub syncs: u64,
    /// Time spent in them, in microseconds.
    pub sync_us: u64,
    /// How many took at most [`SYNC_BUCKETS_US`] (not cumulative); the last one took longer.
    pub sync_buckets: [u64; SYNC_BUCKETS_US.len() + 1],
    /// Bytes written, padding and seals included.
    pub bytes: u64,
}

#[derive(Debug, Default)]
pub(super) struct Meter {
    syncs: AtomicU64,
    sync_us: AtomicU64,
    buckets: [AtomicU64; SYNC_BUCKETS_US.len() + 1],
    bytes: AtomicU64,
}

impl Meter {
    pub(super) fn count(&self, took: Duration, bytes: u64) {
        let us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        let bucket = SYNC_BUCKETS_US.partition_point(|bound| *bound < us);
        self.syncs.fetch_add(1, Ordering::Relaxed);
        self.sync_us.fetch_add(us, Ordering::Relaxed);
        self.buckets[bucket].fetch_add(1, Ordering::Relaxed);
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(super) fn read(&self) -> LogStats {
        let mut stats = LogStats {
            syncs: self.syncs.load(Ordering::Relaxed),
            sync_us: self.sync_us.load(Ordering::Relaxed),
            bytes: self.bytes.load(Ordering::Relaxed),
            ..LogStats::default()
        };
        for (count, bucket) in stats.sync_buckets.iter_mut().zip(&self.buckets) {
            *count = bucket.load(Ordering::Relaxed);
        }
        stats
    }
}
