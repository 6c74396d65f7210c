//! `snap ls` and `snap verify`: the snapshots.

use serde_json::{Value, json};
use wal::scan::{SnapshotFacts, Superblock};

use crate::failure::{Failure, exit};
use crate::output::Output;
use crate::replay;
use crate::source::Source;

pub(super) fn ls(source: &Source, out: &Output) -> Result<(), Failure> {
    let rows: Vec<Value> = source
        .facts
        .snapshots
        .iter()
        .map(|snapshot| row(source, snapshot))
        .collect();
    out.list("snapshot", "\nsnapshots", &rows)
}

/// Reads the states too. Returns the exit code that they call for.
pub(super) fn verify(source: &Source, out: &Output) -> Result<u8, Failure> {
    let mut code = exit::INTACT;
    let mut rows = Vec::new();
    for snapshot in &source.facts.snapshots {
        let read = snapshot
            .verdict
            .as_ref()
            .map_err(Clone::clone)
            .and_then(|reference| replay::load(&*source.disk, reference));
        let mut told = row(source, snapshot);
        told["state"] = match &read {
            Ok((machine, clock)) => json!({
                "time_ms": clock.time_ms,
                "files": machine.files().count(),
                "hash": format!("{:016x}", machine.state_hash()),
            }),
            Err(_) => Value::Null,
        };
        if let Err(what) = read {
            told["verdict"] = json!(what);
            code = exit::CORRUPT;
        }
        rows.push(told);
    }
    out.list("snapshot", "", &rows)?;
    Ok(code)
}

fn row(source: &Source, snapshot: &SnapshotFacts) -> Value {
    let reference = snapshot.verdict.as_ref().ok();
    json!({
        "file": snapshot.path,
        "slot": snapshot.slot,
        "bytes": reference.map(|reference| reference.length),
        "digest": reference.map(|reference| format!("{:016x}", reference.digest)),
        "named_by": named_by(source, snapshot),
        "verdict": snapshot.verdict.as_ref().map_or_else(Clone::clone, |_| "good".to_owned()),
    })
}

/// Why the snapshot counts: a snapshot that nothing names is ignored.
fn named_by(source: &Source, snapshot: &SnapshotFacts) -> &'static str {
    let names = |block: &Superblock| {
        let mut named = block.snapshot.into_iter().chain(block.previous_snapshot);
        named.any(|named| named.slot == snapshot.slot)
    };
    let supers = source
        .facts
        .supers
        .iter()
        .filter_map(|copy| copy.as_ref().ok());
    if supers.into_iter().any(names) {
        return "superblock";
    }
    let mut usable = source.view().snapshots.iter();
    if usable.any(|usable| usable.slot == snapshot.slot) {
        return "record";
    }
    "nothing"
}
