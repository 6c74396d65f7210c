//! An old copy of a replica's folder is put back, or the folder is wiped.
//!
//! What the documents promise, and what is checked here, is this: where a peer that remembers better is in reach,
//! the old copy stops before any vote of it counts, and the note of it in its folder stops every later start;
//! a wiped disk is refused under its old id. So in these runs all other replicas are up and connected. What happens
//! where nobody remembers is left to the tests of `paxos`: data may be lost then, as the manual says.

use paxos::birth::{Birth, BirthAction};
use paxos::{DiskId, NodeId, Slot};
use wal::storage::MemDisk;

use super::World;
use crate::sim::check::{Verdict, Violation, ensure};
use crate::sim::event::Event;
use crate::sim::plan::{Copies, MS, SECOND};
use crate::sim::replica::Found;

/// What a replica acknowledged this long before its folder was put back, its peers remember.
const REMEMBERED_AFTER_US: u64 = 500 * MS;

/// The one copy of a run.
#[derive(Debug, Default)]
pub(super) struct Copy {
    image: Option<MemDisk>,
    /// The last slot that its peers remember it to hold.
    owed: Slot,
    /// The image took the folder's place.
    is_back: bool,
    /// It was found to hold less than is remembered of it, and must stop.
    must_stop: bool,
    /// It was stopped for what it is.
    was_refused: bool,
}

impl World {
    pub(super) fn plan_copies(&mut self) {
        let Some(copies) = self.plan.copies else {
            return;
        };
        let taken_us = self.dice.between(SECOND / 2, 3 * SECOND);
        let put_back_us = taken_us + self.dice.between(SECOND, 3 * SECOND);
        if !copies.wipes {
            self.agenda.add(taken_us, Event::CopyFolder);
        }
        let owed_us = put_back_us - REMEMBERED_AFTER_US;
        self.agenda.add(owed_us, Event::RememberCopied);
        self.agenda.add(put_back_us, Event::PutBack);
    }

    pub(super) fn on_copy_event(&mut self, event: &Event) -> Verdict {
        let Some(copies) = self.plan.copies else {
            return Ok(());
        };
        match event {
            Event::CopyFolder => self.copy_folder(copies),
            Event::RememberCopied => self.copy.owed = self.votes.last_durable(copies.replica),
            Event::PutBack => return self.put_back(copies),
            _ => return self.check_copy(copies),
        }
        Ok(())
    }

    /// Copies the folder as a failure of power would leave it.
    fn copy_folder(&mut self, copies: Copies) {
        let image = self.replicas[copies.replica].disk.fork();
        image.crash(self.dice.word());
        self.copy.image = Some(image);
    }

    fn put_back(&mut self, copies: Copies) -> Verdict {
        let replica = copies.replica;
        self.crash(replica, false);
        self.votes.forget(replica);
        self.copy.is_back = true;
        self.trace
            .line(self.now_us, format_args!("r{replica} has another folder"));
        if copies.wipes {
            self.replicas[replica].disk = MemDisk::new();
            self.out_of_service.insert(replica);
            return self.check_wiped(replica);
        }
        self.replicas[replica].disk = self.copy.image.take().expect("it was copied before");
        self.marks.hit("old copy put back");
        Ok(())
    }

    /// A wiped disk is told by any peer that it may not join, and the peer refuses it.
    fn check_wiped(&mut self, replica: usize) -> Verdict {
        let peer = (replica + 1) % self.replicas.len();
        let record = self.record.clone().expect("the cluster was born");
        let peer_node = NodeId(peer as u16 + 1);
        let peer_disk = record
            .members
            .iter()
            .find(|(node, _)| *node == peer_node)
            .map_or(DiskId(0), |(_, disk)| *disk);
        let mut knowing = Birth::resume(peer_node, peer_disk, record.clone());
        let folder = self.replicas[replica]
            .open_folder()
            .map_err(|refusal| Violation {
                check: "birth",
                detail: format!("replica {replica}, wiped: {refusal}"),
            })?;
        let (node, disk) = (NodeId(replica as u16 + 1), DiskId(folder.meta().disk));
        let list = record.members.iter().map(|(node, _)| *node).collect();
        let mut wiped = Birth::new(node, disk, list, record.name.clone());
        let greeting = wiped.announcement();
        let told = wiped.on_heard(peer_node, knowing.announcement(), 1);
        let refuses = |action: &BirthAction| matches!(action, BirthAction::Refuse(_));
        let refuses_peer = |action: &BirthAction| matches!(action, BirthAction::RefusePeer { .. });
        let answer = knowing.on_heard(node, greeting, 1);
        self.marks.hit("wiped disk refused");
        ensure(
            told.iter().any(refuses) && answer.iter().any(refuses_peer),
            "birth",
            || format!("replica {replica} was wiped and may join: {told:?}, {answer:?}"),
        )
    }

    /// Whether this replica runs on a folder that was put back.
    pub(super) fn is_old_copy(&self, replica: usize) -> bool {
        self.copy.is_back && self.plan.copies.is_some_and(|it| it.replica == replica)
    }

    /// An old copy has started: if it holds less than its peers remember, it must stop soon.
    pub(super) fn on_old_copy_started(&mut self, replica: usize, found: &Found) {
        let last = found
            .accepted
            .last()
            .map_or(found.chosen, |(slot, ..)| *slot);
        if self.is_old_copy(replica) && !self.copy.must_stop && last < self.copy.owed {
            self.copy.must_stop = true;
            let at_us = self.now_us + 4 * self.plan.election_us + 500 * MS;
            self.agenda.add(at_us, Event::CheckCopy);
        }
    }

    fn check_copy(&self, copies: Copies) -> Verdict {
        let replica = copies.replica;
        ensure(
            self.out_of_service.contains(&replica) || self.copy.was_refused,
            "rollback",
            || {
                format!(
                    "replica {replica} runs on an old copy of its folder, although its peers remember slot {}: {}",
                    self.copy.owed,
                    self.describe()
                )
            },
        )
    }

    /// An old copy stops. It is started once more, and its folder must say what it is.
    pub(super) fn refuse_copy(&mut self, replica: usize) {
        self.marks.hit("old copy refused");
        self.copy.was_refused = true;
        self.crash(replica, false);
    }

    /// A folder that was refused as an old copy refuses every later start.
    pub(super) fn on_copy_starts_again(&mut self, replica: usize, exit: u8) -> Verdict {
        self.out_of_service.insert(replica);
        self.crash(replica, false);
        ensure(exit == 5, "rollback", || {
            format!("replica {replica} was refused as an old copy, and then ended with {exit}")
        })?;
        self.marks.hit("old copy refused for good");
        Ok(())
    }

    /// Whether the copy was refused before.
    pub(super) fn was_refused(&self, replica: usize) -> bool {
        self.copy.was_refused && self.is_old_copy(replica)
    }
}
