use std::fmt::Write;

use serde::Serialize;
use statemachine::{HolderFact, LockLine, LockStatus, Printable, WaiterFact};

use super::{size, time};
use crate::output::Row;

/// A held lock in a list.
#[derive(Debug, Serialize)]
pub(crate) struct LockRow {
    pub(crate) lock: String,
    pub(crate) holder: HolderObject,
    pub(crate) queue_len: u64,
}

/// One lock in full.
#[derive(Debug, Serialize)]
pub(crate) struct LockObject {
    pub(crate) lock: String,
    pub(crate) held: bool,
    /// The holder's.
    pub(crate) token: Option<u64>,
    pub(crate) holder: Option<HolderObject>,
    pub(crate) queue: Vec<WaiterObject>,
    pub(crate) queue_len: u64,
    /// The slot whose state this is.
    pub(crate) slot: u64,
}

/// Who holds a lock.
#[derive(Debug, Serialize)]
pub(crate) struct HolderObject {
    pub(crate) session_id: u64,
    pub(crate) name: String,
    pub(crate) token: u64,
    /// The slot that granted it.
    pub(crate) slot: u64,
    /// By the leader's wall clock; for people.
    pub(crate) since_unix_ms: u64,
    pub(crate) lease_ms: u64,
    pub(crate) left_ms: u64,
    pub(crate) pending_appends: u32,
    pub(crate) pending_bytes: u64,
}

/// Who waits for a lock.
#[derive(Debug, Serialize)]
pub(crate) struct WaiterObject {
    /// 1 is next.
    pub(crate) position: u64,
    pub(crate) session_id: u64,
    pub(crate) name: String,
}

impl From<HolderFact> for HolderObject {
    fn from(fact: HolderFact) -> Self {
        HolderObject {
            session_id: fact.session.0,
            name: fact.name,
            token: fact.token.0,
            slot: fact.slot.0,
            since_unix_ms: fact.since_wall_ms,
            lease_ms: fact.lease_ms,
            left_ms: fact.left_ms,
            pending_appends: fact.pending_appends,
            pending_bytes: fact.pending_bytes,
        }
    }
}

impl From<WaiterFact> for WaiterObject {
    fn from(fact: WaiterFact) -> Self {
        WaiterObject {
            position: fact.position,
            session_id: fact.session.0,
            name: fact.name,
        }
    }
}

impl From<LockLine> for LockRow {
    fn from(line: LockLine) -> Self {
        LockRow {
            lock: line.lock,
            holder: line.holder.into(),
            queue_len: line.queue_len,
        }
    }
}

impl Row for LockRow {
    const HEADINGS: &'static [&'static str] = &[
        "LOCK", "HOLDER", "SESSION", "TOKEN", "LEFT", "PENDING", "WAITING",
    ];

    fn cells(&self) -> Vec<String> {
        vec![
            self.lock.clone(),
            self.holder.name.clone(),
            self.holder.session_id.to_string(),
            self.holder.token.to_string(),
            time(self.holder.left_ms),
            size(self.holder.pending_bytes),
            self.queue_len.to_string(),
        ]
    }
}

impl LockObject {
    pub(crate) fn new(status: LockStatus, slot: u64) -> Self {
        LockObject {
            lock: status.lock,
            held: status.holder.is_some(),
            token: status.holder.as_ref().map(|holder| holder.token.0),
            holder: status.holder.map(HolderObject::from),
            queue: status.queue.into_iter().map(WaiterObject::from).collect(),
            queue_len: status.queue_len,
            slot,
        }
    }

    /// Some lines for people.
    pub(crate) fn text(&self) -> String {
        let mut text = match &self.holder {
            None => format!("{}: free", Printable(&self.lock)),
            Some(holder) => format!(
                "{}: held by {} (session {}) with token {} since slot {}\n\
                 lease {}, {} left, {} appends of {} bytes pending",
                Printable(&self.lock),
                Printable(&holder.name),
                holder.session_id,
                holder.token,
                holder.slot,
                time(holder.lease_ms),
                time(holder.left_ms),
                holder.pending_appends,
                holder.pending_bytes
            ),
        };
        for WaiterObject {
            position,
            session_id,
            name,
        } in &self.queue
        {
            // Writing to a String cannot fail.
            let name = Printable(name);
            _ = write!(text, "\n{position}. {name} (session {session_id})");
        }
        if self.queue_len > self.queue.len() as u64 {
            _ = write!(
                text,
                "\nand {} more",
                self.queue_len - self.queue.len() as u64
            );
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use statemachine::{ClusterTime, Seq, SessionId, Slot, Token};

    use super::*;

    #[test]
    fn a_free_lock_and_a_wanted_one() {
        let free = LockStatus {
            lock: "a".into(),
            holder: None,
            queue: vec![],
            queue_len: 0,
        };
        assert_eq!(LockObject::new(free.clone(), 9).text(), "a: free");

        let holder = HolderFact {
            session: SessionId(4),
            name: "ann".into(),
            token: Token(7),
            slot: Slot(8),
            since: ClusterTime(0),
            since_wall_ms: 0,
            lease_ms: 20_000,
            deadline: ClusterTime(0),
            left_ms: 1_500,
            pending_appends: 1,
            pending_bytes: 3,
        };
        let waiter = WaiterFact {
            position: 1,
            session: SessionId(5),
            name: "bob\n2. eve (session 1)".into(),
            seq: Seq(1),
            since: ClusterTime(0),
            until: None,
        };
        let wanted = LockStatus {
            holder: Some(holder),
            queue: vec![waiter],
            queue_len: 3,
            ..free
        };
        assert_eq!(
            LockObject::new(wanted, 9).text(),
            "a: held by ann (session 4) with token 7 since slot 8\n\
             lease 20s, 1s 500ms left, 1 appends of 3 bytes pending\n\
             1. bob\\n2. eve (session 1) (session 5)\nand 2 more"
        );
    }
}
