//! From a configuration to a replica that is ready to serve.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use paxos::{MonoTime, NodeId};
use statemachine::Settings;
use wal::storage::RealDisk;
use wal::{Environment, Folder, SharedDisk};

use crate::clock::{Clock, micros};
use crate::config::ServeConfig;
use crate::failure::{Exit, Failure};
use crate::http::{self, Hosts, Pages};
use crate::metrics::Metrics;
use crate::server::births;
use crate::server::clients::Clients;
use crate::server::commit_timer::CommitTimer;
use crate::server::desk::{Desk, Phase};
use crate::server::files::Files;
use crate::server::inbox::Inbox;
use crate::server::listeners::{Addresses, Listeners};
use crate::server::peers::{Peers, Speaker};
use crate::server::reactor::{Pace, Reactor};
use crate::server::snapshots::Snapshots;
use crate::server::standing::Standing;
use crate::server::wal_bridge::WalBridge;
use replica::Output;
use replica::boot::{self, BootConfig, Booted, Refusal};
use replica::engine::SnapshotPolicy;

/// Pause between two attempts to start on a full disk. Each counts as a start of its own.
const FULL_PAUSE: Duration = Duration::from_secs(2);
/// How often the log says that the start waits.
const FULL_TOLD_EVERY: Duration = Duration::from_secs(60);

/// A replica that accepts clients.
pub(crate) struct Replica {
    /// Where it is found.
    pub(crate) addresses: Addresses,
    reactor: Reactor,
    acceptor: tokio::task::JoinHandle<()>,
}

impl Replica {
    /// Binds, opens the folder, waits for the cluster's birth, boots, and begins to accept.
    ///
    /// # Errors
    ///
    /// [`Failure`] with the exit code of the stage that failed.
    pub(crate) async fn start(config: ServeConfig, inbox: Arc<Inbox>) -> Result<Replica, Failure> {
        let Listeners {
            client,
            peer,
            http,
            addresses,
        } = Listeners::bind(&config).await?;
        let clock = Clock::new();
        let desk = Desk::new(inbox.clone());
        let metrics = Arc::new(Metrics::new());
        ensure_file_limit(config.max_clients)?;
        tokio::spawn(http::run(
            http,
            Pages {
                desk: desk.clone(),
                metrics: metrics.clone(),
                hosts: Arc::new(Hosts::new(&config)),
            },
        ));

        let (disk, mut folder) = open_folder(&config)?;
        let speaker = Rc::new(RefCell::new(speaker(&config, &folder, &addresses)));
        let record = births::born(&config, &mut folder, &peer, &speaker, &desk).await?;
        desk.enter(Phase::Booting);
        let booted = boot(&config, folder, disk.clone(), clock.mono()).await?;
        tracing::info!(
            base = booted.report.base.0,
            applied = booted.report.applied.0,
            accepted = booted.report.accepted,
            "read the log"
        );
        if let Some(warning) = booted.report.warning() {
            tracing::warn!("{warning}");
        }

        let mut speaker = speaker.borrow().clone();
        // The boot has begun a new one.
        let hello = booted.engine.core().hello();
        (speaker.incarnation, speaker.start) = (hello.life.incarnation, hello.life.start);
        speaker.witness = paxos::memory::encode_testimonies(&hello.witness);
        let snapshots = Snapshots {
            disk,
            cluster: record.cluster,
            membership: record.encode(),
            inbox: inbox.clone(),
        };
        let greeting = (record.cluster, config.id, record.name.clone());
        let clients = Clients::new(
            greeting,
            (config.max_clients as usize, config.client_idle_timeout),
            inbox.clone(),
            metrics.clone(),
        );
        let reactor = Reactor {
            peers: Peers::start(&config, peer, &speaker, record, metrics.clone()),
            wal: WalBridge::start(booted.writer, inbox.clone()),
            files: Files::start(inbox.clone()),
            standing: Standing::new(&config, &addresses),
            replica: replica::Replica::new(booted.engine, booted.files, config.keep_log_bytes),
            clients: clients.clone(),
            snapshots,
            clock,
            inbox,
            metrics,
            commits: CommitTimer::default(),
            pace: Pace::new(),
            out: Output::default(),
            desk: desk.clone(),
        };
        desk.enter(Phase::Serving);
        let acceptor = tokio::task::spawn_local(clients.accept(client));
        tracing::info!(id = config.id, client = %addresses.client, peer = %addresses.peer, http = %addresses.http, "serving clients");
        Ok(Replica {
            addresses,
            reactor,
            acceptor,
        })
    }

