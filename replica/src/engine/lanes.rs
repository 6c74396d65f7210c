//! The commands of one batch: in which order they are proposed, and which of them have room.
//!
//! ```text
//! 1 the leader's own entries, gathered keep-alives
//! 2 what keeps something up or ends it: renew, release, abort, cancel, close   may use the reserve
//! 3 what adds work: open, acquire, append, create                              may not
//! ```
//!
//! A session's own commands never change places: its release stays behind its append, in lane 3 if
//! need be, but keeps its right to the reserve. So new work can fill the leader's memory and the log's
//! disk without ever costing an idle holder its lease.

use std::collections::BTreeSet;

use paxos::Proposal;
use statemachine::{Command, Op, SessionId};

/// Bytes that an entry takes beside its payload, rounded up.
const ENTRY_BYTES: usize = 64;

/// What a command asks of a leader.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Class {
    /// Whether it takes space that a nearly full disk does not have, or begins something new.
    pub(super) adds_work: bool,
    /// Whether it is refused as out of order when an earlier command of its section is missing.
    counts: bool,
    /// Whether it goes behind everything that came before it.
    last: bool,
    session: Option<SessionId>,
}

impl Class {
    /// The leader's own entries and gathered keep-alives.
    pub(super) const KEEPS: Class = Class {
        adds_work: false,
        counts: false,
        last: false,
        session: None,
    };
    /// A commit that stands for new work.
    pub(super) const ADDS: Class = Class {
        adds_work: true,
        ..Class::KEEPS
    };

    pub(super) fn of(command: &Command) -> Class {
        match command {
            Command::Open { .. } => Class::ADDS,
            Command::KeepAlive { .. } => Class::KEEPS,
            // It ends the grant: the release that it asks about must not come after it.
            Command::Settle { .. } => Class {
                last: true,
                ..Class::KEEPS
            },
            Command::Session { session, op, .. } => Class {
                adds_work: matches!(
                    op,
                    Op::Acquire { .. } | Op::Append { .. } | Op::CreateFile { .. }
                ),
                counts: matches!(op, Op::Append { .. } | Op::Release { .. }),
                last: false,
                session: Some(*session),
            },
        }
    }
}

#[derive(Debug)]
struct Queued {
    proposal: Proposal,
    class: Class,
    /// Room was reserved for it before it came.
    granted: bool,
}

impl Queued {
    fn bytes(&self) -> usize {
        self.proposal.payload.len() + ENTRY_BYTES
    }
}

/// Bytes that may be proposed now.
#[derive(Clone, Copy, Debug)]
pub(super) struct Space {
    /// By what adds work and was not granted room.
    pub(super) open: usize,
    /// By what adds work and was granted room.
    pub(super) granted: usize,
}

/// A batch in the making.
#[derive(Debug, Default)]
pub(super) struct Lanes {
    queued: Vec<Queued>,
    /// Bytes of commands that add work.
    added_bytes: usize,
}

/// What [`Lanes::arrange`] makes of a batch.
#[derive(Debug, Default)]
pub(super) struct Arranged {
    /// In the order in which to propose them.
    pub(super) proposals: Vec<Proposal>,
    /// Those without room.
    pub(super) refused: Vec<Proposal>,
}

impl Lanes {
    pub(super) fn is_empty(&self) -> bool {
        self.queued.is_empty()
    }

    /// Bytes of commands so far that add work.
    pub(super) fn added_bytes(&self) -> usize {
        self.added_bytes
    }

    pub(super) fn push(&mut self, proposal: Proposal, class: Class, granted: bool) {
        if class.adds_work {
            self.added_bytes += proposal.payload.len();
        }
        self.queued.push(Queued {
            proposal,
            class,
            granted,
        });
    }

    /// Puts a proposal before all that came so far.
    pub(super) fn push_first(&mut self, proposal: Proposal) {
        self.queued.insert(
            0,
            Queued {
                proposal,
                class: Class::KEEPS,
                granted: false,
            },
        );
    }

    /// Takes the batch out as it came.
    pub(super) fn take_all(&mut self) -> Vec<Proposal> {
        self.added_bytes = 0;
        let queued = std::mem::take(&mut self.queued).into_iter();
        queued.map(|queued| queued.proposal).collect()
    }

