//! What the load goes to: a cluster of our own, or endpoints of another.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use client::raw::Link;
use client::{Endpoint, Endpoints};

use crate::args::Load;
use crate::cluster::Cluster;
use crate::sync_loop;
use crate::usage::Usage;

/// How long a replica may take to say how it stands.
const ANSWER: Duration = Duration::from_secs(1);

/// How long a restarted replica may take to have what the others have.
const CAUGHT_UP_WITHIN: Duration = Duration::from_secs(30);

pub(crate) struct Target {
    pub(crate) endpoints: Endpoints,
    pub(crate) cluster: Option<Cluster>,
    pub(crate) replicas: usize,
    /// Of the disk that the cluster of our own writes to.
    pub(crate) sync_p50_us: Option<u64>,
}

impl Target {
    /// Starts what must be started.
    ///
    /// # Errors
    ///
    /// Fails if a replica does not start, or the endpoints make no sense.
    pub(crate) async fn of(load: &Load, fewer_clients: Option<u64>) -> Result<Target, String> {
        match &load.endpoints {
            Some(list) => {
                let endpoints: Endpoints = list
                    .parse()
                    .map_err(|error| format!("--endpoints: {error}"))?;
                let link = Link::new(endpoints.clone(), "lockbench", false);
                let members = link
                    .members(5 * ANSWER)
                    .await
                    .map_err(|error| error.to_string())?;
                Ok(Target {
                    endpoints,
                    cluster: None,
                    replicas: members.len(),
                    sync_p50_us: None,
                })
            }
            None => Target::own(load, fewer_clients)
                .await
                .map_err(|error| error.to_string()),
        }
    }

    async fn own(load: &Load, fewer_clients: Option<u64>) -> io::Result<Target> {
        let program = load.node_bin.clone().map_or_else(beside, Ok)?;
        let parent = load.data.clone().unwrap_or_else(std::env::temp_dir);
        // Before the replicas run, so that the loop has the disk to itself.
        let sync_p50_us = Some(sync_loop::median_us(&parent)?);
        let cluster = Cluster::start(&program, load.replicas, &parent, fewer_clients)?;
        let endpoints: Endpoints = cluster.endpoints().parse().map_err(io::Error::other)?;
        let replicas = usize::from(load.replicas);
        let mut target = Target {
            endpoints,
            cluster: Some(cluster),
            replicas,
            sync_p50_us,
        };
        for _ in 0..load.down {
            target.kill_follower().await?;
        }
        Ok(target)
    }

    pub(crate) fn link(&self) -> Link {
        Link::new(self.endpoints.clone(), "lockbench", false)
    }

    /// What its processes used so far; `None` if they are not ours.
    pub(crate) fn usage(&self) -> Option<Usage> {
        self.cluster
            .as_ref()
            .map(|cluster| Usage::of(cluster.pids()))
    }

    /// The replica that leads, asked until one does.
    pub(crate) async fn leader(&self) -> io::Result<u16> {
        let link = self.link();
        let start = std::time::Instant::now();
        while start.elapsed() < CAUGHT_UP_WITHIN {
            for endpoint in self.endpoints.as_slice() {
                if let Ok(status) = link.status_once(endpoint, ANSWER).await
                    && status.role == "leader"
                {
                    return Ok(status.id);
                }
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Err(io::Error::other("no replica leads"))
    }

    /// The round of the ballot that replica `id` knows.
    pub(crate) async fn round(&self, id: u16) -> io::Result<u64> {
        let status = self.link().status_at(self.endpoint(id)?, ANSWER).await;
        let ballot = status.map_err(io::Error::other)?.ballot;
        let round = ballot.split('.').next().and_then(|it| it.parse().ok());
        round.ok_or_else(|| io::Error::other(format!("ballot {ballot} has no round")))
    }

    async fn kill_follower(&mut self) -> io::Result<()> {
        let leader = self.leader().await?;
        let Some(cluster) = &mut self.cluster else {
            return Ok(());
        };
        match cluster.running().filter(|&id| id != leader).max() {
            Some(follower) => cluster.kill(follower),
            None => return Err(io::Error::other("no follower is left to kill")),
        }
        Ok(())
    }

    /// Waits until replica `id` has applied all that was chosen when asked.
    pub(crate) async fn caught_up(&self, id: u16) -> io::Result<()> {
        let link = self.link();
        let leader = self.leader().await?;
        let chosen = link
            .status_at(self.endpoint(leader)?, ANSWER)
            .await
            .map_err(io::Error::other)?
            .chosen;
        let start = std::time::Instant::now();
        while start.elapsed() < CAUGHT_UP_WITHIN {
            if let Ok(status) = link.status_at(self.endpoint(id)?, ANSWER).await
                && status.applied >= chosen
            {
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Err(io::Error::other(format!("replica {id} did not catch up")))
    }

    fn endpoint(&self, id: u16) -> io::Result<&Endpoint> {
        self.endpoints
            .of_id(id)
            .ok_or_else(|| io::Error::other(format!("there is no replica {id}")))
    }
}

/// The replica's program as it is installed beside this one.
fn beside() -> io::Result<PathBuf> {
    let program = std::env::current_exe()?
        .parent()
        .unwrap_or(Path::new("."))
        .join("node");
    if program.exists() {
        return Ok(program);
    }
    Err(io::Error::other(format!(
        "{} is not there; name the replica's program with --node-bin",
        program.display()
    )))
}
