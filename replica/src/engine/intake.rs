//! What clients ask: checked, bounded, and sent on its way.

use bytes::Bytes;
use net::{Request, RequestBody, ResponseBody};
use paxos::{Admin, EntryKind, MonoTime, NodeId, Proposal, Role};
use statemachine::{Answer, Command, Op, Query};

use super::gather::BEATS_MAX;
use super::lanes::{Class, Space};
use super::reads::PendingRead;
use super::requests::{Carried, Key};
use super::{ConnId, Effect, Engine, FileRead, Now, Origin, Output};

/// Bytes of one command: far above the longest append, and far enough below the smallest segment of
/// a log (4 MiB, whoever's) that the entry around it fits into one everywhere.
const COMMAND_BYTES_MAX: usize = 3 << 20;

impl Engine {
    pub(super) fn on_client(&mut self, now: Now, conn: ConnId, request: Request, out: &mut Output) {
        let origin = Origin {
            conn,
            request: request.id,
        };
        let command = match &request.body {
            RequestBody::Command(bytes) => match decode(bytes) {
                Ok(command) => Some(command),
                Err(reason) => {
                    out.reply(origin, ResponseBody::Bad { reason });
                    return;
                }
            },
            _ => None,
        };
        let adds_work = command.as_ref().is_none_or(|it| Class::of(it).adds_work);
        if let Some(reason) = self.too_much(conn, adds_work) {
            let retry_ms = self.pacing.come_back(0, now.mono);
            out.reply(origin, ResponseBody::Unavailable { reason, retry_ms });
            return;
        }
        self.requests.admit(origin);
        let answer = match request.body {
            RequestBody::Command(bytes) => match command {
                Some(command) => self.on_command(now.mono, origin, command, bytes, out),
                None => None,
            },
            RequestBody::Query { stale, bytes } => self.on_query(origin, stale, &bytes, out),
            RequestBody::Status => Some(ResponseBody::Status(Box::new(self.status()))),
            RequestBody::Members => Some(ResponseBody::Members(self.members())),
            RequestBody::Health => self.on_health(origin, now.mono),
            RequestBody::Transfer { to } => self.on_transfer(origin, now, NodeId(to), out),
            RequestBody::Room { bytes } => self.on_room(origin, now.mono, bytes),
        };
        if let Some(body) = answer {
            self.finish_request(origin, body, out);
        }
    }

    /// Why a connection, or all together, ask for too much. What keeps or ends something has as much
    /// room again as everything else.
    fn too_much(&self, conn: ConnId, adds_work: bool) -> Option<String> {
        let (on_connection, in_all) = self.requests.open(conn);
        let share = if adds_work { 1 } else { 2 };
        let limits = &self.options.limits;
        if on_connection >= share * limits.per_connection {
            return Some(format!(
                "{on_connection} requests are open on this connection; the limit is {}",
                limits.per_connection
            ));
        }
        (in_all >= share * limits.in_all).then(|| {
            format!(
                "{in_all} requests are open at this replica; the limit is {}",
                limits.in_all
            )
        })
    }

    /// Why this replica takes no command now.
    fn closed(&self) -> Option<ResponseBody> {
        if self.role != Role::Leader {
            return Some(self.not_leader());
        }
        self.shutting_down.map(|_| unavailable("shutting down", 0))
    }

    /// Why this replica, if it leads, refuses new work; `None` if it takes some.
    pub fn refuses_work(&self) -> Option<String> {
        if self.shutting_down.is_some() {
            return Some("shutting down".to_owned());
        }
        if self.disk_low {
            return Some(NO_ROOM_FOR_LOG.to_owned());
        }
        if self.files_blocked {
            return Some(NO_ROOM_FOR_FILES.to_owned());
        }
        if self.disk.is_tight() {
            return Some(NO_ROOM_ON_DISK.to_owned());
        }
        if self.core.is_majority_unfit() {
            return Some(NO_ROOM_AT_MOST.to_owned());
        }
        // While applying lags, a retry would only lengthen the backlog that its answer is stuck behind.
        if self.backlog.is_behind() {
            return Some("replica is still applying committed entries; retry".to_owned());
        }
        let (bytes, bytes_max) = self.machine.weight();
        (bytes >= bytes_max).then(|| format!("the state is full: {bytes} of {bytes_max} bytes"))
    }

