//! A snapshot file, as it is and with header and trailer checksums made right.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| wal::scan::fuzz::snapshot(data));
