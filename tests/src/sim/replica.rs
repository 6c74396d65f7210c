//! One replica: its disk and clock, which outlive its process, and the process.
//!
//! The process is the server's own code: boot, replica, log writer. What the server's driver does around them, its
//! threads above all, is done here by events.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use bytes::Bytes;
use paxos::{Ballot, Entry, MonoTime, NodeId, Slot, WalAppend};
use replica::boot::{self, BootConfig, Booted, Refusal};
use replica::engine::{self, Now, SnapshotJob};
use replica::filestore::{FileError, SyncSet};
use replica::records;
use replica::{Input, Output, SnapshotDone};
use wal::storage::{MemDisk, SharedDisk};
use wal::{Environment, Folder, SnapshotHeader, Writer};

use super::dice::Dice;

/// A clock that runs at its own rate.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    /// Millionths that it is too fast.
    ppm: i64,
    offset_us: i64,
}

impl Clock {
    /// A clock up to `ppm_max` millionths off.
    pub(crate) fn draw(dice: &mut Dice, ppm_max: u64) -> Clock {
        let ppm = dice.between(0, 2 * ppm_max) as i64 - ppm_max as i64;
        Clock {
            ppm,
            offset_us: dice.between(1_000_000, 1_000_000_000) as i64,
        }
    }

    /// What it shows.
    pub(crate) fn local(&self, real_us: u64) -> i64 {
        let real = real_us as i64;
        self.offset_us + real + real * self.ppm / 1_000_000
    }

    /// When it will show `local` or more.
    pub(crate) fn real(&self, local: i64) -> u64 {
        let elapsed = i128::from(local) - i128::from(self.offset_us);
        let real = elapsed * 1_000_000 / i128::from(1_000_000 + self.ppm);
        u64::try_from(real + 2).unwrap_or(0)
    }
}

/// A replica.
#[derive(Debug)]
pub(crate) struct Replica {
    /// Its index; its id is one more.
    pub(crate) index: usize,
    /// Its disk.
    pub(crate) disk: MemDisk,
    /// Its clock.
    pub(crate) clock: Clock,
    /// Grows when its process starts and when it ends.
    pub(crate) life: u64,
    /// The process, if it runs.
    pub(crate) process: Option<Box<Process>>,
    /// Until when it is paused.
    pub(crate) paused_until: Option<u64>,
    /// Whether the power fails at the end of the commit group under way.
    pub(crate) fails_writing: bool,
    /// Until when its disk finishes nothing.
    pub(crate) stalled_until: u64,
    config: BootConfig,
    keep_log_bytes: u64,
}

/// A running process.
#[derive(Debug)]
pub(crate) struct Process {
    /// What it runs.
    pub(crate) replica: replica::Replica,
    /// Its log.
    pub(crate) writer: Writer,
    /// What reached it and is not worked off.
    pub(crate) inbox: Vec<Input>,
    /// Whether a run is on the agenda.
    pub(crate) run_due: bool,
    /// Until when it works on its last turn.
    pub(crate) busy_until: u64,
    /// The connection to each peer, as it knows.
    pub(crate) links: BTreeMap<usize, u64>,
    /// Appends that the disk has not begun.
    pub(crate) log_queue: VecDeque<WalAppend>,
    /// The commit group under way.
    pub(crate) log_busy: Option<Vec<WalAppend>>,
    /// The snapshot to be made, with the files to be synced before.
    pub(crate) snapshot: Option<(SnapshotJob, SyncSet)>,
    /// The wake-up that counts.
    pub(crate) wake: u64,
    /// When it comes.
    pub(crate) wake_at: Option<u64>,
    /// What each slot holds, as last handed to the log.
    pub(crate) submitted: BTreeMap<Slot, Entry>,
    /// The last slot that the checks have seen applied.
    pub(crate) seen: Slot,
    /// Whether it was asked to end.
    pub(crate) ending: bool,
}

