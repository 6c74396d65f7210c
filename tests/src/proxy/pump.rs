//! Moves the bytes of one connection, frame by frame, and asks the rules about each.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};

use super::Shared;
use super::rules::{Verdict, Wire};
use super::sight::{Direction, Kind, Sight};

const READ_BYTES: usize = 64 << 10;
/// Length field and checksum; see `net/WIRE.md`.
const HEADER_BYTES: usize = 8;
const LENGTH_BYTES: usize = 4;
/// Requests of one connection whose kind is remembered until their answers come.
const ASKED_MAX: usize = 100_000;

/// Kinds of the requests of one connection, by request id, so that an answer is known as "the reply
/// to an append".
pub(super) type Asked = Mutex<BTreeMap<u64, Kind>>;

/// Reads what comes and forgets it, until the other side hangs up.
pub(super) fn swallow(mut from: &TcpStream) {
    let mut chunk = vec![0; READ_BYTES];
    while from.read(&mut chunk).is_ok_and(|read| read > 0) {}
}

/// Pumps until either side ends; then ends both.
pub(super) fn both_ways(shared: &Arc<Shared>, near: &TcpStream, far: &TcpStream) {
    let asked = Asked::default();
    // A retry in small frames must not wait for an acknowledgement.
    let _ = near.set_nodelay(true);
    let _ = far.set_nodelay(true);
    std::thread::scope(|scope| {
        scope.spawn(|| one_way(shared, Direction::ToServer, near, far, &asked));
        one_way(shared, Direction::ToClient, far, near, &asked);
    });
}

fn one_way(
    shared: &Shared,
    direction: Direction,
    mut from: &TcpStream,
    to: &TcpStream,
    asked: &Asked,
) {
    if let Ok(to) = to.try_clone() {
        let wire: Wire = Arc::new(Mutex::new(to));
        let mut cutter = Cutter::default();
        let mut chunk = vec![0; READ_BYTES];
        while let Ok(read @ 1..) = from.read(&mut chunk) {
            cutter.buffer.extend_from_slice(&chunk[..read]);
            if !forward_all(shared, direction, &mut cutter, from, &wire, asked) {
                break;
            }
        }
    }
    let _ = from.shutdown(Shutdown::Both);
    let _ = to.shutdown(Shutdown::Both);
}

/// Judges and forwards every whole frame; false if the connection is to end.
fn forward_all(
    shared: &Shared,
    direction: Direction,
    cutter: &mut Cutter,
    from: &TcpStream,
    wire: &Wire,
    asked: &Asked,
) -> bool {
    while let Some(frame) = cutter.next() {
        if shared.is_severed() {
            continue;
        }
        let sight = look(direction, cutter.taken, &frame, asked);
        let goes_on = match shared.rules().judge(&sight, &frame, wire) {
            Verdict::Pass => write(wire, &frame),
            Verdict::Twice => write(wire, &frame) && write(wire, &frame),
            Verdict::Gone => true,
            Verdict::CutBefore => false,
            Verdict::CutAfter => {
                // First, or a quick answer would come before the cut.
                let _ = from.shutdown(Shutdown::Write);
                write(wire, &frame);
                false
            }
        };
        if !goes_on {
            return false;
        }
    }
    true
}

fn look(direction: Direction, number: u64, frame: &[u8], asked: &Asked) -> Sight {
    let body = frame.get(HEADER_BYTES..).unwrap_or_default();
    let mut asked = asked.lock().unwrap_or_else(PoisonError::into_inner);
    let sight = Sight::of(direction, number, body, |id| asked.get(&id).copied());
    if direction == Direction::ToServer
        && let Some(id) = sight.id
        && asked.len() < ASKED_MAX
    {
        asked.insert(id, sight.kind);
    }
    sight
}

/// Writes to one side of a connection; held frames are written by other threads, hence the lock.
pub(super) fn write(wire: &Wire, frame: &[u8]) -> bool {
    wire.lock()
        .unwrap_or_else(PoisonError::into_inner)
        .write_all(frame)
        .is_ok()
}

/// Cuts a byte stream into frames, without judging them: what the receiver says of a wrong checksum
/// is for the receiver to say.
#[derive(Debug, Default)]
struct Cutter {
    buffer: Vec<u8>,
    /// Frames taken so far.
    taken: u64,
}

impl Cutter {
    fn next(&mut self) -> Option<Vec<u8>> {
        let length = self.buffer.first_chunk::<LENGTH_BYTES>()?;
        let total = LENGTH_BYTES + u32::from_le_bytes(*length) as usize;
        if self.buffer.len() < total {
            return None;
        }
        self.taken += 1;
        let rest = self.buffer.split_off(total);
        Some(std::mem::replace(&mut self.buffer, rest))
    }
}
