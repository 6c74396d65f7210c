//! Who remembers what of whose disk, and which votes count because of it.
//!
//! - The votes of a peer in a new start count only once the superblock here names that start. From then on
//!   an older start, or a second process on a copy of the same folder, is refused here, after a restart too.
//! - What each disk holds travels with heartbeats, promises and handshakes. A replica that hears that its own
//!   disk held more than it finds there runs on an old copy: it stops, and the superblock says so for ever.
//! - A promise that reports less than its sender is known to hold does not count.
//!
//! An old copy that nobody in reach remembers better passes for the replica that it once was. What was lost
//! by it shows when the histories meet; see `schism.rs`.

use std::collections::{BTreeMap, VecDeque};

use crate::core::{Core, Part};
use crate::durable::Waiting;
use crate::ident::{Life, NodeId, Slot};
use crate::memory::{Condemned, Mark, Memories, Memory, Testimony};
use crate::message::{Message, Witness};
use crate::outbox::{Note, Outbox, Remember};
use crate::refusal::Refusal;

/// What a replica remembers of all members, and how much of it the superblock has.
#[derive(Clone, Debug, Default)]
pub(crate) struct Records {
    pub(crate) memories: Memories,
    /// The starts that the superblock names.
    durable: BTreeMap<NodeId, Life>,
    /// What was asked to be written and is not durable: the number, and the starts in it.
    writing: VecDeque<(u64, BTreeMap<NodeId, Life>)>,
    number: u64,
    /// Something changed since the superblock was last told.
    changed: bool,
}

impl Records {
    pub(crate) fn new(memories: Memories, own: NodeId, life: Life) -> Records {
        let lives = memories.members.iter();
        let mut records = Records {
            durable: lives.map(|(&node, memory)| (node, memory.life)).collect(),
            memories,
            changed: true,
            ..Records::default()
        };
        records.of(own).life = life;
        records
    }

    fn of(&mut self, node: NodeId) -> &mut Memory {
        self.memories.members.entry(node).or_default()
    }

    fn get(&self, node: NodeId) -> Memory {
        self.memories
            .members
            .get(&node)
            .copied()
            .unwrap_or_default()
    }

    /// Adds what is known of a disk.
    pub(crate) fn merge(&mut self, node: NodeId, memory: &Memory) {
        let known = self.of(node);
        let before = *known;
        known.merge(memory);
        self.changed |= *known != before;
    }

    /// Whether the superblock names that start, or was asked to.
    fn has_written(&self, peer: NodeId, life: Life) -> bool {
        let lives = self
            .writing
            .back()
            .map_or(&self.durable, |(_, lives)| lives);
        lives.get(&peer) == Some(&life)
    }

    fn write(&mut self) -> Remember {
        self.number += 1;
        let lives = self.memories.members.iter();
        let lives = lives.map(|(&node, memory)| (node, memory.life)).collect();
        self.writing.push_back((self.number, lives));
        self.changed = false;
        Remember {
            number: self.number,
            memories: self.memories.clone(),
        }
    }
}

impl Core {
    /// What this replica remembers of every member, for handshakes; cheap enough for every heartbeat.
    #[must_use]
    pub fn witness(&self) -> Vec<Testimony> {
        let own = self.own();
        let of = |(&node, &memory): (&NodeId, &Memory)| Testimony {
            node,
            memory,
            mark: match self.peers.get(&node) {
                _ if node == own => self.own_mark(),
                Some(peer) => peer.mark,
                None => Mark::default(),
            },
        };
        self.records.memories.members.iter().map(of).collect()
    }

    pub(crate) fn own_testimony(&self) -> Testimony {
        let node = self.own();
        Testimony {
            node,
            memory: self.records.get(node),
            mark: self.own_mark(),
        }
    }

    /// The own disk has promised `ballot`.
    pub(crate) fn note_promised(&mut self, ballot: crate::ballot::Ballot) {
        let memory = Memory {
            ballot,
            ..Memory::default()
        };
        self.records.merge(self.own(), &memory);
    }

