//! A replica of Holdfast as a process: sockets, threads, clocks and signals around [`replica::Replica`].
//!
//! In reading order: [`config`] says what a replica is told, [`server`] runs it, [`http`] and [`metrics`] show it;
//! [`dev`] and [`demo`] run several, [`cli`] is the command line.

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
