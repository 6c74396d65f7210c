//! Agreement and state machine put together, without a disk.
//!
//! ```text
//!   peers, clients, log, clock
//!            | Input                                       crate::Replica
//! -----------v-----------------------------------------------------------------------------
//!     Engine::handle ... Engine::finish
//!        |  requests   who asked, and which entry of the log answers it
//!        |  gather     keep-alives of many sessions as one entry
//!        |  lanes      which command of a batch goes first, and which has room
//!        |  room       space promised to large commands before their bytes are sent
//!        |  reads      linearizable reads, one round for all of a batch
//!        |  backlog    chosen entries that wait for their turn or for disk space
//!        |  disk       whether the disk has room for what new work will write
//!        |  timekeeper moves time on when a deadline is reached and nothing else does
//!        |  snapshots  when one is due, and its bytes
//!        |      \
//!   paxos::Core  statemachine::Machine
//! -----------|-----------------------------------------------------------------------------
//!            v Output: sends, log appends, effects in order
//! ```
//!
//! The same inputs give the same outputs: the simulator runs this very code. What must wait for the
//! disk waits inside the core, so a driver has few rules: hand appends to the log in order, tell the
//! truth about what is durable, carry out the effects in order.

mod applying;
mod backlog;
mod disk;
mod gather;
mod homes;
mod intake;
mod io;
mod lanes;
mod options;
mod readiness;
mod reads;
mod reports;
mod requests;
mod room;
mod snapshots;
#[cfg(test)]
mod tests;
mod timekeeper;

use bytes::Bytes;
use net::ResponseBody;
use paxos::{
    Admin, Ballot, ClusterClock, Core, EntryKind, Identity, MonoTime, NodeId, Outbox, Proposal,
    Role, Slot,
};
use statemachine::Machine;

pub use applying::apply_entry;
pub use io::{ConnId, Effect, FileRead, Input, Note, Now, Origin, Output};
pub use options::{EngineOptions, Limits, Restored, SnapshotPolicy};
pub use snapshots::{PayloadError, SnapshotJob};

use applying::APPLY_BYTES_PER_TICK;
use backlog::Backlog;
use disk::DiskRoom;
use gather::Gather;
use lanes::{Arranged, Lanes};
use reads::Reads;
use requests::{Carried, Requests};
use room::{Pacing, Room};
use snapshots::Snapshots;

/// A replica. See the module.
#[derive(Debug)]
pub struct Engine {
    options: EngineOptions,
    core: Core,
    /// What the core said last; empty between calls.
    outbox: Outbox,
    role: Role,
    ballot: Ballot,
    leader: Option<NodeId>,
    machine: Machine,
    /// Cluster time as of `applied`.
    clock: ClusterClock,
    applied: Slot,
    backlog: Backlog,
    /// Bytes of entries that may still be applied before the next tick.
    apply_bytes_left: usize,
    requests: Requests,
    gather: Gather,
    reads: Reads,
    /// When the next deadline will be reached, if this replica is to see to that.
    time_due: Option<MonoTime>,
    snapshots: Snapshots,
    /// Hashes of the state that the core has not been given.
    state_hashes: Vec<(Slot, u64)>,
    /// Proposals of this batch.
    batch: Lanes,
    room: Room,
    pacing: Pacing,
    /// Whoever asked for a transfer of leadership, and until when it may take.
    transfers: Vec<(Origin, MonoTime)>,
    files_blocked: bool,
    disk_low: bool,
    disk: DiskRoom,
    pace: readiness::Pace,
    shutting_down: Option<MonoTime>,
    /// The difference between agreed settings and flags that was told last, so that it is told once.
    differ_told: Option<Note>,
    /// The last slot that the log held at the start.
    last_at_start: Slot,
    /// Its own, until the next output takes them.
    notes: Vec<Note>,
}

