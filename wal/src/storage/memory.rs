//! A disk in memory that remembers what was synced and, at a crash, loses or tears the rest.
//!
//! A file is a set of 4 KiB blocks in three layers:
//!
//! ```text
//! read sees   dirty > cached > durable > zeros
//! dirty       written, not synced: a crash keeps, drops or tears each block by itself
//! cached      readable but not on the disk and not dirty either (after a failed sync): a crash drops it
//! durable     survives
//! ```
//!
//! Names have a journal of their own: a crash keeps a prefix or any subset of the creates, renames
//! and removes that no `sync_dir` has made durable. Torn blocks under `wal/` become garbage as a
//! whole (nothing acknowledged may share a block with a write); elsewhere only the bytes that were written do.
//!
//! The same seed and the same calls give the same disk. After a crash, old handles only fail.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::{DirEntry, Disk, Fault, LockGuard, Operation, SharedFile, SyncFailure};

mod dice;
mod file;
mod inode;
mod names;
mod state;

use dice::Dice;
use file::{MemFile, MemLock};
use inode::Inode;
use names::{NameChange, Target, parent};
use state::State;

/// A data folder in memory. Clones are the same disk; [`MemDisk::fork`] copies it.
#[derive(Clone, Debug, Default)]
pub struct MemDisk {
    state: Arc<Mutex<State>>,
}

impl MemDisk {
    /// An empty disk.
    #[must_use]
    pub fn new() -> MemDisk {
        MemDisk::default()
    }

    /// A copy that shares nothing with this one (blocks are copied when written).
    #[must_use]
    pub fn fork(&self) -> MemDisk {
        let mut state = self.state().clone();
        state.locked.clear();
        for inode in state.inodes.values_mut() {
            inode.handles = 0;
        }
        MemDisk {
            state: Arc::new(Mutex::new(state)),
        }
    }

    /// The power fails: keeps, drops or tears by `seed` what was not synced; old handles and locks are
    /// void, orders to fail or halt are withdrawn. The disk can be opened again at once.
    pub fn crash(&self, seed: u64) {
        let mut state = self.state();
        let mut dice = Dice::new(seed);
        state.crash_names(&mut dice);
        let tear_whole: BTreeMap<u64, bool> = state
            .durable_names
            .iter()
            .filter_map(|(path, target)| match target {
                Target::File(inode) => Some((*inode, path.starts_with("wal/"))),
                Target::Folder => None,
            })
            .collect();
        state
            .inodes
            .retain(|inode, _| tear_whole.contains_key(inode));
        for (id, inode) in &mut state.inodes {
            inode.crash(&mut dice, tear_whole[id]);
        }
        state.next_life();
    }

    /// The process dies but the machine goes on: everything written stays, old handles and locks are void.
    pub fn kill(&self) {
        self.state().next_life();
    }

    /// Orders a fault; faults are asked in the order in which they were given.
    pub fn inject(&self, fault: Fault) {
        self.state().faults.push(fault);
    }

    /// From now on this file cannot be opened for want of permission; also after a crash, until [`MemDisk::heal`].
    pub fn deny(&self, path: &str) {
        self.state().denied.insert(path.to_owned());
    }

    /// Withdraws all orders to fail, also the limit of space.
    pub fn heal(&self) {
        let mut state = self.state();
        state.faults.clear();
        state.denied.clear();
        state.room_bytes = None;
    }

    /// Lets files grow by so many bytes more, then `ENOSPC`; removed files give their bytes back.
    pub fn limit_room(&self, bytes: Option<u64>) {
        self.state().room_bytes = bytes;
    }

    /// How many changing calls (write, sync, create, rename, remove) were made.
    #[must_use]
    pub fn calls(&self) -> u64 {
        self.state().calls
    }

    /// Stops the disk at its `call`-th changing call, counted from the first of all: that call fails,
    /// what it wrote is unsynced, and every later call fails too, until [`MemDisk::crash`].
    pub fn halt_at(&self, call: u64) {
        self.state().halt_at = Some(call);
    }

    /// Whether the disk has stopped.
    #[must_use]
    pub fn is_halted(&self) -> bool {
        self.state().halted
    }

    /// The kernel fails to write back what is dirty in a file, as it may do at any time: the bytes stay readable, count as
    /// clean and never reach the disk. The next sync of each handle that is open now says so; a handle opened later hears
    /// nothing.
    ///
    /// # Panics
    ///
    /// If there is no such file: a test's mistake.
    pub fn lose_write_back(&self, path: &str) {
        let mut state = self.state();
        let inode = state.file_mut(path).expect("a file to lose");
        inode.fail_sync(SyncFailure::SilentlyClean);
        inode.lost += 1;
    }

    /// Damages a file behind everyone's back: flips one bit on the medium and in the cache.
    ///
    /// # Panics
    ///
    /// If there is no such file: a test's mistake.
    pub fn flip_bit(&self, path: &str, offset: u64, bit: u8) {
        let byte = self.peek(path, offset, 1)[0];
        self.damage(path, offset, &[byte ^ (1 << (bit % 8))]);
    }

    /// Damages a file behind everyone's back: replaces bytes on the medium and in the cache.
    ///
    /// # Panics
    ///
    /// If there is no such file: a test's mistake.
    pub fn damage(&self, path: &str, offset: u64, bytes: &[u8]) {
        let mut state = self.state();
        let inode = state.file_mut(path).expect("a file to damage");
        inode.write(bytes, offset);
        inode.settle();
    }

