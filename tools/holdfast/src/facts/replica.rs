use net::{MemberInfo, Status};
use serde::{Deserialize, Serialize};

use super::size;
use crate::output::Row;

/// A replica: what it says of itself, or that it says nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ReplicaRow {
    /// `null` if it could not be told.
    pub(crate) id: Option<u16>,
    pub(crate) client: String,
    pub(crate) peer: String,
    pub(crate) http: String,
    pub(crate) reachable: bool,
    /// Not if a list of endpoints by id leaves it out.
    pub(crate) asked: bool,
    pub(crate) role: Option<String>,
    pub(crate) ballot: Option<String>,
    /// The leader's id as this replica knows it.
    pub(crate) leader: Option<u16>,
    pub(crate) chosen: Option<u64>,
    pub(crate) applied: Option<u64>,
    pub(crate) lag: Option<u64>,
    pub(crate) log_bytes: Option<u64>,
    /// Of the whole state as of `applied`, hexadecimal.
    pub(crate) state_hash: Option<String>,
    pub(crate) version: Option<String>,
    /// Data files that this replica knows to be damaged, and refuses to read.
    pub(crate) files_damaged: Option<u32>,
    /// Replicas that this one refuses.
    pub(crate) refuses: Vec<RefusedRow>,
}

/// A replica whose votes do not count where it is refused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct RefusedRow {
    pub(crate) id: u16,
    pub(crate) why: String,
}

impl From<Status> for ReplicaRow {
    fn from(status: Status) -> Self {
        ReplicaRow {
            id: Some(status.id),
            client: status.client,
            peer: status.peer,
            http: status.http,
            reachable: true,
            asked: true,
            role: Some(status.role),
            ballot: Some(status.ballot),
            leader: status.leader,
            chosen: Some(status.chosen),
            applied: Some(status.applied),
            lag: Some(status.lag),
            log_bytes: Some(status.log_bytes),
            state_hash: Some(format!("{:016x}", status.state_hash)),
            version: Some(status.version),
            files_damaged: Some(status.files_damaged),
            refuses: status
                .refuses
                .into_iter()
                .map(|net::Refused { id, why }| RefusedRow { id, why })
                .collect(),
        }
    }
}

impl From<MemberInfo> for ReplicaRow {
    /// A member that did not answer.
    fn from(member: MemberInfo) -> Self {
        ReplicaRow {
            id: Some(member.id),
            client: member.client,
            peer: member.peer,
            http: member.http,
            asked: true,
            ..ReplicaRow::default()
        }
    }
}

impl ReplicaRow {
    /// An endpoint that did not answer.
    pub(crate) fn silent(id: Option<u16>, address: &str) -> Self {
        ReplicaRow {
            id,
            client: address.to_owned(),
            asked: true,
            ..ReplicaRow::default()
        }
    }
}

impl ReplicaRow {
    /// `DAMAGED` if a file is; else the start of the hash, enough to tell two states apart by eye.
    fn state(&self) -> String {
        match (self.files_damaged, &self.state_hash) {
            (Some(1..), _) => "DAMAGED".to_owned(),
            (_, Some(hash)) => hash.chars().take(8).collect(),
            (_, None) => "-".to_owned(),
        }
    }
}

impl Row for ReplicaRow {
    /// What fits into 80 columns as a rule; the rest is in the JSON form.
    const HEADINGS: &'static [&'static str] = &[
        "ID", "CLIENT", "ROLE", "BALLOT", "CHOSEN", "APPLIED", "LAG", "LOG", "STATE",
    ];

    /// An address must stay in one piece to be copied.
    const SPARE: &'static [&'static str] = &["LOG", "BALLOT", "CHOSEN"];

    fn cells(&self) -> Vec<String> {
        vec![
            cell(self.id.as_ref()),
            cell(Some(&self.client)),
            match (self.reachable, self.asked) {
                (true, _) => cell(self.role.as_ref()),
                (false, true) => "silent".to_owned(),
                (false, false) => "not asked".to_owned(),
            },
            cell(self.ballot.as_ref()),
            cell(self.chosen.as_ref()),
            cell(self.applied.as_ref()),
            cell(self.lag.as_ref()),
            cell(self.log_bytes.map(size).as_ref()),
            self.state(),
        ]
    }
}

/// A dash for what is not known, so that columns can be cut at blanks.
fn cell<T: ToString>(value: Option<&T>) -> String {
    value
        .map(T::to_string)
        .filter(|text| !text.is_empty())
        .unwrap_or_else(|| "-".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::table;

    /// A cluster that has run for a while, on hosts with names.
    #[test]
    fn eighty_columns_are_enough() {
        for client in ["127.0.0.1:7401", "lock-3.storage.example.com:17403"] {
            let row = ReplicaRow::from(Status {
                id: 3,
                client: client.to_owned(),
                role: "candidate".to_owned(),
                ballot: "1234.3".to_owned(),
                chosen: 1_234_567_890,
                applied: 1_234_567_890,
                log_bytes: 1 << 30,
                ..Status::default()
            });
            let text = table(&[row], Some(80));
            assert!(text.contains(client), "{text}");
            assert_eq!(text.lines().count(), 2, "{text}");
            let widest = text.lines().map(|line| line.chars().count()).max();
            assert!(widest.is_some_and(|widest| widest <= 80), "{text}");
        }
    }
}
