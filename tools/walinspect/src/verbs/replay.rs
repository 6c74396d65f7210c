//! `replay --at SLOT`: the state as of a slot.

use serde_json::{Value, json};
use statemachine::{Answer, HolderFact, Machine, PAGE_MAX, Query};

use crate::failure::Failure;
use crate::ledger::Ledger;
use crate::output::Output;
use crate::replay::{Replay, Stop};
use crate::source::Source;
use crate::wording::wall_ms;

pub(super) fn run(source: &Source, at: Option<u64>, out: &Output) -> Result<(), Failure> {
    let ledger = Ledger::new(source);
    let mut replay = Replay::latest(source, &ledger, at.unwrap_or(u64::MAX))?;
    let stop = replay.run(at.unwrap_or(u64::MAX), |_| Ok(()))?;
    summary(&replay, stop, out)?;
    let machine = &replay.machine;
    out.list("lock", "\nlocks", &locks(machine))?;
    out.list("waiter", "\nqueues", &waiters(machine))?;
    out.list("session", "\nsessions", &sessions(machine))?;
    out.list("file", "\nfiles", &files(machine))?;
    if let Some(told) = stop.told() {
        out.note(&told);
    }
    if let (Some(at), Stop::End) = (at, stop) {
        let last = machine.applied();
        out.note(&format!(
            "slot {at} is not in this folder, which ends at slot {last}"
        ));
    }
    Ok(())
}

fn summary(replay: &Replay<'_>, stop: Stop, out: &Output) -> Result<(), Failure> {
    let machine = &replay.machine;
    let fields = json!({
        "slot": machine.applied().0,
        "cluster_time_ms": machine.time().0,
        "time": wall_ms(replay.wall_ms),
        "hash": format!("{:016x}", machine.state_hash()),
        "from_snapshot": (replay.base > 0).then_some(replay.base),
        "stop": stop.name(),
        "next_deadline_ms": machine.next_deadline().map(|time| time.0),
        "settings": machine.settings().map(|settings| json!({
            "files": settings.files,
            "default_lease_ms": settings.default_lease_ms,
            "default_ttl_ms": settings.default_ttl_ms,
        })),
    });
    out.sheet("state", &fields)
}

/// Every lock that is held, page by page.
fn held(machine: &Machine) -> Vec<(String, HolderFact, u64)> {
    let mut all = Vec::new();
    let mut after = None;
    loop {
        let query = Query::Locks {
            prefix: String::new(),
            after,
            limit: PAGE_MAX,
        };
        let Answer::Locks(page) = machine.query(&query) else {
            return all;
        };
        after = page.items.last().map(|line| line.lock.clone());
        all.extend(
            page.items
                .into_iter()
                .map(|line| (line.lock, line.holder, line.queue_len)),
        );
        if !page.more {
            return all;
        }
    }
}

fn locks(machine: &Machine) -> Vec<Value> {
    let row = |(lock, holder, queue): (String, HolderFact, u64)| {
        json!({
            "lock": lock,
            "session": holder.session.0,
            "client": holder.name,
            "token": holder.token.0,
            "slot": holder.slot.0,
            "since_ms": holder.since.0,
            "since": wall_ms(holder.since_wall_ms),
            "lease_ms": holder.lease_ms,
            "left_ms": holder.left_ms,
            "pending_appends": holder.pending_appends,
            "pending_bytes": holder.pending_bytes,
            "waiting": queue,
        })
    };
    held(machine).into_iter().map(row).collect()
}

fn waiters(machine: &Machine) -> Vec<Value> {
    let mut rows = Vec::new();
    for (lock, _, _) in held(machine).into_iter().filter(|(_, _, queue)| *queue > 0) {
        let query = Query::LockStatus { lock: lock.clone() };
        let Answer::Lock(status) = machine.query(&query) else {
            continue;
        };
        rows.extend(status.queue.into_iter().map(|waiter| {
            json!({
                "lock": lock,
                "position": waiter.position,
                "session": waiter.session.0,
                "client": waiter.name,
                "seq": waiter.seq.0,
                "since_ms": waiter.since.0,
                "until_ms": waiter.until.map(|until| until.0),
            })
        }));
    }
    rows
}

fn sessions(machine: &Machine) -> Vec<Value> {
    let mut rows = Vec::new();
    let mut after = None;
    while let Answer::Sessions(page) = machine.query(&Query::Sessions {
        after,
        limit: PAGE_MAX,
    }) {
        after = page.items.last().map(|fact| fact.session);
        rows.extend(page.items.into_iter().map(|fact| {
            json!({
                "session": fact.session.0,
                "client": fact.name,
                "ttl_ms": fact.ttl_ms,
                "since_ms": fact.since.0,
                "since": wall_ms(fact.since_wall_ms),
                "left_ms": fact.left_ms,
                "held": fact.held,
                "waiting": fact.waiting,
            })
        }));
        if !page.more {
            break;
        }
    }
    rows
}

fn files(machine: &Machine) -> Vec<Value> {
    let row = |file: statemachine::FileFact| {
        json!({
            "file": file.name,
            "id": file.id.to_string(),
            "length": file.length,
            "crc32": format!("{:08x}", file.crc32),
            "guard": file.guard,
        })
    };
    machine.files().map(row).collect()
}
