//! A replica, put together: the engine, its effects on the users' files, its snapshots.

use paxos::{MonoTime, Role, Slot};

use crate::effects::Effects;
use crate::engine::{self, Engine, Now};
use crate::filestore::FileStore;
use crate::io::{Done, Input, Job, Note, Output, Release, SnapshotDone, SnapshotNote, Space, Stop};
use crate::records;

/// Between two slices of the check of the users' files, in microseconds.
const CHECK_PAUSE_US: u64 = 1_000;

/// A replica. Whoever runs it gives it inputs and does what it wants, in the order of [`Output`]'s fields.
#[derive(Debug)]
pub struct Replica {
    engine: Engine,
    effects: Effects,
    /// What the engine said last; empty between batches.
    said: engine::Output,
    /// Whether the engine was told that files wait for space.
    blocked: bool,
    /// Whether the log's disk was nearly full when it was looked at last.
    low: bool,
    /// Bytes of log kept for peers at most.
    keep_log_bytes: u64,
    /// Bytes of log, as told last.
    log_bytes: u64,
    /// When the next slice of the users' files is verified, while there is one.
    check_at: MonoTime,
}

impl Replica {
    /// A replica as its start left it.
    pub fn new(engine: Engine, files: FileStore, keep_log_bytes: u64) -> Replica {
        Replica {
            engine,
            effects: Effects::new(files),
            said: engine::Output::default(),
            blocked: false,
            low: false,
            keep_log_bytes,
            log_bytes: 0,
            check_at: MonoTime(0),
        }
    }

    /// Takes one input. Many may be taken before [`Replica::finish`].
    pub fn handle(&mut self, now: Now, input: Input, out: &mut Output) {
        match input {
            Input::Engine(input) => {
                if matches!(input, engine::Input::Tick) {
                    self.check_files(now.mono, out);
                }
                self.engine.handle(now, input, &mut self.said);
            }
            Input::Done(Done::File(done)) => self.effects.on_file_done(*done, out),
            Input::Done(Done::Read(done)) => self.effects.on_part_read(done, out),
            Input::Done(Done::Rebuilt(done)) => self.effects.on_rebuilt(*done, out),
            Input::Done(Done::Snapshot(done)) => self.on_snapshot(now, *done, out),
            Input::Space(space) => self.on_space(now, space, out),
            Input::Reclaimable(bytes) => {
                let bytes = bytes + self.effects.reclaimable_bytes();
                let input = engine::Input::Reclaimable(bytes);
                self.engine.handle(now, input, &mut self.said);
            }
            Input::ReadersSlow(slow) => self.effects.note_readers(slow),
        }
    }

    /// Ends a batch.
    pub fn finish(&mut self, now: Now, out: &mut Output) {
        loop {
            self.engine.finish(now, &mut self.said);
            self.pass_on(out);
            let blocked = self.effects.is_blocked();
            if std::mem::replace(&mut self.blocked, blocked) != blocked {
                let input = engine::Input::FilesBlocked(blocked);
                self.engine.handle(now, input, &mut self.said);
            }
            if self.said.is_empty() {
                break;
            }
        }
        if self.engine.core().role() != Role::Leader {
            self.effects.let_go_of_answers(out);
        }
        self.start_jobs(out);
    }

    fn pass_on(&mut self, out: &mut Output) {
        let said = &mut self.said;
        out.sends.append(&mut said.sends);
        out.wal.append(&mut said.wal);
        // The newer one holds all that the older one did.
        out.remember_later = said.remember_later.take().or(out.remember_later.take());
        out.remember = said.remember.take().or(out.remember.take());
        out.jobs.extend(said.load_log.drain(..).map(Job::Load));
        out.events.append(&mut said.events);
        out.notes.extend(said.notes.drain(..).map(Note::Engine));
        out.role = said.role.take().or(out.role.take());
        if let Some(why) = said.fatal.take() {
            out.stop.get_or_insert(Stop::Damaged(why));
        }
        if let Some(release) = said.release_log.take() {
            out.release = Some(Release {
                snapshot: release.snapshot.0,
                needed: release.needed.0,
                keep_bytes: self.keep_log_bytes,
            });
        }
        if let Some(job) = said.snapshot.take() {
            self.effects.hold_snapshot(job);
        }
        self.effects.run(&mut said.effects, out);
    }