/// What a start found, for the checks.
#[derive(Debug)]
pub(crate) struct Found {
    /// The highest ballot promised.
    pub(crate) promised: Ballot,
    /// Everything up to here was replayed.
    pub(crate) chosen: Slot,
    /// What is held above that.
    pub(crate) accepted: Vec<(Slot, Ballot, Entry, bool)>,
    /// Whether the log ended in a torn write.
    pub(crate) torn: bool,
    /// Whether a snapshot was the base.
    pub(crate) from_snapshot: bool,
}

impl Replica {
    /// A replica with an empty disk.
    pub(crate) fn new(
        index: usize,
        clock: Clock,
        config: BootConfig,
        keep_log_bytes: u64,
    ) -> Replica {
        Replica {
            index,
            disk: MemDisk::new(),
            clock,
            life: 0,
            process: None,
            paused_until: None,
            fails_writing: false,
            stalled_until: 0,
            config,
            keep_log_bytes,
        }
    }

    /// What its clocks show.
    pub(crate) fn now(&self, real_us: u64) -> Now {
        let mono = MonoTime(self.clock.local(real_us) as u64);
        Now {
            mono,
            wall_ms: 1_800_000_000_000 + real_us / 1_000,
        }
    }

    fn environment(&self) -> Environment {
        Environment::seeded(self.config.seed ^ (self.life << 32) ^ ((self.index as u64) << 16))
    }

    /// Lays out its folder, or opens the one that is there.
    pub(crate) fn open_folder(&mut self) -> Result<Folder, Refusal> {
        let disk: SharedDisk = Arc::new(self.disk.clone());
        self.life += 1;
        boot::open_folder(disk, self.config.node, self.environment())
    }

    /// Starts its process.
    pub(crate) fn start(&mut self, real_us: u64) -> Result<Found, Refusal> {
        let disk: SharedDisk = Arc::new(self.disk.clone());
        self.life += 1;
        self.config.seed = self.config.seed.wrapping_add(0x9e37_79b9);
        self.config.start = self.config.seed ^ self.life.rotate_left(40);
        let folder = boot::open_folder(disk.clone(), self.config.node, self.environment())?;
        let promised_before = folder.meta().promised;
        let booted = boot::boot(folder, disk, &self.config, self.now(real_us).mono)?;
        let Booted {
            engine,
            writer,
            files,
            report,
        } = booted;
        let chosen = report.applied;
        let accepted = read_accepted(&writer, chosen);
        let submitted = accepted
            .iter()
            .map(|(slot, _, entry, _)| (*slot, entry.clone()))
            .collect();
        let promised = engine.core().status().promised;
        assert!(
            promised.raw() >= promised_before,
            "the superblock's promise counts"
        );
        self.process = Some(Box::new(Process {
            replica: replica::Replica::new(engine, files, self.keep_log_bytes),
            writer,
            inbox: Vec::new(),
            run_due: false,
            busy_until: 0,
            links: BTreeMap::new(),
            log_queue: VecDeque::new(),
            log_busy: None,
            snapshot: None,
            wake: 0,
            wake_at: None,
            submitted,
            seen: chosen,
            ending: false,
        }));
        Ok(Found {
            promised,
            chosen,
            accepted,
            torn: report.log.outcome == wal::Outcome::TornTail,
            from_snapshot: report.base > Slot(0),
        })
    }

    /// Ends its process: whatever it was writing is cut off at a random call, and what was not synced is
    /// kept, dropped or torn, if the machine goes down with it.
    pub(crate) fn crash(&mut self, dice: &mut Dice, power_fails: bool) {
        self.life += 1;
        self.paused_until = None;
        self.fails_writing = false;
        if let Some(process) = self.process.take() {
            self.cut_off(*process, dice);
        }
        if power_fails {
            self.disk.crash(dice.word())
        } else {
            self.disk.kill()
        }
    }

    /// Most often at the very write of the group, which leaves it torn.
    fn cut_off(&self, mut process: Process, dice: &mut Dice) {
        if !dice.permille(750) {
            return;
        }
        let calls = if dice.permille(600) {
            1
        } else {
            dice.between(2, 8)
        };
        self.disk.halt_at(self.disk.calls() + calls);
        if let Some(group) = process.log_busy.take() {
            let _ = process.commit(group);
        }
        if let Some((job, files)) = process.snapshot.take() {
            let _ = process.save_snapshot(&self.disk, job, files);
        }
    }

