//! From a data folder to an engine: the log, the newest valid snapshot, the replay.
//!
//! ```text
//! open_folder   lock, superblocks; a fresh folder gets a disk id
//!     ... the birth protocol, if the folder was not born into a cluster yet (the driver's)
//! boot          scan the log -> choose a base -> cut the files back to it -> replay what is chosen
//!               -> hand what is accepted above that to the core
//! ```
//!
//! A base is a snapshot, or the empty state if the log reaches back to its first slot. The newest one
//! whose data files are all there is taken. An older one costs a longer replay, which rebuilds the
//! files that a newer one would miss. If none will do, the replica refuses to start and says what is
//! damaged: a guess could lose what was acknowledged.

use std::io;

mod base;
mod rebuild;
mod refusal;
mod replay;

use paxos::birth::BirthRecord;
use paxos::{
    Ballot, ClusterId, DiskId, Identity, Life, Memories, MonoTime, NodeId, Recovered, Slot,
};
use statemachine::Settings;
use wal::storage::SharedDisk;
use wal::{Environment, Folder, Writer};

use crate::engine::{Engine, EngineOptions, Limits, Restored, SnapshotPolicy};
use crate::filestore::{FileStore, Inspection};

pub use rebuild::rebuild;
pub use refusal::{Refusal, exit_of_read};

use replay::Replayed;

/// How a replica is to behave.
#[derive(Clone, Debug)]
pub struct BootConfig {
    /// Its id.
    pub node: NodeId,
    /// Microseconds between a leader's heartbeats.
    pub heartbeat_us: u64,
    /// The shortest election timeout, in microseconds.
    pub election_us: u64,
    /// How much a change of leader extends sessions and leases at least, in milliseconds.
    pub grace_ms: u64,
    /// Seeds the election timeouts.
    pub seed: u64,
    /// A random number for this start. Two processes on copies of one folder must not have the same.
    pub start: u64,
    /// Bytes of chosen entries that the core keeps in memory for peers that are a little behind.
    pub chosen_tail_bytes: usize,
    /// Bytes that a leader keeps unacknowledged towards one peer.
    pub peer_window_bytes: usize,
    /// Hand leadership to the lowest live, caught-up id.
    pub prefer_lowest_id: bool,
    /// What this replica has agreed if it is the cluster's first leader.
    pub settings: Settings,
    /// How much it takes on.
    pub limits: Limits,
    /// When it makes a snapshot.
    pub snapshots: SnapshotPolicy,
    /// Keep-alives are gathered for this long at most, in microseconds.
    pub gather_us: u64,
    /// The program's version, for `Status`.
    pub version: String,
    /// How the log is kept.
    pub log: wal::Options,
    /// Data files of up to this many bytes in all are verified before the start, larger ones after.
    pub check_at_once_bytes: u64,
}

impl BootConfig {
    /// The defaults, for replica `node`.
    pub fn new(node: NodeId) -> BootConfig {
        let election_us = 500_000;
        BootConfig {
            node,
            heartbeat_us: 50_000,
            election_us,
            grace_ms: paxos::config::default_grace_ms(election_us),
            seed: u64::from(node.0),
            start: 0,
            chosen_tail_bytes: 8 << 20,
            peer_window_bytes: 8 << 20,
            prefer_lowest_id: false,
            settings: Settings::default(),
            limits: Limits::default(),
            snapshots: SnapshotPolicy::default(),
            gather_us: 100_000,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            log: wal::Options::default(),
            check_at_once_bytes: 256 << 20,
        }
    }
}

/// A replica ready to run.
#[derive(Debug)]
pub struct Booted {
    /// The replica.
    pub engine: Engine,
    /// Its log.
    pub writer: Writer,
    /// Its data files.
    pub files: FileStore,
    /// What was found, for the operator's log.
    pub report: BootReport,
}

/// What the boot found and did.
#[derive(Clone, Debug)]
pub struct BootReport {
    /// What the scan of the log found.
    pub log: wal::Report,
    /// The slot of the snapshot that the replay began at, 0 = none.
    pub base: Slot,
    /// The last slot replayed.
    pub applied: Slot,
    /// Entries above that, accepted and not known to be chosen.
    pub accepted: usize,
    /// Why newer snapshots could not be the base, one line each.
    pub passed_over: Vec<String>,
}

