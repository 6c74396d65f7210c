//! Starts real processes and talks to them the way a user does.
//!
//! - [`binaries`]: the programs under test, built once per test run;
//! - [`process`]: one child process: signals, its two outputs, its end;
//! - [`ports`]: addresses that a replica finds again after a restart;
//! - [`plan`]: what kind of cluster to start;
//! - [`cluster`]: its replicas with their folders, killed, paused, cut off and brought back;
//! - [`standing`]: what they say and hold;
//! - [`shell`]: a client that speaks nothing but the JSON lines of `holdfast shell`; [`words`], the
//!   commands that many tests send; [`reply`], what they expect back;
//! - [`client`]: such a shell behind proxies of its own;
//! - [`http`]: one GET of a replica's pages;
//! - [`patience`]: waiting for a condition, with a deadline;
//! - [`slots`]: how many clusters may run at a time.
//!
//! Everything that is started here is ended by its `Drop`. A test that fails prints the tails of the
//! logs of everything it had started.

pub mod binaries;
mod board;
pub mod client;
pub mod cluster;
pub mod http;
pub mod old_folder;
pub mod patience;
pub mod plan;
pub mod ports;
pub mod process;
mod replica;
pub mod reply;
pub mod shell;
pub mod slots;
pub mod standing;
#[cfg(test)]
mod tests;
pub mod words;

pub use client::Client;
pub use cluster::Cluster;
pub use plan::Plan;
pub use process::Process;
pub use reply::Reply;
pub use shell::Shell;
