//! Damaged files written again from the log, one at a time, beside everything else.

use std::sync::Arc;
use std::thread;
use std::time::Duration;

use paxos::Slot;
use statemachine::FileId;
use wal::Reader;

use crate::server::inbox::{Event, Inbox};
use replica::boot;
use replica::filestore::{Rebuild, Rebuilt};

/// How often, and with which pause, the log is looked at until it is durable as far as was applied.
const LOG_TRIES: u32 = 200;
const LOG_PAUSE: Duration = Duration::from_millis(50);

/// What became of one file.
#[derive(Debug)]
pub(crate) struct Done {
    /// Its identity.
    pub(crate) id: FileId,
    /// Its name.
    pub(crate) name: String,
    /// The file, or why it is as it was.
    pub(crate) result: Result<Rebuilt, String>,
}

/// Writes the file again; the outcome goes to `inbox`.
pub(crate) fn start(file: Rebuild, applied: Slot, reader: Reader, inbox: Arc<Inbox>) {
    tokio::task::spawn_blocking(move || {
        let (id, name) = (file.id(), file.name().to_owned());
        // What was applied is chosen; this replica's own log may follow a little later.
        for _ in 0..LOG_TRIES {
            if reader.last_slot() >= applied.0 {
                break;
            }
            thread::sleep(LOG_PAUSE);
        }
        let result = boot::rebuild(&reader, applied, file);
        inbox.push(Event::FileRebuilt(Box::new(Done { id, name, result })));
    });
}
