//! What the service tells about itself, as rows for people and fields for programs.
//!
//! Verbs and the shell share these, so that a field has one name wherever it is seen. Numbers that do not fit in 53
//! bits (hashes) are hexadecimal text, since many readers of JSON keep numbers as floats.

mod file;
mod lock;
mod replica;
mod session;

pub(crate) use file::FileRow;
pub(crate) use lock::{LockObject, LockRow};
pub(crate) use replica::ReplicaRow;
pub(crate) use session::SessionRow;

use std::time::Duration;

/// Milliseconds as people read them: `1s 500ms`.
fn time(ms: u64) -> String {
    humantime::format_duration(Duration::from_millis(ms)).to_string()
}
