//! What a replica's disk does, and when: commit groups, files, snapshots, errors.

use paxos::{Slot, WalRecord};
use replica::engine::{Effect, Input};
use replica::filestore::{CheckStep, FileError, ReadError};
use statemachine::FileOp;
use wal::storage::Disk as _;

use super::World;
use crate::sim::check::{Verdict, Violation, ensure};
use crate::sim::event::Event;
use crate::sim::plan::{Fault, MS};

impl World {
    pub(super) fn start_log(&mut self, replica: usize) {
        let target = &mut self.replicas[replica];
        let Some(process) = &mut target.process else {
            return;
        };
        if process.log_busy.is_some() || process.log_queue.is_empty() {
            return;
        }
        // Everything that waits, or at times only a part.
        let most = if self.dice.permille(100) {
            1
        } else {
            process.log_queue.len()
        };
        let group: Vec<_> = process.log_queue.drain(..most).collect();
        let promises = group
            .iter()
            .flat_map(|append| &append.records)
            .any(|record| matches!(record, WalRecord::Promise { .. }));
        process.log_busy = Some(group);
        let mut takes = self.dice.between(self.plan.disk_us.0, self.plan.disk_us.1);
        // A promise stands in both superblocks, one after the other; the log is flushed meanwhile.
        if promises {
            takes *= 2;
        }
        let at_us = (self.now_us + takes).max(target.stalled_until + takes);
        let life = target.life;
        self.agenda.add(at_us, Event::LogDone { replica, life });
    }

    pub(super) fn on_log_done(&mut self, replica: usize, life: u64) -> Verdict {
        if !self.is_alive(replica, life) {
            return Ok(());
        }
        let idle = self.dice.permille(400);
        let target = &mut self.replicas[replica];
        if target.stalled_until > self.now_us {
            let at_us = target.stalled_until;
            self.agenda.add(at_us, Event::LogDone { replica, life });
            return Ok(());
        }
        if target.fails_writing {
            self.marks.hit("power failed while writing");
            self.crash(replica, true);
            return Ok(());
        }
        let process = target.process.as_mut().expect("alive");
        let Some(group) = process.log_busy.take() else {
            return Ok(());
        };
        if let Err(error) = process.commit(group.clone()) {
            if matches!(error, wal::Error::NoSpace { .. }) {
                self.marks.hit("log waits for room");
                process.log_busy = Some(group);
                self.agenda
                    .add(self.now_us + 50 * MS, Event::LogDone { replica, life });
                return Ok(());
            }
            return self.on_disk_error(replica, &error.to_string());
        }
        if idle && process.log_queue.is_empty() {
            let _ = process.writer.idle_marker();
        }
        let seq = group.last().map_or(paxos::WalSeq(0), |append| append.seq);
        for record in group.iter().flat_map(|append| &append.records) {
            self.votes.on_durable(replica, record)?;
        }
        self.deliver(replica, Input::Durable { seq });
        self.start_log(replica);
        Ok(())
    }

    /// Has the superblock keep what is to be remembered of the peers. Gives false if the process ended by it.
    pub(super) fn remember(
        &mut self,
        replica: usize,
        remember: paxos::Remember,
    ) -> Result<bool, Violation> {
        let takes = self.dice.between(self.plan.disk_us.0, self.plan.disk_us.1);
        let target = &mut self.replicas[replica];
        let life = target.life;
        let process = target.process.as_mut().expect("it has just run");
        if let Err(error) = process.writer.note_peers(remember.memories.encode()) {
            self.on_disk_error(replica, &error.to_string())?;
            return Ok(false);
        }
        let input = Input::Remembered {
            number: remember.number,
        };
        self.agenda.add(
            self.now_us + 2 * takes,
            Event::Deliver {
                replica,
                life,
                input,
            },
        );
        Ok(true)
    }

    /// What the server's log thread does in idle moments, and the watch over the disk's space.
    pub(super) fn on_housekeep(&mut self, replica: usize, life: u64) -> Verdict {
        if !self.is_alive(replica, life) {
            return Ok(());
        }
        self.agenda
            .add(self.now_us + 100 * MS, Event::Housekeep { replica, life });
        let hint = self.dice.permille(100);
        self.measure_space(replica);
        let process = self.replicas[replica].process.as_mut().expect("alive");
        if process.log_busy.is_some() {
            return Ok(());
        }
        let mut kept = process.writer.prepare_ahead();
        if hint && kept.is_ok() {
            kept = process.writer.durable_hint();
        }
        let low = process.writer.low_space();
        let changed = std::mem::replace(&mut process.low, low) != low;
        if let Err(error) = kept
            && !matches!(error, wal::Error::NoSpace { .. })
        {
            return self.on_disk_error(replica, &error.to_string());
        }
        if changed {
            self.marks.hit(if low {
                "log disk low"
            } else {
                "log disk has room again"
            });
            self.deliver(replica, Input::DiskLow(low));
        }
        Ok(())
    }

    /// Tells the engine what the disk has free beyond the file operations that wait for it. A disk without a limit
    /// does not tell.
    fn measure_space(&mut self, replica: usize) {
        let target = &mut self.replicas[replica];
        let process = target.process.as_mut().expect("alive");
        let waiting: u64 = process
            .effects
            .iter()
            .map(|effect| match effect {
                Effect::File(FileOp::Write { data, .. }) => data.len() as u64,
                _ => 0,
            })
            .sum();
        let free = target.disk.free_bytes().expect("memory tells");
        let free = free.map(|free| free.saturating_sub(waiting));
        let limited = std::mem::replace(&mut process.limited, free.is_some());
        if limited || free.is_some() {
            self.marks.hit("space measured");
            self.deliver(replica, Input::DiskFree(free));
        }
        let process = self.replicas[replica].process.as_mut().expect("alive");
        if process.engine.is_low_on_space() && process.log_busy.is_none() {
            let next = process.engine.next_snapshots(self.plan.log_cap_bytes);
            let log = process.writer.reclaimable_bytes(&next);
            let bytes = log + process.files.reclaimable_bytes();
            self.deliver(replica, Input::Reclaimable(bytes));
        }
    }

