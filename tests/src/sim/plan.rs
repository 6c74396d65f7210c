//! What one seed is about: its size, its timing, and which faults there are.
//!
//! Swarm testing: each class of faults is on or off per run, so that a run without crashes goes deep
//! into partitions, and one without any into plain load.
//! Source: Groce et al., "Swarm Testing" (ISSTA 2012).

use super::dice::Dice;

/// Microseconds in a millisecond and a second.
pub const MS: u64 = 1_000;
/// Microseconds in a second.
pub const SECOND: u64 = 1_000_000;

/// A folder that is replaced.
#[derive(Clone, Copy, Debug)]
pub struct Copies {
    /// Whose.
    pub replica: usize,
    /// By an empty one, instead of an old copy.
    pub wipes: bool,
}

/// The parameters of one run. Times are in microseconds of the simulation.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The seed.
    pub seed: u64,
    /// Replicas.
    pub replicas: u16,
    /// Clients, each with one session at a time.
    pub clients: usize,
    /// Locks that they fight for.
    pub locks: usize,
    /// Files made at the start.
    pub files: u32,
    /// How long faults go on.
    pub safety_us: u64,
    /// The shortest election timeout.
    pub election_us: u64,
    /// Session and lease terms, in milliseconds.
    pub term_ms: (u64, u64),
    /// One-way delay of a message.
    pub latency_us: (u64, u64),
    /// Messages in a thousand that take up to a hundred times as long.
    pub slow_permille: u64,
    /// Messages in a thousand that are lost.
    pub loss_permille: u64,
    /// Messages in a thousand that come twice.
    pub double_permille: u64,
    /// Whether messages of one connection overtake each other.
    pub reorder: bool,
    /// Whether peer messages go through their encoding.
    pub encode: bool,
    /// Whether clocks run up to 1 % fast or slow.
    pub drift: bool,
    /// How long the disk takes for a commit group.
    pub disk_us: (u64, u64),
    /// Log bytes after which a snapshot is due.
    pub snapshot_bytes: u64,
    /// Data files of up to this many bytes are verified before a start, others after.
    pub check_at_once_bytes: u64,
    /// Bytes of chosen entries kept in memory while applying waits for room.
    pub backlog_bytes: usize,
    /// Bytes of chosen entries that a core keeps in memory.
    pub chosen_tail_bytes: usize,
    /// Bytes that a leader sends ahead to a peer.
    pub peer_window_bytes: usize,
    /// Bytes of a log segment.
    pub segment_bytes: u64,
    /// Whether the replicas were started with different settings.
    pub mixed_settings: bool,
    /// Whether the lowest id is to lead.
    pub prefer_lowest: bool,
    /// The classes of faults that strike.
    pub faults: Vec<Fault>,
    /// Time between two faults.
    pub fault_every_us: (u64, u64),
    /// Replicas that faults may strike; empty: all of them. If it names any, the others are a
    /// connected majority all the time, and commits must go on while faults last.
    pub victims: Vec<usize>,
    /// Whose folder is put back as it was, or wiped; all other replicas are spared by all faults then.
    pub copies: Option<Copies>,
    /// On a copy of whose folder a second process is started; all replicas are spared by all faults then.
    pub twin: Option<usize>,
    /// Whether the run ends as soon as the cluster has recovered, instead of with the time allowed for it.
    pub ends_early: bool,
    /// Bytes a second that each direction between two replicas carries. `None` is no limit.
    pub link_bytes_per_s: Option<u64>,
    /// How long a replica is busy with one turn: for the turn itself, and for each input of it.
    pub turn_us: (u64, u64),
    /// How long a replica is busy with one change of a user's file.
    pub file_us: u64,
    /// Bytes of log that a replica keeps for others that lag.
    pub log_cap_bytes: u64,
}

/// A class of faults.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    /// A replica dies and comes back.
    Crash,
    /// All replicas die at once and come back one by one.
    CrashAll,
    /// A replica stops for a while and goes on.
    Pause,
    /// Some directions between replicas carry nothing for a while.
    Partition,
    /// A connection between two replicas breaks.
    Reset,
    /// A client's connection breaks.
    ClientReset,
    /// A disk finishes nothing for a while.
    Stall,
    /// A disk has no room for a while.
    Full,
    /// A sync fails.
    SyncError,
    /// A client does nothing for longer than its terms.
    ClientPause,
    /// An operator hands leadership over, or a process is asked to end.
    Transfer,
}

