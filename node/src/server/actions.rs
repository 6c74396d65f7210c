//! What the reactor does with the engine's output: sends, log, effects, jobs, words.

use net::ResponseBody::{NotLeader, Unavailable, Unknown};
use paxos::{Role, RoleChange};

use crate::failure::{Exit, Failure};
use crate::server::reactor::Reactor;
use crate::server::snapshots::Done;
use crate::server::wal_bridge::{COMMIT_POLICY, CommitPolicy};
use crate::server::{loads, notes, rebuilds};
use replica::engine::{Effect, Input, Now};
use replica::records;

impl Reactor {
    pub(super) fn act(&mut self, now: Now) -> Result<(), Failure> {
        for envelope in self.out.sends.drain(..) {
            self.peers.send(&envelope);
        }
        self.peers.flush();
        self.commits
            .on_appends(&self.out.wal, now.mono, self.pace.role);
        // Who writes the log itself does so last: no answer waits for that.
        let inline = COMMIT_POLICY == CommitPolicy::InlineWhenIdle
            && self.wal.is_idle()
            && self.inbox.is_empty();
        if !inline {
            self.wal.submit(&mut self.out.wal, false)?;
        }
        self.run_effects(now)?;
        self.wal.submit(&mut self.out.wal, true)?;
        self.remember()?;
        self.start_jobs()?;
        self.tell();
        if self.pace.role != Role::Leader {
            self.effects.let_go_of_answers(&self.clients);
        }
        match self.out.fatal.take() {
            Some(why) => {
                // Why it stops must be known to its next start.
                self.wal.finish_remembering();
                Err(Failure::new(Exit::Damaged, why))
            }
            None => Ok(()),
        }
    }

    /// Has the superblock keep what is to be remembered of the peers.
    fn remember(&mut self) -> Result<(), Failure> {
        if let Some(memories) = self.out.remember_later.take() {
            self.wal.remember_later(&memories)?;
        }
        if let Some(remember) = self.out.remember.take() {
            self.wal.remember(remember, self.inbox.clone());
        }
        Ok(())
    }

    fn run_effects(&mut self, now: Now) -> Result<(), Failure> {
        for effect in &mut self.out.effects {
            if let Effect::Reply { response, .. } = effect {
                if matches!(
                    response.body,
                    NotLeader { .. } | Unavailable { .. } | Unknown { .. }
                ) {
                    self.metrics.proposals_failed.inc();
                }
                self.standing.name_leader(&mut response.body, &self.peers);
            }
        }
        self.effects.run(&mut self.out.effects, &self.clients)?;
        self.clients.flush();
        self.commits
            .on_applied(self.engine.applied(), self.now().mono, &self.metrics);
        self.tell_blocked(now);
        Ok(())
    }

    /// Tells the engine when file operations begin or cease to wait for space.
    pub(super) fn tell_blocked(&mut self, now: Now) {
        let blocked = self.effects.is_blocked();
        if blocked != self.pace.blocked {
            self.pace.blocked = blocked;
            self.engine
                .handle(now, Input::FilesBlocked(blocked), &mut self.out);
        }
    }

    fn start_jobs(&mut self) -> Result<(), Failure> {
        for wanted in self.out.load_log.drain(..) {
            loads::start(wanted, self.wal.log().reader(), self.inbox.clone());
        }
        if let Some(job) = self.out.snapshot.take() {
            self.effects.hold_snapshot(job);
        }
        if let Some(file) = self.effects.take_rebuild() {
            let (applied, reader) = (self.engine.applied(), self.wal.log().reader());
            rebuilds::start(file, applied, reader, self.inbox.clone());
        }
        // A damaged file is rebuilt from the log, now or at the next start: it is not cut then, until it reaches its cap.
        let hold = self.effects.has_damage() && self.wal.log_bytes() < self.keep_log_bytes;
        if !hold && let Some((job, files)) = self.effects.take_snapshot() {
            self.snapshots.start(job, files, self.wal.log());
        }
        if let Some(release) = self.out.release_log.take() {
            self.wal
                .release(release, self.keep_log_bytes, self.inbox.clone());
        }
        Ok(())
    }

    pub(super) fn on_snapshot(&mut self, now: Now, done: Done) -> Result<(), Failure> {
        let Done {
            job,
            result,
            unsynced,
        } = done;
        if let Some(set) = unsynced {
            self.effects.on_sync_failed(set);
        }
        match result {
            Ok(saved) => {
                let meta = records::snapshot_meta(&saved);
                let needless = self.effects.on_snapshot_saved(&job);
                tokio::task::spawn_blocking(move || needless.unlink());
                self.engine.handle(
                    now,
                    Input::SnapshotSaved {
                        slot: job.slot,
                        meta,
                    },
                    &mut self.out,
                );
                tracing::info!(slot = job.slot.0, bytes = saved.length, "snapshot taken");
            }
            Err(why) => {
                tracing::error!(
                    slot = job.slot.0,
                    why,
                    "no snapshot was taken; another is tried later"
                );
                self.engine
                    .handle(now, Input::SnapshotFailed, &mut self.out);
            }
        }
        Ok(())
    }

    /// Passes on what happened to the log of the operator and to the figures.
    fn tell(&mut self) {
        for event in self.out.events.drain(..) {
            self.metrics.locks.observe(&event);
        }
        for note in self.out.notes.drain(..) {
            notes::write(&note);
            self.standing.on_note(&note);
        }
        if let Some(change) = self.out.role.take() {
            self.on_role(change);
        }
    }

    fn on_role(&mut self, change: RoleChange) {
        let leader = change.leader;
        let leader_id = leader.map(|id| id.0);
        match (change.role, leader_id) {
            (Role::Leader, _) => {
                tracing::info!(ballot = %change.ballot, "leader: this replica leads the cluster");
            }
            (Role::Follower, Some(leader)) => {
                tracing::info!(leader, ballot = %change.ballot, "follower: this replica follows the leader");
            }
            (Role::Follower, None) => {
                tracing::info!(ballot = %change.ballot, "follower: no leader is known");
            }
            (Role::Prober, _) => {
                tracing::info!(ballot = %change.ballot, "no leader is heard: asking the others for an election");
            }
            (Role::Candidate, _) => {
                tracing::info!(ballot = %change.ballot, "candidate: asking the others for their votes");
            }
        }
        if leader.is_some() && leader != self.pace.leader {
            self.metrics.leader_changes.inc();
        }
        self.pace.leader = leader.or(self.pace.leader);
        self.pace.role = change.role;
    }
}
