//! Segmented, checksummed write-ahead log with snapshots and a recovery that says what was damaged.