    /// Takes the batch out by lanes. Once a command that adds work had no room, all that follow and
    /// were granted none are refused, too, so that large ones are not passed by small ones for ever.
    pub(super) fn arrange(&mut self, space: Space) -> Arranged {
        self.added_bytes = 0;
        // First the leader's own, then what sessions want kept or ended, then new work.
        let (mut first, mut early, mut late) = (Vec::new(), Vec::new(), Vec::new());
        let mut behind: BTreeSet<SessionId> = BTreeSet::new();
        for queued in self.queued.drain(..) {
            let Class {
                session,
                adds_work,
                last,
                ..
            } = queued.class;
            if adds_work || last || session.is_some_and(|session| behind.contains(&session)) {
                behind.extend(session);
                late.push(queued);
            } else if session.is_none() {
                first.push(queued.proposal);
            } else {
                early.push(queued.proposal);
            }
        }
        first.append(&mut early);
        let mut arranged = Arranged {
            proposals: first,
            refused: Vec::new(),
        };
        let Space {
            mut open,
            mut granted,
        } = space;
        let promised = late.iter().filter(|queued| queued.granted);
        open = open.saturating_sub(promised.map(Queued::bytes).sum());
        let mut full = false;
        let mut refused: BTreeSet<SessionId> = BTreeSet::new();
        for queued in late {
            let class = queued.class;
            let bytes = queued.bytes();
            let broken = class.counts && class.session.is_some_and(|it| refused.contains(&it));
            let room = if queued.granted {
                &mut granted
            } else {
                &mut open
            };
            let fits = !class.adds_work || (bytes <= *room && (queued.granted || !full));
            if fits && !broken {
                if class.adds_work {
                    *room -= bytes;
                }
                arranged.proposals.push(queued.proposal);
            } else {
                full |= class.adds_work && !queued.granted && !broken;
                refused.extend(class.session);
                arranged.refused.push(queued.proposal);
            }
        }
        arranged
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use paxos::EntryKind;
    use statemachine::{Done, LockMode, Seq, Token};

    use super::*;

    fn command(session: u64, op: Op) -> Command {
        Command::Session {
            session: SessionId(session),
            seq: Seq(1),
            done: Done::default(),
            op,
        }
    }

    fn append(session: u64) -> Command {
        command(
            session,
            Op::Append {
                lock: "l".into(),
                token: Token(1),
                place: 1,
                file: "f".into(),
                data: Bytes::new(),
            },
        )
    }

    fn release(session: u64) -> Command {
        command(
            session,
            Op::Release {
                lock: "l".into(),
                token: Token(1),
                count: 1,
            },
        )
    }

    fn abort(session: u64) -> Command {
        command(
            session,
            Op::Abort {
                lock: "l".into(),
                token: Token(1),
            },
        )
    }

    fn acquire(session: u64) -> Command {
        command(
            session,
            Op::Acquire {
                lock: "l".into(),
                lease_ms: None,
                wait_ms: None,
                mode: LockMode::Exclusive,
            },
        )
    }

    fn beat() -> Command {
        Command::KeepAlive { beats: Vec::new() }
    }

    /// Numbers of the commands proposed and of those refused, each command of 36 bytes, so 100 with
    /// its entry.
    #[track_caller]
    fn check(open: usize, commands: &[Command], proposed: &[u64], refused: &[u64]) {
        let mut lanes = Lanes::default();
        for (id, command) in commands.iter().enumerate() {
            let proposal = Proposal {
                id: id as u64,
                kind: EntryKind::App,
                payload: Bytes::from(vec![0; 36]),
            };
            lanes.push(proposal, Class::of(command), false);
        }
        let ids = |proposals: Vec<Proposal>| -> Vec<u64> {
            proposals.into_iter().map(|proposal| proposal.id).collect()
        };
        let arranged = lanes.arrange(Space { open, granted: 0 });
        assert_eq!(ids(arranged.proposals), proposed);
        assert_eq!(ids(arranged.refused), refused);
        assert!(lanes.is_empty() && lanes.added_bytes() == 0);
    }

    #[test]
    fn what_keeps_or_ends_goes_first() {
        check(
            1000,
            &[append(1), acquire(2), release(3), beat(), abort(4)],
            &[3, 2, 4, 0, 1],
            &[],
        );
    }

    #[test]
    fn a_session_keeps_its_order() {
        check(1000, &[append(1), release(1), release(2)], &[2, 0, 1], &[]);
    }

    /// Without room for new work, everything else still goes; a release whose append was refused
    /// would only be out of order.
    #[test]
    fn without_room_only_new_work_is_refused() {
        check(
            250,
            &[
                append(1),
                append(2),
                append(3),
                release(3),
                acquire(4),
                abort(3),
                release(5),
                beat(),
            ],
            &[7, 6, 0, 1, 5],
            &[2, 3, 4],
        );
        check(0, &[append(1), beat(), release(2)], &[1, 2], &[0]);
    }
}
