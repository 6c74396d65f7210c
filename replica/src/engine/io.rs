//! What goes into the engine and what comes out.
//!
//! ```text
//! handle(input) handle(input) ... finish()      one batch
//!        |            |            |
//!        v            v            v
//!      sends   ->  wal appends ->  effects in order     what comes of it, in this order
//! ```

use bytes::Bytes;
use paxos::{
    Admin, Entry, Envelope, LoadLog, Memories, Message, MonoTime, NodeId, PeerHello, ReleaseLog,
    Remember, RoleChange, Slot, WalAppend, WalSeq,
};
use statemachine::{Event, FileId, FileOp};

use super::snapshots::SnapshotJob;

/// The driver's two clocks, read once per batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Now {
    /// The monotonic clock. Everything that is decided by time is decided by this one.
    pub mono: MonoTime,
    /// Milliseconds since 1970, kept in every entry for people.
    pub wall_ms: u64,
}

/// A client's connection. The driver never gives one number to two connections of one engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnId(pub u64);

/// One attempt of one request: where its answer goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Origin {
    /// The connection that it came by.
    pub conn: ConnId,
    /// Its `net::Request::id`.
    pub request: u64,
}

/// One thing that happened.
#[derive(Debug)]
pub enum Input {
    /// Time passed; due at [`super::Engine::next_wake`] at the latest.
    Tick,
    /// A peer's message, over the connection numbered `link`.
    Peer {
        /// Who sent it.
        from: NodeId,
        /// The connection's number, as given at `PeerUp`.
        link: u64,
        /// What it said.
        message: Message,
    },
    /// A connection to a peer stands.
    PeerUp {
        /// The peer.
        peer: NodeId,
        /// A number that grows with every connection to this peer.
        link: u64,
        /// What it said of itself.
        hello: PeerHello,
    },
    /// A connection to a peer is gone.
    PeerDown {
        /// The peer.
        peer: NodeId,
        /// The connection's number.
        link: u64,
        /// Whether the other side's system closed or reset it, as it does when a process dies.
        reset: bool,
    },
    /// A client's request.
    Client {
        /// Its connection.
        conn: ConnId,
        /// The request.
        request: net::Request,
    },
    /// A client's connection is gone.
    ClientGone {
        /// Its connection.
        conn: ConnId,
    },
    /// All appends up to and including this one are durable.
    Durable {
        /// The append.
        seq: WalSeq,
    },
    /// What an [`Output::load_log`] asked for. Fewer entries than asked for is fine; none means that
    /// they are not there yet or not there any more.
    LogLoaded {
        /// For whom, as asked.
        to: NodeId,
        /// The slot of the first entry; without entries, the first slot that the log still holds.
        first: Slot,
        /// Contiguous from `first`; the flag tells a value known as chosen when it was written.
        entries: Vec<(Slot, paxos::Ballot, Entry, bool)>,
    },
    /// The log's prefix was removed; this is the first slot that can still be read.
    LogTrimmed {
        /// The slot.
        first: Slot,
    },
    /// The snapshot of an earlier job is durable, verified and named by the superblock.
    SnapshotSaved {
        /// Its slot.
        slot: Slot,
        /// What the log's mark says of it.
        meta: Bytes,
    },
    /// The snapshot of an earlier job could not be made. Another is tried later.
    SnapshotFailed,
    /// Whether file operations wait for space. Meanwhile nothing is applied.
    FilesBlocked(bool),
    /// Whether the log's disk is nearly full. Meanwhile a leader takes no new work.
    DiskLow(bool),
    /// Bytes that the disk has free beyond the file operations that wait for it, as just measured; `None` if the
    /// file system does not tell.
    DiskFree(Option<u64>),
    /// Bytes on the disk that two more snapshots would let go of: old segments of the log, removed files. Told again and
    /// again while [`super::Engine::is_low_on_space`].
    Reclaimable(u64),
    /// The superblock holds what [`Output::remember`] asked for under this number, or a later one.
    Remembered {
        /// The number.
        number: u64,
    },
    /// An order of the operator.
    Admin(Admin),
    /// The process was asked to end: hand over, answer what is in flight, take nothing new.
    ShuttingDown,
}

/// One thing to do, after everything before it in [`Output::effects`].
#[derive(Debug)]
pub enum Effect {
    /// Change a data file. On a full disk the rest of the effects wait (`FilesBlocked`).
    File(FileOp),
    /// Answer a client.
    Reply {
        /// Its connection.
        conn: ConnId,
        /// The answer.
        response: net::Response,
    },
    /// Read a part of a data file and answer a client with it ([`FileRead::answer`]).
    ReadFile(FileRead),
}

/// A part of a file to be read, after the file operations before it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileRead {
    /// Whom to answer.
    pub origin: Origin,
    /// The slot whose state is read.
    pub slot: Slot,
    /// Which file.
    pub id: FileId,
    /// Its name.
    pub name: String,
    /// Where the part begins.
    pub offset: u64,
    /// Its length in bytes, already bounded and inside the file.
    pub len: u32,
    /// The whole file's length as of `slot`.
    pub file_len: u64,
}

/// Something that an operator may want to see in the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Note {
    /// Of the core.
    Core(paxos::Note),
    /// The cluster's agreed settings differ from this replica's flags; the agreed ones count.
    SettingsDiffer {
        /// What was agreed, the fields that differ.
        agreed: String,
        /// What the flags say of them.
        own: String,
    },
    /// The settings that this replica proposed, as the cluster's first leader or the first of a newer program, are agreed.
    SettingsProposed,
    /// Applying fell behind the memory set aside for it; the rest is read back from the log.
    BacklogSpilled {
        /// The first slot to be read back.
        from: Slot,
    },
}

/// What is to be done. [`crate::Replica`] takes everything out and carries out the effects.
#[derive(Debug, Default)]
pub struct Output {
    /// Hand to the log in this order; each counts as one `Durable` position.
    pub wal: Vec<WalAppend>,
    /// To write to the superblock at once, answered by `Remembered`; also if the replica must stop.
    pub remember: Option<Remember>,
    /// To write to the superblock with whatever is written there next.
    pub remember_later: Option<Memories>,
    /// Messages to peers; each may be lost.
    pub sends: Vec<Envelope>,
    /// In this order.
    pub effects: Vec<Effect>,
    /// A snapshot to be made, beside everything else. At most one at a time.
    pub snapshot: Option<SnapshotJob>,
    /// Entries to be read from the log, answered by `LogLoaded`. `to` may be this replica itself.
    pub load_log: Vec<LoadLog>,
    /// What of the log may go.
    pub release_log: Option<ReleaseLog>,
    /// The newest change of role in this batch.
    pub role: Option<RoleChange>,
    /// What the state machine did, for metrics.
    pub events: Vec<Event>,
    /// For the operator's log.
    pub notes: Vec<Note>,
    /// The replica must stop; why.
    pub fatal: Option<String>,
}

impl Output {
    /// Whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.wal.is_empty()
            && self.remember.is_none()
            && self.remember_later.is_none()
            && self.sends.is_empty()
            && self.effects.is_empty()
            && self.snapshot.is_none()
            && self.load_log.is_empty()
            && self.release_log.is_none()
            && self.role.is_none()
            && self.events.is_empty()
            && self.notes.is_empty()
            && self.fatal.is_none()
    }

    pub(super) fn reply(&mut self, origin: Origin, body: net::ResponseBody) {
        let response = net::Response {
            id: origin.request,
            body,
        };
        self.effects.push(Effect::Reply {
            conn: origin.conn,
            response,
        });
    }
}