    fn on_command(
        &mut self,
        now: MonoTime,
        origin: Origin,
        command: Command,
        bytes: Bytes,
        out: &mut Output,
    ) -> Option<ResponseBody> {
        if let Some(closed) = self.closed() {
            return Some(closed);
        }
        let class = Class::of(&command);
        let key = match command {
            Command::KeepAlive { beats } if beats.is_empty() || beats.len() > BEATS_MAX => {
                let reason = format!(
                    "{} sessions in one keep-alive; the limit is 1 to {BEATS_MAX}",
                    beats.len()
                );
                return Some(ResponseBody::Bad { reason });
            }
            Command::KeepAlive { beats } => {
                if !self.requests.join_beats(&bytes, origin) {
                    self.gather.add(origin, beats, bytes);
                }
                return None;
            }
            Command::Open { nonce, .. } => Key::Nonce(nonce),
            Command::Settle { token, .. } => Key::Settle(token),
            Command::Session {
                session, seq, op, ..
            } => {
                if matches!(op, Op::Acquire { .. })
                    && let Some(position) = self.machine.waiting_position(session, seq)
                {
                    // It has its place already; asking again costs nothing in the log.
                    self.requests.attach((session, seq), origin, None, out);
                    out.reply(origin, ResponseBody::Waiting { position });
                    return None;
                }
                Key::Command(session, seq)
            }
        };
        if self.requests.join(key, &bytes, origin, out) {
            return None;
        }
        let refusal = match key {
            Key::Nonce(_) => self.no_new_session(bytes.len(), now),
            _ if class.adds_work => self.no_new_work(bytes.len(), now),
            _ => None,
        };
        if refusal.is_some() {
            return refusal;
        }
        let granted = class.adds_work && self.room.take(origin.conn, bytes.len());
        let id = self.requests.propose(Carried::Command {
            origin,
            key,
            bytes: bytes.clone(),
            joined: Vec::new(),
        });
        let proposal = Proposal {
            id,
            kind: EntryKind::App,
            payload: bytes,
        };
        self.batch.push(proposal, class, granted);
        None
    }

    /// Why a command that adds work is refused at the door. A full state is no reason: the state machine
    /// itself says so, with a refusal that the client is told for good.
    fn no_new_work(&mut self, bytes: usize, now: MonoTime) -> Option<ResponseBody> {
        let reason = self.no_space(bytes).or_else(|| self.overloaded(bytes))?;
        Some(unavailable(reason, self.pacing.come_back(bytes, now)))
    }

    /// As [`Engine::no_new_work`], for a session that is to be opened. A few are on a full disk too: removing a file
    /// takes one.
    fn no_new_session(&mut self, bytes: usize, now: MonoTime) -> Option<ResponseBody> {
        let reason = match self.overloaded(bytes) {
            Some(reason) => reason,
            None => self
                .no_space(bytes)
                .filter(|_| !self.disk.take_session(now))?,
        };
        Some(unavailable(reason, self.pacing.come_back(bytes, now)))
    }

