//! Bytes over a real folder: the scan, the decision, opening, reading, following.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| wal::scan::fuzz::folder(data));
