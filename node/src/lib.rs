//! A replica of Holdfast: the one place where the log, agreement, the state machine and the network
//! meet.
//!
//! In reading order: [`engine`] is the replica without a disk or a socket, [`filestore`] keeps the
//! users' files, [`boot`] makes an engine out of what a data folder holds; [`config`] says what a
//! replica is told, [`server`] runs it, [`http`] and [`metrics`] show it; [`dev`] and [`demo`] run
//! several, [`cli`] is the command line.

pub mod cli;
pub mod clock;
pub mod config;
pub mod demo;
pub mod dev;
pub mod failure;
pub mod http;
pub mod local;
pub mod logging;
pub mod metrics;
pub mod server;
