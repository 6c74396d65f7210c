//! Reading old entries back from the log, beside everything else: for a peer that lags, or for this
//! replica's own applying when that fell behind.

use std::sync::Arc;

use paxos::LoadLog;
use wal::Reader;

use crate::failure::{Exit, Failure};
use crate::server::inbox::{Event, Inbox};
use replica::boot::exit_of_read;
use replica::causes::with_causes;
use replica::records;

/// Reads what `wanted` asks for; the answer goes to `inbox`.
pub(crate) fn start(wanted: LoadLog, reader: Reader, inbox: Arc<Inbox>) {
    tokio::task::spawn_blocking(move || {
        inbox.push(match records::load(&reader, wanted) {
            Ok(loaded) => Event::Engine(loaded),
            Err(error) => {
                let exit = match exit_of_read(&error) {
                    5 => Exit::Damaged,
                    _ => Exit::Other,
                };
                Event::Failed(Failure::new(
                    exit,
                    format!("the log: {}", with_causes(&error)),
                ))
            }
        });
    });
}