    fn start_jobs(&mut self, out: &mut Output) {
        if let Some(file) = self.effects.take_rebuild(out) {
            let applied = self.engine.applied();
            out.jobs.push(Job::Rebuild { file, applied });
        }
        // A damaged file is rebuilt from the log, now or at the next start: it is not cut then, until it reaches its cap.
        let hold = self.effects.has_damage() && self.log_bytes < self.keep_log_bytes;
        if !hold && let Some((job, files)) = self.effects.take_snapshot() {
            let slot = job.slot.0;
            out.notes.push(Note::Snapshot(SnapshotNote::Begun { slot }));
            let job = Box::new(job);
            out.jobs.push(Job::Snapshot { job, files });
        }
    }

    fn on_snapshot(&mut self, now: Now, done: SnapshotDone, out: &mut Output) {
        let SnapshotDone {
            job,
            result,
            unsynced,
        } = done;
        if let Some(set) = unsynced {
            self.effects.on_sync_failed(set);
        }
        let slot = job.slot.0;
        let (input, note) = match result {
            Ok(saved) => {
                out.jobs
                    .push(Job::Unlink(self.effects.on_snapshot_saved(&job)));
                let (slot, meta) = (job.slot, records::snapshot_meta(&saved));
                let bytes = saved.length;
                (
                    engine::Input::SnapshotSaved { slot, meta },
                    SnapshotNote::Taken {
                        slot: slot.0,
                        bytes,
                    },
                )
            }
            Err(why) => (
                engine::Input::SnapshotFailed,
                SnapshotNote::Failed { slot, why },
            ),
        };
        out.notes.push(Note::Snapshot(note));
        self.engine.handle(now, input, &mut self.said);
    }

    fn on_space(&mut self, now: Now, space: Space, out: &mut Output) {
        self.log_bytes = space.log_bytes;
        if std::mem::replace(&mut self.low, space.low) != space.low {
            out.notes.push(Note::LowSpace(space.low));
            let input = engine::Input::DiskLow(space.low);
            self.engine.handle(now, input, &mut self.said);
        }
        let waiting = self.effects.waiting_bytes();
        let free = space.free.map(|free| free.saturating_sub(waiting));
        self.engine
            .handle(now, engine::Input::DiskFree(free), &mut self.said);
        if self.engine.is_low_on_space() {
            out.reclaimable = Some(self.engine.next_snapshots(self.keep_log_bytes));
        }
        if self.effects.is_blocked() {
            self.effects.retry(out);
        }
    }

    fn check_files(&mut self, now: MonoTime, out: &mut Output) {
        if !self.effects.are_checked() && now >= self.check_at {
            self.check_at = now.after(CHECK_PAUSE_US);
            self.effects.check_more(out);
        }
    }

    /// When a tick ([`engine::Input::Tick`]) is due at the latest; to be asked anew after each batch.
    pub fn next_wake(&self) -> MonoTime {
        let wake = self.engine.next_wake();
        if self.effects.are_checked() {
            wake
        } else {
            wake.min(self.check_at)
        }
    }

    /// Whether nothing is in flight after [`engine::Input::ShuttingDown`], or too long for anybody to wait.
    pub fn is_drained(&self, now: MonoTime) -> bool {
        self.engine.is_drained(now) && self.effects.waiting() == 0
    }

    /// Agreement and the state machine, to look at.
    pub fn engine(&self) -> &Engine {
        &self.engine
    }

    /// The last slot applied to the state; its effects on files may wait ([`Replica::effects_waiting`]).
    pub fn applied(&self) -> Slot {
        self.engine.applied()
    }

    /// Effects that wait for space on the disk, or for a file to be made or moved.
    pub fn effects_waiting(&self) -> usize {
        self.effects.waiting()
    }

    /// Whether all users' files have passed their check since the start.
    pub fn files_checked(&self) -> bool {
        self.effects.are_checked()
    }

    /// Number of users' files that are known to be damaged.
    pub fn files_damaged(&self) -> u32 {
        self.effects.damaged()
    }
}
