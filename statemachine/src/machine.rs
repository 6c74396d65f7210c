//! The machine: the whole state, and the one door through which it changes.

use std::io;

use crate::{
    Answer, ClusterTime, Command, DecodeError, Effects, FileFact, Query, Seq, SessionId, Settings,
    Slot,
};

/// Where and when an entry of the log is applied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct At {
    /// Its slot.
    pub slot: Slot,
    /// Cluster time once the entry is counted.
    pub time: ClusterTime,
    /// The leader's wall clock, in milliseconds since 1970. For people; nothing decides by it.
    pub wall_ms: u64,
}

/// What an entry of the log says.
#[derive(Clone, Debug)]
pub enum Applied<'a> {
    /// A client's command.
    Command(Command),
    /// The bytes of one. What cannot be read changes nothing but the time.
    Encoded(&'a [u8]),
    /// The cluster's settings. Only the first ones count.
    Settings(Settings),
    /// A new leader's first entry, one that counts.
    LeaderStart {
        /// What sessions and leases have left at least, in milliseconds.
        grace_ms: u64,
    },
    /// Anything that only moves time.
    Time,
}

/// The state of the lock service.
#[derive(Clone, Debug, Default)]
pub struct Machine {
    time: ClusterTime,
    applied: Slot,
    settings: Option<Settings>,
}

impl Machine {
    /// The empty state, before the first slot.
    #[must_use]
    pub fn new() -> Machine {
        Machine::default()
    }

    /// Applies the entry of the next slot: moves time, ends what is due, grants what became free,
    /// and then does what the entry says.
    pub fn apply(&mut self, at: At, what: Applied<'_>) -> Effects {
        self.time = self.time.max(at.time);
        self.applied = at.slot;
        let _ = what;
        Effects::default()
    }

    /// Cluster time as of the last slot applied.
    #[must_use]
    pub fn time(&self) -> ClusterTime {
        self.time
    }

    /// The last slot applied.
    #[must_use]
    pub fn applied(&self) -> Slot {
        self.applied
    }

    /// The agreed settings, once there are any.
    #[must_use]
    pub fn settings(&self) -> Option<&Settings> {
        self.settings.as_ref()
    }

    /// When the next session, wait or lease ends.
    #[must_use]
    pub fn next_deadline(&self) -> Option<ClusterTime> {
        None
    }

    /// The place in its queue of an acquire that waits, 1 for the next; absent if it does not.
    #[must_use]
    pub fn waiting_position(&self, _session: SessionId, _seq: Seq) -> Option<u64> {
        None
    }

    /// Answers a question.
    #[must_use]
    pub fn query(&self, _query: &Query) -> Answer {
        Answer::Token { current: false }
    }

    /// Writes the whole state: the same bytes on every replica that applied the same slots.
    ///
    /// # Errors
    ///
    /// Only those of `out`.
    pub fn encode_snapshot(&self, _out: &mut impl io::Write) -> io::Result<()> {
        Ok(())
    }

    /// Reads a state back.
    ///
    /// # Errors
    ///
    /// Fails on an unknown version, and on bytes that are no state or one that cannot be.
    pub fn decode_snapshot(_bytes: &[u8]) -> Result<Machine, DecodeError> {
        Err(DecodeError::Empty)
    }

    /// A number for the whole state: equal states have equal ones.
    #[must_use]
    pub fn state_hash(&self) -> u64 {
        0
    }

    /// The files, by name.
    pub fn files(&self) -> impl Iterator<Item = FileFact> + '_ {
        std::iter::empty()
    }
}
