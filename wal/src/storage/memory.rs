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
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::fault::{eio, enospc};
use super::{
    BLOCK_BYTES, DirEntry, Disk, DiskFile, Fault, LockGuard, Operation, SharedFile, SyncFailure,
};

/// A data folder in memory. Clones are the same disk; [`MemDisk::fork`] copies it.
#[derive(Clone, Debug, Default)]
pub struct MemDisk {
    state: Arc<Mutex<State>>,
}

type Block = [u8; BLOCK_BYTES];
const ZERO: Block = [0; BLOCK_BYTES];

#[derive(Clone, Debug, Default)]
struct State {
    /// Counts crashes; a handle of an older life fails.
    life: u64,
    next_inode: u64,
    inodes: BTreeMap<u64, Inode>,
    names: BTreeMap<String, Target>,
    durable_names: BTreeMap<String, Target>,
    journal: Vec<NameChange>,
    locked: BTreeMap<String, u64>,
    faults: Vec<Fault>,
    room_bytes: Option<u64>,
    calls: u64,
    halt_at: Option<u64>,
    halted: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Target {
    Folder,
    File(u64),
}

#[derive(Clone, Debug)]
enum NameChange {
    Link {
        path: String,
        target: Target,
    },
    Unlink {
        path: String,
    },
    Move {
        from: String,
        to: String,
        target: Target,
    },
}

#[derive(Clone, Debug, Default)]
struct Inode {
    handles: usize,
    len: u64,
    durable_len: u64,
    durable: BTreeMap<u64, Arc<Block>>,
    dirty: BTreeMap<u64, Dirty>,
    cached: BTreeMap<u64, Arc<Block>>,
}

#[derive(Clone, Debug)]
struct Dirty {
    block: Arc<Block>,
    /// The bytes of the block that were written since the last sync.
    written: Range<usize>,
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

