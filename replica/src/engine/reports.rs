//! What a replica tells of itself and of the others.

use bytes::Bytes;
use net::{Leader, MemberInfo, ResponseBody, Status};
use paxos::{NodeId, Role};
use statemachine::Answer;

use super::{Engine, FileRead};

impl Engine {
    /// How this replica stands. Addresses, `log_bytes` and `files_checked` are the driver's to fill in.
    pub fn status(&self) -> Status {
        Status {
            state_hash: self.machine.state_hash(),
            ..self.status_without_hash()
        }
    }

    /// [`Engine::status`] but for `state_hash`.
    pub fn status_without_hash(&self) -> Status {
        let core = self.core.status();
        Status {
            id: self.id().0,
            cluster: self.options.core.identity.cluster.0,
            cluster_name: self.options.cluster_name.clone(),
            role: role_name(self.role).to_owned(),
            ballot: core.ballot.to_string(),
            leader: self.leader.map(|leader| leader.0),
            chosen: core.chosen.0,
            applied: self.applied.0,
            last: core.last.0,
            lag: core.known_chosen.0.saturating_sub(self.applied.0),
            version: self.options.version.clone(),
            refuses: core.peers.iter().filter_map(refused).collect(),
            ..Status::default()
        }
    }

    /// The replicas, ascending by id. Their addresses are the driver's to fill in.
    pub fn members(&self) -> Vec<MemberInfo> {
        let members = self.options.core.membership.members.iter();
        members
            .map(|member| MemberInfo {
                id: member.node.0,
                ..MemberInfo::default()
            })
            .collect()
    }

    pub(super) fn not_leader(&self) -> ResponseBody {
        self.redirect(self.leader)
    }

    /// Whom to ask instead; the driver fills in the address. Nobody, if the hint is this replica
    /// itself, which does not lead.
    pub(super) fn redirect(&self, hint: Option<NodeId>) -> ResponseBody {
        let leader = hint.filter(|hint| *hint != self.id());
        let leader = leader.map(|leader| Leader {
            id: leader.0,
            address: String::new(),
        });
        ResponseBody::NotLeader { leader }
    }
}

impl FileRead {
    /// The answer, once the bytes are read.
    pub fn answer(&self, data: Bytes) -> net::Response {
        let answer = Answer::Data {
            offset: self.offset,
            file_len: self.file_len,
            data,
        };
        let body = ResponseBody::Answer {
            slot: self.slot.0,
            bytes: Bytes::from(answer.encode()),
        };
        net::Response {
            id: self.origin.request,
            body,
        }
    }
}

fn refused(peer: &paxos::PeerStatus) -> Option<net::Refused> {
    peer.refused.map(|why| net::Refused {
        id: peer.node.0,
        why: why.to_string(),
    })
}

fn role_name(role: Role) -> &'static str {
    match role {
        Role::Follower => "follower",
        Role::Prober => "prober",
        Role::Candidate => "candidate",
        Role::Leader => "leader",
    }
}
