//! Any bytes as any value: no panic, and what is read is written the same.
#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use paxos::birth::BirthRecord;
use paxos::{Entry, Message};

fuzz_target!(|bytes: &[u8]| {
    let bytes = Bytes::copy_from_slice(bytes);
    if let Ok(message) = Message::decode(bytes.clone()) {
        assert_eq!(message.encode(), bytes);
    }
    if let Ok(entry) = Entry::decode(bytes.clone()) {
        assert_eq!(*entry.bytes(), bytes);
    }
    if let Ok(record) = BirthRecord::decode(bytes.clone()) {
        assert_eq!(record.encode(), bytes);
    }
});
