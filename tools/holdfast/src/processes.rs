//! The processes of this machine as `/proc` shows them: who descends from whom, and who could continue a stopped job.

use std::collections::HashMap;
use std::fs;

use rustix::process::Pid;

/// What one line of `/proc/PID/stat` tells. Source: `proc_pid_stat(5)`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Process {
    parent: i32,
    group: i32,
    session: i32,
    /// It has ended, and its parent has not asked how.
    zombie: bool,
}

/// All processes at one moment, more or less: some come and go while they are read.
#[derive(Debug, Default)]
pub(crate) struct Processes(HashMap<i32, Process>);

impl Processes {
    /// Reads them. Empty where there is no `/proc`.
    pub(crate) fn read() -> Processes {
        let folder = fs::read_dir("/proc").into_iter().flatten().flatten();
        let pids = folder.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
        let read = |pid| {
            let line = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
            Some((pid, parse(&line)?))
        };
        Processes(pids.filter_map(read).collect())
    }

    /// Those that still run and descend from `root`, which is not among them.
    pub(crate) fn descendants(&self, root: Pid) -> Vec<Pid> {
        let root = root.as_raw_nonzero().get();
        let mut found: Vec<i32> = self
            .0
            .iter()
            .filter(|&(&pid, process)| !process.zombie && self.descends(pid, root))
            .map(|(&pid, _)| pid)
            .collect();
        found.sort_unstable();
        found.into_iter().filter_map(Pid::from_raw).collect()
    }

    fn descends(&self, pid: i32, root: i32) -> bool {
        let mut at = pid;
        // A chain of parents is short; reading while it changes may even show a circle.
        for _ in 0..self.0.len() {
            match self.0.get(&at) {
                Some(process) if process.parent == root => return true,
                Some(process) => at = process.parent,
                None => return false,
            }
        }
        false
    }

    /// Whether nobody could continue `group` if it were stopped: no member has a parent in another group of the same
    /// session. The kernel does not stop such a group for the terminal's sake. Source: `setpgid(2)`, "orphaned".
    pub(crate) fn is_orphaned(&self, group: Pid) -> bool {
        let group = group.as_raw_nonzero().get();
        !self.0.values().any(|member| {
            let parent = self.0.get(&member.parent);
            member.group == group
                && parent
                    .is_some_and(|parent| parent.group != group && parent.session == member.session)
        })
    }

    /// Whether `pid` is a member of `group`.
    pub(crate) fn is_in(&self, pid: Pid, group: Pid) -> bool {
        let process = self.0.get(&pid.as_raw_nonzero().get());
        process.is_some_and(|process| process.group == group.as_raw_nonzero().get())
    }

    /// Whether `group` has members beside `pid` that did not start it: the rest of a pipeline, but not the script
    /// around it.
    pub(crate) fn has_siblings(&self, group: Pid, pid: Pid) -> bool {
        let (group, pid) = (group.as_raw_nonzero().get(), pid.as_raw_nonzero().get());
        self.0.iter().any(|(&other, process)| {
            process.group == group
                && other != pid
                && !process.zombie
                && !self.descends(pid, other)
                && !self.descends(other, pid)
        })
    }
}

fn parse(line: &str) -> Option<Process> {
    // The program's name stands in parentheses and may itself contain some.
    let (_, rest) = line.rsplit_once(')')?;
    let mut fields = rest.split_whitespace();
    let state = fields.next()?;
    let mut number = || fields.next()?.parse().ok();
    Some(Process {
        parent: number()?,
        group: number()?,
        session: number()?,
        zombie: matches!(state, "Z" | "X"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pid(raw: i32) -> Pid {
        Pid::from_raw(raw).unwrap()
    }

    /// Process id, parent, group, session of each.
    fn processes(rows: &[(i32, i32, i32, i32)]) -> Processes {
        let row = |&(pid, parent, group, session): &(i32, i32, i32, i32)| {
            let process = Process {
                parent,
                group,
                session,
                zombie: false,
            };
            (pid, process)
        };
        Processes(rows.iter().map(row).collect())
    }

    #[test]
    fn a_name_may_contain_anything() {
        let line = "42 (a) b (c) S 7 8 9 0 -1";
        let process = parse(line).unwrap();
        assert_eq!(
            (
                process.parent,
                process.group,
                process.session,
                process.zombie
            ),
            (7, 8, 9, false)
        );
        assert!(parse("43 (x) Z 7 8 9").unwrap().zombie);
        assert_eq!(parse("44 (x) S"), None);
    }

    #[test]
    fn descendants_over_generations_and_never_a_circle() {
        let all = processes(&[
            (1, 0, 1, 1),
            (5, 1, 5, 5),
            (6, 5, 6, 5),
            (7, 6, 7, 7),
            (8, 1, 8, 8),
            (20, 21, 20, 20),
            (21, 20, 20, 20),
        ]);
        assert_eq!(all.descendants(pid(5)), [pid(6), pid(7)]);
        assert_eq!(all.descendants(pid(8)), []);
    }

    #[test]
    fn a_group_is_orphaned_without_a_parent_in_the_session() {
        // A shell, its job of two, a script that is its session's leader with one child, and a daemon.
        let all = processes(&[
            (5, 1, 5, 5),
            (6, 5, 6, 5),
            (7, 6, 6, 5),
            (10, 1, 10, 10),
            (11, 10, 10, 10),
            (1, 0, 1, 1),
        ]);
        assert!(!all.is_orphaned(pid(6)));
        assert!(all.is_orphaned(pid(10)));
        assert!(!all.has_siblings(pid(6), pid(7)), "its own parent");
        let pipeline = processes(&[(5, 1, 5, 5), (6, 5, 6, 5), (7, 5, 6, 5)]);
        assert!(pipeline.has_siblings(pid(6), pid(6)));
    }

    #[test]
    fn this_very_process_is_found() {
        let me = rustix::process::getpid();
        let parent = rustix::process::getppid().unwrap();
        assert!(Processes::read().descendants(parent).contains(&me));
    }
}
