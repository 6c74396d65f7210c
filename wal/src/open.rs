//! Opens a log after the decision: builds the index, then carries the unproven tail forward.
//!
//! The tail is what nothing read back proves durable. It is appended again, to a new segment, before anyone
//! is answered. **The order matters**: carried batches first, then the header of their segment, then a marker.
//! Only the valid header voids the old tail; with the header first, a crash in between would void batches
//! that may have been acknowledged. What the old segment holds is never touched.

use std::collections::VecDeque;
use std::sync::{Arc, OnceLock};

use bytes::Bytes;

use crate::batch::{BatchFlags, BatchHeader, FoundRecord, stored_bytes};
use crate::environment::Environment;
use crate::error::Error;
use crate::index::{Entry, Index};
use crate::reader::{Segment, Shared};
use crate::record::{Lsn, Record};
use crate::recovery::{Decision, Facts, FoundBatch, Item, Outcome, Place, Recovery};
use crate::spare::{self, Spare};
use crate::storage::{BLOCK_BYTES, LockGuard, SharedDisk};
use crate::super_store::SuperStore;
use crate::supers::Supers;
use crate::writer::{Options, SegmentMeta, State, WritePlace, Writer};

const BLOCK: u64 = BLOCK_BYTES as u64;

/// Opens what the decision says.
pub(crate) fn open(
    disk: SharedDisk,
    environment: Environment,
    supers: SuperStore,
    lock: Box<dyn LockGuard>,
    options: Options,
    facts: &Facts,
    decision: Decision,
) -> Result<(Writer, Recovery), Error> {
    let shared = Arc::new(build(&disk, facts, &decision)?);
    let carried = carried_records(&disk, facts, &decision)?;
    let serves = decision.outcome.may_serve();
    let state = if serves {
        State::Open
    } else {
        State::ReadOnly(decision.report.to_string())
    };
    let spare = Arc::new(Spare::new(disk.clone(), capacity(&options, &carried)));
    let mut writer = Writer {
        disk,
        environment,
        supers: Supers::new(supers),
        shared,
        spare,
        segments: segment_metas(facts, &decision),
        state,
        place: place(facts, &decision),
        arena: Vec::new(),
        lock,
    };
    if serves {
        begin_life(&mut writer)?;
        adopt_reserved(&mut writer, facts)?;
        if decision.reuse {
            use_on(&mut writer, facts, &decision)?;
        } else {
            carry_forward(&mut writer, facts, &decision, &carried)?;
        }
    }
    let recovery = recovery(&writer, decision);
    Ok((writer, recovery))
}

fn recovery(writer: &Writer, decision: Decision) -> Recovery {
    let superblock = writer.supers.current();
    Recovery {
        outcome: decision.outcome,
        report: decision.report,
        promised: decision.promised,
        max_ballot_ever: decision.max_ballot_ever,
        commit_slot: decision.commit_slot,
        first_slot: writer.first_slot(),
        last_slot: writer.last_slot(),
        snapshots: decision.snapshots,
        incarnation: superblock.incarnation,
        peers: superblock.peers,
    }
}

/// A new segment must hold all carried batches.
fn capacity(options: &Options, carried: &[(BatchHeader, Vec<Record>)]) -> u64 {
    let bytes: u64 = carried.iter().map(|(header, _)| header.padded()).sum();
    options.capacity().max(bytes + 6 * BLOCK)
}

/// Index and segments as the believed batches tell; carried batches come later, at their new place.
fn build(disk: &SharedDisk, facts: &Facts, decision: &Decision) -> Result<Shared, Error> {
    let mut index = Index::new(decision.first_slot);
    let mut durable = Lsn(0);
    for (_, batch) in believed(facts, decision) {
        for record in batch.records.iter().filter(|record| record.good) {
            let head = &record.header;
            if head.kind.is_entry() {
                let (lsn, kind, ballot) = (record.lsn, head.kind, head.ballot);
                index.put(
                    head.slot,
                    Entry {
                        lsn,
                        kind,
                        ballot,
                        payload_bytes: head.length,
                    },
                );
            }
        }
        durable = batch.header.end();
    }
    let mut segments = Vec::new();
    for live in &decision.live {
        let found = &facts.segments[live.segment];
        let Some(header) = found.header() else {
            continue;
        };
        let file = disk
            .open(&found.path)
            .map_err(Error::io("open", &found.path))?;
        segments.push(Arc::new(Segment {
            seq: found.seq,
            base: header.base,
            capacity: header.capacity,
            salt: header.salt,
            path: found.path.clone(),
            file,
            mappable: !found.unreadable && found.len >= header.capacity,
            map: OnceLock::new(),
        }));
    }
    let faulty = match &decision.outcome {
        Outcome::Faulty { ranges, .. } => ranges.clone(),
        _ => Vec::new(),
    };
    let shared = Shared::new(index, segments, faulty);
    shared.set_durable(durable);
    Ok(shared)
}

