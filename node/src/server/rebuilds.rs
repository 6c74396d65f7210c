//! Damaged files written again from the log, one at a time, beside everything else.

use std::sync::Arc;

use paxos::Slot;
use statemachine::FileId;
use wal::Reader;

use crate::boot;
use crate::filestore::{Rebuild, Rebuilt};
use crate::server::inbox::{Event, Inbox};

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
        let result = boot::rebuild(&reader, applied, file);
        inbox.push(Event::FileRebuilt(Box::new(Done { id, name, result })));
    });
}
