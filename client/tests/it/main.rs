//! The client against replicas that the tests play themselves, over real sockets on loopback.
//!
//! `scripted` replicas say what a test tells them to, message by message: lost, late and doubled
//! answers, redirects, silence. `service` is one replica with the real state machine behind it.

mod appends;
mod certainty;
mod faces;
mod leases;
mod retries;
mod runtimes;
mod scripted;
mod service;
mod waiting;
