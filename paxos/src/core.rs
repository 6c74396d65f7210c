//! The core: one `step` takes one input and says what it wants done.

use crate::config::{Config, Recovered};
use crate::ident::{MonoTime, NodeId};
use crate::input::{Input, PeerHello};
use crate::outbox::{Outbox, Role};
use crate::status::Status;

/// One replica's part of the agreement.
#[derive(Clone, Debug)]
pub struct Core {
    config: Config,
    role: Role,
    recovered: Recovered,
}

impl Core {
    /// A core that goes on from what the boot scan found.
    #[must_use]
    pub fn new(config: Config, recovered: Recovered, now: MonoTime) -> Core {
        let _ = now;
        Core {
            config,
            role: Role::Follower,
            recovered,
        }
    }

    /// Takes one input; adds what it wants done to `out`.
    pub fn step(&mut self, now: MonoTime, input: Input, out: &mut Outbox) {
        let _ = (now, input, out);
    }

    /// The earliest time at which a `Tick` would do something.
    #[must_use]
    pub fn next_wake(&self) -> MonoTime {
        MonoTime(u64::MAX)
    }

    /// What this replica does at present.
    #[must_use]
    pub fn role(&self) -> Role {
        self.role
    }

    /// The cluster time a command would be stamped with now, in milliseconds; `None` unless leading.
    #[must_use]
    pub fn leader_time_ms(&self, now: MonoTime) -> Option<u64> {
        let _ = now;
        None
    }

    /// What to say in the handshake of a new connection to `to`.
    #[must_use]
    pub fn hello(&self, to: NodeId) -> PeerHello {
        let _ = to;
        PeerHello {
            node: self.config.identity.node,
            disk: self.config.identity.disk,
            incarnation: self.config.incarnation,
            acked: crate::ident::Slot::NONE,
        }
    }

    /// The state as plain data.
    #[must_use]
    pub fn status(&self) -> Status {
        Status {
            role: self.role,
            ballot: self.recovered.promised,
            leader: None,
            promised: self.recovered.promised,
            first: self.recovered.first,
            chosen: self.recovered.chosen,
            last: self.recovered.chosen,
            applied: self.recovered.applied,
            durable: self.recovered.chosen,
            leader_start: None,
            unchosen_bytes: 0,
            wal_age_us: 0,
            needed: self.recovered.first,
            transfer: None,
            peers: Vec::new(),
        }
    }
}
