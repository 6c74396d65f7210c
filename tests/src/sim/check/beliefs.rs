//! S4, mutual exclusion on the real time line: no instant at which two clients both believe, by their
//! own clocks, to hold a lock. And the half of it that needs no second client: the service ends no lease
//! while its holder believes.

use std::collections::BTreeMap;

use super::{Verdict, ensure};

/// Who believes to hold a lock, under which token.
type Holder = (usize, u64);

/// The beliefs of all clients.
#[derive(Debug, Default)]
pub struct Beliefs {
    /// When each belief ends, in the simulation's own time.
    by_lock: BTreeMap<String, BTreeMap<Holder, u64>>,
}

impl Beliefs {
    /// A client believes from now until `until_us`, or no more.
    pub fn on_belief(
        &mut self,
        now_us: u64,
        lock: &str,
        holder: Holder,
        until_us: Option<u64>,
    ) -> Verdict {
        let beliefs = self.by_lock.entry(lock.to_owned()).or_default();
        beliefs.retain(|_, until| *until > now_us);
        let Some(until_us) = until_us else {
            beliefs.remove(&holder);
            return Ok(());
        };
        if until_us <= now_us {
            return Ok(());
        }
        let other = beliefs.iter().find(|(other, _)| **other != holder);
        ensure(other.is_none(), "S4", || {
            format!(
                "lock {lock}: client {} (token {}) believes to hold it until {until_us}, and so does {other:?}",
                holder.0, holder.1
            )
        })?;
        beliefs.insert(holder, until_us);
        Ok(())
    }

    /// The service ended the lease of a grant at its own time.
    pub fn on_ended(&self, now_us: u64, lock: &str, token: u64) -> Verdict {
        let beliefs = self.by_lock.get(lock).into_iter().flatten();
        let mut believers =
            beliefs.filter(|((_, theirs), until)| *theirs == token && **until > now_us);
        let believer = believers.next();
        ensure(believer.is_none(), "lease", || {
            format!(
                "lock {lock}: the lease of token {token} is over at {now_us}; its holder believes: {believer:?}"
            )
        })
    }
}
