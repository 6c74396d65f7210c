//! The 14 cases of the coursework (`docs/coursework.md`), with real processes and faults by frame.
//!
//! Clients use nothing but the JSON of `holdfast shell`. Each has proxies of its own. What the files
//! hold is asserted on every replica. Every case runs on three replicas.

mod clients;
mod network;
mod replicas;
mod servers;

use std::time::Duration;

use serde_json::{Value, json};

/// Files of the coursework that the cases write to.
const FILES: [&str; 5] = ["file_0", "file_1", "file_2", "file_3", "file_4"];

/// An acquire that may outlast an outage of the whole service.
fn patient_acquire() -> Value {
    patient(json!({"op": "acquire", "lock": "default", "bg": true}))
}

/// The same command with half a minute for its answer.
fn patient(mut command: Value) -> Value {
    command["timeout_ms"] = json!(30_000);
    command
}

/// The shortest lease that a pause on a busy machine does not end by itself.
const LEASE: Duration = Duration::from_millis(1_500);
