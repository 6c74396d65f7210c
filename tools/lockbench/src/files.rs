//! How many files may be open: every connection is one, here and at the replicas.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::args::Work;
use crate::crew;

/// Files that a process has open beside the connections of clients. A replica counts in the same way.
const OWN_FILES: u64 = 512;
/// Clients that a replica has room for unless it is told otherwise.
const REPLICA_CLIENTS: u64 = 10_000;
/// Connections of those who watch.
const WATCHERS: u64 = 64;

/// Takes as many files as the system allows. Says how many clients each replica of a cluster of our own can then take,
/// if these are fewer than it would have room for.
///
/// # Errors
///
/// Says how many files are needed, if that is too few for the work.
pub(crate) fn take(work: &Work) -> Result<Option<u64>, String> {
    let allowed = getrlimit(Resource::Nofile).maximum;
    let raised = Rlimit {
        current: allowed,
        maximum: allowed,
    };
    // What is refused shows when a connection is: nothing is lost by trying.
    _ = setrlimit(Resource::Nofile, raised);
    fit(allowed, connections(work))
}

/// Connections to one replica, at most.
fn connections(work: &Work) -> u64 {
    let clients = u64::from(work.load().clients).min(crew::LINKS_MAX as u64);
    let others = match work {
        Work::Failover(failover) => u64::from(failover.holders),
        _ => 0,
    };
    clients + others + WATCHERS
}

fn fit(allowed: Option<u64>, connections: u64) -> Result<Option<u64>, String> {
    let needed = connections + OWN_FILES;
    match allowed {
        Some(allowed) if allowed < needed => Err(format!(
            "the limit on open files is {allowed}, and {connections} connections need {needed}: raise it (`ulimit -n \
             {needed}`), or use fewer clients"
        )),
        Some(allowed) if allowed < REPLICA_CLIENTS + OWN_FILES => Ok(Some(allowed - OWN_FILES)),
        _ => Ok(None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_small_limit_is_told_before_anything_starts() {
        assert_eq!(fit(None, 1_000), Ok(None));
        assert_eq!(fit(Some(10_512), 1_000), Ok(None));
        assert_eq!(fit(Some(4_096), 100), Ok(Some(3_584)));
        let told = fit(Some(1_024), 1_000).expect_err("too few");
        assert!(
            told.contains("1024") && told.contains("ulimit -n 1512"),
            "{told}"
        );
    }
}