const ALL_FAULTS: [Fault; 11] = [
    Fault::Crash,
    Fault::CrashAll,
    Fault::Pause,
    Fault::Partition,
    Fault::Reset,
    Fault::ClientReset,
    Fault::Stall,
    Fault::Full,
    Fault::SyncError,
    Fault::ClientPause,
    Fault::Transfer,
];

impl Plan {
    /// The plan of a seed.
    pub fn draw(seed: u64) -> Plan {
        let mut dice = Dice::new(seed, 1);
        let election_us = *dice.pick(&[150 * MS, 300 * MS, 500 * MS]);
        let term_ms = *dice.pick(&[(300, 600), (500, 1_500), (1_000, 3_000)]);
        let quiet = dice.permille(100);
        let faults: Vec<Fault> = ALL_FAULTS
            .into_iter()
            .filter(|_| !quiet && dice.permille(450))
            .collect();
        let busy = *dice.pick(&[40 * MS, 150 * MS, 400 * MS]);
        let mut plan = Plan {
            seed,
            replicas: *dice.pick(&[3, 3, 3, 3, 3, 3, 3, 5, 5, 1]),
            clients: dice.between(2, 8) as usize,
            locks: dice.between(1, 3) as usize,
            files: dice.between(1, 4) as u32,
            safety_us: dice.between(3, 8) * SECOND,
            election_us,
            term_ms,
            latency_us: *dice.pick(&[(30, 200), (100, 2_000), (500, 10_000)]),
            slow_permille: *dice.pick(&[0, 0, 5, 30]),
            loss_permille: *dice.pick(&[0, 0, 0, 10, 50, 150]),
            double_permille: *dice.pick(&[0, 0, 10, 100]),
            reorder: dice.permille(150),
            encode: dice.permille(200),
            drift: dice.permille(500),
            disk_us: *dice.pick(&[(50, 300), (200, 2_000), (1_000, 20_000)]),
            snapshot_bytes: *dice.pick(&[64 << 10, 256 << 10, 1 << 20, 1 << 40]),
            check_at_once_bytes: *dice.pick(&[0, 1 << 30]),
            backlog_bytes: *dice.pick(&[300, 64 << 20]),
            chosen_tail_bytes: *dice.pick(&[0, 1_000, 8 << 20]),
            peer_window_bytes: *dice.pick(&[1, 2_000, 8 << 20]),
            segment_bytes: *dice.pick(&[64 << 10, 256 << 10]),
            mixed_settings: dice.permille(200),
            prefer_lowest: dice.permille(150),
            faults,
            fault_every_us: (busy / 4, busy * 2),
            victims: Vec::new(),
            copies: None,
            twin: None,
            ends_early: Dice::new(seed, 6).permille(750),
            link_bytes_per_s: None,
            turn_us: (0, 0),
            file_us: 0,
            log_cap_bytes: u64::MAX,
        };
        plan.slow_down(&mut Dice::new(seed, 4));
        plan.spare_a_majority(&mut Dice::new(seed, 5));
        plan.copy_a_folder(&mut Dice::new(seed, 9));
        plan.double_a_folder(&mut Dice::new(seed, 10));
        plan
    }

    /// Makes some runs slow where a real replica takes time: disks, links, its own turns. Drawn from
    /// its own dice, so that all other draws of a seed stay what they were.
    fn slow_down(&mut self, dice: &mut Dice) {
        if dice.permille(100) {
            // Every disk: handing leadership over does not help.
            self.disk_us = (self.election_us / 5, self.election_us * 3 / 5);
        }
        if dice.permille(150) {
            self.link_bytes_per_s = Some(*dice.pick(&[100_000, 400_000, 2_000_000]));
        }
        if dice.permille(150) {
            self.turn_us = *dice.pick(&[(50, 20), (500, 50), (3_000, 100)]);
            self.file_us = *dice.pick(&[10, 200, 2_000]);
        }
        if dice.permille(150) {
            self.log_cap_bytes = *dice.pick(&[self.segment_bytes, 4 * self.segment_bytes]);
        }
    }