impl Engine {
    /// A replica as its disk left it.
    pub fn new(options: EngineOptions, restored: Restored, now: MonoTime) -> Engine {
        let Restored {
            recovered,
            machine,
            snapshot,
            log_bytes,
        } = restored;
        let (applied, clock) = (recovered.applied, recovered.clock.clone());
        let last_at_start = recovered
            .accepted
            .last()
            .map_or(applied, |(slot, ..)| *slot);
        assert_eq!(
            applied, recovered.chosen,
            "the boot applies all that it knows to be chosen"
        );
        let mut engine = Engine {
            backlog: Backlog::new(options.limits.backlog_bytes, applied),
            apply_bytes_left: APPLY_BYTES_PER_TICK,
            gather: Gather::new(options.gather_us),
            snapshots: Snapshots::new(options.snapshots, snapshot, log_bytes),
            state_hashes: Vec::new(),
            core: Core::new(options.core.clone(), recovered, now),
            outbox: Outbox::default(),
            role: Role::Follower,
            ballot: Ballot::ZERO,
            leader: None,
            machine,
            clock,
            applied,
            requests: Requests::default(),
            reads: Reads::default(),
            time_due: None,
            batch: Lanes::default(),
            room: Room::default(),
            pacing: Pacing::new(now),
            transfers: Vec::new(),
            files_blocked: false,
            disk_low: false,
            disk: DiskRoom::default(),
            pace: readiness::Pace::default(),
            shutting_down: None,
            differ_told: None,
            last_at_start,
            notes: Vec::new(),
            options,
        };
        engine.compare_settings();
        engine
    }

    /// Takes one input. Many may be taken before [`Engine::finish`].
    pub fn handle(&mut self, now: Now, input: Input, out: &mut Output) {
        match input {
            Input::Tick => {
                self.apply_bytes_left = APPLY_BYTES_PER_TICK;
                self.step(now, paxos::Input::Tick, out);
            }
            Input::Peer {
                from,
                link,
                message,
            } => {
                self.step(
                    now,
                    paxos::Input::Recv {
                        from,
                        link,
                        message,
                    },
                    out,
                );
            }
            Input::PeerUp { peer, link, hello } => {
                self.step(now, paxos::Input::PeerUp { peer, link, hello }, out);
            }
            Input::PeerDown { peer, link, reset } => {
                self.step(now, paxos::Input::PeerDown { peer, link, reset }, out);
            }
            Input::Client { conn, request } => self.on_client(now, conn, request, out),
            Input::ClientGone { conn } => {
                // Its keep-alives still count: their sessions were alive when they sent them.
                self.requests.gone(conn);
                self.room.gone(conn);
            }
            Input::Durable { seq } => self.step(now, paxos::Input::WalDurable { seq }, out),
            Input::LogLoaded { to, first, entries } if to == self.id() => {
                let entries = entries.into_iter().map(|(_, _, entry, _)| entry).collect();
                self.backlog.on_loaded(first, entries);
                self.absorb(now, out);
            }
            Input::LogLoaded { to, first, entries } => {
                self.step(now, paxos::Input::LogLoaded { to, first, entries }, out);
            }
            Input::LogTrimmed { first } => self.step(now, paxos::Input::LogTrimmed { first }, out),
            Input::SnapshotSaved { slot, meta } => {
                self.snapshots.on_saved(now.mono, slot);
                self.step(now, paxos::Input::SnapshotSaved { slot, meta }, out);
                self.add_entry_while_low(now.mono);
            }
            Input::SnapshotFailed => self.snapshots.on_failed(now.mono),
            Input::FilesBlocked(blocked) => {
                self.files_blocked = blocked;
                self.tell_condition(now, out);
            }
            Input::DiskLow(low) => {
                self.disk_low = low;
                self.disk.on_low_changed();
                self.tell_condition(now, out);
            }
            Input::DiskFree(bytes) => self.on_disk_free(now, bytes, out),
            Input::Reclaimable(bytes) => self.on_reclaimable(now, bytes, out),
            Input::Remembered { number } => {
                self.step(now, paxos::Input::Remembered { number }, out);
            }
            Input::Admin(admin) => self.step(now, paxos::Input::Admin(admin), out),
            Input::ShuttingDown => self.on_shutting_down(now, out),
        }
    }

