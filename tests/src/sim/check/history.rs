//! The one history: a sequential replay of what was chosen, against which every replica's state and
//! every client's answer is compared.
//!
//! | check | holds |
//! |---|---|
//! | R4 | what a replica applies is chosen, and the same everywhere |
//! | L1 | an answer is that of the replay, at a slot after everything answered before it was asked |
//! | L3 | a stamp in an answer is that of the one entry made for that very attempt, after it was sent |
//! | S1 | equal state at equal slot |
//! | S2 | a command has one answer for ever |
//! | S3 | cluster time never falls and never runs faster than real time |
//! | S5 | tokens grow |
//! | S6 | data files are what the history says, byte for byte |

use std::collections::BTreeMap;

use bytes::Bytes;
use paxos::{ClusterClock, Entry, EntryKind, Moved, Slot};
use replica::engine::apply_entry;
use statemachine::{
    Answer, Command, Event, Fate, FileId, FileOp, LeftQueueWhy, LostWhy, Machine, Outcome, Query,
    Refusal, Reply, ReplyTo, Seq, SessionId, Token,
};

use super::votes::Votes;
use super::{Verdict, Violation, ensure};

/// Steps between two states that are kept.
const LANDMARK_EVERY: usize = 16;

/// Clocks run at most this much apart from real time, in millionths.
const DRIFT_PPM: u64 = 10_000;

/// One slot of the history.
#[derive(Debug)]
struct Step {
    entry: Entry,
    replies: Vec<Reply>,
    /// Waiting acquires that left their queues because their clients want them no more.
    given_up: Vec<(SessionId, Seq)>,
    moved: Moved,
    /// Of the state after it.
    hash: u64,
}

/// What an attempt asked, and what had been answered to anybody by then.
#[derive(Clone, Debug)]
pub struct Asked {
    /// What.
    pub what: What,
    /// The highest slot in any answer that had reached a client when the call was first made.
    pub floor: u64,
    /// When this attempt was sent, in the simulation's own time.
    pub sent_us: u64,
}

/// What an attempt asked.
#[derive(Clone, Debug)]
pub enum What {
    /// A session by this nonce.
    Open(u128),
    /// A command of a session.
    Command(SessionId, Seq),
    /// How a grant ended.
    Settle(Token),
    /// A keep-alive.
    Beat,
    /// A read; whether an old state would do.
    Query(Query, bool),
    /// A commit.
    Health,
}

impl What {
    /// Whether an entry holds this call's command.
    fn is_carried_by(&self, entry: &Entry) -> bool {
        if entry.kind() != EntryKind::App {
            return false;
        }
        match (self, Command::decode(&entry.payload())) {
            (What::Open(asked), Ok(Command::Open { nonce, .. })) => *asked == nonce,
            (What::Command(to, number), Ok(Command::Session { session, seq, .. })) => {
                (*to, *number) == (session, seq)
            }
            (What::Settle(asked), Ok(Command::Settle { token, .. })) => *asked == token,
            (What::Beat, Ok(Command::KeepAlive { .. })) => true,
            _ => false,
        }
    }
}

/// See the module.
#[derive(Debug, Default)]
pub struct History {
    steps: Vec<Step>,
    /// The state after the last step.
    machine: Machine,
    /// The states after every so many steps. To keep each would cost a copy of all that a step touches.
    landmarks: Vec<Machine>,
    clock: ClusterClock,
    files: BTreeMap<FileId, Vec<u8>>,
    first_answers: BTreeMap<(SessionId, Seq), Bytes>,
    last_token: u64,
    /// How grants ended, as far as `settle` told.
    fates: BTreeMap<u64, Fate>,
    /// Grants whose lease or session was over, by lock and token, until somebody asks.
    ended: Vec<(String, u64)>,
    /// When each entry was first handed to a log, by its bytes' identity: birth and slot.
    stamped_us: BTreeMap<(u64, Slot), u64>,
    /// The attempt that each entry with a single command was made for, as the first stamped answer said.
    carried: BTreeMap<Slot, u64>,
    /// The last entry that moved time: its time and when it was stamped.
    moved: Option<(u64, u64)>,
    /// The highest slot in an answer that reached a client.
    answered: u64,
}

impl History {
    /// The highest slot applied anywhere.
    pub fn last(&self) -> Slot {
        Slot(self.steps.len() as u64)
    }

    /// The highest slot in an answer that reached a client.
    pub fn answered(&self) -> u64 {
        self.answered
    }

    /// The state after the last slot.
    pub fn machine(&self) -> &Machine {
        &self.machine
    }

