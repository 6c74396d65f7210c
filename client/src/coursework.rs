//! The five calls of the coursework: `RPC_init`, `RPC_lock_acquire`, `RPC_append_file`,
//! `RPC_lock_release`, `RPC_close`. Each waits until it is answered.
//!
//! One lock, `default`, protects `file_0` to `file_99`. Return codes: 0 success, 1 no such file, 2
//! not held or session expired, 3 busy or the wait is over, 4 another refusal, 5 unavailable and
//! not done, 6 unknown and perhaps done.

use statemachine::Refusal;

use crate::Error;
use crate::blocking::{Client, Guard};

/// The lock that protects all files.
const LOCK: &str = "default";

/// Success.
pub const OK: u8 = 0;
/// There is no such file.
pub const NO_SUCH_FILE: u8 = 1;
/// The lock is not held, or the session has expired.
pub const LOCK_EXPIRED: u8 = 2;
/// The lock is busy, or the wait for it is over.
pub const BUSY: u8 = 3;
/// Refused for another reason.
pub const REFUSED: u8 = 4;
/// Certainly not done.
pub const UNAVAILABLE: u8 = 5;
/// Perhaps done.
pub const UNKNOWN: u8 = 6;

/// A connected client of the coursework.
#[derive(Debug)]
pub struct Rpc {
    client: Client,
    guard: Option<Guard>,
}

/// `RPC_init`: connects to any replica of `endpoints`. Answers "Connected!".
///
/// # Errors
///
/// The return code.
pub fn rpc_init<S: AsRef<str>>(
    endpoints: impl IntoIterator<Item = S>,
) -> Result<(Rpc, &'static str), u8> {
    let client = Client::connect(endpoints).map_err(|error| error.rc())?;
    Ok((
        Rpc {
            client,
            guard: None,
        },
        "Connected!",
    ))
}

impl Rpc {
    /// `RPC_lock_acquire`: waits for the lock. The return code.
    pub fn rpc_lock_acquire(&mut self) -> u8 {
        if let Some(lost) = self.guard.take_if(|guard| !guard.is_valid()) {
            // It may be held still, if only for a moment; the new acquire is to be a new grant.
            let _ = lost.abort();
        }
        if let Some(guard) = &self.guard {
            let token = guard.token();
            return Refusal::AlreadyHeld { token }.rc();
        }
        match self.client.lock(LOCK).acquire() {
            Ok(guard) => {
                self.guard = Some(guard);
                OK
            }
            Err(error) => error.rc(),
        }
    }

    /// `RPC_append_file`: appends to a file under the held lock; visible once the lock is released.
    /// The return code.
    pub fn rpc_append_file(&mut self, file: &str, data: &[u8]) -> u8 {
        match &self.guard {
            Some(guard) => code(guard.append(file, data)),
            None => LOCK_EXPIRED,
        }
    }

    /// `RPC_lock_release`: applies what was appended and frees the lock. The return code.
    pub fn rpc_lock_release(&mut self) -> u8 {
        match self.guard.take() {
            Some(guard) => code(guard.release()),
            None => LOCK_EXPIRED,
        }
    }

    /// `RPC_close`: ends the session; a lock still held is freed and its appends are discarded.
    /// Answers "Disconnected!".
    ///
    /// # Errors
    ///
    /// The return code.
    pub fn rpc_close(mut self) -> Result<&'static str, u8> {
        if let Some(guard) = self.guard.take() {
            let _ = guard.abort();
        }
        self.client.close().map_err(|error| error.rc())?;
        Ok("Disconnected!")
    }
}

fn code<T>(answer: Result<T, Error>) -> u8 {
    answer.map_or_else(|error| error.rc(), |_| OK)
}
