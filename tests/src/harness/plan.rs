//! What kind of cluster to start: how many replicas, with which flags, where, linked how.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::cluster::Cluster;
use super::replica::Replica;
use super::slots::Slot;
use crate::proxy::Proxy;

const STARTS_MAX: usize = 3;
/// Holds the largest append several times over.
const SEGMENT_SIZE: &str = "4MiB";

/// What kind of cluster to start.
#[derive(Clone, Debug)]
pub struct Plan {
    pub(super) replicas: u16,
    pub(super) cluster: String,
    pub(super) flags: Vec<String>,
    pub(super) flags_of: BTreeMap<u16, Vec<String>>,
    pub(super) data_of: BTreeMap<u16, PathBuf>,
    pub(super) links: bool,
}

impl Plan {
    /// That many replicas with ids from 1, at their defaults but for the size of a segment: zeros
    /// for the usual one take longer to write than most tests.
    pub fn new(replicas: u16) -> Plan {
        let flags = ["--segment-size", SEGMENT_SIZE].map(str::to_owned).to_vec();
        let (flags_of, data_of) = (BTreeMap::new(), BTreeMap::new());
        Plan {
            replicas,
            cluster: "test".to_owned(),
            flags,
            flags_of,
            data_of,
            links: false,
        }
    }

    /// The cluster's name, where it must be that of an existing folder.
    #[must_use]
    pub fn cluster_name(mut self, name: &str) -> Plan {
        name.clone_into(&mut self.cluster);
        self
    }

    /// A flag for every replica.
    #[must_use]
    pub fn flag(mut self, name: &str, value: &str) -> Plan {
        self.flags.extend([name.to_owned(), value.to_owned()]);
        self
    }

    /// A flag for one.
    #[must_use]
    pub fn flag_of(mut self, id: u16, name: &str, value: &str) -> Plan {
        self.flags_of
            .entry(id)
            .or_default()
            .extend([name.to_owned(), value.to_owned()]);
        self
    }

    /// A data folder elsewhere than in the test's own folder, for one replica.
    #[must_use]
    pub fn data_of(mut self, id: u16, folder: &Path) -> Plan {
        self.data_of.insert(id, folder.to_owned());
        self
    }

    /// With a proxy on each link between replicas, so that a test can cut them.
    #[must_use]
    pub fn with_links(mut self) -> Plan {
        self.links = true;
        self
    }

    /// Starts them all and waits until each is ready.
    ///
    /// # Panics
    ///
    /// If one is not, within 20 s.
    pub fn start(self) -> Cluster {
        let mut cluster = self.prepare();
        for _ in 1..STARTS_MAX {
            if cluster.start_all_once() {
                return cluster;
            }
            // Somebody outside this program took one of the ports: others.
            let plan = cluster.plan.clone();
            drop(cluster);
            cluster = plan.prepare();
        }
        cluster.start_all();
        cluster
    }

    /// Folders and addresses, but no process yet.
    pub fn prepare(self) -> Cluster {
        let slot = Slot::take();
        let folder = tempfile::Builder::new()
            .prefix("holdfast-test-")
            .tempdir()
            .expect("there is a place for temporary folders");
        let ids = 1..=self.replicas;
        let data = |id: u16| {
            let own = || folder.path().join(id.to_string());
            self.data_of.get(&id).cloned().unwrap_or_else(own)
        };
        let replicas: BTreeMap<u16, Replica> =
            ids.map(|id| (id, Replica::new(id, data(id)))).collect();
        let mut links = BTreeMap::new();
        if self.links {
            for from in replicas.keys() {
                for (to, target) in replicas.iter().filter(|(to, _)| *to != from) {
                    links.insert((*from, *to), Proxy::start(target.peer, Arc::default()));
                }
            }
        }
        Cluster {
            replicas,
            links,
            plan: self,
            history: Arc::default(),
            folder,
            _slot: slot,
        }
    }
}
