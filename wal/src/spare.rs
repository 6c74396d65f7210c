//! The next segment, prepared ahead: zeros written, synced, named, the name durable.
//!
//! Then the append path needs no rename and no folder sync: it writes a header and goes on. A full disk
//! shows here, while there is still a whole segment to write into, and not in an append.

use std::io;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use crate::error::Error;
use crate::layout::{WAL, segment_path, spare_path};
use crate::storage::{DiskFile, SharedDisk, SharedFile};

/// Zeros are written in pieces of this size where the file system has no short cut.
const PIECE_BYTES: u64 = 1 << 20;
/// Synced after so many pieces, so that the log's own syncs never queue behind a long one.
const PIECES_PER_SYNC: u64 = 4;

/// Prepares segments and keeps at most one ready; shared with the thread that prepares ahead.
#[derive(Debug)]
pub(crate) struct Spare {
    disk: SharedDisk,
    segment_bytes: u64,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    ready: Option<(u64, SharedFile)>,
    preparing: bool,
    low: bool,
}

impl Spare {
    pub(crate) fn new(disk: SharedDisk, segment_bytes: u64) -> Spare {
        Spare {
            disk,
            segment_bytes,
            state: Mutex::default(),
            changed: Condvar::new(),
        }
    }

    pub(crate) fn segment_bytes(&self) -> u64 {
        self.segment_bytes
    }

    /// The longest payload that a batch of one record can hold in a segment: two headers, a seal, the
    /// batch's own header, the record's table of CRCs, and padding aside.
    pub(crate) fn payload_bytes_max(&self) -> u64 {
        let room = self.segment_bytes - 4 * crate::storage::BLOCK_BYTES as u64;
        room - room / 1024 - 64
    }

    /// Whether the last attempt to prepare a segment found the disk full.
    pub(crate) fn is_low(&self) -> bool {
        self.state().low
    }

    /// Notes that a reserved file of the right size was found at open.
    pub(crate) fn adopt(&self, seq: u64, file: SharedFile) {
        self.state().ready = Some((seq, file));
    }

    /// Prepares segment `seq` unless it is ready. Another thread that prepares is waited for.
    ///
    /// # Errors
    ///
    /// [`Error::NoSpace`]; the disk is then as it was, and the attempt may be repeated.
    pub(crate) fn prepare(&self, seq: u64) -> Result<(), Error> {
        let mut state = self.state();
        while state.preparing {
            state = self
                .changed
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner);
        }
        if state.ready.as_ref().is_some_and(|(ready, _)| *ready == seq) {
            return Ok(());
        }
        state.preparing = true;
        drop(state);
        let made = make(&self.disk, seq, self.segment_bytes);
        let mut state = self.state();
        state.preparing = false;
        self.changed.notify_all();
        match made {
            Ok(file) => {
                state.low = false;
                state.ready = Some((seq, file));
                Ok(())
            }
            Err(error) if error.is_no_space() => {
                state.low = true;
                Err(Error::NoSpace {
                    segment_bytes: self.segment_bytes,
                })
            }
            Err(error) => Err(error),
        }
    }

    /// Takes segment `seq`, preparing it now if it is not ready.
    ///
    /// # Errors
    ///
    /// As [`Spare::prepare`].
    pub(crate) fn take(&self, seq: u64) -> Result<SharedFile, Error> {
        loop {
            self.prepare(seq)?;
            let taken = self.state().ready.take().filter(|(ready, _)| *ready == seq);
            if let Some((_, file)) = taken {
                return Ok(file);
            }
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Makes a named, zero-filled, durable segment file of `bytes`. Replaces one that was torn in the making.
pub(crate) fn make(disk: &SharedDisk, seq: u64, bytes: u64) -> Result<SharedFile, Error> {
    let (tmp, path) = (spare_path(seq), segment_path(seq));
    match disk.remove(&tmp) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(Error::io("remove", &tmp)(error));
        }
        _ => {}
    }
    let filled = disk.create(&tmp).and_then(|file| {
        fill(&*file, bytes)?;
        Ok(file)
    });
    let file = match filled {
        Ok(file) => file,
        Err(error) => {
            // Gives the room back; the first error is the one to tell.
            let _ = disk.remove(&tmp);
            let _ = disk.sync_dir(WAL);
            return Err(Error::io("fill", &tmp)(error));
        }
    };
    disk.rename(&tmp, &path)
        .map_err(Error::io("rename", &tmp))?;
    disk.sync_dir(WAL).map_err(Error::io("sync", WAL))?;
    Ok(file)
}

fn fill(file: &dyn DiskFile, bytes: u64) -> io::Result<()> {
    match file.write_zeroes(bytes) {
        Err(error) if error.kind() == io::ErrorKind::Unsupported => write_zeros(file, bytes)?,
        other => other?,
    }
    file.sync()
}

fn write_zeros(file: &dyn DiskFile, bytes: u64) -> io::Result<()> {
    let zeros = vec![0; PIECE_BYTES.min(bytes) as usize];
    let (mut at, mut pieces) = (0, 0);
    while at < bytes {
        let piece = PIECE_BYTES.min(bytes - at) as usize;
        file.write_at(&zeros[..piece], at)?;
        at += piece as u64;
        pieces += 1;
        if pieces % PIECES_PER_SYNC == 0 {
            file.sync()?;
        }
    }
    Ok(())
}
