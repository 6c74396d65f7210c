//! Starts, ends and connections of replicas.

use paxos::{NodeId, Slot};
use replica::engine::Input;

use super::World;
use crate::sim::check::{Verdict, Violation, ensure};
use crate::sim::dice::Dice;
use crate::sim::event::Event;
use crate::sim::plan::{Fault, MS, SECOND};
use crate::sim::replica::Replica;

/// Connections that could stand are tried this often.
const MESH_EVERY_US: u64 = 30 * MS;

impl World {
    pub(super) fn on_start(&mut self, replica: usize) -> Verdict {
        if self.replicas[replica].process.is_some() || self.out_of_service.contains(&replica) {
            return Ok(());
        }
        let interrupted = !self.healed
            && self.plan.has(Fault::Crash)
            && self.dice.permille(100)
            && self.plan.may_strike(replica);
        if interrupted {
            let disk = &self.replicas[replica].disk;
            disk.halt_at(disk.calls() + self.dice.between(1, 40));
        }
        let found = match self.replicas[replica].start(self.now_us) {
            Ok(found) => found,
            Err(_) if interrupted && self.replicas[replica].disk.is_halted() => {
                self.marks.hit("died while starting");
                self.crash(replica, true);
                return Ok(());
            }
            Err(refusal) => return self.on_refusal(replica, &refusal),
        };
        if interrupted && self.replicas[replica].disk.is_halted() {
            self.crash(replica, true);
            return Ok(());
        }
        self.replicas[replica].disk.halt_at(u64::MAX);
        if self.was_refused(replica) {
            return self.on_copy_starts_again(replica, 0);
        }
        let life = self.replicas[replica].life;
        self.trace.mix(&[
            90,
            replica as u64,
            life,
            found.chosen.0,
            found.accepted.len() as u64,
        ]);
        self.trace.line(
            self.now_us,
            format_args!(
                "r{replica} starts: applied {}, {} above",
                found.chosen,
                found.accepted.len()
            ),
        );
        self.mark_start(&found);
        self.on_old_copy_started(replica, &found);
        self.votes
            .on_restart(replica, life, found.promised, found.chosen, &found.accepted)?;
        self.check_restored(replica, found.chosen)?;
        self.agenda
            .add(self.now_us + MS, Event::Housekeep { replica, life });
        self.run_soon(replica);
        Ok(())
    }

    pub(super) fn on_refusal(
        &mut self,
        replica: usize,
        refusal: &replica::boot::Refusal,
    ) -> Verdict {
        if self.was_refused(replica) {
            return self.on_copy_starts_again(replica, refusal.exit);
        }
        let excused = (self.plan.has(Fault::Full) || self.plan.has(Fault::SyncError))
            && refusal.exit == 6
            && !self.healed;
        ensure(excused, "boot", || {
            format!("replica {replica} does not start: {refusal}")
        })?;
        self.crash(replica, false);
        Ok(())
    }

    /// S1 and S6 right after a replay.
    pub(super) fn check_restored(&mut self, replica: usize, applied: Slot) -> Verdict {
        // Chosen and applied nowhere yet, as when all that knew of it wait for room.
        while self.history.last() < applied {
            let slot = self.history.last().next();
            let entry = self.votes.chosen(slot).cloned().ok_or_else(|| Violation {
                check: "R4",
                detail: format!("replica {replica} replayed slot {slot}, which is not chosen"),
            })?;
            self.history.on_applied(&self.votes, slot, &entry)?;
        }
        let process = self.replicas[replica]
            .process
            .as_ref()
            .expect("it has just started");
        self.history
            .check_state(replica, applied, process.replica.engine().machine())?;
        self.check_files(replica)
    }

    /// S6: the bytes on the disk, read past the file store.
    pub(super) fn check_files(&self, replica: usize) -> Verdict {
        use wal::storage::Disk as _;
        let target = &self.replicas[replica];
        let process = target.process.as_ref().expect("it runs");
        self.history
            .check_files(replica, process.replica.applied(), |name, length| {
                let file = target
                    .disk
                    .open_read(&format!("files/{name}"))
                    .map_err(|error| format!("replica {replica}: file {name}: {error}"))?;
                let mut bytes = vec![0; length as usize];
                let read = file
                    .read_at(&mut bytes, 0)
                    .map_err(|error| error.to_string())?;
                bytes.truncate(read);
                Ok((bytes, file.len().map_err(|error| error.to_string())?))
            })
    }