    /// Ends a batch: the commands taken so far become one proposal, the reads one question.
    pub fn finish(&mut self, now: Now, out: &mut Output) {
        if self.role == Role::Leader {
            self.flush_gathered(now.mono);
            self.keep_time(now.mono);
        }
        if !self.batch.is_empty() {
            let space = self.space();
            let Arranged { proposals, refused } = self.batch.arrange(space);
            self.refuse(now.mono, refused, out);
            self.step(
                now,
                paxos::Input::Propose {
                    proposals,
                    wall_ms: now.wall_ms,
                },
                out,
            );
        }
        self.give_room(now.mono, out);
        if let Some(id) = self.reads.ask() {
            self.step(now, paxos::Input::Read { id }, out);
        }
        self.end_transfers(now.mono, out);
        let known = self.core.known_chosen();
        self.pace.observe(now.mono, self.applied, known);
    }

    /// When [`Input::Tick`] is due at the latest; to be asked anew after each batch.
    pub fn next_wake(&self) -> MonoTime {
        let can_apply = !self.files_blocked && self.backlog.has_next();
        if can_apply {
            return MonoTime(0);
        }
        let transfer = self.transfers.iter().map(|&(_, until)| until).min();
        [self.time_due, transfer, self.gather.due(), self.room.due()]
            .into_iter()
            .flatten()
            .fold(self.core.next_wake(), MonoTime::min)
    }

    /// The state as of the last applied slot.
    pub fn machine(&self) -> &Machine {
        &self.machine
    }

    /// The agreement underneath, to look at.
    pub fn core(&self) -> &Core {
        &self.core
    }

    /// The last slot applied to [`Engine::machine`].
    pub fn applied(&self) -> Slot {
        self.applied
    }

    /// Cluster time as of [`Engine::applied`].
    pub fn clock(&self) -> &ClusterClock {
        &self.clock
    }

    /// Whether nothing is in flight and, after [`Input::ShuttingDown`], leadership is handed over or
    /// was not to be handed over in time: the process may end.
    pub fn is_drained(&self, now: MonoTime) -> bool {
        let Some(until) = self.shutting_down else {
            return false;
        };
        let idle = self.requests.in_flight() == 0 && self.reads.is_empty() && self.batch.is_empty();
        let alone = self.options.core.membership.members.len() == 1;
        (idle && (alone || self.role != Role::Leader)) || now >= until
    }

    /// Who this replica is.
    pub fn identity(&self) -> Identity {
        self.options.core.identity
    }

    fn id(&self) -> NodeId {
        self.options.core.identity.node
    }

    /// Tells the core what the disks allow: a leader that cannot serve hands over to a replica that
    /// can. What to refuse meanwhile is decided here, by the kind of command.
    fn tell_condition(&mut self, now: Now, out: &mut Output) {
        let low = self.is_low_on_space();
        if !low {
            self.snapshots.want_none();
        }
        let condition = paxos::Condition {
            low,
            blocked: self.files_blocked,
        };
        self.step(now, paxos::Input::Condition(condition), out);
    }

    fn step(&mut self, now: Now, input: paxos::Input, out: &mut Output) {
        self.core.step(now.mono, input, &mut self.outbox);
        self.absorb(now, out);
    }

    /// Carries out what the core said, until it has nothing more to say.
    fn absorb(&mut self, now: Now, out: &mut Output) {
        loop {
            self.pass_on(out);
            self.on_proposals(out);
            if let Some(change) = self.outbox.role.take() {
                self.on_role(now, change, out);
            }
            let before = self.applied;
            self.apply_chosen(now.mono, out);
            self.answer_reads(out);
            if self.applied == before {
                break;
            }
            self.core.step(
                now.mono,
                paxos::Input::Applied { slot: self.applied },
                &mut self.outbox,
            );
            for (slot, hash) in std::mem::take(&mut self.state_hashes) {
                let hashed = paxos::Input::StateHash { slot, hash };
                self.core.step(now.mono, hashed, &mut self.outbox);
            }
        }
        if out.snapshot.is_none() {
            out.snapshot = self.snapshots.take_job(self.core.settled());
        }
    }

