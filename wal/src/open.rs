//! Opens a log after the decision: builds the index, then carries the unproven tail forward.
//!
//! The tail is what nothing read back proves durable. It is appended again, to a new segment, before anyone
//! is answered. **The order matters**: carried batches first, then the header of their segment, then a marker.
//! Only the valid header voids the old tail; with the header first, a crash in between would void batches
//! that may have been acknowledged. What the old segment holds is never touched.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;

use crate::batch::{BatchFlags, BatchHeader, FoundRecord, stored_bytes};
use crate::error::Error;
use crate::index::{Entry, Index};
use crate::judged::Judged;
use crate::layout::{self, WAL};
use crate::litter::Litter;
use crate::reader::{Segment, Shared};
use crate::record::{Lsn, Record};
use crate::recovery::{
    Decision, Facts, FoundBatch, GapKind, Item, Outcome, Place, Recovery, SegmentFacts,
};
use crate::segment::{CAPACITY_MAX, SegmentHeader};
use crate::snapshot;
use crate::spare::{self, Ready, Spare};
use crate::storage::{BLOCK_BYTES, SharedDisk};
use crate::supers::Supers;
use crate::writer::{Options, SegmentMeta, State, WritePlace, Writer};

const BLOCK: u64 = BLOCK_BYTES as u64;

/// Opens what the decision says.
pub(crate) fn open(judged: Judged, options: Options) -> Result<(Writer, Recovery), Error> {
    let Judged {
        disk,
        environment,
        supers,
        lock,
        facts,
        decision,
        shared,
        carried,
    } = judged;
    let facts = &facts;
    let serves = decision.outcome.may_serve();
    let state = if serves {
        State::Open
    } else {
        State::ReadOnly(decision.report.to_string())
    };
    let spare = Arc::new(Spare::new(disk.clone(), capacity(&options, &carried)));
    let litter = Arc::new(Litter::new(disk.clone()));
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
        litter,
        trusted: decision.snapshots.iter().copied().collect(),
        lock,
    };
    if serves {
        begin_life(&mut writer)?;
        clear_litter(&mut writer)?;
        adopt_reserved(&mut writer, facts)?;
        if decision.reuse {
            use_on(&mut writer, facts, &decision)?;
        } else {
            carry_forward(&mut writer, facts, &decision, &carried)?;
        }
    }
    if serves {
        give_back(&writer, facts, &decision);
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
    options.capacity().max(carried_bytes(carried) + 6 * BLOCK)
}

/// Index and segments as the believed batches tell; carried batches come later, at their new place.
pub(crate) fn build(
    disk: &SharedDisk,
    facts: &Facts,
    decision: &Decision,
) -> Result<Shared, Error> {
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
pub(crate) fn carried_records(
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
            held_bytes: unused_end(found, header).map_or(header.capacity, |unused| unused.start),
        })
    });
    metas.collect()
}

/// The zeros at the end of a segment, as offsets in its file; without the copy of the header.
fn unused_end(found: &SegmentFacts, header: &SegmentHeader) -> Option<Range<u64>> {
    match found.items.last()? {
        Item::Gap(gap) if gap.kind == GapKind::Zero => {
            let start = gap.start.0 - header.base.0;
            let end = (gap.end.0 - header.base.0).min(header.capacity - BLOCK);
            (start < end).then_some(start..end)
        }
        _ => None,
    }
}

/// Gives the unused ends of the segments that nobody writes to any more back to the disk. Each start leaves the rest
/// of a segment behind; without this a replica that crashes again and again would fill the disk with zeros.
fn give_back(writer: &Writer, facts: &Facts, decision: &Decision) {
    let active = writer.place.active.as_ref().map(|active| active.seq);
    for live in &decision.live {
        let found = &facts.segments[live.segment];
        let unused = found.header().and_then(|header| unused_end(found, header));
        if let Some(unused) = unused
            && Some(found.seq) != active
            && let Ok(file) = writer.disk.open(&found.path)
        {
            // Where the file system cannot do this, the room comes back with the segment.
            let _ = file.punch(unused.start, unused.end - unused.start);
        }
    }
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
        records_end: bound,
        hinted: Lsn(0),
        naming: 0,
        awaits: 0,
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

/// Removes what a crash left: segments that the superblock no longer counts, and files whose making was never
/// finished. They take room that the log may need now.
fn clear_litter(writer: &mut Writer) -> Result<(), Error> {
    let first = writer.supers.current().first_segment;
    for entry in writer.disk.list(WAL).map_err(Error::io("list", WAL))? {
        let old = layout::segment_seq(&entry.name).is_some_and(|seq| seq < first);
        if old || layout::is_spare(&entry.name) {
            writer.litter.add([format!("{WAL}/{}", entry.name)]);
        }
    }
    writer.litter.clear();
    // What cannot be removed now is tried again by the next snapshot.
    let _ = snapshot::remove_unfinished(&*writer.disk);
    Ok(())
}

/// A reserved file that is large enough saves making one.
fn adopt_reserved(writer: &mut Writer, facts: &Facts) -> Result<(), Error> {
    let next = writer.segments.back().map_or(1, |segment| segment.seq + 1);
    let least = writer.spare.segment_bytes();
    if let Some(ready) = reserved(writer, facts, next, least)? {
        writer.spare.adopt(ready);
    }
    Ok(())
}

/// The file of zeros that an earlier life prepared as segment `seq`, if it has at least so many bytes.
fn reserved(writer: &Writer, facts: &Facts, seq: u64, least: u64) -> Result<Option<Ready>, Error> {
    let fits = |len: u64| (least..=CAPACITY_MAX).contains(&len) && len.is_multiple_of(BLOCK);
    let found = facts
        .segments
        .iter()
        .find(|s| s.seq == seq && s.zero && fits(s.len));
    let Some(found) = found else { return Ok(None) };
    let file = writer
        .disk
        .open(&found.path)
        .map_err(Error::io("open", &found.path))?;
    Ok(Some(Ready {
        seq,
        file,
        capacity: found.len,
    }))
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
    let ready = match writer.spare.take(seq) {
        Err(Error::NoSpace { .. }) => {
            // The log must open on a full disk too: a smaller reserved segment will do, or else the smallest new one.
            match reserved(writer, facts, seq, carried_bytes(carried) + 6 * BLOCK)? {
                Some(ready) => ready,
                None => smallest(&writer.disk, seq, capacity_least(carried))?,
            }
        }
        other => other?,
    };
    writer.enter_segment(ready);
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
    writer.supers.begin(&writer.advance())?;
    writer.place.hinted = writer.place.records_end;
    writer.shared.set_durable(writer.place.next);
    writer.write(&[], BatchFlags::MARKER)
}

fn smallest(disk: &SharedDisk, seq: u64, capacity: u64) -> Result<Ready, Error> {
    match spare::make(disk, seq, capacity) {
        Ok(file) => Ok(Ready {
            seq,
            file,
            capacity,
        }),
        Err(error) if error.is_no_space() => Err(Error::NoSpace {
            segment_bytes: capacity,
        }),
        Err(error) => Err(error),
    }
}

fn capacity_least(carried: &[(BatchHeader, Vec<Record>)]) -> u64 {
    (carried_bytes(carried) + 64 * BLOCK).max(crate::segment::CAPACITY_MIN)
}

fn carried_bytes(carried: &[(BatchHeader, Vec<Record>)]) -> u64 {
    carried.iter().map(|(header, _)| header.padded()).sum()
}
