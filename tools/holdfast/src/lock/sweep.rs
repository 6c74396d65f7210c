//! Ends all that CMD started, and knows when nothing is left.
//!
//! A reading of `/proc` proves nothing: while it is read, a process can start another and end, and the other is not seen.
//! But holdfast and its keeper are "subreapers": a descendant whose parent ends becomes their child. So the kernel's word
//! that there is no child (`ECHILD`, `wait(2)`) means that there is no descendant either.

use std::collections::HashSet;
use std::fs;
use std::thread;
use std::time::Duration;

use client::clock::BootTime;
use rustix::process::{Pid, Signal, WaitOptions, WaitStatus, getpid, kill_process, wait};

use crate::processes::Processes;

/// How long killed processes are waited for. One that waits for a broken disk never goes.
pub(super) const KILL_PATIENCE: Duration = Duration::from_secs(2);

/// Between two looks at processes that have been killed and are not gone yet.
const PAUSE: Duration = Duration::from_micros(200);

/// All processes of the machine are read at every so many looks: it takes milliseconds.
const LOOKS_PER_READING: u32 = 10;

/// Kills all descendants of this process, which must be a subreaper, until the kernel says that none is left, or only
/// those that may not be killed, or [`KILL_PATIENCE`] is over. `ended` is told how each child ended.
pub(super) fn end_descendants(mut ended: impl FnMut(Pid, WaitStatus)) {
    let until = BootTime::now().after(KILL_PATIENCE);
    let mut killed = HashSet::new();
    for look in 0.. {
        loop {
            match wait(WaitOptions::NOHANG) {
                Ok(Some((pid, status))) => {
                    // Its number may be given to another from now on.
                    killed.remove(&pid);
                    ended(pid, status);
                }
                Ok(None) => break,
                Err(_) => return,
            }
        }
        if BootTime::now() >= until {
            return;
        }
        let mut found = children();
        // Those that start another and end by turns are caught here: their next generation is a child already.
        let is_new = |pid: &Pid| !killed.contains(pid) && kill_process(*pid, Signal::KILL).is_ok();
        let new: Vec<Pid> = found.iter().copied().filter(is_new).collect();
        if !new.is_empty() {
            killed.extend(new);
            continue;
        }
        if look % LOOKS_PER_READING == 0 {
            let descendants = Processes::read().descendants(getpid());
            let reached = |&&pid: &&Pid| kill_process(pid, Signal::KILL).is_ok();
            let count = descendants.iter().filter(reached).count();
            found.retain(|pid| killed.contains(pid));
            let out_of_reach = count == 0 && !descendants.is_empty();
            if out_of_reach && found.is_empty() {
                return;
            }
        }
        thread::sleep(PAUSE);
    }
}

/// The children of this process that have not been waited for. Empty where the kernel does not list them.
fn children() -> Vec<Pid> {
    let threads = fs::read_dir("/proc/self/task").into_iter().flatten();
    let lists = threads.flatten().filter_map(|thread| {
        let path = thread.path().join("children");
        fs::read_to_string(path).ok()
    });
    let pids = |list: String| {
        let words = list.split_whitespace();
        let pids = words.filter_map(|word| Pid::from_raw(word.parse().ok()?));
        pids.collect::<Vec<_>>()
    };
    lists.flat_map(pids).collect()
}
