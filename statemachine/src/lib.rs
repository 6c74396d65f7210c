//! Locks, sessions, leases and files as a deterministic state machine.
//!
//! A [`Machine`] is what all replicas agree on. It applies the entries of the agreed log, one slot
//! after the other, and does nothing else: no clock, no disk, no network, no chance. Time comes
//! with each entry, and what is to be done (answers to send, bytes to write) comes back as
//! [`Effects`]. So every replica, and every replay, reaches the same state to the byte.
//!
//! ```
//! use statemachine::{
//!     Applied, At, ClusterTime, Command, Done, LockMode, Machine, Op, Outcome, Seq, Settings, Slot,
//! };
//!
//! let mut machine = Machine::new();
//! let mut slot = 0;
//! let mut apply = |what| {
//!     slot += 1;
//!     machine.apply(At { slot: Slot(slot), time: ClusterTime(0), wall_ms: 0 }, what)
//! };
//!
//! // First of all the cluster agrees on its settings: so many files, such limits.
//! apply(Applied::Settings(Settings::default()));
//!
//! // A client opens a session, and asks for a lock.
//! let open = Command::Open { nonce: 0x5eed, ttl_ms: 0, name: "me".to_owned() };
//! let effects = apply(Applied::Command(open));
//! let Outcome::Opened { session, .. } = effects.replies[0].outcome else { panic!() };
//! let numbered = |seq, op| {
//!     Applied::Command(Command::Session { session, seq: Seq(seq), done: Done::default(), op })
//! };
//! let lock = || "default".to_owned();
//! let acquire =
//!     Op::Acquire { lock: lock(), lease_ms: None, wait_ms: None, mode: LockMode::Exclusive };
//! let effects = apply(numbered(1, acquire));
//! let Outcome::Granted { token, .. } = effects.replies[0].outcome else { panic!() };
//!
//! // What it appends is pending until it releases; then it is applied, all in one slot.
//! let (file, data) = ("file_0".to_owned(), b"hello"[..].into());
//! let effects = apply(numbered(2, Op::Append { lock: lock(), token, place: 1, file, data }));
//! assert!(effects.files.is_empty());
//! let effects = apply(numbered(3, Op::Release { lock: lock(), token, count: 1 }));
//! assert_eq!(effects.files.len(), 1);
//!
//! // The whole state goes into a snapshot and comes out of it.
//! let mut bytes = Vec::new();
//! machine.encode_snapshot(&mut bytes)?;
//! assert_eq!(Machine::decode_snapshot(&bytes).unwrap(), machine);
//! # Ok::<(), std::io::Error>(())
//! ```
//!
//! What the service promises is told in `docs/semantics.md`, and shown, story by story, in
//! `testscripts/`. The modules in reading order:
//!
//! - what goes in and comes out: `id`, `name`, `settings`, `command`, `outcome`, `refusal`,
//!   `query`, `effects`, `event`, `codec`
//! - what is kept: `session` with `dedup`, `lock` with `queue` and `section`, `file`, `deadline`, `gift`,
//!   `ended`, `budget`, `digest`, and `state`, which keeps all of it in step
//! - what changes it: `machine`, the door, and `apply`, one file for each family of commands
//! - what looks at it: `answer`, `snapshot`

mod answer;
mod apply;
mod budget;
mod codec;
mod command;
mod deadline;
mod dedup;
mod digest;
mod effects;
mod ended;
mod event;
mod file;
mod gift;
mod id;
mod lock;
mod machine;
mod name;
mod outcome;
mod printable;
mod query;
mod queue;
mod refusal;
mod section;
mod session;
mod settings;
mod snapshot;
mod state;

pub use codec::{DecodeError, ENCODED_BYTES_MAX, VERSION};
pub use command::{Beat, Command, Done, LockMode, Op};
pub use effects::{Effects, FileOp, Reply, ReplyTo};
pub use event::{Event, LeftQueueWhy, LostWhy};
pub use id::{ClusterTime, FileId, Seq, SessionId, Slot, Token};
pub use machine::{Applied, At, Machine};
pub use name::{NAME_BYTES_MAX, file_name_fault, lock_name_fault};
pub use outcome::{BeatAnswer, BeatState, Fate, LockBeat, Outcome, SessionExpired};
pub use printable::Printable;
pub use query::{
    Answer, FileFact, HolderFact, LockLine, LockStatus, PAGE_MAX, Page, Query, READ_BYTES_MAX,
    SessionFact, WaiterFact,
};
pub use refusal::{FullPart, Measured, NameFault, NotHeldWhy, Refusal, SectionPart};
pub use settings::Settings;
