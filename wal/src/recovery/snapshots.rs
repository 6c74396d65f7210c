//! Which snapshots may be used; rows 18 and 26 to 28.

use crate::snapshot::SnapshotRef;
use crate::superblock::Superblock;

use super::facts::Facts;
use super::report::Finding;

/// The snapshots that may be used, and the slot of the newest; rows 26 to 28.
pub(super) fn snapshots(
    facts: &Facts,
    meta: &Superblock,
    findings: &mut Vec<Finding>,
) -> (Vec<SnapshotRef>, u64) {
    let named: Vec<SnapshotRef> = meta
        .snapshot
        .into_iter()
        .chain(meta.previous_snapshot)
        .collect();
    let mut usable = Vec::new();
    for fact in &facts.snapshots {
        let name = named.iter().find(|reference| reference.slot == fact.slot);
        let snapshot_note = |row, damage, what: String| Finding {
            row,
            damage,
            file: fact.path.clone(),
            offset: 0,
            length: 0,
            what,
            slots: None,
        };
        match (&fact.verdict, name) {
            (Ok(found), Some(name)) if found == name => usable.push(*found),
            (Ok(_), Some(_)) => {
                let what = "is not the snapshot that the superblock names".to_owned();
                findings.push(snapshot_note(26, true, what));
            }
            // A mark in the log is not enough: it says neither which bytes nor whose.
            (Ok(_), None) => {
                let what = "no superblock names it: ignored".to_owned();
                findings.push(snapshot_note(27, false, what));
            }
            (Err(fault), name) => {
                findings.push(snapshot_note(
                    26,
                    name.is_some(),
                    format!("not usable: {fault}"),
                ));
            }
        }
    }
    for name in &named {
        if !facts.snapshots.iter().any(|fact| fact.slot == name.slot) {
            findings.push(Finding {
                row: 26,
                damage: true,
                file: crate::layout::snapshot_path(name.slot),
                offset: 0,
                length: 0,
                what: "the snapshot that the superblock names is missing".to_owned(),
                slots: None,
            });
        }
    }
    for path in &facts.unknown {
        let (row, what) = if path.ends_with(".partial") {
            (28, "a snapshot that was being received")
        } else if path.ends_with(".tmp") {
            (15, "was being prepared: made again when it is needed")
        } else {
            (18, "not a file of the log: left alone")
        };
        findings.push(Finding {
            row,
            damage: false,
            file: path.clone(),
            offset: 0,
            length: 0,
            what: what.to_owned(),
            slots: None,
        });
    }
    usable.sort_by_key(|snapshot| std::cmp::Reverse(snapshot.slot));
    let newest = usable.first().map_or(0, |snapshot| snapshot.slot);
    (usable, newest)
}