impl BootReport {
    /// Everything that was found damaged, and what it means, in one line; `None` if nothing was.
    #[must_use]
    pub fn warning(&self) -> Option<String> {
        let passed_over = (!self.passed_over.is_empty()).then(|| {
            let base = match self.base {
                Slot(0) => "the empty state".to_owned(),
                slot => format!("the snapshot of slot {slot}"),
            };
            format!(
                "started from {base} and replayed the log, because {}",
                self.passed_over.join("; ")
            )
        });
        let all: Vec<String> = self.log.meaning().into_iter().chain(passed_over).collect();
        (!all.is_empty()).then(|| {
            format!(
                "{}. {}",
                all.join("; "),
                "A new snapshot follows; check the disk, and see `walinspect explain`"
            )
        })
    }
}

/// Locks a data folder and reads who it belongs to. An empty one is laid out and gets a disk id.
///
/// # Errors
///
/// [`Refusal`], with the process' exit code.
pub fn open_folder(disk: SharedDisk, node: NodeId, env: Environment) -> Result<Folder, Refusal> {
    // Before the folder is laid out: what is put back shall find nothing in its place.
    let is_empty = match disk.list("wal") {
        Ok(entries) => entries.is_empty(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => true,
        // Whoever may not look does not know that nothing is there.
        Err(error) => return Err(Refusal::unreadable("wal", &error)),
    };
    if is_empty {
        refuse_lost_log(&disk)?;
    }
    let folder = Folder::open(disk.clone(), node.0, env)?;
    if folder.meta().cluster == 0 {
        refuse_lost_log(&disk)?;
    }
    Ok(folder)
}

/// Starts the replica of a folder that was born into a cluster.
///
/// # Errors
///
/// [`Refusal`], with the process' exit code. One over damage found in the log, the snapshots or the data files leaves every
/// byte of the folder as it was.
///
/// # Panics
///
/// If the folder was not born: the birth protocol comes first.
pub fn boot(
    folder: Folder,
    disk: SharedDisk,
    config: &BootConfig,
    now: MonoTime,
) -> Result<Booted, Refusal> {
    let (identity, birth) = identity_of(&folder)?;
    let memories = memories_of(&folder)?;
    let log = folder.judge_log()?;
    // Damage is never guessed away: what cannot be proven to be a torn tail stops the start.
    if !log.outcome().may_serve() {
        return Err(Refusal::of_log(&log));
    }
    // Before the log is opened, which writes: a folder with damaged files is refused as it was found.
    let mut files = FileStore::open(disk.clone())?;
    let inspection = base::inspection(&disk, config.check_at_once_bytes, &files)?;
    let base = base::choose(&disk, &log, &mut files, inspection)?;
    let (mut writer, recovery) = log.open(config.log.clone())?;
    files.cut_back(&base.facts, inspection)?;
    if inspection == Inspection::Checksums && files.is_recheck_due()? {
        files.clear_recheck()?;
    }
    let base_slot = base.state.slot;
    // A newer snapshot that the replica cannot start from must not outlive the one that it can.
    writer.distrust_snapshots_above(base_slot.0);
    let chosen = Slot(
        recovery
            .commit_slot
            .min(recovery.last_slot)
            .max(base_slot.0),
    );
    let reader = writer.reader();
    let replayed = replay::replay(&reader, base.state, chosen, &mut files)?;
    let Replayed { machine, clock } = replayed;
    let above = replay::accepted(&reader, chosen, Slot(recovery.last_slot))?;

    let report = BootReport {
        log: recovery.report.clone(),
        base: base_slot,
        applied: chosen,
        accepted: above.entries.len(),
        passed_over: base.passed_over,
    };
    let recovered = Recovered {
        promised: Ballot::from_raw(recovery.promised),
        max_ballot_seen: Ballot::from_raw(recovery.max_ballot_ever),
        first: Slot(recovery.first_slot.max(1)),
        chosen,
        clock,
        accepted: above.entries,
        applied: chosen,
        chosen_marks: above.chosen_marks,
        memories,
    };
    let newest = recovery
        .snapshots
        .first()
        .map_or(0, |snapshot| snapshot.slot);
    let restored = Restored {
        recovered,
        machine,
        snapshot: Slot(newest),
        log_bytes: log_growth(&writer, newest, &report, config.snapshots),
    };
    let options = engine_options(config, identity, &birth, recovery.incarnation);
    Ok(Booted {
        engine: Engine::new(options, restored, now),
        writer,
        files,
        report,
    })
}

/// How much the log has grown since the snapshot. Damage makes a new snapshot due at once: it brings back a second sound one, and
/// the damaged part of the log can go.
fn log_growth(writer: &Writer, newest: u64, report: &BootReport, policy: SnapshotPolicy) -> u64 {
    let grown = policy.growth(writer.bytes_since(newest), writer.segments_since(newest));
    match report.warning() {
        Some(_) => grown.max(policy.log_bytes),
        None => grown,
    }
}

fn engine_options(
    config: &BootConfig,
    identity: Identity,
    birth: &BirthRecord,
    incarnation: u64,
) -> EngineOptions {
    let core = paxos::Config {
        heartbeat_us: config.heartbeat_us,
        election_us: config.election_us,
        grace_ms: config.grace_ms,
        seed: config.seed,
        chosen_tail_bytes: config.chosen_tail_bytes,
        peer_window_bytes: config.peer_window_bytes,
        prefer_lowest_id: config.prefer_lowest_id,
        life: Life {
            incarnation,
            start: config.start,
        },
        ..paxos::Config::new(identity, birth.membership())
    };
    EngineOptions {
        core,
        settings: config.settings.clone(),
        limits: config.limits,
        snapshots: config.snapshots,
        segment_bytes: config.log.segment_bytes,
        gather_us: config.gather_us,
        version: config.version.clone(),
        cluster_name: birth.name.clone(),
    }
}

/// Who the replica is and who votes, as its birth record says.
fn identity_of(folder: &Folder) -> Result<(Identity, BirthRecord), Refusal> {
    let meta = folder.meta();
    assert_ne!(meta.cluster, 0, "the folder was not born into a cluster");
    let birth = BirthRecord::decode(meta.birth.clone())
        .map_err(|error| Refusal::damaged(format!("the birth record does not decode: {error}")))?;
    let identity = Identity {
        cluster: ClusterId(meta.cluster),
        node: NodeId(meta.node),
        disk: DiskId(meta.disk),
    };
    Ok((identity, birth))
}

/// What the superblock keeps of the members. A disk that was found to be an old copy is not started again:
/// the peers that know may be away this time.
fn memories_of(folder: &Folder) -> Result<Memories, Refusal> {
    let memories = Memories::decode(folder.meta().peers.clone()).map_err(|error| {
        Refusal::damaged(format!(
            "what the superblock keeps of the other replicas does not decode: {error}"
        ))
    })?;
    match &memories.condemned {
        None => Ok(memories),
        Some(condemned) => Err(Refusal::damaged(condemned.to_string())),
    }
}

/// Files with data in a folder without a log: somebody took the log away. A cluster born now would
/// empty them.
fn refuse_lost_log(disk: &SharedDisk) -> Result<(), Refusal> {
    let names = FileStore::open(disk.clone())?.names_with_data()?;
    if names.is_empty() {
        return Ok(());
    }
    let used = match disk.list("snapshots") {
        Ok(entries) => !entries.is_empty(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => false,
        Err(error) => return Err(Refusal::unreadable("snapshots", &error)),
    };
    let names = names.join(", ");
    let advice = match used {
        true => {
            "snapshots/ shows that a replica ran here, and without its log it may have forgotten a promise: \
             put the folder wal/ back as it was, or leave this replica stopped"
        }
        false => {
            "put the folder wal/ back as it was; only if no replica ever ran in this folder, move files/ away"
        }
    };
    Err(Refusal::damaged(format!(
        "there is no log but files/ holds data ({names}): {advice}"
    )))
}

#[cfg(test)]
mod tests;
