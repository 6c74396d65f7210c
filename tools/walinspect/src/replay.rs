//! The state as of a slot: a snapshot, and the chosen entries after it, by the very functions of a replica.

use paxos::ClusterClock;
use replica::causes::with_causes;
use replica::engine::{SnapshotJob, apply_entry};
use statemachine::{Effects, Machine};
use wal::SnapshotRef;
use wal::storage::Disk;

use crate::failure::Failure;
use crate::ledger::{Known, Ledger};
use crate::source::Source;

/// A machine on its way through the log.
#[derive(Debug)]
pub(crate) struct Replay<'a> {
    ledger: &'a Ledger<'a>,
    pub(crate) machine: Machine,
    clock: ClusterClock,
    /// The slot of the snapshot that it began with; 0 for the empty state.
    pub(crate) base: u64,
    /// The leader's wall clock at the last entry, in milliseconds since 1970; 0 unknown.
    pub(crate) wall_ms: u64,
}

/// One entry that was applied.
#[derive(Debug)]
pub(crate) struct Step<'s> {
    pub(crate) slot: u64,
    /// Cluster time after it.
    pub(crate) time_ms: u64,
    /// The leader's wall clock.
    pub(crate) wall_ms: u64,
    pub(crate) effects: &'s Effects,
    /// The state after it.
    pub(crate) machine: &'s Machine,
}

/// Why a replay ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stop {
    /// At the slot asked for.
    Reached,
    /// This folder does not know that the slot is chosen.
    NotKnownChosen(u64),
    /// The slot is not here, though a later one is.
    Missing(u64),
    /// The slot is damaged.
    Lost(u64),
    /// There is nothing after the last slot.
    End,
}

impl Stop {
    /// A sentence for people; nothing if all that was asked for is there.
    pub(crate) fn told(self) -> Option<String> {
        Some(match self {
            Stop::Reached | Stop::End => return None,
            Stop::NotKnownChosen(slot) => format!(
                "stops before slot {slot}: it was accepted here, but this folder does not know that it is chosen"
            ),
            Stop::Missing(slot) => format!("stops before slot {slot}, which is not in this folder"),
            Stop::Lost(slot) => format!("stops before slot {slot}, which is damaged"),
        })
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Stop::Reached => "reached",
            Stop::NotKnownChosen(_) => "not_known_chosen",
            Stop::Missing(_) => "missing",
            Stop::Lost(_) => "lost",
            Stop::End => "end",
        }
    }
}

impl<'a> Replay<'a> {
    /// Begins as late as possible: with the newest sound snapshot at or before `slot`.
    pub(crate) fn latest(
        source: &Source,
        ledger: &'a Ledger<'a>,
        slot: u64,
    ) -> Result<Replay<'a>, Failure> {
        let mut bases: Vec<SnapshotRef> = source.view().snapshots.clone();
        bases.retain(|snapshot| snapshot.slot <= slot);
        Replay::begin(source, ledger, &bases, false)
    }

    /// Begins as early as this folder reaches back.
    pub(crate) fn earliest(source: &Source, ledger: &'a Ledger<'a>) -> Result<Replay<'a>, Failure> {
        let mut bases: Vec<SnapshotRef> = source.view().snapshots.clone();
        bases.reverse();
        Replay::begin(source, ledger, &bases, true)
    }

    fn begin(
        source: &Source,
        ledger: &'a Ledger<'a>,
        bases: &[SnapshotRef],
        empty_first: bool,
    ) -> Result<Replay<'a>, Failure> {
        let from_birth =
            ledger.span().is_none_or(|(first, _)| first <= 1) && source.view().first_slot <= 1;
        let empty = || Replay {
            ledger,
            machine: Machine::new(),
            clock: ClusterClock::default(),
            base: 0,
            wall_ms: 0,
        };
        if empty_first && from_birth {
            return Ok(empty());
        }
        let mut faults = Vec::new();
        for base in bases {
            match load(&*source.disk, base) {
                Ok((machine, clock)) => {
                    return Ok(Replay {
                        machine,
                        clock,
                        base: base.slot,
                        ..empty()
                    });
                }
                Err(fault) => faults.push(fault),
            }
        }
        if from_birth {
            return Ok(empty());
        }
        let why = match (faults.is_empty(), ledger.span()) {
            (false, _) => faults.join("; "),
            (true, Some((first, _))) => format!("the log here begins at slot {first}"),
            (true, None) => "there is no log here".to_owned(),
        };
        Err(Failure::Usage(format!(
            "no state to begin with at or before that slot: {why}"
        )))
    }

    /// Applies what is chosen, up to and including `to`.
    pub(crate) fn run(
        &mut self,
        to: u64,
        mut each: impl FnMut(&Step<'_>) -> Result<(), Failure>,
    ) -> Result<Stop, Failure> {
        let last = self.ledger.span().map_or(0, |(_, last)| last);
        for slot in self.base + 1..=to {
            match self.ledger.known(slot) {
                Known::Chosen => {}
                Known::Accepted => return Ok(Stop::NotKnownChosen(slot)),
                Known::Lost => return Ok(Stop::Lost(slot)),
                Known::Missing if slot > last => return Ok(Stop::End),
                Known::Missing => return Ok(Stop::Missing(slot)),
            }
            let Some(entry) = self.ledger.entry(slot)? else {
                return Ok(Stop::Lost(slot));
            };
            let slot_of_entry = paxos::Slot(slot);
            let moved = self.clock.observe(slot_of_entry, &entry);
            self.wall_ms = entry.wall_ms();
            let effects = apply_entry(&mut self.machine, slot_of_entry, &entry, moved);
            each(&Step {
                slot,
                time_ms: self.clock.time_ms,
                wall_ms: self.wall_ms,
                effects: &effects,
                machine: &self.machine,
            })?;
        }
        Ok(Stop::Reached)
    }
}

/// Reads the state in a snapshot.
pub(crate) fn load(
    disk: &dyn Disk,
    snapshot: &SnapshotRef,
) -> Result<(Machine, ClusterClock), String> {
    let fault = |what: &(dyn std::error::Error + 'static)| {
        format!("snapshot of slot {}: {}", snapshot.slot, with_causes(what))
    };
    let (_, payload) = wal::snapshot::load(disk, snapshot).map_err(|error| fault(&error))?;
    let slot = paxos::Slot(snapshot.slot);
    let SnapshotJob { machine, clock, .. } =
        SnapshotJob::decode(slot, &payload).map_err(|error| fault(&error))?;
    if machine.applied().0 != snapshot.slot {
        return Err(format!(
            "snapshot of slot {}: its state is that of slot {}",
            snapshot.slot,
            machine.applied()
        ));
    }
    Ok((machine, clock))
}
