//! Agreement, seen from outside: every record that a replica hands to its log, every one that became
//! durable, every message that it sends.
//!
//! | check | holds |
//! |---|---|
//! | G1 | one value per slot and ballot is ever accepted |
//! | G2 | once a majority has durably accepted a value at some ballot, no higher one gets another |
//! | G3 | no two values are chosen for a slot |
//! | G5 | one replica, in one life, owns a ballot |
//! | R1 | what was promised durably is never forgotten |
//! | R2 | nothing below the promise is accepted |
//! | R3 | what was durably accepted is held after any crash |
//! | R7 | a promise reports every slot that its sender has acknowledged, or leaves out what is chosen |
//! | R8 | no message leaves before the disk has what it claims |

use std::collections::{BTreeMap, BTreeSet};

use paxos::{Ballot, Entry, Message, Slot, WalRecord};

use super::{Verdict, ensure};

/// What one replica's disk and mouth have committed it to.
#[derive(Debug, Default)]
struct Acceptor {
    life: u64,
    /// Promised by what is in its log, durable or not.
    promised: Ballot,
    /// Promised by what is durable.
    promised_durably: Ballot,
    /// The highest durable accept by slot.
    durable: BTreeMap<Slot, Ballot>,
    /// Slots that it may leave out of any answer: chosen and covered.
    chosen: Slot,
    /// What the parts of its promise at a ballot told of so far.
    told: (Ballot, BTreeSet<Slot>),
}

/// See the module.
#[derive(Debug)]
pub struct Votes {
    quorum: usize,
    acceptors: Vec<Acceptor>,
    /// The value of each slot and ballot.
    values: BTreeMap<(Slot, Ballot), Entry>,
    /// Who has durably accepted it: a bit for each replica.
    voters: BTreeMap<(Slot, Ballot), u32>,
    /// The lowest ballot at which a slot's value was chosen, and the value.
    chosen: BTreeMap<Slot, (Ballot, Entry)>,
    /// Every slot up to here is chosen.
    settled: Slot,
    /// In which life of its owner a ballot proposed.
    proposers: BTreeMap<Ballot, u64>,
    /// The highest slot that each candidate asked from: what is below is chosen for it, or was told to it.
    asked: BTreeMap<Ballot, Slot>,
}

impl Votes {
    /// Nothing has happened yet.
    pub fn new(replicas: usize) -> Votes {
        Votes {
            quorum: replicas / 2 + 1,
            acceptors: (0..replicas).map(|_| Acceptor::default()).collect(),
            values: BTreeMap::new(),
            voters: BTreeMap::new(),
            chosen: BTreeMap::new(),
            settled: Slot(0),
            proposers: BTreeMap::new(),
            asked: BTreeMap::new(),
        }
    }

    /// The value chosen for a slot, as the votes say.
    pub fn chosen(&self, slot: Slot) -> Option<&Entry> {
        self.chosen.get(&slot).map(|(_, entry)| entry)
    }

    /// A replica handed a record to its log.
    pub fn on_submitted(&mut self, replica: usize, record: &WalRecord) -> Verdict {
        match record {
            WalRecord::Promise { ballot } => {
                let acceptor = &mut self.acceptors[replica];
                ensure(*ballot >= acceptor.promised, "R1", || {
                    format!(
                        "replica {replica} promises {ballot} after {}",
                        acceptor.promised
                    )
                })?;
                acceptor.promised = *ballot;
                Ok(())
            }
            WalRecord::Accept {
                slot,
                ballot,
                entry,
            } => {
                let acceptor = &mut self.acceptors[replica];
                ensure(*ballot >= acceptor.promised, "R2", || {
                    format!(
                        "replica {replica} accepts {ballot} in slot {slot}, promised {}",
                        acceptor.promised
                    )
                })?;
                acceptor.promised = *ballot;
                self.on_value(*slot, *ballot, entry)
            }
            WalRecord::Chosen { slot, entry } => match self.chosen.get(slot) {
                Some((_, value)) => ensure(value == entry, "G3", || {
                    format!("replica {replica} keeps another value as chosen in slot {slot}")
                }),
                None => ensure(false, "R4", || {
                    format!(
                        "replica {replica} keeps slot {slot} as chosen, no quorum has accepted it"
                    )
                }),
            },
            WalRecord::SnapshotMark { .. } => Ok(()),
        }
    }

    fn on_value(&mut self, slot: Slot, ballot: Ballot, entry: &Entry) -> Verdict {
        if let Some(value) = self.values.get(&(slot, ballot)) {
            return ensure(value == entry, "G1", || {
                format!("slot {slot} has two values at {ballot}: {value:?} and {entry:?}")
            });
        }
        if let Some((at, value)) = self.chosen.get(&slot) {
            ensure(ballot < *at || value == entry, "G2", || {
                format!("slot {slot}: {value:?} chosen at {at}, {entry:?} proposed at {ballot}")
            })?;
        }
        self.values.insert((slot, ballot), entry.clone());
        Ok(())
    }

