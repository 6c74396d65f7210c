//! The faults, and the marks of what the runs went through.

use net::ResponseBody;
use paxos::{Admin, NodeId};
use replica::engine::{Input, Note};
use statemachine::{Event as MachineEvent, Fate, LostWhy, Outcome};
use wal::storage::{Fault as DiskFault, Operation, SyncFailure};

use super::event::Event;
use super::plan::{Fault, MS, SECOND};
use super::replica::Found;
use super::world::World;

/// A replica refuses new work with less than this free, beside what it keeps for its log and snapshots.
const NEARLY_FULL_BYTES: u64 = 4 << 20;

impl World {
    /// The next fault strikes, and the one after it is put on the agenda.
    pub(super) fn strike(&mut self) {
        if self.healed {
            return;
        }
        let (low, high) = self.plan.fault_every_us;
        let at_us = self.now_us + self.dice.between(low, high);
        self.agenda.add(at_us, Event::Nemesis);
        let fault = *self.dice.pick(&self.plan.faults);
        let replica = self.victim();
        self.trace
            .line(self.now_us, format_args!("fault {fault:?} at r{replica}"));
        match fault {
            Fault::Crash => self.kill(replica),
            Fault::CrashAll => self.kill_all(),
            Fault::Pause => self.pause(replica),
            Fault::Partition => self.partition(replica),
            Fault::Reset => self.reset(replica),
            Fault::ClientReset => {
                let client = self.dice.between(0, self.client_count() as u64 - 1) as usize;
                self.reset_client(client);
            }
            Fault::Stall => {
                let until = self.now_us + self.dice.between(20 * MS, 2 * SECOND);
                self.replicas[replica].stalled_until = until;
            }
            Fault::Full => self.fill(replica),
            Fault::SyncError => {
                let place = *self.dice.pick(&["wal/", "files/", "snapshots/"]);
                let after_sync = [
                    SyncFailure::KeptDirty,
                    SyncFailure::Reverted,
                    SyncFailure::SilentlyClean,
                ][self.now_us as usize % 3];
                self.replicas[replica].disk.inject(DiskFault {
                    after_sync,
                    ..DiskFault::once(place, Operation::Sync)
                });
            }
            Fault::ClientPause => {
                let client = self.dice.between(0, self.client_count() as u64 - 1) as usize;
                let for_us = self.dice.between(100 * MS, self.plan.term_ms.1 * MS * 2);
                // Commits go on only while somebody asks for something.
                if self.plan.victims.is_empty() || client > 0 {
                    self.pause_client(client, for_us);
                }
            }
            Fault::Transfer => self.transfer(replica),
        }
    }

    /// The leader more often than the others: there the faults hurt most.
    fn victim(&mut self) -> usize {
        if !self.plan.victims.is_empty() {
            return *self.dice.pick(&self.plan.victims);
        }
        let leader = (0..self.replicas.len()).find(|replica| self.leads(*replica));
        match leader {
            Some(leader) if self.dice.permille(400) => leader,
            _ => self.dice.between(0, self.replicas.len() as u64 - 1) as usize,
        }
    }

    fn kill(&mut self, replica: usize) {
        if self.replicas[replica].process.is_some() {
            if self.dice.permille(400) {
                self.replicas[replica].fails_writing = true;
                return;
            }
            let power_fails = self.dice.permille(600);
            self.marks.hit(if power_fails {
                "power failure"
            } else {
                "process killed"
            });
            self.crash(replica, power_fails);
        }
    }

    fn kill_all(&mut self) {
        if self.dice.permille(300) {
            self.marks.hit("all killed");
            for replica in 0..self.replicas.len() {
                if self.plan.may_strike(replica) {
                    self.kill(replica);
                }
            }
        }
    }

    fn pause(&mut self, replica: usize) {
        let for_us = self.dice.between(10 * MS, 4 * self.plan.election_us);
        let target = &mut self.replicas[replica];
        if target.process.is_some() && target.paused_until.is_none() {
            target.paused_until = Some(self.now_us + for_us);
            let life = target.life;
            self.marks.hit("process paused");
            self.agenda
                .add(self.now_us + for_us, Event::Resume { replica, life });
        }
    }

    fn partition(&mut self, replica: usize) {
        let others = (0..self.replicas.len()).filter(|other| *other != replica);
        let shape = self.dice.between(0, 3);
        let mut directions = Vec::new();
        for other in others {
            match shape {
                // Alone.
                0 => directions.extend([(replica, other), (other, replica)]),
                // Heard by nobody.
                1 => directions.push((replica, other)),
                // Hears nobody.
                2 => directions.push((other, replica)),
                // Cut off from some.
                _ if self.dice.permille(500) => {
                    directions.extend([(replica, other), (other, replica)])
                }
                _ => {}
            }
        }
        self.marks
            .hit(["isolated", "mute", "deaf", "partial cut"][shape as usize]);
        self.network.cut(directions);
        let for_us = self.dice.between(20 * MS, 6 * self.plan.election_us);
        self.agenda.add(self.now_us + for_us, Event::Mend);
    }

