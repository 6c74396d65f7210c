//! The whole disk: files, names, faults, and which call passes.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::ops::Range;

use super::dice::Dice;
use super::file::MemFile;
use super::inode::Inode;
use super::names::{NameChange, Target};
use super::stopped;
use crate::storage::fault::{eio, enospc};
use crate::storage::{Fault, Operation};

#[derive(Clone, Debug, Default)]
pub(super) struct State {
    /// Counts crashes; a handle of an older life fails.
    pub(super) life: u64,
    pub(super) next_inode: u64,
    pub(super) inodes: BTreeMap<u64, Inode>,
    pub(super) names: BTreeMap<String, Target>,
    pub(super) durable_names: BTreeMap<String, Target>,
    pub(super) journal: Vec<NameChange>,
    pub(super) locked: BTreeMap<String, u64>,
    pub(super) faults: Vec<Fault>,
    /// Files that this user may not open.
    pub(super) denied: BTreeSet<String>,
    pub(super) room_bytes: Option<u64>,
    pub(super) calls: u64,
    pub(super) halt_at: Option<u64>,
    pub(super) halted: bool,
}

impl State {
    pub(super) fn next_life(&mut self) {
        self.life += 1;
        self.locked.clear();
        self.faults.clear();
        self.halt_at = None;
        self.halted = false;
        for inode in self.inodes.values_mut() {
            inode.handles = 0;
        }
    }

    /// Decides whether a call passes. `Ok(false)`: do it without making it durable, then fail.
    pub(super) fn admit(
        &mut self,
        path: &str,
        operation: Operation,
        bytes: &Range<u64>,
    ) -> io::Result<bool> {
        if !self.count(operation)? {
            return Ok(false);
        }
        if self
            .faults
            .iter_mut()
            .any(|fault| fault.strikes(path, operation, bytes))
        {
            return Err(eio());
        }
        Ok(true)
    }

    /// [`State::admit`] of a call on an open file.
    pub(super) fn admit_file(
        &mut self,
        file: &MemFile,
        operation: Operation,
        bytes: &Range<u64>,
    ) -> io::Result<bool> {
        if !self.count(operation)? {
            return Ok(false);
        }
        match self.strike(file, operation, bytes) {
            Some(_) => Err(eio()),
            None => Ok(true),
        }
    }

    /// Counts a call that changes something; whether it is before the one at which the disk halts.
    fn count(&mut self, operation: Operation) -> io::Result<bool> {
        if self.halted {
            return Err(stopped());
        }
        if operation != Operation::Read {
            self.calls += 1;
            if self.halt_at.is_some_and(|at| self.calls >= at) {
                self.halted = true;
                return Ok(false);
            }
        }
        Ok(true)
    }

    pub(super) fn file_mut(&mut self, path: &str) -> io::Result<&mut Inode> {
        match self.names.get(path) {
            Some(Target::File(inode)) => Ok(self.inodes.entry(*inode).or_default()),
            _ => Err(io::ErrorKind::NotFound.into()),
        }
    }

    pub(super) fn change_name(&mut self, change: NameChange) -> io::Result<()> {
        let passes = self.admit(change.path(), Operation::Name, &(0..1))?;
        change.apply(&mut self.names);
        self.journal.push(change);
        if passes { Ok(()) } else { Err(stopped()) }
    }

    pub(super) fn sync_dir(&mut self, dir: &str) -> io::Result<()> {
        if !self.admit(&format!("{dir}/"), Operation::Sync, &(0..1))? {
            return Err(stopped());
        }
        for change in std::mem::take(&mut self.journal) {
            if change.touches(dir) {
                let (durable, rest) = change.in_folder(dir);
                durable.apply(&mut self.durable_names);
                self.journal.extend(rest);
            } else {
                self.journal.push(change);
            }
        }
        self.forget_unreachable();
        Ok(())
    }

    /// Drops files that have no name, now or after any crash, and no open handle.
    pub(super) fn forget_unreachable(&mut self) {
        let mut reachable: Vec<Target> = self.names.values().copied().collect();
        reachable.extend(self.durable_names.values().copied());
        reachable.extend(self.journal.iter().filter_map(NameChange::target));
        let room = &mut self.room_bytes;
        self.inodes.retain(|id, inode| {
            let keep = inode.handles > 0 || reachable.contains(&Target::File(*id));
            if let (false, Some(room)) = (keep, room.as_mut()) {
                *room += inode.len;
            }
            keep
        });
    }

    pub(super) fn crash_names(&mut self, dice: &mut Dice) {
        let journal = std::mem::take(&mut self.journal);
        let in_order = dice.roll(2) == 0;
        let kept = dice.roll(journal.len() as u64 + 1);
        for (at, change) in journal.into_iter().enumerate() {
            if if in_order {
                (at as u64) < kept
            } else {
                dice.roll(2) == 0
            } {
                change.apply(&mut self.durable_names);
            }
        }
        let names = self.durable_names.clone();
        self.durable_names
            .retain(|path, _| match path.rsplit_once('/') {
                Some((parent, _)) => names.contains_key(parent),
                None => true,
            });
        self.names = self.durable_names.clone();
    }

    pub(super) fn charge(&mut self, inode: u64, end: u64) -> io::Result<()> {
        let len = self.inodes.get(&inode).map_or(0, |inode| inode.len);
        if let Some(room) = &mut self.room_bytes {
            let growth = end.saturating_sub(len);
            *room = room.checked_sub(growth).ok_or_else(enospc)?;
        }
        Ok(())
    }

    /// Whether a fault strikes a call on an open file: faults follow renames.
    pub(super) fn strike(
        &mut self,
        file: &MemFile,
        operation: Operation,
        bytes: &Range<u64>,
    ) -> Option<&Fault> {
        if self.faults.is_empty() {
            return None;
        }
        let target = Target::File(file.inode);
        let named = self.names.iter().find(|(_, named)| **named == target);
        let path = named.map_or(&file.path, |(path, _)| path);
        self.faults
            .iter_mut()
            .find_map(|fault| fault.strikes(path, operation, bytes).then_some(&*fault))
    }

    pub(super) fn require_folder(&self, dir: &str) -> io::Result<()> {
        if dir.is_empty() || self.names.get(dir) == Some(&Target::Folder) {
            Ok(())
        } else {
            Err(io::ErrorKind::NotFound.into())
        }
    }
}
