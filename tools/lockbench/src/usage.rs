//! What the servers used: processor time and memory, as `/proc` tells.

use std::fs;
use std::ops::Sub;
use std::time::Duration;

/// A sum over processes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Usage {
    /// User and system time since each process began.
    pub(crate) cpu: Duration,
    /// Resident memory now.
    pub(crate) rss_bytes: u64,
}

impl Usage {
    /// The sum over `pids`; one that is gone counts nothing.
    pub(crate) fn of(pids: impl IntoIterator<Item = u32>) -> Usage {
        pids.into_iter()
            .filter_map(of_process)
            .fold(Usage::default(), |sum, one| Usage {
                cpu: sum.cpu + one.cpu,
                rss_bytes: sum.rss_bytes + one.rss_bytes,
            })
    }
}

impl Sub for Usage {
    type Output = Usage;

    /// The time used between two looks, and the memory at the later one.
    fn sub(self, earlier: Usage) -> Usage {
        Usage {
            cpu: self.cpu.saturating_sub(earlier.cpu),
            rss_bytes: self.rss_bytes,
        }
    }
}

fn of_process(pid: u32) -> Option<Usage> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let ticks = cpu_ticks(&stat)?;
    let pages = stat_field(&stat, 24)?;
    Some(Usage {
        cpu: Duration::from_secs(1)
            .mul_f64(ticks as f64 / rustix::param::clock_ticks_per_second() as f64),
        rss_bytes: pages * rustix::param::page_size() as u64,
    })
}

/// User and system ticks: fields 14 and 15 of `proc(5)`, `stat`.
fn cpu_ticks(stat: &str) -> Option<u64> {
    Some(stat_field(stat, 14)? + stat_field(stat, 15)?)
}

/// A numbered field, counted from 1. The second is a name in brackets that may hold anything, blanks too.
fn stat_field(stat: &str, number: usize) -> Option<u64> {
    let (_, after_name) = stat.rsplit_once(')')?;
    after_name
        .split_whitespace()
        .nth(number.checked_sub(3)?)?
        .parse()
        .ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_found_behind_a_hostile_name() {
        let stat = "42 (a) b (c) S 1 2 3 4 5 6 7 8 9 10 110 15 16 17 18 19 20 21 22 23 24";
        assert_eq!(cpu_ticks(stat), Some(125));
        assert_eq!(stat_field(stat, 4), Some(1));
        assert_eq!(cpu_ticks("garbage"), None);
    }

    #[test]
    fn this_process_uses_memory() {
        assert!(Usage::of([std::process::id()]).rss_bytes > 0);
        assert_eq!(Usage::of([u32::MAX]), Usage::default());
    }
}