    /// A process ends and is started again later; its peers and clients learn of it, or do not.
    pub(in crate::sim) fn crash(&mut self, replica: usize, power_fails: bool) {
        self.trace.mix(&[91, replica as u64]);
        self.trace.line(
            self.now_us,
            format_args!("r{replica} dies, power fails: {power_fails}"),
        );
        let mut dice = Dice::new(self.dice.word(), 7);
        self.replicas[replica].crash(&mut dice, power_fails);
        for peer in 0..self.replicas.len() {
            if peer != replica && self.network.disconnect(replica, peer) {
                self.tell_down(peer, replica, true);
            }
        }
        let conns: Vec<(usize, usize)> = self
            .conns
            .keys()
            .filter(|(_, at)| *at == replica)
            .copied()
            .collect();
        for key in conns {
            self.conns.remove(&key);
        }
        let longest = if self.healed { 100 * MS } else { 1_500 * MS };
        let at_us = self.now_us + self.dice.between(5 * MS, longest);
        self.agenda.add(at_us, Event::Start { replica });
    }

    /// One end of a broken connection learns of it.
    pub(in crate::sim) fn tell_down(&mut self, at: usize, peer: usize, reset: bool) {
        let Some(process) = &mut self.replicas[at].process else {
            return;
        };
        let Some(link) = process.links.remove(&peer) else {
            return;
        };
        let life = self.replicas[at].life;
        let lost = !self.network.passes(peer, at);
        let wait = if lost {
            self.dice.between(50 * MS, SECOND)
        } else {
            self.network.latency()
        };
        let input = Input::PeerDown {
            peer: NodeId(peer as u16 + 1),
            link,
            reset: reset && !lost,
        };
        self.agenda.add(
            self.now_us + wait,
            Event::Deliver {
                replica: at,
                life,
                input: input.into(),
            },
        );
    }

    pub(super) fn mesh(&mut self) {
        self.agenda.add(self.now_us + MESH_EVERY_US, Event::Mesh);
        for low in 0..self.replicas.len() {
            for high in low + 1..self.replicas.len() {
                self.connect(low, high);
            }
        }
    }

    pub(super) fn connect(&mut self, low: usize, high: usize) {
        let ready = |replica: &Replica| replica.process.is_some() && replica.paused_until.is_none();
        if !ready(&self.replicas[low]) || !ready(&self.replicas[high]) {
            return;
        }
        let Some((link, at_low, at_high)) = self.network.connect(self.now_us, low, high) else {
            return;
        };
        for (at, peer, at_us) in [(low, high, at_low), (high, low, at_high)] {
            let process = self.replicas[peer].process.as_ref().expect("both run");
            let hello = process.replica.engine().core().hello();
            let peer_id = NodeId(peer as u16 + 1);
            let life = self.replicas[at].life;
            self.replicas[at]
                .process
                .as_mut()
                .expect("both run")
                .links
                .insert(peer, link);
            let input = Input::PeerUp {
                peer: peer_id,
                link,
                hello,
            };
            self.agenda.add(
                at_us,
                Event::Deliver {
                    replica: at,
                    life,
                    input: input.into(),
                },
            );
        }
    }

    /// A process that was asked to end does so once it is drained.
    pub(super) fn end_process(&mut self, replica: usize) -> Verdict {
        let now = self.replicas[replica].now(self.now_us);
        let Some(process) = &self.replicas[replica].process else {
            return Ok(());
        };
        if !process.ending || !process.replica.is_drained(now.mono) {
            return Ok(());
        }
        self.marks.hit("ended in order");
        if process.log_busy.is_none()
            && process.log_queue.is_empty()
            && let Some(process) = self.replicas[replica].process.take()
        {
            let _ = process.writer.close();
        }
        self.crash(replica, false);
        Ok(())
    }
}