    /// Serves until the inbox says stop.
    ///
    /// # Errors
    ///
    /// [`Failure`] of whatever made it impossible to go on.
    pub(crate) async fn run(self) -> Result<(), Failure> {
        let ended = self.reactor.run().await;
        self.acceptor.abort();
        ended
    }
}

fn open_folder(config: &ServeConfig) -> Result<(SharedDisk, Folder), Failure> {
    let refuse = |what: String| {
        Failure::new(
            Exit::DataRefused,
            format!("data folder {}: {what}", config.data.display()),
        )
    };
    let disk = RealDisk::create_root(&config.data).map_err(|e| refuse(e.to_string()))?;
    let disk: SharedDisk = Arc::new(disk);
    let folder = boot::open_folder(disk.clone(), NodeId(config.id), Environment::of_machine())
        .map_err(|e| refused(config, &e))?;
    Ok((disk, folder))
}

fn speaker(config: &ServeConfig, folder: &Folder, addresses: &Addresses) -> Speaker {
    let meta = folder.meta();
    let members = match config.peers.as_slice() {
        [] => vec![config.id],
        peers => peers.iter().map(|peer| peer.id).collect(),
    };
    Speaker {
        cluster: 0,
        node: config.id,
        disk: meta.disk,
        incarnation: meta.incarnation,
        start: 0,
        witness: bytes::Bytes::new(),
        members,
        name: config.cluster.clone(),
        birth: bytes::Bytes::new(),
        client: addresses.advertised.clone(),
        http: addresses.http.to_string(),
    }
}

/// Boots; on a full disk again and again, until there is room.
async fn boot(
    config: &ServeConfig,
    mut folder: Folder,
    disk: SharedDisk,
    now: MonoTime,
) -> Result<Booted, Failure> {
    let mut told = None;
    loop {
        let (theirs, settings) = (disk.clone(), boot_config(config));
        let booting =
            tokio::task::spawn_blocking(move || boot::boot(folder, theirs, &settings, now));
        let booted = booting
            .await
            .map_err(|e| Failure::new(Exit::Other, format!("the boot ended early: {e}")))?;
        let refusal = match booted {
            Err(refusal) if refusal.no_space => refusal,
            other => return other.map_err(|refusal| refused(config, &refusal)),
        };
        if told.is_none_or(|told: Instant| told.elapsed() >= FULL_TOLD_EVERY) {
            told = Some(Instant::now());
            tracing::warn!(
                data = %config.data.display(),
                %refusal,
                "the disk is full: the start waits until there is room"
            );
        }
        tokio::time::sleep(FULL_PAUSE).await;
        folder = boot::open_folder(disk.clone(), NodeId(config.id), Environment::of_machine())
            .map_err(|refusal| refused(config, &refusal))?;
    }
}

fn boot_config(config: &ServeConfig) -> BootConfig {
    let election_us = micros(config.election_timeout);
    let defaults = BootConfig::new(NodeId(config.id));
    BootConfig {
        heartbeat_us: micros(config.heartbeat),
        election_us,
        grace_ms: paxos::config::default_grace_ms(election_us),
        seed: rand::random(),
        start: rand::random(),
        prefer_lowest_id: config.prefer_lowest_id,
        settings: Settings {
            files: config.files,
            default_lease_ms: config.default_lease.as_millis() as u64,
            default_ttl_ms: config.default_ttl.as_millis() as u64,
            ..Settings::default()
        },
        snapshots: SnapshotPolicy {
            log_bytes: config.snapshot_after_bytes,
            ..SnapshotPolicy::default()
        },
        log: wal::Options {
            segment_bytes: config.segment_bytes,
        },
        ..defaults
    }
}

