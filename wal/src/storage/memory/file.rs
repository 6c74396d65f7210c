//! An open file of a disk in memory, and the lock on a folder.

use std::io;
use std::ops::Range;
use std::sync::MutexGuard;
use std::sync::atomic::{AtomicU64, Ordering};

use super::inode::{Inode, ZERO};
use super::state::State;
use super::{MemDisk, stopped};
use crate::storage::fault::{eio, enospc};
use crate::storage::{BLOCK_BYTES, DiskFile, LockGuard, Operation};

#[derive(Debug)]
pub(super) struct MemFile {
    pub(super) disk: MemDisk,
    pub(super) life: u64,
    pub(super) path: String,
    pub(super) inode: u64,
    /// Failed write-backs of the file that this handle knows of.
    pub(super) told: AtomicU64,
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
        let passes = state.admit_file(self, Operation::Write, &bytes)?;
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
        let struck = state
            .strike(self, Operation::Sync, &bytes)
            .map(|fault| (fault.after_sync, fault.full));
        let inode = state.inodes.entry(self.inode).or_default();
        if let Some((how, full)) = struck {
            inode.fail_sync(how);
            return Err(if full { enospc() } else { eio() });
        }
        if self.told.swap(inode.lost, Ordering::Relaxed) < inode.lost {
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
        state.admit_file(self, Operation::Read, &range)?;
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

    fn write_zeroes(&self, offset: u64, len: u64) -> io::Result<()> {
        let end = offset + len;
        self.change(offset..end, |inode| {
            // Absent blocks read as zeros; those that are there are overwritten.
            let blocks = offset / BLOCK_BYTES as u64..end.div_ceil(BLOCK_BYTES as u64);
            let mut present: Vec<u64> = Vec::new();
            present.extend(inode.durable.range(blocks.clone()).map(|(at, _)| *at));
            present.extend(inode.cached.range(blocks.clone()).map(|(at, _)| *at));
            present.extend(inode.dirty.range(blocks).map(|(at, _)| *at));
            for at in present {
                inode.write(&ZERO, at * BLOCK_BYTES as u64);
            }
            inode.len = inode.len.max(end);
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

#[derive(Debug)]
pub(super) struct MemLock {
    pub(super) disk: MemDisk,
    pub(super) life: u64,
    pub(super) path: String,
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