    /// The own disk has everything up to `upto`, at `ballot` or chosen.
    pub(crate) fn note_vote(&mut self, ballot: crate::ballot::Ballot, upto: Slot) {
        let mut memory = Memory {
            last: upto,
            ..Memory::default()
        };
        // A slot below may be chosen and held at another ballot; a later start could not tell that it is chosen.
        if self.log.get(upto).is_some_and(|item| item.ballot == ballot) {
            memory.ballot = ballot;
            memory.accepted = upto;
        }
        self.records.merge(self.own(), &memory);
    }

    /// A peer acknowledged everything up to `upto`.
    pub(crate) fn note_acknowledged(&mut self, peer: NodeId, upto: Slot) {
        let memory = Memory {
            last: upto,
            ..Memory::default()
        };
        self.records.merge(peer, &memory);
    }

    /// Lets the superblock have what is new with its next write, once per heartbeat.
    pub(crate) fn remember_later(&mut self, out: &mut Outbox) {
        if std::mem::take(&mut self.records.changed) {
            out.remember_later = Some(self.records.memories.clone());
        }
    }

    /// A message came over the present connection of `peer`: it has read this replica's handshake and went
    /// on, so its start is believed, and recorded if it is new.
    pub(crate) fn meet(&mut self, peer: NodeId, out: &mut Outbox) {
        let Some(life) = self.peers.get(&peer).map(|known| known.life) else {
            return;
        };
        let known = self.records.get(peer).life;
        if life.is_after(known) {
            self.records.of(peer).life = life;
        } else if life != known {
            return; // Its next start was heard of already.
        }
        if !self.records.has_written(peer, life) {
            out.remember = Some(self.records.write());
        }
    }

    /// Whether the peer's votes count: its start is durable here, and nothing is held against it.
    pub(crate) fn counts(&self, peer: NodeId) -> bool {
        self.peers.get(&peer).is_some_and(|known| {
            known.refused.is_none() && self.records.durable.get(&peer) == Some(&known.life)
        })
    }

    /// The superblock names the starts that were asked to be written up to `number`.
    pub(crate) fn on_remembered(&mut self, number: u64, out: &mut Outbox) {
        let writing = &mut self.records.writing;
        while writing.front().is_some_and(|(first, _)| *first <= number) {
            let (_, lives) = writing.pop_front().expect("just seen");
            self.records.durable = lives;
        }
        for peer in self.peers_up() {
            let newly = self.counts(peer) && !self.peers[&peer].counted;
            if newly && let Some(known) = self.peers.get_mut(&peer) {
                known.counted = true;
                // Whatever it answered meanwhile was not counted.
                self.greet(peer, out);
                self.prepare_late(peer, out);
            }
        }
    }

    /// Whether a start of `peer` may be believed at all: none older than the last one known of, and no
    /// second one of the same number.
    pub(crate) fn accepts_life(&self, peer: NodeId, life: Life) -> bool {
        let known = self.records.get(peer).life;
        known == Life::default() || life == known || life.is_after(known)
    }

    pub(crate) fn known_life(&self, peer: NodeId) -> Life {
        self.records.get(peer).life
    }

    /// Takes in what `from` remembers. Gives false if that shows that the own disk is an old copy: then this
    /// replica does nothing more.
    pub(crate) fn hear_witness(
        &mut self,
        from: NodeId,
        witness: &[Testimony],
        out: &mut Outbox,
    ) -> bool {
        for testimony in witness {
            if testimony.node == self.own() {
                if !self.is_as_remembered(&testimony.memory) {
                    self.condemn(from, testimony.memory, out);
                    return false;
                }
            } else if self.peers.contains_key(&testimony.node) {
                self.hear_testimony(from, testimony, out);
            }
        }
        true
    }