fn refused(config: &ServeConfig, refusal: &Refusal) -> Failure {
    let exit = match refusal.exit {
        4 => Exit::DataRefused,
        5 => Exit::Damaged,
        6 => Exit::WriteFailed,
        _ => Exit::Other,
    };
    Failure::new(
        exit,
        format!("data folder {}: {refusal}", config.data.display()),
    )
}

/// Open files beside client connections: users' files (256), the log, snapshots, peers and pages, with room to spare.
const OWN_FILES_MAX: u64 = 512;

/// With fewer clients than this a cluster on one machine is of little use.
const CLIENTS_MIN: u32 = 64;

/// Has the system give this process as many files and connections as it may have.
///
/// # Errors
///
/// Fails if that is fewer than it may need: it would only show under load, as refused connections and failed writes.
fn ensure_file_limit(max_clients: u32) -> Result<(), Failure> {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        maximum: limit.maximum,
    };
    let allowed = match setrlimit(Resource::Nofile, raised) {
        Ok(()) => limit.maximum,
        Err(error) => {
            tracing::warn!(%error, "the limit on open files stays as it is");
            limit.current
        }
    };
    check_file_limit(allowed, max_clients)
}

/// How many clients a replica may take at once under the hard limit on open files, if these are fewer than `wanted`.
///
/// # Errors
///
/// Fails if the limit is too small even for a few.
pub(crate) fn fewer_clients(wanted: u32) -> Result<Option<u32>, Failure> {
    use rustix::process::{Resource, getrlimit};
    fit_clients(getrlimit(Resource::Nofile).maximum, wanted)
}

fn fit_clients(allowed: Option<u64>, wanted: u32) -> Result<Option<u32>, Failure> {
    let Some(allowed) = allowed.filter(|allowed| *allowed < u64::from(wanted) + OWN_FILES_MAX)
    else {
        return Ok(None);
    };
    match u32::try_from(allowed.saturating_sub(OWN_FILES_MAX)) {
        Ok(fit) if fit >= CLIENTS_MIN => Ok(Some(fit)),
        _ => Err(Failure::new(
            Exit::Other,
            format!(
                "the limit on open files is {allowed}, and a replica needs {} at least: raise it (`ulimit -n`)",
                OWN_FILES_MAX + u64::from(CLIENTS_MIN)
            ),
        )),
    }
}

fn check_file_limit(allowed: Option<u64>, max_clients: u32) -> Result<(), Failure> {
    let needed = u64::from(max_clients) + OWN_FILES_MAX;
    match allowed {
        Some(allowed) if allowed < needed => Err(Failure::new(
            Exit::Other,
            format!(
                "the limit on open files is {allowed}, and --max-clients {max_clients} needs {needed}: \
                 raise it (`ulimit -n {needed}`, LimitNOFILE= of systemd) or lower --max-clients"
            ),
        )),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::{check_file_limit, fit_clients};

    #[test]
    fn a_small_limit_leaves_fewer_clients() {
        assert_eq!(fit_clients(None, 10_000).expect("no limit"), None);
        assert_eq!(fit_clients(Some(10_512), 10_000).expect("enough"), None);
        assert_eq!(fit_clients(Some(4096), 10_000).expect("fewer"), Some(3584));
        let refused = fit_clients(Some(512), 10_000).expect_err("none");
        assert!(!refused.message.contains("--max-clients"), "{refused}");
    }

    #[test]
    fn too_few_open_files_end_the_start_with_the_number_needed() {
        let refused = check_file_limit(Some(1024), 10_000).expect_err("too few");
        assert!(refused.message.contains("10512"), "{refused}");
        check_file_limit(Some(10_512), 10_000).expect("just enough");
        check_file_limit(None, 1_000_000).expect("no limit");
    }
}