    /// Records of a replica are durable.
    pub fn on_durable(&mut self, replica: usize, record: &WalRecord) -> Verdict {
        match record {
            WalRecord::Promise { ballot } => {
                let acceptor = &mut self.acceptors[replica];
                acceptor.promised_durably = acceptor.promised_durably.max(*ballot);
                Ok(())
            }
            WalRecord::Accept {
                slot,
                ballot,
                entry,
            } => self.vote(replica, *slot, *ballot, entry),
            WalRecord::Chosen { .. } | WalRecord::SnapshotMark { .. } => Ok(()),
        }
    }

    fn vote(&mut self, replica: usize, slot: Slot, ballot: Ballot, entry: &Entry) -> Verdict {
        let acceptor = &mut self.acceptors[replica];
        acceptor.promised_durably = acceptor.promised_durably.max(ballot);
        let highest = acceptor.durable.entry(slot).or_default();
        *highest = (*highest).max(ballot);
        let voters = self.voters.entry((slot, ballot)).or_default();
        *voters |= 1 << replica;
        if (voters.count_ones() as usize) < self.quorum {
            return Ok(());
        }
        if let Some((at, value)) = self.chosen.get_mut(&slot) {
            *at = (*at).min(ballot);
            return ensure(value == entry, "G3", || {
                format!("slot {slot}: {value:?} and {entry:?} are both chosen")
            });
        }
        // Whoever proposed another value at a higher ballot did so before this majority was complete.
        let above = self
            .values
            .range((slot, ballot)..=(slot, Ballot::from_raw(u64::MAX)));
        for ((_, higher), value) in above {
            ensure(value == entry, "G2", || {
                format!("slot {slot}: {entry:?} chosen at {ballot}, {value:?} proposed at {higher}")
            })?;
        }
        self.chosen.insert(slot, (ballot, entry.clone()));
        while self.chosen.contains_key(&self.settled.next()) {
            self.settled = self.settled.next();
        }
        Ok(())
    }

    /// A replica sends a message.
    pub fn on_sent(&mut self, replica: usize, message: &Message) -> Verdict {
        let acceptor = &mut self.acceptors[replica];
        match message {
            Message::Prepare(prepare) => {
                ensure(acceptor.promised_durably >= prepare.ballot, "R8", || {
                    format!(
                        "replica {replica} asks for promises at {} before its own is durable",
                        prepare.ballot
                    )
                })?;
                let asked = self.asked.entry(prepare.ballot).or_default();
                *asked = prepare.from.max(*asked);
                let life = acceptor.life;
                self.owns(replica, life, prepare.ballot)
            }
            Message::Promise(promise) => {
                ensure(acceptor.promised_durably >= promise.ballot, "R8", || {
                    format!(
                        "replica {replica} promises {} before that is durable",
                        promise.ballot
                    )
                })?;
                check_report(replica, acceptor, promise)?;
                self.check_left_out(replica, promise)
            }
            Message::Accept(accept) => {
                let (life, ballot) = (acceptor.life, accept.ballot);
                ensure(acceptor.promised_durably >= ballot, "R8", || {
                    format!("replica {replica} proposes at {ballot} before that is durably its own")
                })?;
                self.owns(replica, life, ballot)?;
                for (slot, entry) in (accept.prev.0 + 1..).map(Slot).zip(&accept.entries) {
                    self.on_value(slot, ballot, entry)?;
                }
                Ok(())
            }
            Message::Accepted(accepted) => {
                check_ack(replica, acceptor, accepted.ballot, accepted.upto)
            }
            Message::HeartbeatAck(ack) => check_ack(replica, acceptor, ack.ballot, ack.upto),
            _ => Ok(()),
        }
    }

    /// R7: of what the sender durably accepted below `start`, every slot was told of in an earlier part, or it is
    /// chosen: by the votes, and as the candidate knows, who did not ask for it, or as the sender says, so that
    /// the candidate fetches it.
    fn check_left_out(&mut self, replica: usize, promise: &paxos::message::Promise) -> Verdict {
        let asked = self.asked.get(&promise.ballot).copied();
        let asked = asked.unwrap_or_default();
        let acceptor = &mut self.acceptors[replica];
        if acceptor.told.0 != promise.ballot {
            acceptor.told = (promise.ballot, BTreeSet::new());
        }
        let told = (promise.start.0..).map(Slot).take(promise.held.len());
        acceptor.told.1.extend(told);
        let sure = self.settled.min(promise.chosen.max(asked.prev())).next();
        if promise.start <= sure {
            return Ok(());
        }
        for slot in acceptor.durable.range(sure..promise.start) {
            let slot = slot.0;
            let chosen =
                (*slot < asked || *slot <= promise.chosen) && self.chosen.contains_key(slot);
            let known = acceptor.told.1.contains(slot) || chosen;
            ensure(known, "R7", || {
                format!(
                    "replica {replica} promises {} from slot {} on and leaves out slot {slot}; it says that {} is \
                     chosen",
                    promise.ballot, promise.start, promise.chosen
                )
            })?;
        }
        Ok(())
    }