    /// What needs no thought.
    fn pass_on(&mut self, out: &mut Output) {
        for append in &self.outbox.wal {
            let bytes = self.snapshots.on_append(append);
            self.disk.on_written(bytes);
        }
        out.wal.append(&mut self.outbox.wal);
        out.sends.append(&mut self.outbox.sends);
        // The newer one holds all that the older one did.
        out.remember = self.outbox.remember.take().or(out.remember.take());
        out.remember_later = self
            .outbox
            .remember_later
            .take()
            .or(out.remember_later.take());
        out.load_log.append(&mut self.outbox.load_log);
        out.notes.append(&mut self.notes);
        out.notes
            .extend(self.outbox.notes.drain(..).map(Note::Core));
        if let Some(release) = self.outbox.release_log.take() {
            out.release_log = Some(release);
        }
        if let Some(why) = self.outbox.fatal.take() {
            out.fatal.get_or_insert(why);
        }
    }

    fn on_role(&mut self, now: Now, change: paxos::RoleChange, out: &mut Output) {
        let led = self.role == Role::Leader;
        self.role = change.role;
        self.ballot = change.ballot;
        self.leader = change.leader;
        if led && self.role != Role::Leader {
            self.stop_leading(out);
        }
        if self.role == Role::Leader && !led {
            self.start_leading();
        }
        if self.shutting_down.is_some() && self.role == Role::Leader {
            self.step(now, paxos::Input::Admin(Admin::TransferAny), out);
        }
        out.role = Some(change);
    }

    /// The first leader of all has its settings chosen before any command, and the first leader of a
    /// newer program the newer rules.
    fn start_leading(&mut self) {
        let rules = self.machine.settings().map_or(0, |agreed| agreed.rules);
        if rules < self.options.settings.rules {
            let payload = Bytes::from(self.options.settings.encode());
            let id = self.requests.propose(Carried::Own);
            self.batch.push_first(Proposal {
                id,
                kind: EntryKind::Settings,
                payload,
            });
        }
    }

    /// Whoever counted on this replica's leadership is told. What was placed in the log comes back
    /// from the core as lost.
    fn stop_leading(&mut self, out: &mut Output) {
        self.time_due = None;
        if self.files_blocked || self.backlog.is_behind() {
            self.leave_unapplied(out);
        }
        for origin in self.requests.take_waiting() {
            let reason = "leadership was lost while the acquire waited; ask again".to_owned();
            out.reply(origin, ResponseBody::Unknown { reason });
        }
        let gathered = self
            .requests
            .origins(Carried::Beats(self.gather.take_all()));
        let reads = self.reads.take_batch().into_iter().map(|read| read.origin);
        let room = self.room.take_all();
        let mut origins = Vec::new();
        for proposal in self.batch.take_all() {
            if let Some(carried) = self.requests.take_rejected(proposal.id) {
                origins.extend(self.requests.origins(carried));
            }
        }
        origins.extend(gathered.into_iter().chain(reads).chain(room));
        for origin in origins {
            self.finish_request(origin, self.not_leader(), out);
        }
        for (origin, _) in std::mem::take(&mut self.transfers) {
            self.finish_request(origin, ResponseBody::Done, out);
        }
    }

    /// What was chosen waits here for disk space, perhaps for hours. The next leader remembers every command that
    /// was done, so the clients ask there, and nothing is done twice.
    fn leave_unapplied(&mut self, out: &mut Output) {
        for origin in self.requests.take_all_placed() {
            let reason = "leadership was lost before the command was applied here; ask again";
            let reason = reason.to_owned();
            self.finish_request(origin, ResponseBody::Unknown { reason }, out);
        }
        for read in self.reads.take_ready(Slot(u64::MAX)) {
            self.finish_request(read.origin, self.not_leader(), out);
        }
    }

    /// Hands leadership over; the rest of the requests in flight are answered as they come.
    fn on_shutting_down(&mut self, now: Now, out: &mut Output) {
        let patience_us = 4 * self.options.core.election_us;
        self.shutting_down
            .get_or_insert(MonoTime(now.mono.0 + patience_us));
        if self.role == Role::Leader && self.options.core.membership.members.len() > 1 {
            self.step(now, paxos::Input::Admin(Admin::TransferAny), out);
        }
    }

    /// Answers a request and closes it, if anybody still waits for it.
    fn finish_request(&mut self, origin: Origin, body: ResponseBody, out: &mut Output) {
        if self.requests.close(origin) {
            out.reply(origin, body);
        }
    }
}
