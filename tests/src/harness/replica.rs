//! What the harness keeps of one replica: its folder, its addresses, and its process, if it has one.

use std::net::SocketAddr;
use std::path::PathBuf;

use super::ports;
use super::process::Process;

/// One replica of a cluster, dead or alive.
#[derive(Debug)]
pub(super) struct Replica {
    pub(super) id: u16,
    pub(super) data: PathBuf,
    pub(super) client: SocketAddr,
    pub(super) peer: SocketAddr,
    pub(super) http: SocketAddr,
    pub(super) process: Option<Process>,
    pub(super) paused: bool,
}

impl Replica {
    /// A dead one, with addresses of its own.
    pub(super) fn new(id: u16, data: PathBuf) -> Replica {
        Replica {
            id,
            data,
            client: ports::pick(),
            peer: ports::pick(),
            http: ports::pick(),
            process: None,
            paused: false,
        }
    }

    /// What it says once it accepts clients.
    pub(super) fn ready_line(&self) -> String {
        let Replica {
            id,
            client,
            peer,
            http,
            ..
        } = self;
        format!("ready id={id} client={client} peer={peer} http={http}")
    }

    /// Whether it runs and is not paused.
    pub(super) fn answers(&self) -> bool {
        self.process.is_some() && !self.paused
    }
}
