//! Commands of the shell that many tests send.

use std::time::Duration;

use serde_json::{Value, json};

/// The lock of the coursework.
pub const DEFAULT_LOCK: &str = "default";

/// An append, as a command.
pub fn append(file: &str, data: &str) -> Value {
    json!({"op": "append", "file": file, "data": data, "lock": DEFAULT_LOCK})
}

/// A release of `default`, as a command.
pub fn release() -> Value {
    json!({"op": "release", "lock": DEFAULT_LOCK})
}

/// An acquire of `default` whose lease only appends and `renew` extend, as a command.
pub fn acquire_for(lease: Duration) -> Value {
    let lease_ms = u64::try_from(lease.as_millis()).expect("a lease of a day at most");
    json!({"op": "acquire", "lock": DEFAULT_LOCK, "lease_ms": lease_ms, "renew": false})
}

/// The same command, run beside the rest.
pub fn beside(mut command: Value) -> Value {
    command["bg"] = json!(true);
    command
}
