//! The machine: the whole state, and the one door through which it changes.

use std::io;

use crate::apply::numbered::{self, Caller};
use crate::apply::{Step, expiry, hold, presence, start};
use crate::state::State;
use crate::{
    Answer, ClusterTime, Command, DecodeError, Effects, Event, FileFact, Query, Seq, SessionId,
    Settings, Slot, answer, snapshot,
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
    /// The cluster's settings. Only the first ones count, and later ones for newer rules.
    Settings(Settings),
    /// A new leader's first entry, one that counts.
    LeaderStart {
        /// What sessions and leases that live have left at least, in milliseconds.
        grace_ms: u64,
    },
    /// Anything that only moves time.
    Time,
}

/// The state of the lock service.
///
/// A clone costs next to nothing, shares what does not change, and may go to another thread.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Machine {
    state: State,
}

impl Machine {
    /// The empty state, before the first slot.
    #[must_use]
    pub fn new() -> Machine {
        Machine::default()
    }

    /// Applies the entry of the next slot: moves time, ends what is due, grants what became free,
    /// and then does what the entry says.
    ///
    /// # Panics
    ///
    /// If the slot was applied before: a driver that repeats one would have replicas differ.
    pub fn apply(&mut self, at: At, what: Applied<'_>) -> Effects {
        let state = &mut self.state;
        assert!(
            at.slot > state.applied,
            "slot {} comes after {}",
            at.slot,
            state.applied
        );
        state.applied = at.slot;
        state.time = state.time.max(at.time);
        let mut step = Step::new(at.slot, at.wall_ms);
        expiry::expire(state, &mut step);
        match what {
            Applied::Command(command) => run(state, &mut step, command),
            Applied::Encoded(bytes) => match Command::decode(bytes) {
                Ok(command) => run(state, &mut step, command),
                Err(e) => step.event(Event::Unreadable {
                    reason: e.to_string(),
                }),
            },
            Applied::Settings(settings) => start::settle(state, &mut step, settings),
            Applied::LeaderStart { grace_ms } => start::lead(state, &mut step, grace_ms),
            Applied::Time => {}
        }
        step.effects
    }

    /// Cluster time as of the last slot applied.
    #[must_use]
    pub fn time(&self) -> ClusterTime {
        self.state.time
    }

    /// The last slot applied.
    #[must_use]
    pub fn applied(&self) -> Slot {
        self.state.applied
    }

    /// The agreed settings, once there are any.
    #[must_use]
    pub fn settings(&self) -> Option<&Settings> {
        self.state.settings.as_ref()
    }

    /// When the next session, wait or lease may end: the leader proposes an entry that moves time
    /// once that has come and nothing else is being proposed. What a new leader has lifted ends later
    /// than this says; the entry finds out.
    #[must_use]
    pub fn next_deadline(&self) -> Option<ClusterTime> {
        self.state.dues().first().map(|due| due.at)
    }

    /// The place in its queue of an acquire that waits, 1 for the next; absent if it does not.
    #[must_use]
    pub fn waiting_position(&self, session: SessionId, seq: Seq) -> Option<u64> {
        self.state.position(session, seq)
    }

    /// What the state weighs and may weigh, in bytes of the agreed budget.
    #[must_use]
    pub fn weight(&self) -> (u64, u64) {
        (self.state.weight(), self.state.limits().state_bytes_max)
    }

    /// Bytes that the sections under way have appended so far: what their releases will write to files.
    #[must_use]
    pub fn pending_bytes(&self) -> u64 {
        self.state.pending()
    }

    /// Answers a question.
    #[must_use]
    pub fn query(&self, query: &Query) -> Answer {
        answer::answer(&self.state, query)
    }

    /// Writes the whole state: the same bytes on every replica that applied the same slots.
    ///
    /// # Errors
    ///
    /// Only those of `out`.
    pub fn encode_snapshot(&self, out: &mut impl io::Write) -> io::Result<()> {
        snapshot::encode(&self.state, out)
    }

    /// Reads a state back.
    ///
    /// # Errors
    ///
    /// Fails on an unknown version, and on bytes that are no state or one that cannot be.
    pub fn decode_snapshot(bytes: &[u8]) -> Result<Machine, DecodeError> {
        Ok(Machine {
            state: snapshot::decode(bytes)?,
        })
    }

    /// A number for the whole state, its slot included: replicas that applied the same slots have the
    /// same one, whether they began with a snapshot or with the first slot. Costs a microsecond,
    /// however large the state is.
    #[must_use]
    pub fn state_hash(&self) -> u64 {
        self.state.hash()
    }

    /// The files, by name.
    pub fn files(&self) -> impl Iterator<Item = FileFact> + '_ {
        self.state
            .files()
            .iter()
            .map(|(name, file)| answer::file_fact(name, file))
    }
}

fn run(state: &mut State, step: &mut Step, command: Command) {
    match command {
        Command::Open {
            nonce,
            ttl_ms,
            name,
        } => presence::open(state, step, nonce, ttl_ms, &name),
        Command::KeepAlive { beats } => presence::keep_alive(state, step, &beats),
        Command::Session {
            session,
            seq,
            done,
            op,
        } => {
            numbered::run(state, step, Caller { session, seq }, &done, op);
        }
        Command::Settle { lock, token } => hold::settle(state, step, &lock, token),
    }
}
