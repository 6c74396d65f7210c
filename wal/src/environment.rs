//! What the log takes from outside besides the disk: random numbers, the wall clock, the boot.

use std::fmt;
use std::io::Read;
use std::time::{SystemTime, UNIX_EPOCH};

/// Sources that a simulation replaces to repeat a run to the byte.
pub struct Environment {
    /// Random numbers: disk ids and salts.
    pub entropy: Box<dyn FnMut() -> u64 + Send>,
    /// Wall clock, unix nanoseconds; for people only.
    pub wall_ns: Box<dyn FnMut() -> u64 + Send>,
    /// Which boot of the machine this is.
    pub boot_id: u128,
}

impl Environment {
    /// The machine's own.
    #[must_use]
    pub fn of_machine() -> Environment {
        Environment {
            entropy: Box::new(|| random().unwrap_or_else(wall_ns)),
            wall_ns: Box::new(wall_ns),
            boot_id: boot_id().unwrap_or_default(),
        }
    }

    /// Repeatable: numbers from a seed, a clock that ticks once a call.
    #[must_use]
    pub fn seeded(seed: u64) -> Environment {
        let mut state = seed;
        let mut now = 1_700_000_000_000_000_000;
        Environment {
            entropy: Box::new(move || {
                state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
                let mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
                let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
                mixed ^ (mixed >> 31)
            }),
            wall_ns: Box::new(move || {
                now += 1_000_000;
                now
            }),
            boot_id: u128::from(seed),
        }
    }
}

impl fmt::Debug for Environment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Environment")
            .field("boot_id", &self.boot_id)
            .finish_non_exhaustive()
    }
}

fn random() -> Option<u64> {
    let mut bytes = [0; 8];
    std::fs::File::open("/dev/urandom")
        .ok()?
        .read_exact(&mut bytes)
        .ok()?;
    Some(u64::from_le_bytes(bytes))
}

#[allow(clippy::disallowed_methods)] // The one place of this crate that reads the wall clock.
fn wall_ns() -> u64 {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}

fn boot_id() -> Option<u128> {
    let text = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
    u128::from_str_radix(&text.trim().replace('-', ""), 16).ok()
}
