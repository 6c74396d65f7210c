//! `history LOCK`: who held a lock, from when until when, and why each lost it.

use serde_json::{Value, json};
use statemachine::{Answer, Event, LostWhy, Machine, Query, SessionId};

use crate::failure::Failure;
use crate::ledger::Ledger;
use crate::output::Output;
use crate::replay::{Replay, Step};
use crate::selection::{Selection, Standing};
use crate::source::Source;
use crate::wording::wall_ms;

/// One grant and its end.
#[derive(Clone, Debug)]
struct Hold {
    token: u64,
    session: u64,
    client: String,
    slot: u64,
    since_ms: u64,
    since_wall_ms: u64,
    waited_ms: Option<u64>,
    end: Option<End>,
}

#[derive(Clone, Debug)]
struct End {
    slot: u64,
    time_ms: u64,
    wall_ms: u64,
    why: &'static str,
    /// Who forced it, and with which reason.
    forced: Option<(u64, String)>,
    discarded: u32,
}

pub(super) fn run(
    source: &Source,
    lock: &str,
    part: Selection,
    out: &Output,
) -> Result<(), Failure> {
    let ledger = Ledger::new(source);
    let mut replay = Replay::earliest(source, &ledger)?;
    let mut holds: Vec<Hold> = held_at_first(&replay.machine, lock).into_iter().collect();
    let base = replay.base;
    let stop = replay.run(u64::MAX, |step| {
        for event in &step.effects.events {
            note(&mut holds, lock, event, step);
        }
        Ok(())
    })?;
    let inside = |hold: &&Hold| {
        let last = hold.end.as_ref().map_or(hold.slot, |end| end.slot);
        part.holds(Standing {
            slots: Some((hold.slot, last)),
            lsn: 0,
            segment: 0,
            wall_ns: hold.since_wall_ms.saturating_mul(1_000_000),
        })
    };
    let rows: Vec<Value> = holds.iter().filter(inside).map(row).collect();
    out.list("hold", "", &rows)?;
    let last = replay.machine.applied();
    if rows.is_empty() {
        out.line(&format!("nobody held it in slots {} to {last}", base + 1))?;
    }
    if base > 0 {
        out.note(&format!("this folder reaches back to slot {base}"));
    }
    if let Some(told) = stop.told() {
        out.note(&told);
    }
    Ok(())
}

/// Who holds the lock where the replay begins.
fn held_at_first(machine: &Machine, lock: &str) -> Option<Hold> {
    let Answer::Lock(status) = machine.query(&Query::LockStatus {
        lock: lock.to_owned(),
    }) else {
        return None;
    };
    let holder = status.holder?;
    Some(Hold {
        token: holder.token.0,
        session: holder.session.0,
        client: holder.name,
        slot: holder.slot.0,
        since_ms: holder.since.0,
        since_wall_ms: holder.since_wall_ms,
        waited_ms: None,
        end: None,
    })
}

fn note(holds: &mut Vec<Hold>, asked: &str, event: &Event, step: &Step<'_>) {
    match event {
        Event::Granted {
            lock,
            session,
            token,
            waited_ms,
            ..
        } if lock == asked => holds.push(Hold {
            token: token.0,
            session: session.0,
            client: name_of(step.machine, *session),
            slot: step.slot,
            since_ms: step.time_ms,
            since_wall_ms: step.wall_ms,
            waited_ms: Some(*waited_ms),
            end: None,
        }),
        Event::Lost {
            lock,
            token,
            why,
            discarded_appends,
            ..
        } if lock == asked => {
            let hold = holds.iter_mut().rev().find(|hold| hold.token == token.0);
            if let Some(hold) = hold {
                hold.end = Some(End {
                    slot: step.slot,
                    time_ms: step.time_ms,
                    wall_ms: step.wall_ms,
                    why: why_of(why),
                    forced: forced(why),
                    discarded: *discarded_appends,
                });
            }
        }
        _ => {}
    }
}

fn name_of(machine: &Machine, session: SessionId) -> String {
    match machine.query(&Query::Session { id: session }) {
        Answer::Session(fact) => fact.name,
        _ => String::new(),
    }
}

fn why_of(why: &LostWhy) -> &'static str {
    match why {
        LostWhy::Released => "released",
        LostWhy::Aborted => "aborted",
        LostWhy::GivenBack => "given_back",
        LostWhy::LeaseExpired => "lease_ended",
        LostWhy::SessionExpired => "session_ended",
        LostWhy::SessionClosed => "session_closed",
        LostWhy::Forced { .. } => "forced",
    }
}

fn forced(why: &LostWhy) -> Option<(u64, String)> {
    match why {
        LostWhy::Forced { by, reason } => Some((by.0, reason.clone())),
        _ => None,
    }
}

fn row(hold: &Hold) -> Value {
    let end = hold.end.as_ref();
    let forced = end.and_then(|end| end.forced.as_ref());
    json!({
        "token": hold.token,
        "session": hold.session,
        "client": hold.client,
        "slot": hold.slot,
        "from_ms": hold.since_ms,
        "from": wall_ms(hold.since_wall_ms),
        "waited_ms": hold.waited_ms,
        "end_slot": end.map(|end| end.slot),
        "until_ms": end.map(|end| end.time_ms),
        "until": end.map_or(Value::Null, |end| wall_ms(end.wall_ms)),
        "why": end.map_or("holds", |end| end.why),
        "forced_by": forced.map(|(by, _)| by),
        "reason": forced.map(|(_, reason)| reason),
        "discarded_appends": end.map(|end| end.discarded),
    })
}
