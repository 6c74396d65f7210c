//! What the reactor does with a replica's output: sends, log, answers, jobs, words.

use net::ResponseBody::{NotLeader, Unavailable, Unknown};
use paxos::{Role, RoleChange};
use replica::engine::Now;
use replica::{Done, Job, Stop};

use crate::failure::{Exit, Failure};
use crate::server::files::Work;
use crate::server::inbox::Event;
use crate::server::reactor::Reactor;
use crate::server::wal_bridge::{COMMIT_POLICY, CommitPolicy};
use crate::server::{loads, notes, rebuilds};

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
        self.reply(now);
        self.wal.submit(&mut self.out.wal, true)?;
        self.remember()?;
        self.start_jobs();
        self.tell();
        match self.out.stop.take() {
            Some(stop) => {
                // Why it stops must be known to its next start.
                self.wal.finish_remembering();
                let exit = match stop {
                    Stop::Damaged(_) => Exit::Damaged,
                    Stop::WriteFailed(_) => Exit::WriteFailed,
                };
                Err(Failure::new(exit, stop.why()))
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

    fn reply(&mut self, now: Now) {
        for (conn, mut response) in self.out.replies.drain(..) {
            if matches!(
                response.body,
                NotLeader { .. } | Unavailable { .. } | Unknown { .. }
            ) {
                self.metrics.proposals_failed.inc();
            }
            self.standing.name_leader(&mut response.body, &self.peers);
            self.clients.reply(conn, &response);
        }
        self.clients.flush();
        self.commits
            .on_applied(self.replica.applied(), self.now().mono, &self.metrics);
        let slow = self.clients.overfull();
        if std::mem::replace(&mut self.pace.readers_slow, slow) != slow {
            let input = replica::Input::ReadersSlow(slow);
            self.replica.handle(now, input, &mut self.out);
        }
    }

    fn start_jobs(&mut self) {
        for job in self.out.jobs.drain(..) {
            let inbox = self.inbox.clone();
            match job {
                Job::File(job) => self.files.have_done(Work::Job(job)),
                Job::Mark(mark) => self.files.have_done(Work::Mark(mark)),
                Job::Read(part) => {
                    tokio::task::spawn_blocking(move || {
                        inbox.push(Event::Done(Done::Read(part.run())));
                    });
                }
                Job::Rebuild { file, applied } => {
                    rebuilds::start(file, applied, self.wal.log().reader(), inbox);
                }
                Job::Snapshot { job, files } => self.snapshots.start(*job, files, self.wal.log()),
                Job::Unlink(needless) => {
                    tokio::task::spawn_blocking(move || needless.unlink());
                }
                Job::Load(wanted) => loads::start(wanted, self.wal.log().reader(), inbox),
            }
        }
        if let Some(release) = self.out.release.take() {
            self.wal.release(release, self.inbox.clone());
        }
        if let Some(next) = self.out.reclaimable.take() {
            self.wal.tell_reclaimable(next, self.inbox.clone());
        }
    }

    /// Passes on what happened to the log of the operator and to the figures.
    fn tell(&mut self) {
        for event in self.out.events.drain(..) {
            self.metrics.locks.observe(&event);
        }
        for note in self.out.notes.drain(..) {
            notes::write(&note);
            if let replica::Note::Engine(note) = &note {
                self.standing.on_note(note);
            }
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