    /// Works off the inbox as one batch.
    pub(crate) fn run(&mut self, real_us: u64) -> Output {
        let now = self.now(real_us);
        let mut out = Output::default();
        if let Some(process) = &mut self.process {
            process.run_due = false;
            for input in std::mem::take(&mut process.inbox) {
                process.replica.handle(now, input, &mut out);
            }
            process
                .replica
                .handle(now, engine::Input::Tick.into(), &mut out);
            process.replica.finish(now, &mut out);
        }
        out
    }
}

impl Process {
    /// Writes a commit group.
    pub(crate) fn commit(&mut self, group: Vec<WalAppend>) -> Result<(), wal::Error> {
        let commit_slot = group
            .iter()
            .map(|append| append.commit.0)
            .max()
            .unwrap_or(0);
        let records: Vec<wal::Record> = group
            .into_iter()
            .flat_map(|append| append.records)
            .map(records::to_wal)
            .collect();
        self.writer.commit(&records, commit_slot)
    }

    /// Makes a snapshot as the server does, but at one time. An error is one that ends the process.
    pub(crate) fn save_snapshot(
        &mut self,
        disk: &MemDisk,
        job: SnapshotJob,
        files: SyncSet,
    ) -> Result<SnapshotDone, String> {
        let done = |job, result, unsynced| SnapshotDone {
            job,
            result,
            unsynced,
        };
        match files.run() {
            Ok(()) => {}
            Err(error @ FileError::Full { .. }) => {
                return Ok(done(job, Err(error.to_string()), Some(files)));
            }
            Err(error) => return Err(error.to_string()),
        }
        let mut payload = Vec::new();
        job.encode(&mut payload).expect("to memory");
        let header = SnapshotHeader {
            cluster: self.replica.engine().identity().cluster.0,
            slot: job.slot.0,
            membership: Bytes::new(),
        };
        let saved = match wal::snapshot::save(disk, &header, &mut payload.as_slice()) {
            Ok(saved) => saved,
            Err(error) => return Ok(done(job, Err(error.to_string()), None)),
        };
        match self.writer.snapshot_saved(saved) {
            Ok(()) => Ok(done(job, Ok(saved), None)),
            Err(error) => Err(error.to_string()),
        }
    }
}

fn read_accepted(writer: &Writer, chosen: Slot) -> Vec<(Slot, Ballot, Entry, bool)> {
    let reader = writer.reader();
    let mut accepted = Vec::new();
    let mut slot = chosen.next();
    while let Ok(Some((ballot, entry, known))) = records::read(&reader, slot) {
        accepted.push((slot, ballot, entry, known));
        slot = slot.next();
    }
    accepted
}

/// The configuration of a replica.
pub(crate) fn config(index: usize, plan: &super::plan::Plan) -> BootConfig {
    let node = NodeId(index as u16 + 1);
    let mut config = BootConfig::new(node);
    config.heartbeat_us = plan.election_us / 10;
    config.election_us = plan.election_us;
    config.grace_ms = paxos::config::default_grace_ms(plan.election_us);
    config.seed = plan.seed.wrapping_mul(31).wrapping_add(index as u64);
    config.prefer_lowest_id = plan.prefer_lowest;
    config.settings = statemachine::Settings {
        files: plan.files + if plan.mixed_settings { index as u32 } else { 0 },
        ttl_ms_min: 100,
        lease_ms_min: 100,
        ..statemachine::Settings::default()
    };
    config.snapshots.log_bytes = plan.snapshot_bytes;
    config.snapshots.slot_multiple = 8;
    config.chosen_tail_bytes = plan.chosen_tail_bytes;
    config.peer_window_bytes = plan.peer_window_bytes;
    config.limits.backlog_bytes = plan.backlog_bytes;
    config.check_at_once_bytes = plan.check_at_once_bytes;
    config.log = wal::Options {
        segment_bytes: plan.segment_bytes,
    };
    config
}
