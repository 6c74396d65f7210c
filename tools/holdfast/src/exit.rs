//! The two tables of exit codes: that of `lock`, which passes on its command's, and that of every other verb.

use std::process::ExitCode;

/// `lock`: CMD ended with 0, and whether its section was applied is unknown. Running it again may do its work twice.
pub(crate) const LOCK_UNKNOWN: u8 = 121;
/// `lock`: the lock was lost before CMD ended.
pub(crate) const LOCK_LOST: u8 = 122;
/// `lock`: usage, or a refusal that has no code of its own.
pub(crate) const LOCK_REFUSED: u8 = 123;
/// `lock`: busy, or the wait is over, unless `-E` names another.
pub(crate) const LOCK_BUSY: u8 = 124;
/// `lock`: no leader within the timeout, so CMD never ran.
pub(crate) const LOCK_UNAVAILABLE: u8 = 125;
/// `lock`: CMD is there but cannot run.
pub(crate) const COMMAND_CANNOT_RUN: u8 = 126;
/// `lock`: CMD is not there.
pub(crate) const COMMAND_NOT_THERE: u8 = 127;
/// Added to the number of the signal that ended a command.
pub(crate) const SIGNAL_BASE: u8 = 128;

/// What kind of end a call came to, as far as exit codes care.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    /// The command line, or what it names, makes no sense.
    Usage,
    /// Somebody else holds it, or the wait is over.
    Busy,
    /// Refused for another reason.
    Refused,
    /// No such file or session, or not held by this token.
    NotThere,
    /// The guard was lost while it was needed.
    Lost,
    /// No answer in time: perhaps done.
    Unknown,
    /// Certainly not done.
    Unavailable,
    /// Not allowed to.
    Denied,
}

impl End {
    /// The end that a code of the service, the client library or this program stands for.
    pub(crate) fn of_code(code: &str) -> End {
        match code {
            "usage" | "bad_request" => End::Usage,
            "busy" | "wait_timed_out" => End::Busy,
            "no_such_file" | "session_expired" | "not_held" | "stale_token" => End::NotThere,
            "lost" => End::Lost,
            "unknown" | "not_equal" => End::Unknown,
            "unavailable" | "not_leader" => End::Unavailable,
            "denied" => End::Denied,
            _ => End::Refused,
        }
    }

    /// The exit code of a verb other than `lock`.
    pub(crate) fn of_verb(self) -> u8 {
        match self {
            End::Busy | End::Refused => 1,
            End::Usage => 2,
            End::NotThere | End::Lost => 3,
            End::Unknown => 4,
            End::Unavailable => 5,
            End::Denied => 6,
        }
    }

    /// The exit code of `lock` for what went wrong before CMD ran, where `conflict` is that of `-E`.
    pub(crate) fn of_lock(self, conflict: u8) -> u8 {
        match self {
            End::Lost => LOCK_LOST,
            End::Busy => conflict,
            End::Unknown | End::Unavailable => LOCK_UNAVAILABLE,
            End::Usage | End::Refused | End::NotThere | End::Denied => LOCK_REFUSED,
        }
    }
}

/// A verb's end as the process's.
pub(crate) fn code(code: u8) -> ExitCode {
    ExitCode::from(code)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(service_code: &str, verb: u8, lock: u8) {
        let end = End::of_code(service_code);
        assert_eq!(
            (end.of_verb(), end.of_lock(LOCK_BUSY)),
            (verb, lock),
            "{service_code}"
        );
    }

    /// Both tables of docs/operations.md, row by row.
    #[test]
    fn every_row_of_both_tables() {
        check("busy", 1, 124);
        check("wait_timed_out", 1, 124);
        check("queue_full", 1, 123);
        check("already_held", 1, 123);
        check("exists", 1, 123);
        check("usage", 2, 123);
        check("no_such_file", 3, 123);
        check("session_expired", 3, 123);
        check("not_held", 3, 123);
        check("lost", 3, 122);
        check("unknown", 4, 125);
        check("not_equal", 4, 125);
        check("unavailable", 5, 125);
        check("not_leader", 5, 125);
        check("denied", 6, 123);
    }

    #[test]
    fn a_conflict_code_of_ones_own() {
        assert_eq!(End::Busy.of_lock(0), 0);
        assert_eq!(End::Unavailable.of_lock(0), LOCK_UNAVAILABLE);
    }
}
