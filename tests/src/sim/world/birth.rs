//! The birth of the cluster, before its clocks start: fresh folders are laid out and their replicas meet,
//! two at a time, while machines die at any call of a disk.

use paxos::birth::{Announcement, Birth, BirthAction, BirthRecord};
use paxos::{DiskId, NodeId};
use replica::boot::Refusal;
use wal::Folder;

use super::World;
use crate::sim::check::{Verdict, Violation, ensure};
use crate::sim::dice::Dice;
use crate::sim::plan::Fault;

/// Whoever picks two of five at random has had everybody meet long before.
const STEPS_MAX: u32 = 20_000;

/// A replica that is up and not yet started.
struct Cradle {
    folder: Folder,
    birth: Birth,
}

/// All of them, and what they have told each other.
struct Nursery<'a> {
    world: &'a mut World,
    dice: Dice,
    cradles: Vec<Option<Cradle>>,
    /// The disk under which each was heard of: it can be no other from then on.
    known: Vec<Option<DiskId>>,
    /// The first record that anybody made durable.
    record: Option<BirthRecord>,
}

impl World {
    /// Leaves every replica with the same birth record in its folder.
    pub(super) fn bear(&mut self) -> Verdict {
        let replicas = self.replicas.len();
        let dice = Dice::new(self.plan.seed, 8);
        let mut nursery = Nursery {
            world: self,
            dice,
            cradles: (0..replicas).map(|_| None).collect(),
            known: vec![None; replicas],
            record: None,
        };
        for _ in 0..STEPS_MAX {
            if nursery.is_over() {
                let record = nursery.record.take();
                self.record = record;
                return Ok(());
            }
            nursery.step()?;
        }
        ensure(false, "birth", || {
            format!("no cluster after {STEPS_MAX} meetings")
        })
    }
}

impl Nursery<'_> {
    fn is_over(&self) -> bool {
        let born = |cradle: &Option<Cradle>| {
            cradle
                .as_ref()
                .is_some_and(|cradle| cradle.birth.born().is_some())
        };
        self.cradles.iter().all(born)
    }

    fn step(&mut self) -> Verdict {
        let last = self.cradles.len() as u64 - 1;
        let replica = self.dice.between(0, last) as usize;
        if self.cradles[replica].is_none() {
            return self.wake(replica);
        }
        if self.crashes() && self.dice.permille(100) {
            self.kill(replica);
            return Ok(());
        }
        let peer = self.dice.between(0, last) as usize;
        if peer == replica {
            return Ok(());
        }
        // A meeting can break off after one greeting.
        let greeting = self.announcement(replica);
        if let (Some(greeting), true) = (self.announcement(peer), self.dice.permille(900)) {
            self.hear(replica, peer, greeting)?;
        }
        match greeting {
            Some(greeting) if self.dice.permille(900) => self.hear(peer, replica, greeting),
            _ => Ok(()),
        }
    }

    fn crashes(&self) -> bool {
        self.world.plan.has(Fault::Crash)
    }

    /// Lays a folder out, or opens it again.
    fn wake(&mut self, replica: usize) -> Verdict {
        self.maybe_halt(replica);
        let opened = self.world.replicas[replica].open_folder();
        if self.world.replicas[replica].disk.is_halted() {
            drop(opened);
            self.kill(replica);
            return Ok(());
        }
        self.world.replicas[replica].disk.halt_at(u64::MAX);
        let folder = opened.map_err(|refusal| refused(replica, &refusal))?;
        let (node, disk) = (NodeId(replica as u16 + 1), DiskId(folder.meta().disk));
        let known = self.known[replica];
        ensure(known.is_none_or(|known| known == disk), "birth", || {
            format!("replica {replica} was known with disk {known:?}, now it has {disk}")
        })?;
        let stored = folder.meta().birth.clone();
        let (birth, actions) = if folder.meta().cluster == 0 {
            let list = (1..=self.cradles.len() as u16).map(NodeId).collect();
            let mut birth = Birth::new(node, disk, list, "sim".to_owned());
            let actions = birth.begin(self.cluster());
            (birth, actions)
        } else {
            let record = BirthRecord::decode(stored).map_err(|error| Violation {
                check: "birth",
                detail: format!("replica {replica}: {error}"),
            })?;
            (Birth::resume(node, disk, record), Vec::new())
        };
        self.cradles[replica] = Some(Cradle { folder, birth });
        self.carry_out(replica, actions)
    }

    fn maybe_halt(&mut self, replica: usize) {
        if self.crashes() && self.dice.permille(300) {
            let disk = &self.world.replicas[replica].disk;
            disk.halt_at(disk.calls() + self.dice.between(1, 30));
        }
    }

    fn cluster(&mut self) -> u128 {
        u128::from(self.dice.word()) << 64 | u128::from(self.dice.word()) | 1
    }

    fn announcement(&mut self, replica: usize) -> Option<Announcement> {
        let cradle = self.cradles[replica].as_ref()?;
        let announcement = cradle.birth.announcement();
        self.known[replica] = Some(announcement.disk);
        Some(announcement)
    }

    fn hear(&mut self, replica: usize, from: usize, greeting: Announcement) -> Verdict {
        let cluster = self.cluster();
        let Some(cradle) = &mut self.cradles[replica] else {
            return Ok(());
        };
        let from = NodeId(from as u16 + 1);
        let actions = cradle.birth.on_heard(from, greeting, cluster);
        self.carry_out(replica, actions)
    }

    fn carry_out(&mut self, replica: usize, actions: Vec<BirthAction>) -> Verdict {
        for action in actions {
            match action {
                // Everybody meets everybody again and again.
                BirthAction::Announce(_) => {}
                BirthAction::Store(record) => {
                    if !self.store(replica, record)? {
                        return Ok(());
                    }
                }
                BirthAction::Refuse(reason) | BirthAction::RefusePeer { reason, .. } => {
                    return ensure(false, "birth", || format!("replica {replica}: {reason}"));
                }
            }
        }
        Ok(())
    }

    /// Makes a record durable, unless the machine dies over it.
    fn store(&mut self, replica: usize, record: BirthRecord) -> Result<bool, Violation> {
        self.maybe_halt(replica);
        let Some(cradle) = &mut self.cradles[replica] else {
            return Ok(false);
        };
        let stored = cradle
            .folder
            .store_birth(record.cluster, &record.encode())
            .map_err(Refusal::from);
        if self.world.replicas[replica].disk.is_halted() {
            self.kill(replica);
            return Ok(false);
        }
        self.world.replicas[replica].disk.halt_at(u64::MAX);
        stored.map_err(|refusal| refused(replica, &refusal))?;
        let first = self.record.get_or_insert_with(|| record.clone());
        ensure(*first == record, "birth", || {
            format!("two clusters: {first:?} and, by replica {replica}, {record:?}")
        })?;
        Ok(true)
    }

    fn kill(&mut self, replica: usize) {
        self.world.marks.hit("died at its birth");
        self.cradles[replica] = None;
        let power_fails = self.dice.permille(700);
        let mut dice = Dice::new(self.dice.word(), 7);
        self.world.replicas[replica].crash(&mut dice, power_fails);
    }
}

fn refused(replica: usize, refusal: &Refusal) -> Violation {
    Violation {
        check: "birth",
        detail: format!("replica {replica} does not start: {refusal}"),
    }
}
