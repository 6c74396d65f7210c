//! A replica of Holdfast without sockets, timers or signals: what it decides, and what it keeps on its disk.
//!
//! In reading order: [`Replica`] takes [`Input`]s with a time and says in an [`Output`] what is to be sent, written,
//! answered and done; [`engine`] is agreement and the state machine in it, `effects` the order of what they do to the
//! users' files, which [`filestore`] keeps; [`boot`] makes a replica's parts out of what a data folder holds;
//! [`records`] is how the agreement's records look in the log. `node` runs a replica in a process, the simulator in a
//! simulated one.

pub mod boot;
pub mod causes;
mod effects;
pub mod engine;
pub mod filestore;
mod io;
pub mod records;
mod replica;

pub use effects::{PartDone, PartRead, RebuildDone};
pub use io::{
    Done, FileNote, Input, Job, Note, Output, Release, SnapshotDone, SnapshotNote, Space, Stop,
};
pub use replica::Replica;