fn believed<'a>(
    facts: &'a Facts,
    decision: &'a Decision,
) -> impl Iterator<Item = (Place, &'a FoundBatch)> {
    decision.batches.iter().filter_map(|place| {
        match facts.segments[place.segment].items.get(place.item) {
            Some(Item::Batch(batch)) => Some((*place, batch)),
            _ => None,
        }
    })
}

/// The records of the batches to carry, read again and verified again.
fn carried_records(
    disk: &SharedDisk,
    facts: &Facts,
    decision: &Decision,
) -> Result<Vec<(BatchHeader, Vec<Record>)>, Error> {
    if !decision.outcome.may_serve() {
        return Ok(Vec::new());
    }
    let mut carried = Vec::new();
    for (place, batch) in believed(facts, decision) {
        if !decision.carry.contains(&place) {
            continue;
        }
        let found = &facts.segments[place.segment];
        let Some(header) = found.header() else {
            continue;
        };
        let file = disk
            .open_read(&found.path)
            .map_err(Error::io("open", &found.path))?;
        let body = crate::recovery::read_body(&*file, header, &batch.header)
            .map_err(Error::io("read", &found.path))?;
        let body = Bytes::from(body);
        let records = batch.records.iter().map(|record| {
            copy_of(&body, batch, record, header.salt).ok_or_else(|| Error::BadSnapshot {
                file: found.path.clone(),
                what: "changed while it was read".to_owned(),
            })
        });
        carried.push((batch.header.clone(), records.collect::<Result<_, _>>()?));
    }
    Ok(carried)
}

fn copy_of(body: &Bytes, batch: &FoundBatch, record: &FoundRecord, salt: u64) -> Option<Record> {
    let head = &record.header;
    let at = (record.lsn.0 - batch.header.lsn.0) as usize;
    let bytes = body.slice(at..at + stored_bytes(head.length as usize));
    let (kind, slot, ballot) = (head.kind, head.slot, head.ballot);
    let payload = crate::batch::open_record(bytes, salt, record.lsn, (kind, slot, ballot))?;
    Some(Record {
        kind,
        slot,
        ballot,
        payload,
    })
}

fn segment_metas(facts: &Facts, decision: &Decision) -> VecDeque<SegmentMeta> {
    let metas = decision.live.iter().filter_map(|live| {
        let found = &facts.segments[live.segment];
        let header = found.header()?;
        let slots = found
            .batches()
            .filter(|batch| batch.header.lsn < live.void_from);
        let max_slot = slots.map(|batch| batch.header.max_slot).max().unwrap_or(0);
        Some(SegmentMeta {
            seq: found.seq,
            path: found.path.clone(),
            base: header.base,
            capacity: header.capacity,
            max_slot,
        })
    });
    metas.collect()
}

/// Where the chain stands before anything is carried.
fn place(facts: &Facts, decision: &Decision) -> WritePlace {
    let bound = decision.prev_end;
    let last = believed(facts, decision)
        .filter(|(_, batch)| batch.header.lsn < bound)
        .last();
    let newest = decision
        .live
        .last()
        .and_then(|live| facts.segments[live.segment].header());
    // Without a batch the header of the first segment stands for the chain before it.
    let last = last.map_or_else(
        || BatchHeader {
            crc: newest.map_or(0, |header| header.prev_header_crc),
            batch_seq: newest.map_or(0, |header| header.prev_batch_seq),
            ..BatchHeader::default()
        },
        |(_, batch)| batch.header.clone(),
    );
    WritePlace {
        active: None,
        next: bound,
        durable_claim: None,
        max_slot_ever: decision.max_slot_ever,
        max_ballot_ever: decision.max_ballot_ever,
        commit_slot: decision.commit_slot,
        marked_slot: decision.marked_slot,
        promised: decision.promised,
        last,
        unmarked: false,
        hinted: Lsn(0),
    }
}

