//! Locks, sessions, leases and files as a deterministic state machine.

mod answer;
mod apply;
mod budget;
mod codec;
mod command;
mod deadline;
mod dedup;
mod effects;
mod event;
mod file;
mod id;
mod lock;
mod machine;
mod name;
mod outcome;
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
pub use outcome::{BeatAnswer, BeatState, LockBeat, Outcome, SessionExpired};
pub use query::{
    Answer, FileFact, HolderFact, LockLine, LockStatus, PAGE_MAX, Page, Query, READ_BYTES_MAX,
    SessionFact, WaiterFact,
};
pub use refusal::{FullPart, Measured, NameFault, NotHeldWhy, Refusal, SectionPart};
pub use settings::Settings;