    /// A write or sync failed: the process ends with exit code 6 and is started again.
    pub(super) fn on_disk_error(&mut self, replica: usize, error: &str) -> Verdict {
        ensure(
            self.plan.has(Fault::SyncError) || self.plan.has(Fault::Full),
            "disk",
            || format!("replica {replica}: the disk failed without an order to: {error}"),
        )?;
        self.trace
            .line(self.now_us, format_args!("r{replica} disk error: {error}"));
        self.marks.hit("process ended by a disk error");
        self.crash(replica, false);
        Ok(())
    }

    /// Carries out effects in order, as far as there is room.
    pub(super) fn carry_out(&mut self, replica: usize) -> Verdict {
        loop {
            let Some(process) = &mut self.replicas[replica].process else {
                return Ok(());
            };
            let Some(effect) = process.effects.pop_front() else {
                break;
            };
            match effect {
                Effect::Reply { conn, response } => self.reply(replica, conn, response),
                Effect::File(op) => match process.files.apply(&op) {
                    Ok(()) => {
                        process.busy_until =
                            process.busy_until.max(self.now_us) + self.plan.file_us;
                    }
                    Err(FileError::Full { .. }) => {
                        process.effects.push_front(Effect::File(op));
                        return self.block(replica);
                    }
                    Err(error) => return self.on_disk_error(replica, &error.to_string()),
                },
                Effect::ReadFile(read) => match process.files.read(&read) {
                    Ok(data) => self.reply(replica, read.origin.conn, read.answer(data)),
                    Err(ReadError::Unchecked) => {
                        self.marks.hit("read waits for a check");
                        process.effects.push_front(Effect::ReadFile(read));
                        return self.block(replica);
                    }
                    Err(error) => {
                        return ensure(false, "S6", || {
                            format!("replica {replica}: {error:?} on {read:?}")
                        });
                    }
                },
            }
        }
        let Some(process) = &mut self.replicas[replica].process else {
            return Ok(());
        };
        if process.blocked {
            process.blocked = false;
            self.deliver(replica, Input::FilesBlocked(false));
        }
        Ok(())
    }

    pub(super) fn block(&mut self, replica: usize) -> Verdict {
        let life = self.replicas[replica].life;
        self.agenda
            .add(self.now_us + 20 * MS, Event::RetryEffects { replica, life });
        let Some(process) = &mut self.replicas[replica].process else {
            return Ok(());
        };
        if !process.blocked {
            process.blocked = true;
            self.marks.hit("effects wait");
            self.deliver(replica, Input::FilesBlocked(true));
        }
        Ok(())
    }

    pub(super) fn on_snapshot(&mut self, replica: usize, life: u64) -> Verdict {
        if !self.is_alive(replica, life) {
            return Ok(());
        }
        let disk = self.replicas[replica].disk.clone();
        let process = self.replicas[replica].process.as_mut().expect("alive");
        if !process.effects.is_empty() {
            // The files are behind the state that the snapshot was taken of.
            self.agenda
                .add(self.now_us + 20 * MS, Event::Snapshot { replica, life });
            return Ok(());
        }
        let Some(job) = process.snapshot.take() else {
            return Ok(());
        };
        match process.save_snapshot(&disk, &job) {
            Ok(saved) => {
                self.marks.hit("snapshot saved");
                self.deliver(replica, saved);
                Ok(())
            }
            Err(error) => {
                if self.plan.has(Fault::Full) && !self.plan.has(Fault::SyncError) {
                    self.marks.hit("snapshot failed");
                    self.deliver(replica, Input::SnapshotFailed);
                    return Ok(());
                }
                self.on_disk_error(replica, &error)
            }
        }
    }

    pub(super) fn release(&mut self, replica: usize, release: paxos::ReleaseLog) -> Verdict {
        let process = self.replicas[replica]
            .process
            .as_mut()
            .expect("it has just run");
        let removed = process.writer.remove_prefix(
            release.snapshot.0,
            release.needed.0,
            self.plan.log_cap_bytes,
        );
        match removed {
            Ok(removed) if removed.segments > 0 => {
                self.marks.hit("log cut");
                self.deliver(
                    replica,
                    Input::LogTrimmed {
                        first: Slot(removed.first_slot),
                    },
                );
                Ok(())
            }
            Ok(_) => Ok(()),
            Err(error) => self.on_disk_error(replica, &error.to_string()),
        }
    }

    pub(super) fn on_check_files(&mut self, replica: usize, life: u64) -> Verdict {
        if !self.is_alive(replica, life) {
            return Ok(());
        }
        let process = self.replicas[replica].process.as_mut().expect("alive");
        match process.files.check_slice(10_000) {
            CheckStep::Idle => return Ok(()),
            CheckStep::Damaged(why) => {
                return ensure(false, "S6", || format!("replica {replica}: {why}"));
            }
            CheckStep::Working | CheckStep::Checked(_) => {}
        }
        self.agenda
            .add(self.now_us + 10 * MS, Event::CheckFiles { replica, life });
        Ok(())
    }
}
