//! How the replica stands: what is told to clients, to the pages and in redirects.
//!
//! Nothing here takes longer when the state is large: the hash of the state is kept in step with every
//! change, so that whoever looks for the leader is answered at once.

use std::collections::BTreeMap;

use net::{MemberInfo, Response, ResponseBody, Status};
use paxos::Slot;
use tokio::sync::oneshot;

use crate::config::ServeConfig;
use crate::server::clients::Clients;
use crate::server::desk::{FellBehind, Load, Report};
use crate::server::listeners::Addresses;
use crate::server::peers::Peers;
use crate::server::wal_bridge::WalBridge;
use replica::Replica;
use replica::engine::{ConnId, Engine, Note};

/// Who wants to know.
#[derive(Debug)]
pub(crate) enum Asker {
    /// A client, by connection and request.
    Client(ConnId, u64),
    /// A page.
    Desk(oneshot::Sender<Report>),
}

impl Asker {
    /// Gives the report; who has gone meanwhile is not missed.
    pub(crate) fn answer(self, report: Report, clients: &Clients) {
        match self {
            Asker::Client(conn, id) => {
                let body = ResponseBody::Status(Box::new(report.status));
                clients.reply(conn, &Response { id, body });
            }
            Asker::Desk(reply) => {
                let _ = reply.send(report);
            }
        }
    }
}

/// What is needed for the answers beside the engine.
#[derive(Debug)]
pub(crate) struct Standing {
    /// Ascending by id; the own one is complete, the others lack what only they can say.
    members: Vec<MemberInfo>,
    me: MemberInfo,
    fell_behind: BTreeMap<u16, FellBehind>,
}

impl Standing {
    /// A replica with these addresses.
    pub(crate) fn new(config: &ServeConfig, addresses: &Addresses) -> Standing {
        let me = MemberInfo {
            id: config.id,
            client: addresses.advertised.clone(),
            peer: addresses.peer.to_string(),
            http: addresses.http.to_string(),
        };
        let others = config.peers.iter().filter(|peer| peer.id != config.id);
        let others = others.map(|peer| MemberInfo {
            id: peer.id,
            peer: peer.address.clone(),
            ..MemberInfo::default()
        });
        let mut members: Vec<_> = others.chain([me.clone()]).collect();
        members.sort_by_key(|member| member.id);
        Standing {
            members,
            me,
            fell_behind: BTreeMap::new(),
        }
    }

    /// All replicas, as far as they are known.
    pub(crate) fn members(&self, peers: &Peers) -> Vec<MemberInfo> {
        let mut members = self.members.clone();
        for member in members.iter_mut().filter(|member| member.id != self.me.id) {
            let known = peers.known(member.id);
            member.client = known.client;
            member.http = known.http;
        }
        members
    }

    /// Puts the leader's address into a redirect.
    pub(crate) fn name_leader(&self, body: &mut ResponseBody, peers: &Peers) {
        if let ResponseBody::NotLeader {
            leader: Some(leader),
        } = body
            && leader.address.is_empty()
        {
            leader.address = peers.known(leader.id).client;
        }
    }

    /// Everything but the state's hash.
    pub(crate) fn report(&self, replica: &Replica, wal: &WalBridge, clients: &Clients) -> Report {
        let engine = replica.engine();
        let status = Status {
            client: self.me.client.clone(),
            peer: self.me.peer.clone(),
            http: self.me.http.clone(),
            log_bytes: wal.log_bytes(),
            files_checked: replica.files_checked(),
            files_damaged: replica.files_damaged(),
            ..engine.status_without_hash()
        };
        let (state_bytes, state_bytes_max) = engine.machine().weight();
        Report {
            status,
            not_ready: engine.not_ready(),
            core: engine.core().status(),
            log: wal.report(),
            fell_behind: self.fell_behind.values().copied().collect(),
            refuses_work: engine.refuses_work(),
            load: Load {
                connections: clients.count(),
                effects_waiting: replica.effects_waiting() as u64,
                state_bytes,
                state_bytes_max,
            },
        }
    }

    /// Remembers who has fallen behind.
    pub(crate) fn on_note(&mut self, note: &Note) {
        match note {
            Note::Core(paxos::Note::PeerFellBehind { peer, needs, first }) => {
                let behind = FellBehind {
                    node: peer.0,
                    needs: needs.0,
                    first: first.0,
                };
                self.fell_behind.insert(peer.0, behind);
            }
            Note::Core(paxos::Note::FellBehind { first, .. }) => {
                let behind = FellBehind {
                    node: self.me.id,
                    needs: 0,
                    first: first.0,
                };
                self.fell_behind.insert(self.me.id, behind);
            }
            _ => {}
        }
    }

    /// Forgets those that have caught up after all.
    pub(crate) fn forget_caught_up(&mut self, engine: &Engine) {
        if self.fell_behind.is_empty() {
            return;
        }
        let core = engine.core().status();
        let reached = |node: u16| {
            let peer = core.peers.iter().find(|peer| peer.node.0 == node);
            peer.map_or(Slot(0), |peer| peer.durable.max(peer.chosen))
        };
        let me = self.me.id;
        self.fell_behind.retain(|node, behind| {
            let at = if *node == me {
                core.chosen
            } else {
                reached(*node)
            };
            at.0 + 1 < behind.first
        });
    }
}