    /// The state after so many steps.
    fn machine_at(&self, steps: usize) -> Machine {
        if steps == self.steps.len() {
            return self.machine.clone();
        }
        let landmarks = steps / LANDMARK_EVERY;
        let mut machine = match landmarks.checked_sub(1) {
            Some(last) => self.landmarks[last].clone(),
            None => Machine::new(),
        };
        for at in landmarks * LANDMARK_EVERY..steps {
            let step = &self.steps[at];
            apply_entry(&mut machine, Slot(at as u64 + 1), &step.entry, step.moved);
        }
        machine
    }

    /// The content of every file as of the last slot, by name.
    pub fn files(&self) -> impl Iterator<Item = (String, &[u8])> {
        self.machine.files().map(|fact| {
            let content = self.files.get(&fact.id).map_or(&[][..], Vec::as_slice);
            (fact.name, content)
        })
    }

    /// A leader handed an entry of its own to its log.
    pub fn on_stamped(&mut self, now_us: u64, slot: Slot, entry: &Entry) {
        self.stamped_us
            .entry((entry.birth().raw(), slot))
            .or_insert(now_us);
    }

    /// A replica applied `entry` in `slot`.
    pub fn on_applied(&mut self, votes: &Votes, slot: Slot, entry: &Entry) -> Verdict {
        if let Some(step) = self.steps.get(slot.0 as usize - 1) {
            return ensure(step.entry == *entry, "R4", || {
                format!(
                    "slot {slot}: applied {:?} here and {entry:?} there",
                    step.entry
                )
            });
        }
        ensure(slot == self.last().next(), "R4", || {
            format!("slot {slot} applied after {}", self.last())
        })?;
        ensure(votes.chosen(slot) == Some(entry), "R4", || {
            format!(
                "slot {slot}: applied {entry:?}, the votes say {:?}",
                votes.chosen(slot)
            )
        })?;
        self.extend(slot, entry)
    }

    fn extend(&mut self, slot: Slot, entry: &Entry) -> Verdict {
        let before_ms = self.clock.time_ms;
        let moved = self.clock.observe(slot, entry);
        ensure(moved.time_ms >= before_ms, "S3", || {
            format!("time falls in slot {slot}")
        })?;
        if moved.counts {
            self.check_pace(slot, entry, moved.time_ms)?;
        }
        let effects = apply_entry(&mut self.machine, slot, entry, moved);
        for op in &effects.files {
            self.on_file(op);
        }
        for reply in &effects.replies {
            self.check_reply(slot, reply)?;
        }
        let given_up = effects.events.iter().filter_map(|event| match event {
            Event::LeftQueue {
                session,
                seq,
                why: LeftQueueWhy::GivenUp,
                ..
            } => Some((*session, *seq)),
            _ => None,
        });
        self.ended
            .extend(effects.events.iter().filter_map(|event| match event {
                Event::Lost {
                    lock,
                    token,
                    why: LostWhy::LeaseExpired | LostWhy::SessionExpired,
                    ..
                } => Some((lock.clone(), token.0)),
                _ => None,
            }));
        self.steps.push(Step {
            entry: entry.clone(),
            given_up: given_up.collect(),
            replies: effects.replies,
            moved,
            hash: self.machine.state_hash(),
        });
        if self.steps.len().is_multiple_of(LANDMARK_EVERY) {
            self.landmarks.push(self.machine.clone());
        }
        Ok(())
    }

    /// Takes the grants that ended since the last time because their terms were over.
    pub fn take_ended(&mut self) -> Vec<(String, u64)> {
        std::mem::take(&mut self.ended)
    }

    /// S3: between two entries that move time, no more cluster time than real time passed.
    fn check_pace(&mut self, slot: Slot, entry: &Entry, time_ms: u64) -> Verdict {
        let Some(&at_us) = self.stamped_us.get(&(entry.birth().raw(), slot)) else {
            return ensure(false, "S3", || {
                format!("slot {slot}: nobody is known to have stamped {entry:?}")
            });
        };
        if let Some((last_ms, last_us)) = self.moved {
            let real_us = at_us.saturating_sub(last_us);
            let most_us = real_us + real_us * DRIFT_PPM / 1_000_000 + 2_000;
            ensure((time_ms - last_ms) * 1_000 <= most_us, "S3", || {
                format!(
                    "slot {slot}: cluster time ran {} ms in {real_us} us",
                    time_ms - last_ms
                )
            })?;
        }
        self.moved = Some((time_ms, at_us));
        Ok(())
    }

