//! What the disk allows: 4 KiB written over zeros and synced, over and over.
//!
//! Absolute figures move by a factor of two from hour to hour on a virtual machine, so each run carries this one.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::Instant;

use crate::latency::Latency;

const BLOCK_BYTES: usize = 4096;
const BLOCKS: u64 = 256;
const ROUNDS: u64 = 300;

/// The median of one write and sync in `folder`, in microseconds.
///
/// # Errors
///
/// Fails if the file cannot be made, written or synced.
pub(crate) fn median_us(folder: &Path) -> io::Result<u64> {
    let path = folder.join("sync-loop");
    let result = measure(&path);
    _ = std::fs::remove_file(&path);
    result
}

fn measure(path: &Path) -> io::Result<u64> {
    let file = File::create(path)?;
    file.write_all_at(&vec![0; BLOCK_BYTES * BLOCKS as usize], 0)?;
    file.sync_all()?;
    let block = [7; BLOCK_BYTES];
    let mut latency = Latency::new();
    for round in 0..ROUNDS {
        let start = Instant::now();
        file.write_all_at(&block, round % BLOCKS * BLOCK_BYTES as u64)?;
        file.sync_data()?;
        latency.record(start.elapsed());
    }
    Ok(latency
        .percentiles()
        .map_or(0, |percentiles| percentiles.p50_us))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_loop_leaves_nothing_behind() {
        let folder = tempfile::tempdir().unwrap();
        assert!(median_us(folder.path()).unwrap() > 0);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    }
}