    /// Takes in what somebody says of a peer, perhaps that peer itself.
    pub(crate) fn hear_testimony(&mut self, from: NodeId, testimony: &Testimony, out: &mut Outbox) {
        let Testimony { node, memory, mark } = *testimony;
        self.records.merge(node, &memory);
        // Its own start is believed once it goes on after it has read this replica's handshake.
        if node != from {
            self.hear_life(node, memory.life, out);
        }
        self.hear_mark(node, mark, out);
    }

    fn hear_life(&mut self, peer: NodeId, life: Life, out: &mut Outbox) {
        let known = self.records.get(peer).life;
        if life == Life::default() || life == known {
            return;
        }
        if life.is_after(known) {
            // Enough to refuse older ones. Its votes count once it was met and the superblock names it.
            self.records.of(peer).life = life;
            self.records.changed = true;
        } else if life.incarnation == known.incarnation {
            self.refuse(peer, Refusal::Life { found: life, known }, out);
        }
    }

    /// Whether the own disk holds what somebody remembers of it.
    fn is_as_remembered(&self, memory: &Memory) -> bool {
        let own = self.config.life;
        let is_last = memory.life == own || own.is_after(memory.life);
        let slot = memory.accepted;
        let holds_slot = slot <= self.log.chosen()
            || self.log.get(slot).is_some_and(|item| {
                item.ballot >= memory.ballot || item.ballot == crate::ballot::Ballot::ZERO
            });
        is_last && self.promised >= memory.ballot && self.log.last() >= memory.last && holds_slot
    }

    fn condemn(&mut self, by: NodeId, memory: Memory, out: &mut Outbox) {
        let condemned = Condemned { by, memory };
        self.records.memories.condemned = Some(condemned);
        out.remember = Some(self.records.write());
        out.fatal.get_or_insert(condemned.to_string());
    }

    /// From now on nothing that this process of `peer` says counts.
    pub(crate) fn refuse(&mut self, peer: NodeId, why: Refusal, out: &mut Outbox) {
        if let Some(known) = self.peers.get_mut(&peer)
            && known.refused.is_none()
        {
            known.refused = Some(why);
            out.notes.push(Note::Refused { peer, why });
        }
    }

    /// A refused peer said something: tells it why it is refused.
    pub(crate) fn answer_refused(&mut self, peer: NodeId, out: &mut Outbox) {
        let witness = self.witness();
        self.send(peer, Message::Witness(Witness { witness }), out);
        self.object(peer, out);
    }

    /// Compares the promises with what is remembered of their senders; one that reports less was given by
    /// an old copy of a disk, and does not count.
    pub(crate) fn weigh_promises(&mut self, out: &mut Outbox) {
        let from = self.log.chosen().next();
        let Part::Candidate(candidate) = &self.part else {
            return;
        };
        // Promised and accepted under a higher ballot since the answer: that proves nothing against it, and
        // this candidacy has lost anyway.
        let mut memories = self.records.memories.members.values();
        if memories.any(|memory| memory.ballot > candidate.ballot) {
            return;
        }
        let nodes = self.peers.keys().copied();
        let lacking: Vec<NodeId> = nodes
            .filter(|&node| candidate.phase1.lacks(node, from, &self.records.get(node)))
            .collect();
        for peer in lacking {
            let known = self.records.get(peer);
            self.refuse(peer, Refusal::Copy { known }, out);
            if let Part::Candidate(candidate) = &mut self.part {
                candidate.phase1.forget(peer);
            }
        }
    }

    /// What became durable, for what is remembered of the own disk.
    pub(crate) fn note_durable(&mut self, what: &Waiting) {
        match *what {
            Waiting::Prepare { ballot } | Waiting::Promise { ballot, .. } => {
                self.note_promised(ballot);
            }
            Waiting::Vote { ballot, upto } => self.note_vote(ballot, upto),
            Waiting::Settled { .. } | Waiting::Recorded { .. } | Waiting::Snapshot { .. } => {}
        }
    }
}