    fn on_file(&mut self, op: &FileOp) {
        match op {
            FileOp::Create { id, .. } => {
                self.files.insert(*id, Vec::new());
            }
            FileOp::Write {
                id, offset, data, ..
            } => {
                let content = self.files.entry(*id).or_default();
                assert_eq!(content.len() as u64, *offset, "files are only appended to");
                content.extend_from_slice(data);
            }
            FileOp::Remove { .. } => {}
        }
    }

    fn check_reply(&mut self, slot: Slot, reply: &Reply) -> Verdict {
        if let Outcome::Granted { token, .. } = &reply.outcome
            && let ReplyTo::Command(session, seq) = reply.to
            && !self.first_answers.contains_key(&(session, seq))
        {
            ensure(token.0 > self.last_token, "S5", || {
                format!(
                    "slot {slot}: token {token} granted after {}",
                    self.last_token
                )
            })?;
            self.last_token = token.0;
        }
        if let (ReplyTo::Settle(token), Outcome::Settled { fate }) = (&reply.to, &reply.outcome)
            && *fate != Fate::Unknown
        {
            let first = self.fates.entry(token.0).or_insert_with(|| fate.clone());
            ensure(first == fate, "S2", || {
                format!("slot {slot}: token {token} ended as {fate:?} after {first:?}")
            })?;
        }
        let ReplyTo::Command(session, seq) = reply.to else {
            return Ok(());
        };
        if is_not_remembered(&reply.outcome) {
            return Ok(());
        }
        let bytes = Bytes::from(reply.outcome.encode());
        let first = self
            .first_answers
            .entry((session, seq))
            .or_insert_with(|| bytes.clone());
        ensure(*first == bytes, "S2", || {
            let was = Outcome::decode(first);
            format!(
                "slot {slot}: {session}/{seq} is answered {:?} after {was:?}",
                reply.outcome
            )
        })
    }

    /// S1: a replica's state as of `slot`.
    pub fn check_state(&self, replica: usize, slot: Slot, machine: &Machine) -> Verdict {
        let Some(at) = (slot.0 as usize).checked_sub(1) else {
            return Ok(());
        };
        let expected = self.steps[at].hash;
        let found = machine.state_hash();
        ensure(found == expected, "S1", || {
            format!(
                "replica {replica} at slot {slot}: state hash {found:016x}, expected {expected:016x}"
            )
        })
    }

    /// S6: a replica's files as of `slot`, read by `read`.
    pub fn check_files(
        &self,
        replica: usize,
        slot: Slot,
        mut read: impl FnMut(&str, u64) -> Result<(Vec<u8>, u64), String>,
    ) -> Verdict {
        for fact in self.machine_at(slot.0 as usize).files() {
            let content = &self.files[&fact.id];
            let expected = &content[..fact.length as usize];
            let found = read(&fact.name, fact.length).map_err(|detail| Violation {
                check: "S6",
                detail,
            })?;
            ensure(found.0 == expected && found.1 == fact.length, "S6", || {
                let same = found
                    .0
                    .iter()
                    .zip(expected)
                    .take_while(|(a, b)| a == b)
                    .count();
                format!(
                    "replica {replica} at slot {slot}: file {} has {} bytes instead of {}, equal up to {same}",
                    fact.name, found.1, fact.length
                )
            })?;
        }
        Ok(())
    }