/// The first write: one start more, and the clean flag goes before anything else changes.
fn begin_life(writer: &mut Writer) -> Result<(), Error> {
    let boot_id = writer.environment.boot_id;
    let promised = writer.place.promised;
    writer.supers.update(|block| {
        block.incarnation += 1;
        block.boot_id = boot_id;
        block.clean = false;
        block.promised = block.promised.max(promised);
    })
}

/// A reserved file of the right size saves making one.
fn adopt_reserved(writer: &mut Writer, facts: &Facts) -> Result<(), Error> {
    let next = writer.segments.back().map_or(1, |segment| segment.seq + 1);
    let bytes = writer.spare.segment_bytes();
    let reserved = facts
        .segments
        .iter()
        .find(|s| s.seq == next && s.zero && s.len == bytes);
    if let Some(found) = reserved {
        let file = writer
            .disk
            .open(&found.path)
            .map_err(Error::io("open", &found.path))?;
        writer.spare.adopt(next, file);
    }
    Ok(())
}

/// Goes on in the newest segment: it holds no record, and what it holds was synced before it was read.
fn use_on(writer: &mut Writer, facts: &Facts, decision: &Decision) -> Result<(), Error> {
    let newest = decision
        .live
        .last()
        .map(|live| &facts.segments[live.segment]);
    let Some((found, header)) = newest.and_then(|found| Some((found, found.header()?))) else {
        return Err(Error::Closed);
    };
    let file = writer
        .disk
        .open(&found.path)
        .map_err(Error::io("open", &found.path))?;
    let last = believed(facts, decision)
        .last()
        .map(|(_, batch)| batch.header.clone());
    writer.place.active = Some(Arc::new(Segment {
        seq: found.seq,
        base: header.base,
        capacity: header.capacity,
        salt: header.salt,
        path: found.path.clone(),
        file,
        mappable: true,
        map: OnceLock::new(),
    }));
    writer.place.next = decision.report.end;
    if let Some(last) = last {
        writer.place.last = last;
    }
    writer.shared.set_durable(writer.place.next);
    Ok(())
}

/// Starts a new segment behind everything found and appends the unproven batches to it.
fn carry_forward(
    writer: &mut Writer,
    facts: &Facts,
    decision: &Decision,
    carried: &[(BatchHeader, Vec<Record>)],
) -> Result<(), Error> {
    let newest = decision
        .live
        .last()
        .map_or(0, |live| facts.segments[live.segment].seq);
    let seq = newest + 1;
    let capacity = writer.spare.segment_bytes();
    let file = match writer.spare.take(seq) {
        Err(Error::NoSpace { .. }) => {
            // The log must open on a full disk too: fall back to the smallest segment that does.
            let least = capacity_least(carried);
            let file = spare::make(&writer.disk, seq, least);
            let file = file.map_err(|error| match error.is_no_space() {
                true => Error::NoSpace {
                    segment_bytes: least,
                },
                false => error,
            })?;
            writer.enter_segment(seq, file, least);
            None
        }
        other => Some(other?),
    };
    if let Some(file) = file {
        writer.enter_segment(seq, file, capacity);
    }
    let prev_end = decision.prev_end;
    // The header voids the old tail only if it names the chain before the carried batches.
    let before = writer.place.last.clone();
    writer.place.durable_claim = Some(Lsn(writer.place.next.0 - BLOCK));
    for (_, records) in carried {
        writer.write(records, BatchFlags::CARRIED)?;
    }
    writer.place.durable_claim = None;
    let after = std::mem::replace(&mut writer.place.last, before);
    writer.write_segment_header(prev_end)?;
    writer.place.last = after;
    writer.supers.begin(writer.advance())?;
    writer.place.hinted = writer.place.next;
    writer.shared.set_durable(writer.place.next);
    writer.write(&[], BatchFlags::MARKER)
}

fn capacity_least(carried: &[(BatchHeader, Vec<Record>)]) -> u64 {
    let bytes: u64 = carried.iter().map(|(header, _)| header.padded()).sum();
    (bytes + 64 * BLOCK).max(crate::segment::CAPACITY_MIN)
}
