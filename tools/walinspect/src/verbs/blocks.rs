//! `super`: both copies of the superblock.

use paxos::birth::BirthRecord;
use serde_json::{Value, json};
use wal::SnapshotRef;
use wal::layout::SUPERBLOCKS;
use wal::scan::Superblock;

use crate::failure::Failure;
use crate::output::Output;
use crate::source::Source;
use crate::wording::ballot;

pub(super) fn run(source: &Source, out: &Output) -> Result<(), Failure> {
    for (file, copy) in SUPERBLOCKS.iter().zip(&source.facts.supers) {
        let fields = match copy {
            Ok(block) => fields(file, block),
            Err(fault) => json!({"file": file, "verdict": fault.to_string()}),
        };
        out.sheet("superblock", &fields)?;
        out.line("")?;
    }
    Ok(())
}

fn fields(file: &str, block: &Superblock) -> Value {
    let snapshot = |named: Option<SnapshotRef>| {
        named.map(|named| {
            let digest = format!("{:016x}", named.digest);
            json!({"slot": named.slot, "bytes": named.length, "digest": digest})
        })
    };
    let birth = BirthRecord::decode(block.birth.clone()).ok();
    let members = birth.as_ref().map(|birth| {
        let member = |(node, disk): &(paxos::NodeId, paxos::DiskId)| {
            json!({"node": node.0, "disk": format!("{:016x}", disk.0)})
        };
        birth.members.iter().map(member).collect::<Vec<_>>()
    });
    json!({
        "file": file,
        "verdict": "good",
        "sequence": block.sequence,
        "cluster": format!("{:032x}", block.cluster),
        "cluster_name": birth.as_ref().map(|birth| birth.name.clone()),
        "members": members,
        "node": block.node,
        "disk": format!("{:016x}", block.disk),
        "incarnation": block.incarnation,
        "boot": format!("{:032x}", block.boot_id),
        "clean": block.clean,
        "promised": ballot(block.promised),
        "first_segment": block.first_segment,
        "newest_segment": block.newest_segment,
        "removed_slot": block.removed_slot,
        "snapshot": snapshot(block.snapshot),
        "previous_snapshot": snapshot(block.previous_snapshot),
        "durable_hint": block.durable_hint.0,
        "peers_bytes": block.peers.len(),
        "max_slot_ever": block.max_slot_ever,
        "max_ballot_ever": ballot(block.max_ballot_ever),
    })
}
