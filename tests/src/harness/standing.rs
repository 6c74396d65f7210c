//! What the replicas of a cluster say and hold: who leads, whether they are equal, what is in their
//! files, and whether that is what the clients were told.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::Value;

use super::cluster::Cluster;
use super::http;
use super::patience::{until, wait_for};
use crate::history::{order, sections};

/// How long the replicas may take to become equal once nothing is wrong any more.
const QUIET_LIMIT: Duration = Duration::from_secs(20);

/// Files by name with their bytes, of one replica.
pub type Files = BTreeMap<String, Vec<u8>>;

impl Cluster {
    /// `/status` of a replica; `None` if it does not answer.
    pub fn status(&self, id: u16) -> Option<Value> {
        let replica = &self.replicas[&id];
        if !replica.answers() {
            return None;
        }
        let (code, body) = http::get(replica.http, "/status").ok()?;
        (code == 200).then(|| serde_json::from_str(&body).ok())?
    }

    /// The statuses of all that answer.
    pub fn statuses(&self) -> BTreeMap<u16, Value> {
        self.ids()
            .into_iter()
            .filter_map(|id| Some((id, self.status(id)?)))
            .collect()
    }

    /// Waits until one replica leads and each that answers knows it; its id.
    ///
    /// # Panics
    ///
    /// If there is none within 20 s.
    pub fn leader(&self) -> u16 {
        until("one leader that all know", QUIET_LIMIT, || {
            let statuses = self.statuses();
            let leader = statuses
                .iter()
                .find(|(_, s)| s["role"] == "leader")
                .map(|(id, _)| *id)?;
            statuses
                .values()
                .all(|s| s["leader"] == leader)
                .then_some(leader)
        })
    }

    /// A live replica that does not lead.
    pub fn follower(&self) -> u16 {
        let leader = self.leader();
        let answering = self
            .replicas
            .values()
            .find(|r| r.id != leader && r.answers());
        answering.expect("a replica besides the leader").id
    }

    /// Waits until every live replica has applied all that any of them knows to be chosen now.
    ///
    /// # Panics
    ///
    /// If they have not within 20 s.
    pub fn wait_equal(&self) {
        let live = self
            .replicas
            .values()
            .filter(|replica| replica.answers())
            .count();
        let number = |status: &Value, field: &str| status[field].as_u64();
        let mut goal = None;
        wait_for(
            "all replicas to have applied what is chosen",
            QUIET_LIMIT,
            || {
                let statuses = self.statuses();
                if statuses.len() < live {
                    return false;
                }
                if goal.is_none() && statuses.values().any(|status| status["role"] == "leader") {
                    goal = statuses
                        .values()
                        .filter_map(|status| number(status, "chosen"))
                        .max();
                }
                let reached = |status: &Value| {
                    number(status, "applied") >= goal
                        && number(status, "effects_waiting") == Some(0)
                };
                goal.is_some() && statuses.values().all(reached)
            },
        );
    }

    /// The files of a replica as they lie in its data folder.
    pub fn files(&self, id: u16) -> Files {
        let folder = self.replicas[&id].data.join("files");
        let entries = std::fs::read_dir(&folder)
            .unwrap_or_else(|error| panic!("cannot list {}: {error}", folder.display()));
        entries
            .map(|entry| {
                let entry = entry.expect("a folder entry can be read");
                let name = entry.file_name().to_string_lossy().into_owned();
                (
                    name,
                    std::fs::read(entry.path()).expect("a file can be read"),
                )
            })
            .collect()
    }

    /// Waits until all live replicas are equal and returns their files, the same on each.
    ///
    /// # Panics
    ///
    /// If they do not become equal, or the files differ.
    pub fn equal_files(&self) -> Files {
        self.wait_equal();
        let live: Vec<u16> = self
            .replicas
            .values()
            .filter(|r| r.answers())
            .map(|r| r.id)
            .collect();
        let first = self.files(live[0]);
        for id in &live[1..] {
            let other = self.files(*id);
            let differing: Vec<&String> = first
                .keys()
                .chain(other.keys())
                .filter(|name| first.get(*name) != other.get(*name))
                .collect();
            assert!(
                differing.is_empty(),
                "files of replicas {} and {id} differ at equal slots: {differing:?}",
                live[0]
            );
        }
        first
    }

    /// Asserts what a file holds, on every live replica: on disk once their slots are equal, and by
    /// `cat` from each.
    ///
    /// # Panics
    ///
    /// If one holds something else.
    pub fn assert_file(&self, name: &str, expected: &str) {
        let files = self.equal_files();
        let on_disk = files
            .get(name)
            .map(|bytes| String::from_utf8_lossy(bytes).into_owned());
        assert_eq!(
            on_disk.as_deref(),
            Some(expected),
            "files/{name} on every replica"
        );
        let shell = self.shell("reader");
        shell.assert_cat(name, expected);
        for replica in self.replicas.values().filter(|replica| replica.answers()) {
            shell.assert_stale_cat(replica.id, name, expected);
        }
    }
    /// Asserts that what all clients of this test saw can be (see [`crate::history::order`]).
    ///
    /// # Panics
    ///
    /// If it cannot.
    pub fn check_order(&self) {
        let found = order::violations(&self.history.events());
        assert!(
            found.is_empty(),
            "the history cannot be:\n{}",
            found.join("\n")
        );
    }

    /// Asserts order, and that the files are what clients were told. For tests whose appends are
    /// lines that no other repeats (see [`crate::history::sections`]).
    ///
    /// # Panics
    ///
    /// If not.
    pub fn check_sections(&self) {
        self.check_order();
        let files = self.equal_files();
        let found = sections::violations(&self.history.events(), &files);
        assert!(
            found.is_empty(),
            "the files cannot be:\n{}",
            found.join("\n")
        );
    }
}