    /// Why there is no room on the disks for a command that adds work.
    fn no_space(&self, bytes: usize) -> Option<&'static str> {
        if self.disk_low {
            Some(NO_ROOM_FOR_LOG)
        } else if self.lacks_disk(bytes) {
            Some(NO_ROOM_ON_DISK)
        } else {
            // What this replica itself waits for has its own words.
            let others = !self.files_blocked && self.core.is_majority_unfit();
            others.then_some(NO_ROOM_AT_MOST)
        }
    }

    /// Why no command that adds work could be applied soon, wherever it takes its room from.
    fn overloaded(&self, bytes: usize) -> Option<&'static str> {
        if self.files_blocked {
            Some(NO_ROOM_FOR_FILES)
        } else if self.backlog.is_behind() {
            Some("replica is still applying committed entries; retry")
        } else {
            let batch_bytes = self.batch.added_bytes() + bytes;
            (batch_bytes > self.options.limits.batch_bytes).then_some(OVERLOADED)
        }
    }

    /// Adds an entry that no client's command is behind.
    pub(super) fn enqueue(&mut self, carried: Carried, kind: EntryKind, payload: Bytes) {
        let class = match carried {
            Carried::Health { .. } => Class::ADDS,
            _ => Class::KEEPS,
        };
        let id = self.requests.propose(carried);
        self.batch
            .push(Proposal { id, kind, payload }, class, false);
    }

    /// Bytes that new work may take now. An eighth of all is the reserve of what keeps or ends something.
    pub(super) fn space(&self) -> Space {
        let reserve = self.options.core.unchosen_bytes_max / 8;
        let free = self.core.room_bytes().saturating_sub(reserve);
        let granted = self.room.granted_bytes() + self.room.wanted_bytes();
        Space {
            open: free.saturating_sub(granted),
            granted: free,
        }
    }

    /// Tells the senders of what had no room when to come back.
    pub(super) fn refuse(&mut self, now: MonoTime, refused: Vec<Proposal>, out: &mut Output) {
        for proposal in refused {
            let Some(carried) = self.requests.take_rejected(proposal.id) else {
                continue;
            };
            let retry_ms = self.pacing.come_back(proposal.payload.len(), now);
            for origin in self.requests.origins(carried) {
                self.finish_request(origin, unavailable(OVERLOADED, retry_ms), out);
            }
        }
    }

    /// Somebody wants room for a command before sending it.
    fn on_room(&mut self, origin: Origin, now: MonoTime, bytes: u64) -> Option<ResponseBody> {
        if let Some(closed) = self.closed() {
            return Some(closed);
        }
        let bytes = usize::try_from(bytes).unwrap_or(usize::MAX);
        if bytes > COMMAND_BYTES_MAX {
            let reason = too_long(bytes);
            return Some(ResponseBody::Bad { reason });
        }
        if let Some(refusal) = self.no_new_work(0, now) {
            return Some(refusal);
        }
        if self.lacks_disk(bytes) {
            let retry_ms = self.pacing.come_back(bytes, now);
            return Some(unavailable(NO_ROOM_ON_DISK, retry_ms));
        }
        if !self.room.ask(origin, bytes, now) {
            return Some(unavailable(OVERLOADED, self.pacing.come_back(bytes, now)));
        }
        None
    }

    /// Gives room that has become free to those who asked for it.
    pub(super) fn give_room(&mut self, now: MonoTime, out: &mut Output) {
        let reserve = self.options.core.unchosen_bytes_max / 8;
        let taken = reserve + self.room.granted_bytes();
        let free = self.core.room_bytes().saturating_sub(taken);
        let (served, late) = self.room.settle(free, now);
        for origin in served {
            self.finish_request(origin, ResponseBody::Done, out);
        }
        for (origin, bytes) in late {
            let retry_ms = self.pacing.come_back(bytes, now);
            self.finish_request(origin, unavailable(OVERLOADED, retry_ms), out);
        }
    }

    fn on_query(
        &mut self,
        origin: Origin,
        stale: bool,
        bytes: &[u8],
        out: &mut Output,
    ) -> Option<ResponseBody> {
        let query = match Query::decode(bytes) {
            Ok(query) => query,
            Err(error) => {
                return Some(ResponseBody::Bad {
                    reason: error.to_string(),
                });
            }
        };
        let read = PendingRead { origin, query };
        if stale {
            self.answer_read(read, out);
            return None;
        }
        if self.role != Role::Leader {
            return Some(self.not_leader());
        }
        self.reads.add(read);
        None
    }

    /// Answers the linearizable reads whose slot is applied.
    pub(super) fn answer_reads(&mut self, out: &mut Output) {
        for read in self.reads.take_ready(self.applied) {
            self.answer_read(read, out);
        }
    }

    fn answer_read(&mut self, read: PendingRead, out: &mut Output) {
        let PendingRead { origin, query } = read;
        let slot = self.applied;
        match self.machine.query(&query) {
            Answer::ReadPlan {
                id,
                name,
                offset,
                len,
                file_len,
            } => {
                if self.requests.close(origin) {
                    out.effects.push(Effect::ReadFile(FileRead {
                        origin,
                        slot,
                        id,
                        name,
                        offset,
                        len,
                        file_len,
                    }));
                }
            }
            answer => {
                let bytes = Bytes::from(answer.encode());
                self.finish_request(
                    origin,
                    ResponseBody::Answer {
                        slot: slot.0,
                        bytes,
                    },
                    out,
                );
            }
        }
    }

    /// A real commit, of an entry that only moves time, and how long it took; refused while a client's
    /// new work would be.
    fn on_health(&mut self, origin: Origin, now: MonoTime) -> Option<ResponseBody> {
        if let Some(closed) = self.closed() {
            return Some(closed);
        }
        if let Some(reason) = self.refuses_work() {
            let retry_ms = self.pacing.come_back(0, now);
            return Some(ResponseBody::Unavailable { reason, retry_ms });
        }
        self.enqueue(
            Carried::Health { origin, since: now },
            EntryKind::Time,
            Bytes::new(),
        );
        None
    }

    fn on_transfer(
        &mut self,
        origin: Origin,
        now: Now,
        to: NodeId,
        out: &mut Output,
    ) -> Option<ResponseBody> {
        if self.role != Role::Leader {
            return Some(self.not_leader());
        }
        if to == self.id() {
            return Some(ResponseBody::Done);
        }
        if !self
            .options
            .core
            .membership
            .members
            .iter()
            .any(|member| member.node == to)
        {
            return Some(ResponseBody::Bad {
                reason: format!("replica {} is no member", to.0),
            });
        }
        self.transfers.push((
            origin,
            MonoTime(now.mono.0 + 2 * self.options.core.election_us),
        ));
        self.step(now, paxos::Input::Admin(Admin::Transfer { to }), out);
        None
    }

    /// Transfers that took too long are given up.
    pub(super) fn end_transfers(&mut self, now: MonoTime, out: &mut Output) {
        while let Some(at) = self.transfers.iter().position(|&(_, until)| until <= now) {
            let (origin, _) = self.transfers.remove(at);
            let refusal = unavailable("the other replica did not take over in time", 0);
            self.finish_request(origin, refusal, out);
        }
    }

    /// Keep-alives that are due go into the batch as one command.
    pub(super) fn flush_gathered(&mut self, now: MonoTime) {
        for (command, parts) in self.gather.take(now) {
            let payload = Bytes::from(command.encode());
            self.enqueue(Carried::Beats(parts), EntryKind::App, payload);
        }
    }
}

