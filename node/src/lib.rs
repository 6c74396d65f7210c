//! A replica of Holdfast: the one place where the log, agreement, the state machine and the network
//! meet.
//!
//! In reading order: [`engine`] is the replica without a disk or a socket, [`filestore`] keeps the
//! users' files, [`boot`] makes an engine out of what a data folder holds.

pub mod boot;
pub mod engine;
pub mod filestore;
