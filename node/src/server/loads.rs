//! Reading old entries back from the log for a peer that lags, beside everything else.

use std::sync::Arc;

use bytes::Bytes;
use paxos::{Ballot, Entry, LoadLog, Slot};
use wal::{Reader, RecordKind};

use crate::engine::Input;
use crate::failure::with_causes;
use crate::server::inbox::{Event, Inbox};

type Loaded = (Slot, Ballot, Entry, bool);

/// Reads what `wanted` asks for; the answer goes to `inbox`.
pub(crate) fn start(wanted: LoadLog, reader: Reader, inbox: Arc<Inbox>) {
    tokio::task::spawn_blocking(move || {
        let entries = load(&wanted, &reader);
        let first = if entries.is_empty() { Slot(reader.first_slot()) } else { wanted.from };
        inbox.push(Event::Engine(Input::LogLoaded { to: wanted.to, first, entries }));
    });
}

fn load(wanted: &LoadLog, reader: &Reader) -> Vec<Loaded> {
    let mut entries: Vec<Loaded> = Vec::new();
    let mut bytes = 0;
    for slot in wanted.from.0.. {
        let Some((ballot, entry, chosen)) = read(reader, slot) else { break };
        bytes += entry.bytes().len();
        if bytes > wanted.max_bytes && !entries.is_empty() {
            break;
        }
        entries.push((Slot(slot), ballot, entry, chosen));
    }
    entries
}

/// One entry, or nothing if it is not there; that it cannot be read is said in the log.
fn read(reader: &Reader, slot: u64) -> Option<(Ballot, Entry, bool)> {
    let stored = match reader.read(slot) {
        Ok(stored) => stored?,
        Err(error) => {
            tracing::error!(slot, error = with_causes(&error), "an entry of the log cannot be read");
            return None;
        }
    };
    match Entry::decode(Bytes::from(stored.payload)) {
        Ok(entry) => Some((Ballot::from_raw(stored.ballot), entry, stored.kind == RecordKind::Chosen)),
        Err(error) => {
            tracing::error!(slot, error = with_causes(&error), "an entry of the log does not decode");
            None
        }
    }
}