    /// Withdraws all orders to fail, also the limit of space.
    pub fn heal(&self) {
        let mut state = self.state();
        state.faults.clear();
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
        state.inodes.entry(inode).or_default().handles += 1;
        Arc::new(MemFile {
            disk: self.clone(),
            life: state.life,
            path: path.to_owned(),
            inode,
        })
    }
}

impl State {
    fn next_life(&mut self) {
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
    fn admit(&mut self, path: &str, operation: Operation, bytes: &Range<u64>) -> io::Result<bool> {
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
        if self
            .faults
            .iter_mut()
            .any(|fault| fault.strikes(path, operation, bytes))
        {
            return Err(eio());
        }
        Ok(true)
    }

    fn file_mut(&mut self, path: &str) -> io::Result<&mut Inode> {
        match self.names.get(path) {
            Some(Target::File(inode)) => Ok(self.inodes.entry(*inode).or_default()),
            _ => Err(io::ErrorKind::NotFound.into()),
        }
    }

    fn change_name(&mut self, change: NameChange) -> io::Result<()> {
        let passes = self.admit(change.path(), Operation::Name, &(0..1))?;
        change.apply(&mut self.names);
        self.journal.push(change);
        if passes { Ok(()) } else { Err(stopped()) }
    }

    fn sync_dir(&mut self, dir: &str) -> io::Result<()> {
        if !self.admit(&format!("{dir}/"), Operation::Sync, &(0..1))? {
            return Err(stopped());
        }
        for change in std::mem::take(&mut self.journal) {
            if change.touches(dir) {
                change.apply(&mut self.durable_names);
            } else {
                self.journal.push(change);
            }
        }
        self.forget_unreachable();
        Ok(())
    }

    /// Drops files that have no name, now or after any crash, and no open handle.
    fn forget_unreachable(&mut self) {
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

    fn crash_names(&mut self, dice: &mut Dice) {
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

    fn charge(&mut self, inode: u64, end: u64) -> io::Result<()> {
        let len = self.inodes.get(&inode).map_or(0, |inode| inode.len);
        if let Some(room) = &mut self.room_bytes {
            let growth = end.saturating_sub(len);
            *room = room.checked_sub(growth).ok_or_else(enospc)?;
        }
        Ok(())
    }
}

impl NameChange {
    fn path(&self) -> &str {
        match self {
            NameChange::Link { path, .. } | NameChange::Unlink { path } => path,
            NameChange::Move { to, .. } => to,
        }
    }

    fn target(&self) -> Option<Target> {
        match self {
            NameChange::Link { target, .. } | NameChange::Move { target, .. } => Some(*target),
            NameChange::Unlink { .. } => None,
        }
    }

    fn concerns(&self, name: &str) -> bool {
        match self {
            NameChange::Link { path, .. } | NameChange::Unlink { path } => path == name,
            NameChange::Move { from, to, .. } => from == name || to == name,
        }
    }

    fn touches(&self, dir: &str) -> bool {
        match self {
            NameChange::Link { path, .. } | NameChange::Unlink { path } => parent(path) == dir,
            NameChange::Move { from, to, .. } => parent(from) == dir || parent(to) == dir,
        }
    }

    fn apply(&self, names: &mut BTreeMap<String, Target>) {
        match self {
            NameChange::Link { path, target } => {
                names.insert(path.clone(), *target);
            }
            NameChange::Unlink { path } => {
                names.remove(path);
            }
            NameChange::Move { from, to, target } => {
                if names.get(from) == Some(target) {
                    names.remove(from);
                }
                names.insert(to.clone(), *target);
            }
        }
    }
}

impl Inode {
    fn block(&self, at: u64) -> Option<&Arc<Block>> {
        let dirty = self.dirty.get(&at).map(|dirty| &dirty.block);
        dirty
            .or_else(|| self.cached.get(&at))
            .or_else(|| self.durable.get(&at))
    }

    fn read(&self, buf: &mut [u8], offset: u64) -> usize {
        let wanted = (buf.len() as u64).min(self.len.saturating_sub(offset)) as usize;
        for_each_block(offset, wanted, |at, within, piece| match self.block(at) {
            Some(block) => buf[piece].copy_from_slice(&block[within]),
            None => buf[piece].fill(0),
        });
        wanted
    }

    fn write(&mut self, bytes: &[u8], offset: u64) {
        for_each_block(offset, bytes.len(), |at, within, piece| {
            let mut dirty = self.dirty.remove(&at).unwrap_or_else(|| Dirty {
                block: self.block(at).cloned().unwrap_or_else(|| Arc::new(ZERO)),
                written: within.clone(),
            });
            dirty.written =
                dirty.written.start.min(within.start)..dirty.written.end.max(within.end);
            Arc::make_mut(&mut dirty.block)[within].copy_from_slice(&bytes[piece]);
            self.dirty.insert(at, dirty);
        });
        self.len = self.len.max(offset + bytes.len() as u64);
    }

    fn set_len(&mut self, len: u64) {
        if len < self.len {
            let first = len / BLOCK_BYTES as u64;
            let mut blocks: Vec<u64> = self.durable.range(first..).map(|(at, _)| *at).collect();
            blocks.extend(self.cached.range(first..).map(|(at, _)| *at));
            blocks.extend(self.dirty.range(first..).map(|(at, _)| *at));
            let end = self.len;
            for at in blocks {
                let start = (at * BLOCK_BYTES as u64).max(len);
                let stop = ((at + 1) * BLOCK_BYTES as u64).max(start);
                self.write(&vec![0; (stop - start) as usize], start);
            }
            self.len = end;
        }
        self.len = len;
    }

    fn sync_blocks(&mut self, only: Range<u64>) {
        let blocks: Vec<u64> = self.dirty.range(only).map(|(at, _)| *at).collect();
        for at in blocks {
            if let Some(dirty) = self.dirty.remove(&at) {
                self.cached.remove(&at);
                self.durable.insert(at, dirty.block);
            }
        }
    }

    fn sync(&mut self) {
        self.sync_blocks(0..u64::MAX);
        self.durable_len = self.len;
    }

    /// Like [`Inode::sync`], and nothing is left in the cache.
    fn settle(&mut self) {
        for (at, block) in std::mem::take(&mut self.cached) {
            self.durable.insert(at, block);
        }
        self.sync();
    }

    fn fail_sync(&mut self, how: SyncFailure) {
        match how {
            SyncFailure::KeptDirty => {}
            SyncFailure::Reverted => {
                self.dirty.clear();
                self.len = self.durable_len;
            }
            SyncFailure::SilentlyClean => {
                for (at, dirty) in std::mem::take(&mut self.dirty) {
                    self.cached.insert(at, dirty.block);
                }
            }
        }
    }

    fn crash(&mut self, dice: &mut Dice, tear_whole: bool) {
        self.cached.clear();
        self.len = match dice.roll(3) {
            0 => self.len,
            1 => self.durable_len,
            _ => {
                let (low, high) = (
                    self.len.min(self.durable_len),
                    self.len.max(self.durable_len),
                );
                low + dice.roll(high - low + 1)
            }
        };
        // Some crashes come before anything was written back, some after everything was.
        let mood = dice.roll(4);
        for (at, dirty) in std::mem::take(&mut self.dirty) {
            let fate = match mood {
                0 => 0,
                1 => 1,
                _ => dice.roll(3),
            };
            match fate {
                0 => {}
                1 => {
                    self.durable.insert(at, dirty.block);
                }
                _ => {
                    let mut torn = self
                        .durable
                        .get(&at)
                        .map_or(ZERO, |durable| Block::clone(durable));
                    let range = if tear_whole {
                        0..BLOCK_BYTES
                    } else {
                        dirty.written
                    };
                    dice.fill(&mut torn[range], &dirty.block[..]);
                    self.durable.insert(at, Arc::new(torn));
                }
            }
        }
        self.durable_len = self.len;
        let blocks = self.len.div_ceil(BLOCK_BYTES as u64);
        self.durable.split_off(&blocks);
        let rest = (self.len % BLOCK_BYTES as u64) as usize;
        if let (true, Some(last)) = (rest > 0, self.durable.get_mut(&(blocks.max(1) - 1))) {
            Arc::make_mut(last)[rest..].fill(0);
        }
    }
}

impl Disk for MemDisk {
    fn open(&self, path: &str) -> io::Result<SharedFile> {
        let mut state = self.state();
        state.admit(path, Operation::Read, &(0..0))?;
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

impl State {
    /// The name that a file has now: faults follow renames.
    fn path_of(&self, file: &MemFile) -> String {
        let target = Target::File(file.inode);
        let named = if self.faults.is_empty() {
            None
        } else {
            self.names.iter().find(|(_, named)| **named == target)
        };
        named.map_or_else(|| file.path.clone(), |(path, _)| path.clone())
    }

    fn require_folder(&self, dir: &str) -> io::Result<()> {
        if dir.is_empty() || self.names.get(dir) == Some(&Target::Folder) {
            Ok(())
        } else {
            Err(io::ErrorKind::NotFound.into())
        }
    }
}

#[derive(Debug)]
struct MemLock {
    disk: MemDisk,
    life: u64,
    path: String,
}

impl LockGuard for MemLock {}

impl Drop for MemLock {
    fn drop(&mut self) {
        let mut state = self.disk.state();
        if state.locked.get(&self.path) == Some(&self.life) {
            state.locked.remove(&self.path);
        }
    }
}

#[derive(Debug)]
struct MemFile {
    disk: MemDisk,
    life: u64,
    path: String,
    inode: u64,
}

impl MemFile {
    fn state(&self) -> io::Result<MutexGuard<'_, State>> {
        let state = self.disk.state();
        if state.life == self.life {
            Ok(state)
        } else {
            Err(stopped())
        }
    }

    /// Runs `change` if the disk lets the call pass.
    fn change(&self, bytes: Range<u64>, change: impl FnOnce(&mut Inode)) -> io::Result<()> {
        let mut state = self.state()?;
        let path = state.path_of(self);
        let passes = state.admit(&path, Operation::Write, &bytes)?;
        if passes && bytes.end < u64::MAX {
            state.charge(self.inode, bytes.end)?;
        }
        change(state.inodes.entry(self.inode).or_default());
        if passes { Ok(()) } else { Err(stopped()) }
    }

    /// Makes blocks durable, or leaves what a failed sync leaves.
    fn make_durable(&self, bytes: Range<u64>, sync: impl FnOnce(&mut Inode)) -> io::Result<()> {
        let mut state = self.state()?;
        if state.halted {
            return Err(stopped());
        }
        let path = state.path_of(self);
        let struck = state.faults.iter_mut().find_map(|fault| {
            fault
                .strikes(&path, Operation::Sync, &bytes)
                .then_some(fault.after_sync)
        });
        let inode = state.inodes.entry(self.inode).or_default();
        if let Some(how) = struck {
            inode.fail_sync(how);
            return Err(eio());
        }
        sync(inode);
        Ok(())
    }
}

impl DiskFile for MemFile {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut state = self.state()?;
        let range = offset..offset.saturating_add(buf.len() as u64);
        let path = state.path_of(self);
        state.admit(&path, Operation::Read, &range)?;
        Ok(state
            .inodes
            .entry(self.inode)
            .or_default()
            .read(buf, offset))
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.change(offset..offset + bytes.len() as u64, |inode| {
            inode.write(bytes, offset)
        })
    }

    fn write_at_durable(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let range = offset..offset + bytes.len() as u64;
        self.write_at(bytes, offset)?;
        let first = range.start / BLOCK_BYTES as u64;
        let end = range.end.div_ceil(BLOCK_BYTES as u64);
        self.make_durable(range, |inode| inode.sync_blocks(first..end))
    }

    fn sync(&self) -> io::Result<()> {
        {
            let mut state = self.state()?;
            if state.halted {
                return Err(stopped());
            }
            state.calls += 1;
            if state.halt_at.is_some_and(|at| state.calls >= at) {
                state.halted = true;
                return Err(stopped());
            }
        }
        self.make_durable(0..u64::MAX, Inode::sync)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.change(0..len, |inode| inode.set_len(len))
    }

    fn len(&self) -> io::Result<u64> {
        let mut state = self.state()?;
        Ok(state.inodes.entry(self.inode).or_default().len)
    }

    fn write_zeroes(&self, len: u64) -> io::Result<()> {
        self.change(0..len, |inode| {
            // Absent blocks read as zeros; those that are there are overwritten.
            let end = len.div_ceil(BLOCK_BYTES as u64);
            let mut present: Vec<u64> = inode.durable.range(..end).map(|(at, _)| *at).collect();
            present.extend(inode.cached.range(..end).map(|(at, _)| *at));
            present.extend(inode.dirty.range(..end).map(|(at, _)| *at));
            for at in present {
                inode.write(&ZERO, at * BLOCK_BYTES as u64);
            }
            inode.len = inode.len.max(len);
        })
    }

    fn drop_cache(&self, offset: u64, len: u64) {
        if let Ok(mut state) = self.state() {
            let blocks = offset / BLOCK_BYTES as u64
                ..offset.saturating_add(len).div_ceil(BLOCK_BYTES as u64);
            let inode = state.inodes.entry(self.inode).or_default();
            inode.cached.retain(|at, _| !blocks.contains(at));
        }
    }
}

impl Drop for MemFile {
    fn drop(&mut self) {
        let mut state = self.disk.state();
        if state.life != self.life {
            return;
        }
        if let Some(inode) = state.inodes.get_mut(&self.inode) {
            inode.handles = inode.handles.saturating_sub(1);
        }
    }
}

fn stopped() -> io::Error {
    io::Error::other("the disk has stopped")
}

fn parent(path: &str) -> &str {
    path.rsplit_once('/').map_or("", |(parent, _)| parent)
}

/// Splits a range of a file at block boundaries: block number, bytes within it, bytes of the range.
fn for_each_block(offset: u64, len: usize, mut each: impl FnMut(u64, Range<usize>, Range<usize>)) {
    let mut done = 0;
    while done < len {
        let at = offset + done as u64;
        let within = (at % BLOCK_BYTES as u64) as usize;
        let piece = (BLOCK_BYTES - within).min(len - done);
        each(
            at / BLOCK_BYTES as u64,
            within..within + piece,
            done..done + piece,
        );
        done += piece;
    }
}

/// A small deterministic generator (SplitMix64; Steele, Lea, Flood, OOPSLA 2014).
#[derive(Debug)]
struct Dice(u64);

impl Dice {
    fn new(seed: u64) -> Dice {
        Dice(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn roll(&mut self, sides: u64) -> u64 {
        self.next() % sides.max(1)
    }

    /// Fills `torn` with noise, zeros, or half of what was to be written.
    fn fill(&mut self, torn: &mut [u8], wanted: &[u8]) {
        match self.roll(3) {
            0 => torn.fill(0),
            1 => {
                let half = torn.len() / 2;
                let at = wanted.len().min(half);
                torn[..at].copy_from_slice(&wanted[..at]);
            }
            _ => {
                for byte in torn {
                    *byte = self.next() as u8;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests;
