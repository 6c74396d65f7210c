//! A segment header block with a checksum made right: whatever the fields say, scanning stays bounded.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| wal::scan::fuzz::segment(data));