    /// In some runs faults strike only a fixed minority, for longer than in others.
    fn spare_a_majority(&mut self, dice: &mut Dice) {
        if self.replicas < 3 || !dice.permille(200) {
            return;
        }
        let minority = usize::from(self.replicas - 1) / 2;
        let first = dice.between(0, u64::from(self.replicas) - 1) as usize;
        self.victims = (first..first + minority)
            .map(|replica| replica % usize::from(self.replicas))
            .collect();
        // What strikes the links of all replicas alike spares nobody.
        (self.loss_permille, self.slow_permille) = (0, 0);
        self.safety_us = dice.between(8, 20) * SECOND;
    }

    /// Whether faults may strike this replica.
    pub(crate) fn may_strike(&self, replica: usize) -> bool {
        self.victims.is_empty() || self.victims.contains(&replica)
    }

    /// In a few runs a folder is replaced by an old copy or an empty one, while all others are in reach.
    fn copy_a_folder(&mut self, dice: &mut Dice) {
        if self.replicas < 3 || !self.victims.is_empty() || !dice.permille(80) {
            return;
        }
        self.copies = Some(Copies {
            replica: dice.between(0, u64::from(self.replicas) - 1) as usize,
            wipes: dice.permille(150),
        });
        self.faults.retain(|fault| {
            matches!(
                fault,
                Fault::Reset | Fault::ClientReset | Fault::ClientPause
            )
        });
        (self.loss_permille, self.slow_permille) = (0, 0);
        self.safety_us = 10 * SECOND;
    }

    /// In a few runs a second process is started on a copy of a folder, while all others are in reach.
    fn double_a_folder(&mut self, dice: &mut Dice) {
        let other = !self.victims.is_empty() || self.copies.is_some();
        if self.replicas < 3 || other || !dice.permille(30) {
            return;
        }
        self.twin = Some(dice.between(0, u64::from(self.replicas) - 1) as usize);
        self.faults
            .retain(|fault| matches!(fault, Fault::ClientReset | Fault::ClientPause));
        (self.loss_permille, self.slow_permille) = (0, 0);
        self.safety_us = 10 * SECOND;
    }

    /// The longest time without a commit while a majority is spared by all faults: as after healing, six
    /// election timeouts of up to twice the shortest, and the longest silence of clients that only keep
    /// their sessions.
    pub fn patience_us(&self) -> u64 {
        12 * self.election_us + self.term_ms.1 * MS + 300 * MS
    }

    /// Whether clients do as the library does, whose leases are to last: it is of use only where a majority is
    /// spared by all faults.
    pub fn steady_clients(&self) -> bool {
        !self.victims.is_empty()
    }

    /// Whether every disk is slow against the election timeout, in a run whose progress is watched.
    pub fn watches_slow_disks(&self) -> bool {
        2 * self.disk_us.1 >= self.election_us && !self.victims.is_empty()
    }

    /// For how long a steady client may ask in vain while one leader is lost and the first candidacy wins, as
    /// `docs/operations.md` has it: two election timeouts, six syncs, and 0.2 s for the network and for finding
    /// the leader. `None` where that formula promises nothing: full and stalled disks, replicas that are busy,
    /// links that are narrow.
    pub fn outage_us(&self) -> Option<u64> {
        let beyond = self.has(Fault::Full)
            || self.has(Fault::Stall)
            || self.turn_us != (0, 0)
            || self.link_bytes_per_s.is_some();
        if self.victims.is_empty() || beyond {
            return None;
        }
        // A leader that is heard and hears nobody keeps the others quiet until it steps down.
        let deaf_us = if self.has(Fault::Partition) {
            self.election_us
        } else {
            0
        };
        Some(
            2 * self.election_us + deaf_us + 6 * self.disk_us.1 + 200 * MS + 10 * self.latency_us.1,
        )
    }

    /// Whether this class strikes in this run.
    pub fn has(&self, fault: Fault) -> bool {
        self.faults.contains(&fault)
    }
}