    fn owns(&mut self, replica: usize, life: u64, ballot: Ballot) -> Verdict {
        let owner = usize::from(ballot.node().0) == replica + 1;
        let first = *self.proposers.entry(ballot).or_insert(life);
        ensure(owner && first == life, "G5", || {
            format!(
                "replica {replica} in life {life} uses ballot {ballot}, first used in life {first}"
            )
        })
    }

    /// A replica knows a slot to be chosen; everything up to it may be left out of its answers.
    pub fn on_chosen_known(&mut self, replica: usize, slot: Slot) {
        let chosen = &mut self.acceptors[replica].chosen;
        *chosen = (*chosen).max(slot);
    }

    /// The last slot that a replica's disk holds.
    pub fn last_durable(&self, replica: usize) -> Slot {
        let last = self.acceptors[replica].durable.last_key_value();
        last.map_or(Slot(0), |(slot, _)| *slot)
    }

    /// A replica's folder was replaced: what it was bound to is forgotten, as its disk has forgotten it.
    pub fn forget(&mut self, replica: usize) {
        self.acceptors[replica] = Acceptor::default();
    }

    /// A replica came back with this in its log.
    pub fn on_restart(
        &mut self,
        replica: usize,
        life: u64,
        promised: Ballot,
        chosen: Slot,
        accepted: &[(Slot, Ballot, Entry, bool)],
    ) -> Verdict {
        let acceptor = &mut self.acceptors[replica];
        ensure(promised >= acceptor.promised_durably, "R1", || {
            format!(
                "replica {replica} promised {}, came back with {promised}",
                acceptor.promised_durably
            )
        })?;
        acceptor.life = life;
        acceptor.promised = promised;
        acceptor.promised_durably = promised;
        acceptor.chosen = acceptor.chosen.min(chosen);
        let held: BTreeMap<Slot, (Ballot, bool)> = accepted
            .iter()
            .map(|(slot, ballot, _, known)| (*slot, (*ballot, *known)))
            .collect();
        for (slot, ballot) in acceptor.durable.range(chosen.next()..) {
            let kept = held
                .get(slot)
                .is_some_and(|(held, known)| *known || held >= ballot);
            ensure(kept, "R3", || {
                format!(
                    "replica {replica} lost slot {slot}, durably accepted at {ballot}; it holds {:?}",
                    held.get(slot)
                )
            })?;
        }
        for (slot, ballot, entry, known) in accepted {
            if !known {
                self.on_value(*slot, *ballot, entry)?;
                self.vote(replica, *slot, *ballot, entry)?;
            }
        }
        Ok(())
    }
}

/// R7: what the sender acknowledged above the candidate's prefix is in its promise, part by part.
fn check_report(replica: usize, acceptor: &Acceptor, promise: &paxos::message::Promise) -> Verdict {
    let last = acceptor
        .durable
        .last_key_value()
        .map_or(Slot(0), |(slot, _)| *slot);
    ensure(promise.last >= last, "R7", || {
        format!(
            "replica {replica} promises {} up to slot {}, it holds {last}",
            promise.ballot, promise.last
        )
    })?;
    for (slot, held) in (promise.start.0..).map(Slot).zip(&promise.held) {
        let Some(ballot) = acceptor.durable.get(&slot) else {
            continue;
        };
        ensure(held.chosen || held.ballot >= *ballot, "R7", || {
            format!(
                "replica {replica} reports slot {slot} at {}, accepted at {ballot}",
                held.ballot
            )
        })?;
    }
    Ok(())
}

/// R8: a cumulative acknowledgement covers nothing that is not durable.
fn check_ack(replica: usize, acceptor: &Acceptor, ballot: Ballot, upto: Slot) -> Verdict {
    if upto <= acceptor.chosen {
        return Ok(());
    }
    for slot in (acceptor.chosen.0 + 1..=upto.0).map(Slot) {
        ensure(acceptor.durable.get(&slot) == Some(&ballot), "R8", || {
            format!(
                "replica {replica} acknowledges slot {slot} at {ballot}, durable is {:?}",
                acceptor.durable.get(&slot)
            )
        })?;
    }
    Ok(())
}