    /// Cuts a file behind everyone's back.
    ///
    /// # Panics
    ///
    /// If there is no such file: a test's mistake.
    pub fn truncate(&self, path: &str, len: u64) {
        let mut state = self.state();
        let inode = state.file_mut(path).expect("a file to cut");
        inode.set_len(len);
        inode.settle();
    }

    /// Deletes a file behind everyone's back, durably.
    pub fn delete(&self, path: &str) {
        let mut state = self.state();
        state.names.remove(path);
        state.durable_names.remove(path);
        state.journal.retain(|change| !change.concerns(path));
    }

    /// The bytes that a reader would see, zeros beyond the end.
    ///
    /// # Panics
    ///
    /// If there is no such file: a test's mistake.
    #[must_use]
    pub fn peek(&self, path: &str, offset: u64, len: usize) -> Vec<u8> {
        let mut state = self.state();
        let mut bytes = vec![0; len];
        state
            .file_mut(path)
            .expect("a file to look at")
            .read(&mut bytes, offset);
        bytes
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // A panic while the lock is held is a test's; the state stays usable for its report.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn handle(&self, state: &mut State, path: &str, inode: u64) -> SharedFile {
        let opened = state.inodes.entry(inode).or_default();
        opened.handles += 1;
        let told = opened.lost.into();
        Arc::new(MemFile {
            disk: self.clone(),
            life: state.life,
            path: path.to_owned(),
            inode,
            told,
        })
    }
}

impl Disk for MemDisk {
    fn open(&self, path: &str) -> io::Result<SharedFile> {
        let mut state = self.state();
        state.admit(path, Operation::Read, &(0..0))?;
        if state.denied.contains(path) {
            return Err(io::ErrorKind::PermissionDenied.into());
        }
        match state.names.get(path).copied() {
            Some(Target::File(inode)) => Ok(self.handle(&mut state, path, inode)),
            _ => Err(io::ErrorKind::NotFound.into()),
        }
    }

    fn open_read(&self, path: &str) -> io::Result<SharedFile> {
        self.open(path)
    }

    fn create(&self, path: &str) -> io::Result<SharedFile> {
        let mut state = self.state();
        if state.names.contains_key(path) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        state.require_folder(parent(path))?;
        let inode = state.next_inode;
        state.next_inode += 1;
        state.inodes.insert(inode, Inode::default());
        state.change_name(NameChange::Link {
            path: path.to_owned(),
            target: Target::File(inode),
        })?;
        Ok(self.handle(&mut state, path, inode))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut state = self.state();
        let target = *state.names.get(from).ok_or(io::ErrorKind::NotFound)?;
        state.require_folder(parent(to))?;
        state.change_name(NameChange::Move {
            from: from.to_owned(),
            to: to.to_owned(),
            target,
        })
    }

    fn remove(&self, path: &str) -> io::Result<()> {
        let mut state = self.state();
        if !matches!(state.names.get(path), Some(Target::File(_))) {
            return Err(io::ErrorKind::NotFound.into());
        }
        state.change_name(NameChange::Unlink {
            path: path.to_owned(),
        })
    }

    fn list(&self, dir: &str) -> io::Result<Vec<DirEntry>> {
        let mut state = self.state();
        state.admit(dir, Operation::Read, &(0..0))?;
        state.require_folder(dir)?;
        let mut entries = Vec::new();
        for (path, target) in state.names.iter().filter(|(path, _)| parent(path) == dir) {
            let name = path
                .rsplit_once('/')
                .map_or(path.as_str(), |(_, name)| name)
                .to_owned();
            entries.push(match target {
                Target::Folder => DirEntry {
                    name,
                    len: 0,
                    is_dir: true,
                },
                Target::File(inode) => {
                    let len = state.inodes.get(inode).map_or(0, |inode| inode.len);
                    DirEntry {
                        name,
                        len,
                        is_dir: false,
                    }
                }
            });
        }
        Ok(entries)
    }

    fn create_dir(&self, dir: &str) -> io::Result<()> {
        let mut state = self.state();
        let mut path = String::new();
        for part in dir.split('/').filter(|part| !part.is_empty()) {
            if !path.is_empty() {
                path.push('/');
            }
            path.push_str(part);
            match state.names.get(&path) {
                Some(Target::Folder) => {}
                Some(Target::File(_)) => return Err(io::ErrorKind::AlreadyExists.into()),
                None => state.change_name(NameChange::Link {
                    path: path.clone(),
                    target: Target::Folder,
                })?,
            }
        }
        Ok(())
    }

    fn sync_dir(&self, dir: &str) -> io::Result<()> {
        self.state().sync_dir(dir)
    }

    fn free_bytes(&self) -> io::Result<Option<u64>> {
        Ok(self.state().room_bytes)
    }

    fn lock(&self, path: &str) -> io::Result<Box<dyn LockGuard>> {
        if !self.exists(path)? {
            self.create(path)?;
        }
        let mut state = self.state();
        if state.locked.contains_key(path) {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let life = state.life;
        state.locked.insert(path.to_owned(), life);
        Ok(Box::new(MemLock {
            disk: self.clone(),
            life,
            path: path.to_owned(),
        }))
    }
}

fn stopped() -> io::Error {
    io::Error::other("the disk has stopped")
}

#[cfg(test)]
mod tests;
