//! What happened in one slot, for metrics and for the history of a lock. Nothing decides by it.

use crate::{ClusterTime, FileId, Seq, SessionId, Token};

/// One thing that happened while a slot was applied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A session began.
    SessionOpened {
        /// It.
        session: SessionId,
        /// The name it gave itself.
        name: String,
    },
    /// A session was closed by its client.
    SessionClosed {
        /// It.
        session: SessionId,
    },
    /// A session gave no sign of life for its time to live.
    SessionExpired {
        /// It.
        session: SessionId,
        /// When it was due.
        deadline: ClusterTime,
    },
    /// An acquire began to wait.
    Queued {
        /// The lock.
        lock: String,
        /// Who waits.
        session: SessionId,
        /// By which command.
        seq: Seq,
        /// At which place, 1 for the next.
        position: u64,
    },
    /// A lock was granted.
    Granted {
        /// The lock.
        lock: String,
        /// To whom.
        session: SessionId,
        /// By which command.
        seq: Seq,
        /// The grant.
        token: Token,
        /// How long the acquire waited in the queue, in milliseconds of cluster time.
        waited_ms: u64,
        /// How many still wait.
        queue_len: u64,
    },
    /// An acquire left the queue without the lock.
    LeftQueue {
        /// The lock.
        lock: String,
        /// Who waited.
        session: SessionId,
        /// By which command.
        seq: Seq,
        /// Why it left.
        why: LeftQueueWhy,
        /// How long it waited, in milliseconds of cluster time.
        waited_ms: u64,
    },
    /// A holder lost or gave up a lock.
    Lost {
        /// The lock.
        lock: String,
        /// Who held it.
        session: SessionId,
        /// The grant.
        token: Token,
        /// Why it is no longer held.
        why: LostWhy,
        /// How long it was held, in milliseconds of cluster time.
        held_ms: u64,
        /// Appends that were discarded; none at a release.
        discarded_appends: u32,
    },
    /// A lease was extended by an append or a renew.
    Renewed {
        /// The lock.
        lock: String,
        /// The grant.
        token: Token,
        /// The new end of the lease.
        deadline: ClusterTime,
    },
    /// Something was appended to a section.
    Appended {
        /// The lock.
        lock: String,
        /// The grant.
        token: Token,
        /// The file.
        file: String,
        /// Bytes appended.
        bytes: u64,
    },
    /// A file was created.
    FileCreated {
        /// Its identity.
        id: FileId,
        /// Its name.
        file: String,
    },
    /// A file was removed.
    FileRemoved {
        /// Its identity.
        id: FileId,
        /// Its name.
        file: String,
    },
    /// A command that had run came again and got its first answer, or `forgotten`.
    DedupHit {
        /// Whose.
        session: SessionId,
        /// Which.
        seq: Seq,
        /// The first answer was no longer known.
        forgotten: bool,
    },
    /// A command was refused.
    Refused {
        /// The refusal's code.
        code: &'static str,
    },
    /// The settings were agreed; `adopted` is false for later ones, which count for nothing.
    Settings {
        /// Whether these are the ones.
        adopted: bool,
    },
    /// A new leader's first entry lifted the deadlines of all who live.
    LeaderStarted {
        /// What they have left at least, in milliseconds, unless their own term is shorter.
        grace_ms: u64,
    },
    /// An entry that this version cannot read; it changed nothing but the time.
    Unreadable {
        /// What is wrong with it.
        reason: String,
    },
}

/// Why an acquire left the queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LeftQueueWhy {
    /// Its time to wait was over.
    TimedOut,
    /// It was cancelled.
    Cancelled,
    /// It was given up: named as done while it waited.
    GivenUp,
    /// Its session expired.
    SessionExpired,
    /// Its session was closed.
    SessionClosed,
}

/// Why a lock is no longer held.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LostWhy {
    /// It was released, its section applied.
    Released,
    /// It was aborted.
    Aborted,
    /// Its acquire was cancelled.
    GivenBack,
    /// Its lease ended.
    LeaseExpired,
    /// Its session expired.
    SessionExpired,
    /// Its session was closed.
    SessionClosed,
    /// It was released by force.
    Forced {
        /// By which session.
        by: SessionId,
        /// The reason given.
        reason: String,
    },
}