    fn reset(&mut self, replica: usize) {
        let peer = self.dice.between(0, self.replicas.len() as u64 - 1) as usize;
        if peer != replica && self.network.disconnect(replica, peer) {
            self.marks.hit("connection reset");
            let reset = self.dice.permille(500);
            self.tell_down(replica, peer, reset);
            self.tell_down(peer, replica, reset);
        }
    }

    fn fill(&mut self, replica: usize) {
        let mut room = self.dice.between(0, 2) * self.dice.between(0, 20_000);
        if self.dice.permille(300) {
            // Around the room from which on new work is refused and the rest goes on.
            room += NEARLY_FULL_BYTES + 2 * self.plan.segment_bytes;
            self.marks.hit("disk nearly full");
        } else {
            self.marks.hit("disk full");
        }
        self.replicas[replica].disk.limit_room(Some(room));
        let at_us = self.now_us + self.dice.between(50 * MS, SECOND);
        self.agenda.add(at_us, Event::Room { replica });
    }

    fn transfer(&mut self, replica: usize) {
        let to = NodeId(self.dice.between(1, u64::from(self.plan.replicas)) as u16);
        let input = match self.dice.between(0, 3) {
            0 => Input::Admin(Admin::TransferAny),
            1 => {
                if let Some(process) = &mut self.replicas[replica].process {
                    process.ending = true;
                }
                Input::ShuttingDown
            }
            _ => Input::Admin(Admin::Transfer { to }),
        };
        self.marks.hit("transfer ordered");
        self.deliver(replica, input);
    }

    pub(super) fn mark_start(&mut self, found: &Found) {
        self.marks.hit("started");
        if found.torn {
            self.marks.hit("torn tail");
        }
        if found.from_snapshot {
            self.marks.hit("started from a snapshot");
        }
        if !found.accepted.is_empty() {
            self.marks.hit("started with accepted entries");
        }
    }

    pub(super) fn mark_note(&mut self, note: &Note) {
        use paxos::Note as Core;
        self.marks.hit(match note {
            Note::Core(Core::ProbeStarted { .. }) => "probe",
            Note::Core(Core::ElectionStarted { .. }) => "election",
            Note::Core(Core::Elected { reproposed: 0, .. }) => "elected",
            Note::Core(Core::Elected { .. }) => "elected and proposed again",
            Note::Core(Core::SteppedDown { .. }) => "stepped down",
            Note::Core(Core::WatchdogFired { .. }) => "watchdog",
            Note::Core(Core::Paused { .. }) => "pause noticed",
            Note::Core(Core::TransferStarted { .. }) => "transfer started",
            Note::Core(Core::TransferSent { .. }) => "transfer sent",
            Note::Core(Core::TransferFailed { .. }) => "transfer failed",
            Note::Core(Core::PeerFellBehind { .. }) => "peer fell behind the log",
            Note::Core(Core::FellBehind { .. }) => "fell behind the log",
            Note::Core(Core::Refused { .. }) => "peer refused",
            Note::Core(Core::Resent { .. }) => "stream resent",
            Note::SettingsDiffer { .. } => "settings differ",
            Note::SettingsProposed => "settings proposed",
            Note::BacklogSpilled { .. } => "backlog spilled",
            #[allow(unreachable_patterns)] // The core may learn to note more.
            Note::Core(_) => "other note",
        });
    }

    pub(super) fn mark_event(&mut self, event: &MachineEvent) {
        self.marks.hit(match event {
            MachineEvent::Lost { why, .. } if *why == LostWhy::LeaseExpired => "lease expired",
            MachineEvent::SessionExpired { .. } => "session expired",
            MachineEvent::DedupHit { .. } => "dedup hit",
            MachineEvent::Queued { .. } => "queued",
            MachineEvent::Granted { .. } => "granted",
            MachineEvent::Refused { .. } => "refused",
            _ => "other event",
        });
    }

    /// What a client was told of how a grant ended.
    pub(super) fn mark_settled(&mut self, body: &ResponseBody) {
        let ResponseBody::Outcome { bytes, .. } = body else {
            return;
        };
        if let Ok(Outcome::Settled { fate }) = Outcome::decode(bytes) {
            self.marks.hit(match fate {
                Fate::Done { .. } => "settled as done",
                Fate::Never => "settled as never done",
                Fate::Unknown => "not settled, as nobody remembers",
            });
        }
    }

    pub(super) fn mark_answer(&mut self, body: &ResponseBody) {
        self.marks.hit(match body {
            ResponseBody::Outcome {
                stamp_ms: Some(_), ..
            } => "outcome with stamp",
            ResponseBody::Outcome { stamp_ms: None, .. } => "outcome without stamp",
            ResponseBody::Waiting { .. } => "told to wait",
            ResponseBody::Answer { .. } => "read answered",
            ResponseBody::NotLeader { .. } => "redirected",
            ResponseBody::Unavailable { .. } => "unavailable",
            ResponseBody::Unknown { .. } => "unknown",
            ResponseBody::Bad { .. } => "bad request",
            ResponseBody::Health { .. } => "health",
            _ => "other answer",
        });
    }
}
