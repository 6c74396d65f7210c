//! What clients ask: checked, bounded, and sent on its way.

use bytes::Bytes;
use net::{Request, RequestBody, ResponseBody};
use paxos::{Admin, EntryKind, MonoTime, NodeId, Proposal, Role};
use statemachine::{Answer, Command, Op, Query};

use super::gather::BEATS_MAX;
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
        if let Some(reason) = self.too_much(conn) {
            out.reply(origin, ResponseBody::Unavailable { reason });
            return;
        }
        self.requests.admit(origin);
        let answer = match request.body {
            RequestBody::Command(bytes) => self.on_command(origin, bytes, out),
            RequestBody::Query { stale, bytes } => self.on_query(origin, stale, &bytes, out),
            RequestBody::Status => Some(ResponseBody::Status(Box::new(self.status()))),
            RequestBody::Members => Some(ResponseBody::Members(self.members())),
            RequestBody::Health => self.on_health(origin, now.mono),
            RequestBody::Transfer { to } => self.on_transfer(origin, now, NodeId(to), out),
        };
        if let Some(body) = answer {
            self.finish_request(origin, body, out);
        }
    }

    fn too_much(&self, conn: ConnId) -> Option<String> {
        let (on_connection, in_all) = self.requests.open(conn);
        let limits = &self.options.limits;
        if on_connection >= limits.per_connection {
            let limit = limits.per_connection;
            return Some(format!(
                "{limit} requests are open on this connection, the most there may be"
            ));
        }
        (in_all >= limits.in_all).then(|| {
            format!(
                "{} requests are open here, the most there may be",
                limits.in_all
            )
        })
    }

    /// Why this replica takes no command now.
    fn closed(&self) -> Option<ResponseBody> {
        if self.role != Role::Leader {
            return Some(self.not_leader());
        }
        self.shutting_down.map(|_| ResponseBody::Unavailable {
            reason: "shutting down".to_owned(),
        })
    }

    fn on_command(
        &mut self,
        origin: Origin,
        bytes: Bytes,
        out: &mut Output,
    ) -> Option<ResponseBody> {
        if let Some(closed) = self.closed() {
            return Some(closed);
        }
        if bytes.len() > COMMAND_BYTES_MAX {
            let reason = format!(
                "a command of {} bytes, {COMMAND_BYTES_MAX} is the most there may be",
                bytes.len()
            );
            return Some(ResponseBody::Bad { reason });
        }
        let command = match Command::decode(&bytes) {
            Ok(command) => command,
            Err(error) => {
                return Some(ResponseBody::Bad {
                    reason: error.to_string(),
                });
            }
        };
        if self.disk_low && adds_work(&command) {
            let reason = "the disk of the log is nearly full".to_owned();
            return Some(ResponseBody::Unavailable { reason });
        }
        // Else whoever asks again for want of an answer adds to what the answer waits for.
        if self.backlog.is_behind() && adds_work(&command) {
            let reason = "what was chosen waits to be applied; try again".to_owned();
            return Some(ResponseBody::Unavailable { reason });
        }
        let key = match command {
            Command::KeepAlive { beats } if beats.is_empty() || beats.len() > BEATS_MAX => {
                let reason = format!(
                    "{} keep-alives in one request, 1 to {BEATS_MAX} may be",
                    beats.len()
                );
                return Some(ResponseBody::Bad { reason });
            }
            Command::KeepAlive { beats } => {
                self.gather.add(origin, beats, bytes.len());
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
                    self.requests.attach((session, seq), origin, None);
                    out.reply(origin, ResponseBody::Waiting { position });
                    return None;
                }
                Key::Command(session, seq)
            }
        };
        self.batch_bytes += bytes.len();
        if self.batch_bytes > self.options.limits.batch_bytes {
            let reason = "too much was asked for at once; try again".to_owned();
            return Some(ResponseBody::Unavailable { reason });
        }
        self.enqueue(Carried::Command { origin, key }, EntryKind::App, bytes);
        None
    }

    pub(super) fn enqueue(&mut self, carried: Carried, kind: EntryKind, payload: Bytes) {
        let id = self.requests.propose(carried);
        self.batch.push(Proposal { id, kind, payload });
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

    /// A real commit, of an entry that only moves time, and how long it took.
    fn on_health(&mut self, origin: Origin, now: MonoTime) -> Option<ResponseBody> {
        if let Some(closed) = self.closed() {
            return Some(closed);
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
            let reason = "the other replica did not take over in time".to_owned();
            self.finish_request(origin, ResponseBody::Unavailable { reason }, out);
        }
    }

    /// Keep-alives that are due go into the batch as one command.
    pub(super) fn flush_gathered(&mut self, now: MonoTime) {
        while let Some((command, parts)) = self.gather.take(now) {
            let payload = Bytes::from(command.encode());
            self.enqueue(Carried::Beats(parts), EntryKind::App, payload);
        }
    }
}

/// Whether a command takes space that a nearly full disk has not got, or begins something new. What ends or keeps up something
/// always goes on.
fn adds_work(command: &Command) -> bool {
    match command {
        Command::Open { .. } => true,
        Command::KeepAlive { .. } | Command::Settle { .. } => false,
        Command::Session { op, .. } => {
            matches!(
                op,
                Op::Acquire { .. } | Op::Append { .. } | Op::CreateFile { .. }
            )
        }
    }
}
