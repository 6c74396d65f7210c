//! Segmented, checksummed write-ahead log with snapshots and a recovery that says what was damaged.
//!
//! Appended records are durable when [`Writer::commit`] returns, or when [`Log`] says so. After any
//! crash, every acknowledged record is read back, or recovery names what is lost: which file, where, which slots.
//! Nothing that holds acknowledged data is ever written again, shortened or renamed over.
//!
//! ```
//! use std::sync::Arc;
//! use wal::storage::MemDisk;
//! use wal::{Environment, Folder, Options, Record, RecordKind};
//!
//! let disk = MemDisk::new();
//! let options = || Options { segment_bytes: 1 << 20 };
//! let folder = Folder::open(Arc::new(disk.clone()), 1, Environment::seeded(7))?;
//! let (mut log, _) = folder.open_log(options())?;
//! let record = Record { kind: RecordKind::Accept, slot: 1, ballot: 1 << 16, payload: "hello".into() };
//! log.commit(&[record], 0)?;
//! drop(log);
//!
//! disk.crash(42);
//! let folder = Folder::open(Arc::new(disk), 1, Environment::seeded(8))?;
//! let (log, recovery) = folder.open_log(options())?;
//! assert!(recovery.outcome.may_serve());
//! assert_eq!(log.read(1).unwrap().unwrap().payload, "hello");
//! # Ok::<(), wal::Error>(())
//! ```
//!
//! Reading order: `storage` (the disk), `record`, `batch`, `segment`, `superblock` (the format, also in
//! `FORMAT.md`), `writer` (the write path), `recovery` (scan, decide), `open` (carry forward), `log` (threads).

pub mod batch;
mod checksum;
mod environment;
mod error;
mod field;
mod folder;
mod index;
mod judged;
pub mod layout;
mod litter;
mod log;
mod open;
mod reader;
mod record;
mod recovery;
pub mod scan;
mod segment;
pub mod snapshot;
mod spare;
pub mod storage;
mod super_store;
mod superblock;
mod supers;
mod writer;

pub use checksum::digest;
pub use environment::Environment;
pub use error::{Error, ReadError};
pub use folder::{Folder, Meta};
pub use judged::Judged;
pub use log::{Log, LogOptions, LogStats, Progress, SYNC_BUCKETS_US, Submitted};
pub use reader::Reader;
pub use record::{Lsn, PAYLOAD_BYTES_MAX, Record, RecordKind, SlotRange, StoredEntry};
pub use recovery::{Finding, Outcome, Recovery, Report, Source};
pub use segment::{HeaderFault, SegmentHeader};
pub use snapshot::{SnapshotHeader, SnapshotRef};
pub use storage::SharedDisk;
pub use superblock::{BIRTH_BYTES_MAX, PEERS_BYTES_MAX, SuperFault, Superblock};
pub use writer::{NextSnapshots, Options, Removed, Writer};