    /// L1 and L3: an answer to attempt `request` reaches a client.
    pub fn on_answer(&mut self, request: u64, asked: &Asked, body: &net::ResponseBody) -> Verdict {
        match body {
            net::ResponseBody::Outcome {
                slot,
                stamp_ms,
                bytes,
            } => {
                self.check_outcome(asked, *slot, bytes)?;
                if let Some(stamp_ms) = stamp_ms {
                    self.check_stamp(request, asked, *slot, *stamp_ms)?;
                }
                self.answered = self.answered.max(*slot);
            }
            net::ResponseBody::Answer { slot, bytes } => {
                let What::Query(query, stale) = &asked.what else {
                    return ensure(false, "L1", || {
                        format!("{:?} is answered as a read", asked.what)
                    });
                };
                ensure(*stale || *slot >= asked.floor, "L1", || {
                    format!(
                        "a read of slot {slot}, when slot {} had been answered: {query:?}",
                        asked.floor
                    )
                })?;
                self.check_read(query, *slot, bytes)?;
                if !stale {
                    self.answered = self.answered.max(*slot);
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn check_outcome(&self, asked: &Asked, slot: u64, bytes: &Bytes) -> Verdict {
        ensure(slot > asked.floor, "L1", || {
            format!(
                "{:?} answered at slot {slot}, when slot {} had been",
                asked.what, asked.floor
            )
        })?;
        let Some(step) = self.steps.get((slot as usize).wrapping_sub(1)) else {
            return ensure(false, "L1", || {
                format!("an answer of slot {slot}, which nobody applied")
            });
        };
        let found = Outcome::decode(bytes).map_err(|error| Violation {
            check: "L1",
            detail: format!("an answer of slot {slot} does not decode: {error}"),
        })?;
        let fits = |reply: &Reply| match (&asked.what, &reply.to, &reply.outcome) {
            (What::Open(nonce), ReplyTo::Nonce(to), outcome) => nonce == to && *outcome == found,
            (What::Command(session, seq), ReplyTo::Command(to, to_seq), outcome) => {
                session == to && seq == to_seq && *outcome == found
            }
            (What::Settle(token), ReplyTo::Settle(to), outcome) => token == to && *outcome == found,
            (What::Beat, ReplyTo::Beats, Outcome::Alive { beats }) => match &found {
                Outcome::Alive { beats: share } => share.iter().all(|beat| beats.contains(beat)),
                _ => false,
            },
            _ => false,
        };
        // Who still listens for an acquire that was given up is told what asking again would tell.
        let forgotten = match asked.what {
            What::Command(session, seq) if found == Outcome::Refused(Refusal::Forgotten) => {
                step.given_up.contains(&(session, seq))
            }
            _ => false,
        };
        ensure(forgotten || step.replies.iter().any(fits), "L1", || {
            format!(
                "{:?} answered {found:?} at slot {slot}; the history says {:?}",
                asked.what, step.replies
            )
        })
    }

    /// L3: `stamp_ms` stands in an entry that was made for this attempt. Clients count their leases from the
    /// sending of the attempt, so an entry that was stamped before the sending would let them count too long.
    ///
    /// The answer to a waiting acquire comes in a later slot than its entry, so the entry is looked for. An
    /// entry with one command answers one attempt; gathered keep-alives are many attempts in one entry.
    fn check_stamp(&mut self, request: u64, asked: &Asked, slot: u64, stamp_ms: u64) -> Verdict {
        let is_beat = matches!(asked.what, What::Beat);
        let lowest = if is_beat { slot } else { asked.floor + 1 };
        // From the answer's own slot downwards: two attempts of one command may stand side by side under one stamp.
        let own = (lowest..=slot).rev().map(Slot).find(|at| {
            let step = &self.steps[at.0 as usize - 1];
            let made_us = self.stamped_us.get(&(step.entry.birth().raw(), *at));
            let carried = self.carried.get(at);
            step.moved.counts
                && step.entry.stamp_ms() == stamp_ms
                && asked.what.is_carried_by(&step.entry)
                && made_us.is_some_and(|made_us| *made_us >= asked.sent_us)
                && carried.is_none_or(|other| *other == request)
        });
        let Some(own) = own else {
            return ensure(false, "L3", || {
                format!(
                    "attempt {request:x} of {:?}, sent at {} us and answered at slot {slot}, bears stamp \
                     {stamp_ms}, which no entry made for it bears",
                    asked.what, asked.sent_us
                )
            });
        };
        if !is_beat {
            self.carried.insert(own, request);
        }
        Ok(())
    }

    fn check_read(&self, query: &Query, slot: u64, bytes: &Bytes) -> Verdict {
        ensure(slot <= self.last().0, "L1", || {
            format!("a read of slot {slot}, not applied")
        })?;
        let machine = self.machine_at(slot as usize);
        let expected = match machine.query(query) {
            Answer::ReadPlan {
                id,
                offset,
                len,
                file_len,
                ..
            } => {
                let part = offset as usize..offset as usize + len as usize;
                let data = self.files[&id].get(part).unwrap_or_default();
                let data = Bytes::copy_from_slice(data);
                Answer::Data {
                    offset,
                    file_len,
                    data,
                }
            }
            answer => answer,
        };
        let found = Answer::decode(bytes);
        ensure(found.as_ref() == Ok(&expected), "L1", || {
            format!("{query:?} at slot {slot}: {found:?}, the history says {expected:?}")
        })
    }

    /// How many entries of a kind were chosen.
    pub fn count(&self, kind: EntryKind) -> usize {
        self.steps
            .iter()
            .filter(|step| step.entry.kind() == kind)
            .count()
    }
}

/// Refusals that leave no trace, so that the same command may fare better the next time.
fn is_not_remembered(outcome: &Outcome) -> bool {
    matches!(
        outcome,
        Outcome::Refused(
            Refusal::OutOfOrder { .. }
                | Refusal::SessionExpired
                | Refusal::Forgotten
                | Refusal::TooManyInFlight { .. }
                | Refusal::Full { .. }
        )
    )
}
