//! A superblock, as it is and with its checksum made right.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| wal::scan::fuzz::superblock(data));
