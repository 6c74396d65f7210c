//! Locks, sessions, leases and files as a deterministic state machine.

mod codec;
mod command;
mod effects;
mod event;
mod id;
mod machine;
mod outcome;
mod query;
mod refusal;
mod settings;

pub use codec::{DecodeError, ENCODED_BYTES_MAX, VERSION};
pub use command::{Beat, Command, Done, LockMode, Op};
pub use effects::{Effects, FileOp, Reply, ReplyTo};
pub use event::{Event, LeftQueueWhy, LostWhy};
pub use id::{ClusterTime, FileId, Seq, SessionId, Slot, Token};
pub use machine::{Applied, At, Machine};
pub use outcome::{BeatAnswer, BeatState, LockBeat, Outcome, SessionExpired};
pub use query::{
    Answer, FileFact, HolderFact, LockLine, LockStatus, PAGE_MAX, Page, Query, READ_BYTES_MAX,
    SessionFact, WaiterFact,
};
pub use refusal::{FullPart, Measured, NameFault, NotHeldWhy, Refusal, SectionPart};
pub use settings::Settings;
