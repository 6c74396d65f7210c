//! What the service tells about itself, as rows for people and fields for programs.
//!
//! Verbs and the shell share these, so that a field has one name wherever it is seen. Numbers that do not fit in 53
//! bits (hashes) are hexadecimal text, since many readers of JSON keep numbers as floats.

mod file;
mod lock;
mod replica;
mod session;

pub(crate) use file::FileRow;
pub(crate) use lock::{LockObject, LockRow};
pub(crate) use replica::{RefusedRow, ReplicaRow};
pub(crate) use session::SessionRow;

use std::time::Duration;

/// Bytes as people read them: `4.2 MiB`; exact below 10 KiB.
fn size(bytes: u64) -> String {
    const UNITS: [&str; 4] = ["KiB", "MiB", "GiB", "TiB"];
    if bytes < 10 << 10 {
        return format!("{bytes} B");
    }
    let mut value = bytes as f64 / 1024.0;
    let mut unit = 0;
    while value >= 1024.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    format!("{value:.1} {}", UNITS[unit])
}

/// Milliseconds as people read them: `1s 500ms`.
fn time(ms: u64) -> String {
    humantime::format_duration(Duration::from_millis(ms)).to_string()
}

#[cfg(test)]
mod tests {
    use super::size;

    #[test]
    fn sizes_are_exact_while_small() {
        for (bytes, text) in [
            (0, "0 B"),
            (10_239, "10239 B"),
            (10_240, "10.0 KiB"),
            (64 << 20, "64.0 MiB"),
            (u64::MAX, "16777216.0 TiB"),
        ] {
            assert_eq!(size(bytes), text);
        }
    }
}