/// What new work is told while the log cannot prepare its next segment.
const NO_ROOM_FOR_LOG: &str = "the disk of the log is nearly full; retry once there is space";
/// What new work is told while a file operation waits for space.
const NO_ROOM_FOR_FILES: &str = "the disk of the data files is full; retry once there is space";
/// What new work is told that would use up the disk's reserve.
const NO_ROOM_ON_DISK: &str =
    "the disk is nearly full, and what is left is kept for releases; retry once there is space";
/// What new work is told while this replica has room and most others have none.
const NO_ROOM_AT_MOST: &str =
    "the disks of most replicas are nearly full; retry once there is space";
/// What new work is told that finds no room.
const OVERLOADED: &str = "leader has no room for more work; retry";

fn unavailable(reason: &str, retry_ms: u64) -> ResponseBody {
    ResponseBody::Unavailable {
        reason: reason.to_owned(),
        retry_ms,
    }
}

fn too_long(bytes: usize) -> String {
    format!("command of {bytes} bytes; the limit is {COMMAND_BYTES_MAX}")
}

fn decode(bytes: &[u8]) -> Result<Command, String> {
    if bytes.len() > COMMAND_BYTES_MAX {
        return Err(too_long(bytes.len()));
    }
    Command::decode(bytes).map_err(|error| error.to_string())
}
