//! Any bytes as a snapshot: refused, or a sound state with which one can go on.
#![no_main]

use libfuzzer_sys::fuzz_target;
use statemachine::{Applied, At, Machine, Slot};

fuzz_target!(|bytes: &[u8]| {
    let Ok(mut machine) = Machine::decode_snapshot(bytes) else { return };
    let mut again = Vec::new();
    machine.encode_snapshot(&mut again).expect("memory takes everything");
    assert_eq!(again, bytes);
    if let Some(slot) = machine.applied().0.checked_add(1) {
        let time = machine.next_deadline().unwrap_or_default();
        machine.apply(At { slot: Slot(slot), time, wall_ms: 0 }, Applied::Time);
    }
});
