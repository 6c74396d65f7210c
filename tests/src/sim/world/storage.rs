//! What a replica's disk does, and when: commit groups, files, snapshots, errors.

use paxos::{Slot, WalRecord};
use replica::engine::Input;
use replica::filestore::FileJob;
use replica::{Done, FileNote, Release, Space};
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
                input: input.into(),
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
        if let Err(error) = kept
            && !matches!(error, wal::Error::NoSpace { .. })
        {
            return self.on_disk_error(replica, &error.to_string());
        }
        Ok(())
    }

    /// Tells the replica how its disk stands. A disk without a limit does not tell what is free.
    fn measure_space(&mut self, replica: usize) {
        let target = &mut self.replicas[replica];
        let process = target.process.as_mut().expect("alive");
        let space = Space {
            low: process.writer.low_space(),
            free: target.disk.free_bytes().expect("memory tells"),
            log_bytes: process.writer.log_bytes(),
        };
        if space.free.is_some() {
            self.marks.hit("space measured");
        }
        self.deliver(replica, replica::Input::Space(space));
    }

    pub(super) fn tell_reclaimable(&mut self, replica: usize, next: &wal::NextSnapshots) {
        let Some(process) = &self.replicas[replica].process else {
            return;
        };
        let bytes = process.writer.reclaimable_bytes(next);
        self.deliver(replica, replica::Input::Reclaimable(bytes));
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

    /// The files' thread does what it was asked to.
    pub(super) fn on_file_job(&mut self, replica: usize, job: FileJob) {
        let done = Done::File(Box::new(job.run()));
        self.deliver(replica, replica::Input::Done(done));
    }

    pub(super) fn on_file_note(&mut self, replica: usize, note: &FileNote) -> Verdict {
        match note {
            FileNote::NoRoom { .. } => self.marks.hit("effects wait"),
            FileNote::RoomAgain => self.marks.hit("effects go on"),
            FileNote::Damaged { .. } | FileNote::Rebuilt { .. } | FileNote::NotRebuilt { .. } => {
                return ensure(false, "S6", || format!("replica {replica}: {note:?}"));
            }
        }
        Ok(())
    }

    pub(super) fn on_snapshot(&mut self, replica: usize, life: u64) -> Verdict {
        if !self.is_alive(replica, life) {
            return Ok(());
        }
        let disk = self.replicas[replica].disk.clone();
        let process = self.replicas[replica].process.as_mut().expect("alive");
        let Some((job, files)) = process.snapshot.take() else {
            return Ok(());
        };
        match process.save_snapshot(&disk, job, files) {
            Ok(done) => {
                let saved = done.result.is_ok();
                self.marks.hit(if saved {
                    "snapshot saved"
                } else {
                    "snapshot failed"
                });
                ensure(
                    saved || self.plan.has(Fault::Full) || self.plan.has(Fault::SyncError),
                    "disk",
                    || format!("replica {replica}: no snapshot: {:?}", done.result),
                )?;
                let done = Done::Snapshot(Box::new(done));
                self.deliver(replica, replica::Input::Done(done));
                Ok(())
            }
            Err(error) => self.on_disk_error(replica, &error),
        }
    }

    pub(super) fn release(&mut self, replica: usize, release: Release) -> Verdict {
        let process = self.replicas[replica]
            .process
            .as_mut()
            .expect("it has just run");
        let removed =
            process
                .writer
                .remove_prefix(release.snapshot, release.needed, release.keep_bytes);
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
}
