//! Any bytes as a log: entries of a length byte, a time step, and that many bytes of a command.
//! The machine goes through all of them, and its snapshot comes back the same.
#![no_main]

use libfuzzer_sys::fuzz_target;
use statemachine::{Applied, At, ClusterTime, Machine, Settings, Slot};

fuzz_target!(|bytes: &[u8]| {
    let mut machine = Machine::new();
    let mut at = At { slot: Slot(1), time: ClusterTime(0), wall_ms: 0 };
    machine.apply(at, Applied::Settings(Settings { files: 2, ..Settings::default() }));
    let mut rest = bytes;
    while let [len, step, tail @ ..] = rest {
        let (command, tail) = tail.split_at(tail.len().min(usize::from(*len)));
        at.slot.0 += 1;
        at.time.0 += u64::from(*step) * 100;
        machine.apply(at, Applied::Encoded(command));
        rest = tail;
    }
    let mut snapshot = Vec::new();
    machine.encode_snapshot(&mut snapshot).expect("memory takes everything");
    assert_eq!(Machine::decode_snapshot(&snapshot).expect("its own"), machine);
});
