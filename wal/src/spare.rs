//! The next segment, prepared ahead: zeros written, synced, named, the name durable.
//!
//! Then the append path needs no rename and no folder sync: it writes a header and goes on. A full disk
//! shows here, while there is still a whole segment to write into, and not in an append.
//!
//! The free space is looked at first, then the room is set aside, and only then zeros are written: while the disk is
//! full, asking again and again must cost next to nothing and must not fill the disk for others.

use std::io;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::error::Error;
use crate::layout::{WAL, segment_path, spare_path};
use crate::storage::{DiskFile, SharedDisk, SharedFile};

/// Zeros are written in pieces of this size where the file system has no short cut.
const PIECE_BYTES: u64 = 1 << 20;
/// Synced after so many bytes.
const STEP_BYTES: u64 = 4 << 20;

/// Pause after an attempt that the file system refused although it had told enough free space, as with a quota. It
/// doubles with each such refusal.
const PAUSE: Duration = Duration::from_millis(500);
/// The longest such pause.
const PAUSE_MAX: Duration = Duration::from_secs(32);

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
    ready: Option<Ready>,
    preparing: bool,
    low: bool,
    refused: Option<Refused>,
}

/// A segment file of zeros under its final name.
#[derive(Clone, Debug)]
pub(crate) struct Ready {
    pub(crate) seq: u64,
    pub(crate) file: SharedFile,
    pub(crate) capacity: u64,
}

/// The last attempts failed although the file system had told enough free space.
#[derive(Clone, Copy, Debug)]
struct Refused {
    until: Instant,
    pause: Duration,
    /// What the file system told then.
    free_bytes: u64,
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

    /// The longest payload that a batch of one record can hold in a segment: two headers, a marker, a seal, the
    /// batch's own header, the record's head and table of CRCs, and padding aside.
    pub(crate) fn payload_bytes_max(&self) -> u64 {
        let room = self.segment_bytes - 4 * crate::storage::BLOCK_BYTES as u64;
        room - room / 1024 - 176
    }

    /// Whether the last attempt to prepare a segment found the disk full.
    pub(crate) fn is_low(&self) -> bool {
        self.state().low
    }

    /// Notes that a reserved file of sufficient size was found at open.
    pub(crate) fn adopt(&self, ready: Ready) {
        self.state().ready = Some(ready);
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
        if state.ready.as_ref().is_some_and(|ready| ready.seq == seq) {
            return Ok(());
        }
        state.preparing = true;
        let refused = state.refused;
        drop(state);
        let free_bytes = self.free_bytes();
        let room = free_bytes >= self.segment_bytes
            && !refused.is_some_and(|r| r.holds(free_bytes, self.segment_bytes));
        let made = if room {
            make(&self.disk, seq, self.segment_bytes)
        } else {
            Err(self.no_space())
        };
        let mut state = self.state();
        state.preparing = false;
        self.changed.notify_all();
        match made {
            Ok(file) => {
                state.low = false;
                state.refused = None;
                state.ready = Some(Ready {
                    seq,
                    file,
                    capacity: self.segment_bytes,
                });
                Ok(())
            }
            Err(error) if error.is_no_space() => {
                state.low = true;
                if room {
                    state.refused = Some(Refused::after(refused, free_bytes));
                }
                Err(self.no_space())
            }
            Err(error) => Err(error),
        }
    }

    /// Takes segment `seq`, preparing it now if it is not ready.
    ///
    /// # Errors
    ///
    /// As [`Spare::prepare`].
    pub(crate) fn take(&self, seq: u64) -> Result<Ready, Error> {
        loop {
            self.prepare(seq)?;
            if let Some(taken) = self.state().ready.take_if(|ready| ready.seq == seq) {
                return Ok(taken);
            }
        }
    }

    /// Where the file system does not tell, the attempt has to.
    fn free_bytes(&self) -> u64 {
        self.disk.free_bytes().ok().flatten().unwrap_or(u64::MAX)
    }

    fn no_space(&self) -> Error {
        Error::NoSpace {
            segment_bytes: self.segment_bytes,
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Refused {
    fn after(before: Option<Refused>, free_bytes: u64) -> Refused {
        let pause = before.map_or(PAUSE, |refused| (refused.pause * 2).min(PAUSE_MAX));
        Refused {
            until: Instant::now() + pause,
            pause,
            free_bytes,
        }
    }

    /// Whether another attempt would be refused as well, as far as one can tell: no time has passed, and nobody has freed
    /// a segment's worth.
    fn holds(&self, free_bytes: u64, segment_bytes: u64) -> bool {
        free_bytes < self.free_bytes.saturating_add(segment_bytes) && Instant::now() < self.until
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
            // Gives the room back; the first error is the one to tell. If the removal is lost in a crash, the next
            // open or attempt repeats it.
            let _ = disk.remove(&tmp);
            return Err(Error::io("fill", &tmp)(error));
        }
    };
    disk.rename(&tmp, &path)
        .map_err(Error::io("rename", &tmp))?;
    disk.sync_dir(WAL).map_err(Error::io("sync", WAL))?;
    Ok(file)
}

/// Writes and syncs the zeros step by step: the log's own syncs never queue behind a long one.
fn fill(file: &dyn DiskFile, bytes: u64) -> io::Result<()> {
    if_supported(file.reserve(bytes))?;
    let mut short_cut = true;
    let mut zeros = Vec::new();
    let mut at = 0;
    while at < bytes {
        let end = bytes.min(at + STEP_BYTES);
        short_cut = short_cut && if_supported(file.write_zeroes(at, end - at))?;
        while !short_cut && at < end {
            zeros.resize(PIECE_BYTES.min(bytes) as usize, 0);
            let piece = PIECE_BYTES.min(end - at);
            file.write_at(&zeros[..piece as usize], at)?;
            at += piece;
        }
        file.sync()?;
        at = end;
    }
    Ok(())
}

/// Whether the file system can do it.
fn if_supported(done: io::Result<()>) -> io::Result<bool> {
    match done {
        Err(error) if error.kind() == io::ErrorKind::Unsupported => Ok(false),
        other => other.map(|()| true),
    }
}
