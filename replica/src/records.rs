//! What the core wants kept, as the log keeps it, and back.

use bytes::Bytes;
use paxos::{Ballot, Entry, LoadLog, Slot, WalRecord};
use wal::{ReadError, Reader, Record, RecordKind, SnapshotRef};

use crate::engine::Input;

/// The log's form of a record. An entry's bytes are shared, not copied.
pub fn to_wal(record: WalRecord) -> Record {
    match record {
        WalRecord::Promise { ballot } => Record {
            kind: RecordKind::Promise,
            slot: 0,
            ballot: ballot.raw(),
            payload: Bytes::new(),
        },
        WalRecord::Accept {
            slot,
            ballot,
            entry,
        } => Record {
            kind: RecordKind::Accept,
            slot: slot.0,
            ballot: ballot.raw(),
            payload: entry.bytes().clone(),
        },
        WalRecord::Chosen { slot, entry } => Record {
            kind: RecordKind::Chosen,
            slot: slot.0,
            ballot: 0,
            payload: entry.bytes().clone(),
        },
        WalRecord::SnapshotMark { slot, meta } => Record {
            kind: RecordKind::SnapshotMark,
            slot: slot.0,
            ballot: 0,
            payload: meta,
        },
    }
}

/// What the log's mark says of a snapshot: slot, length, digest, for people with `walinspect`.
pub fn snapshot_meta(snapshot: &SnapshotRef) -> Bytes {
    let SnapshotRef {
        slot,
        length,
        digest,
    } = *snapshot;
    let words = [slot, length, digest].map(u64::to_le_bytes);
    Bytes::copy_from_slice(words.as_flattened())
}

/// Reads what the engine asked for: entries from the slot on, as many as fit, at least one if it is
/// there and durable.
///
/// # Errors
///
/// [`ReadError`]: the log is damaged; the replica must stop.
pub fn load(reader: &Reader, wanted: LoadLog) -> Result<Input, ReadError> {
    let LoadLog {
        to,
        from,
        upto,
        max_bytes,
    } = wanted;
    let mut entries = Vec::new();
    let mut bytes = 0;
    let mut slot = from;
    while slot <= upto {
        let Some((ballot, entry, is_chosen)) = read(reader, slot)? else {
            break;
        };
        bytes += entry.size_bytes();
        if bytes > max_bytes && !entries.is_empty() {
            break;
        }
        entries.push((slot, ballot, entry, is_chosen));
        slot = slot.next();
    }
    let first = if entries.is_empty() {
        Slot(reader.first_slot())
    } else {
        from
    };
    Ok(Input::LogLoaded { to, first, entries })
}

/// One slot; `None` if the log does not hold it, or not durably yet.
///
/// # Errors
///
/// [`ReadError`], also for an entry that does not decode.
pub fn read(reader: &Reader, slot: Slot) -> Result<Option<(Ballot, Entry, bool)>, ReadError> {
    let Some(stored) = reader.read(slot.0)? else {
        return Ok(None);
    };
    let Ok(entry) = Entry::decode(stored.payload) else {
        return Ok(None);
    };
    Ok(Some((
        Ballot::from_raw(stored.ballot),
        entry,
        stored.kind == RecordKind::Chosen,
    )))
}
