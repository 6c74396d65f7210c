//! Damaged files written again from the log, one at a time, beside everything else.

use std::sync::Arc;
use std::thread;
use std::time::Duration;

use paxos::Slot;
use wal::Reader;

use crate::server::inbox::{Event, Inbox};
use replica::boot;
use replica::filestore::Rebuild;
use replica::{Done, RebuildDone};

/// How often, and with which pause, the log is looked at until it is durable as far as was applied.
const LOG_TRIES: u32 = 200;
const LOG_PAUSE: Duration = Duration::from_millis(50);

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
        let done = RebuildDone { id, name, result };
        inbox.push(Event::Done(Done::Rebuilt(Box::new(done))));
    });
}
