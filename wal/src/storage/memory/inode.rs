//! The content of one file in three layers: dirty, cached, durable.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use super::dice::Dice;
use crate::storage::{BLOCK_BYTES, SyncFailure};

pub(super) type Block = [u8; BLOCK_BYTES];
pub(super) const ZERO: Block = [0; BLOCK_BYTES];

#[derive(Clone, Debug, Default)]
pub(super) struct Inode {
    pub(super) handles: usize,
    pub(super) len: u64,
    pub(super) durable_len: u64,
    pub(super) durable: BTreeMap<u64, Arc<Block>>,
    pub(super) dirty: BTreeMap<u64, Dirty>,
    pub(super) cached: BTreeMap<u64, Arc<Block>>,
    /// Failed write-backs that an open handle may still have to be told of.
    pub(super) lost: u64,
}

#[derive(Clone, Debug)]
pub(super) struct Dirty {
    pub(super) block: Arc<Block>,
    /// The bytes of the block that were written since the last sync.
    pub(super) written: Range<usize>,
}

impl Inode {
    pub(super) fn block(&self, at: u64) -> Option<&Arc<Block>> {
        let dirty = self.dirty.get(&at).map(|dirty| &dirty.block);
        dirty
            .or_else(|| self.cached.get(&at))
            .or_else(|| self.durable.get(&at))
    }

    pub(super) fn read(&self, buf: &mut [u8], offset: u64) -> usize {
        let wanted = (buf.len() as u64).min(self.len.saturating_sub(offset)) as usize;
        for_each_block(offset, wanted, |at, within, piece| match self.block(at) {
            Some(block) => buf[piece].copy_from_slice(&block[within]),
            None => buf[piece].fill(0),
        });
        wanted
    }

    pub(super) fn write(&mut self, bytes: &[u8], offset: u64) {
        for_each_block(offset, bytes.len(), |at, within, piece| {
            let piece = &bytes[piece];
            if let Ok(whole) = Block::try_from(piece) {
                // Nothing of what the block held is left.
                let dirty = Dirty {
                    block: Arc::new(whole),
                    written: within,
                };
                self.dirty.insert(at, dirty);
                return;
            }
            let mut dirty = self.dirty.remove(&at).unwrap_or_else(|| Dirty {
                block: self.block(at).cloned().unwrap_or_else(|| Arc::new(ZERO)),
                written: within.clone(),
            });
            dirty.written =
                dirty.written.start.min(within.start)..dirty.written.end.max(within.end);
            Arc::make_mut(&mut dirty.block)[within].copy_from_slice(piece);
            self.dirty.insert(at, dirty);
        });
        self.len = self.len.max(offset + bytes.len() as u64);
    }

    pub(super) fn set_len(&mut self, len: u64) {
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

    pub(super) fn sync_blocks(&mut self, only: Range<u64>) {
        let blocks: Vec<u64> = self.dirty.range(only).map(|(at, _)| *at).collect();
        for at in blocks {
            if let Some(dirty) = self.dirty.remove(&at) {
                self.cached.remove(&at);
                self.durable.insert(at, dirty.block);
            }
        }
    }

    pub(super) fn sync(&mut self) {
        self.sync_blocks(0..u64::MAX);
        self.durable_len = self.len;
    }

    /// Like [`Inode::sync`], and nothing is left in the cache.
    pub(super) fn settle(&mut self) {
        for (at, block) in std::mem::take(&mut self.cached) {
            self.durable.insert(at, block);
        }
        self.sync();
    }

    pub(super) fn fail_sync(&mut self, how: SyncFailure) {
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

    pub(super) fn crash(&mut self, dice: &mut Dice, tear_whole: bool) {
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
