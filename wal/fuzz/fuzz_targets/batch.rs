//! A batch: header, directory and records, with the header's checksum made right.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| wal::scan::fuzz::batch(data));
