//! Any bytes as any value: no panic, and what is read is written the same.
#![no_main]

use libfuzzer_sys::fuzz_target;
use statemachine::{Answer, Command, Outcome, Query, Settings};

fuzz_target!(|bytes: &[u8]| {
    if let Ok(value) = Command::decode(bytes) {
        assert_eq!(value.encode(), bytes);
    }
    if let Ok(value) = Outcome::decode(bytes) {
        assert_eq!(value.encode(), bytes);
    }
    if let Ok(value) = Query::decode(bytes) {
        assert_eq!(value.encode(), bytes);
    }
    if let Ok(value) = Answer::decode(bytes) {
        assert_eq!(value.encode(), bytes);
    }
    if let Ok(value) = Settings::decode(bytes) {
        assert_eq!(value.encode(), bytes);
    }
});
