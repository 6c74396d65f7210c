//! What is done to which frame.
//!
//! A rule names a direction and a kind of frame, how many of them it is for, and a [`Fault`]. The
//! first rule that is for a frame decides; then the noise, if any; else the frame passes. The
//! handshake is never touched.

use std::net::TcpStream;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::pump::write;
use super::sight::{Direction, Kind, Sight};

/// One side of a connection, to write to.
pub(super) type Wire = Arc<Mutex<TcpStream>>;

/// What happens to a frame that a rule is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// It is lost; the connection goes on.
    Lose,
    /// It is put aside until [`Injection::release`]; later frames overtake it.
    Hold,
    /// It arrives twice.
    Double,
    /// The connection ends in its place.
    CutBefore,
    /// The connection ends after it.
    CutAfter,
    /// It passes; counted only.
    Watch,
}

/// Random loss and doubling of every frame but the handshake, in each direction.
#[derive(Clone, Copy, Debug)]
pub struct Noise {
    /// Of a thousand frames, how many are lost.
    pub lose_per_mille: u32,
    /// Of a thousand frames, how many arrive twice.
    pub double_per_mille: u32,
    /// Where the dice start.
    pub seed: u64,
}

/// The rules that all proxies of one client share.
#[derive(Debug, Default)]
pub struct Rules {
    list: Mutex<Vec<Arc<Rule>>>,
    noise: Mutex<Option<(Noise, ChaCha8Rng)>>,
}

/// What a pump does with a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Pass,
    Twice,
    Gone,
    CutBefore,
    CutAfter,
}

#[derive(Debug)]
struct Rule {
    direction: Direction,
    kind: Kind,
    fault: Fault,
    /// Matching frames let through before the first that is meant.
    skip: u64,
    /// How many are meant.
    count: u64,
    state: Mutex<State>,
    hit: Condvar,
}

#[derive(Debug, Default)]
struct State {
    seen: u64,
    hits: u64,
    retired: bool,
    held: Vec<(Wire, Vec<u8>)>,
}

/// A rule in force. Dropping this leaves the rule where it is.
#[derive(Debug)]
#[must_use = "ask it whether the frame came by"]
pub struct Injection(Arc<Rule>);

impl Rules {
    /// Every frame of that kind suffers `fault`.
    pub fn every(&self, direction: Direction, kind: Kind, fault: Fault) -> Injection {
        self.inject(direction, kind, fault, 0, u64::MAX)
    }

    /// The first `count` such frames from now on suffer `fault`.
    pub fn first(&self, count: u64, direction: Direction, kind: Kind, fault: Fault) -> Injection {
        self.inject(direction, kind, fault, 0, count)
    }

    /// The `number`th such frame from now on, from 1, suffers `fault`.
    pub fn nth(&self, number: u64, direction: Direction, kind: Kind, fault: Fault) -> Injection {
        self.inject(direction, kind, fault, number.saturating_sub(1), 1)
    }

    /// Random loss and doubling on top, or none.
    pub fn set_noise(&self, noise: Option<Noise>) {
        let dice = noise.map(|noise| (noise, ChaCha8Rng::seed_from_u64(noise.seed)));
        *lock(&self.noise) = dice;
    }

    fn inject(
        &self,
        direction: Direction,
        kind: Kind,
        fault: Fault,
        skip: u64,
        count: u64,
    ) -> Injection {
        let state = Mutex::new(State::default());
        let rule = Rule {
            direction,
            kind,
            fault,
            skip,
            count,
            state,
            hit: Condvar::new(),
        };
        let rule = Arc::new(rule);
        lock(&self.list).push(Arc::clone(&rule));
        Injection(rule)
    }

    pub(super) fn judge(&self, sight: &Sight, frame: &[u8], wire: &Wire) -> Verdict {
        if sight.kind == Kind::Hello {
            return Verdict::Pass;
        }
        let list = lock(&self.list).clone();
        list.iter()
            .find_map(|rule| rule.judge(sight, frame, wire))
            .unwrap_or_else(|| self.roll())
    }

    fn roll(&self) -> Verdict {
        let mut noise = lock(&self.noise);
        let Some((noise, dice)) = noise.as_mut() else {
            return Verdict::Pass;
        };
        let roll = dice.random_range(0..1000);
        if roll < noise.lose_per_mille {
            Verdict::Gone
        } else if roll < noise.lose_per_mille + noise.double_per_mille {
            Verdict::Twice
        } else {
            Verdict::Pass
        }
    }
}

impl Rule {
    /// An interim answer (`Waiting`) is not "the reply" that a rule names; it passes.
    fn is_for(&self, sight: &Sight) -> bool {
        sight.direction == self.direction && sight.kind == self.kind && !sight.interim
    }

    fn judge(&self, sight: &Sight, frame: &[u8], wire: &Wire) -> Option<Verdict> {
        if !self.is_for(sight) {
            return None;
        }
        let mut state = lock(&self.state);
        if state.retired {
            return None;
        }
        state.seen += 1;
        if state.seen <= self.skip || state.hits >= self.count {
            return None;
        }
        state.hits += 1;
        self.hit.notify_all();
        Some(match self.fault {
            Fault::Lose => Verdict::Gone,
            Fault::Hold => {
                state.held.push((Arc::clone(wire), frame.to_vec()));
                Verdict::Gone
            }
            Fault::Double => Verdict::Twice,
            Fault::CutBefore => Verdict::CutBefore,
            Fault::CutAfter => Verdict::CutAfter,
            Fault::Watch => Verdict::Pass,
        })
    }
}

impl Injection {
    /// Frames that have suffered so far.
    pub fn hits(&self) -> u64 {
        lock(&self.0.state).hits
    }

    /// Waits until `count` frames have suffered.
    ///
    /// # Panics
    ///
    /// If they have not within `limit`.
    pub fn wait_hits(&self, count: u64, limit: Duration) {
        let deadline = Instant::now() + limit;
        let mut state = lock(&self.0.state);
        while state.hits < count {
            let left = deadline.saturating_duration_since(Instant::now());
            let rule = &self.0;
            assert!(
                !left.is_zero(),
                "{} of {count} frames ({:?} {:?}) came by in {limit:?}",
                state.hits,
                rule.direction,
                rule.kind
            );
            state = rule
                .hit
                .wait_timeout(state, left)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
    }

    /// Ends the rule and lets all that it held go on, in the order in which it came, each on the
    /// connection it came by. How many of those could still be written.
    pub fn release(&self) -> usize {
        let held = {
            let mut state = lock(&self.0.state);
            state.retired = true;
            std::mem::take(&mut state.held)
        };
        held.iter()
            .filter(|(wire, frame)| write(wire, frame))
            .count()
    }

    /// Ends the rule; what it held is lost.
    pub fn end(&self) {
        let mut state = lock(&self.0.state);
        state.retired = true;
        state.held.clear();
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
