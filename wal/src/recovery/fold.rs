//! Folds the batches of a log in order: follows the chain, names what is missing from it.
//!
//! The rule throughout: what stands below the durable bound was durable, so a fault there is damage and
//! its slots are lost; what stands at or above it was never acknowledged and may be dropped.

use crate::batch::{BatchHeader, Body};
use crate::record::{Lsn, RecordKind, SlotRange};
use crate::superblock::Superblock;

use super::decide::{LiveSegment, Place};
use super::facts::{Facts, FoundBatch, GapKind, Item, SegmentFacts};
use super::report::{Finding, Outcome};

pub(super) struct Fold<'a> {
    facts: &'a Facts,
    meta: &'a Superblock,
    snapshot_slot: u64,
    pub(super) bound: Lsn,
    pub(super) findings: Vec<Finding>,
    pub(super) ranges: Vec<SlotRange>,
    pub(super) batches: Vec<Place>,
    /// End of the last batch in the chain.
    pub(super) end: Lsn,
    /// Highest ballot promised by a promise record.
    pub(super) promises: u64,
    /// Highest ballot of anything believed.
    pub(super) ballots: u64,
    /// Highest slot of anything believed.
    pub(super) slots: u64,
    pub(super) commit_slot: u64,
    pub(super) marked_slot: u64,
    /// Highest slot of a believed entry.
    top: u64,
    last: Link,
    /// Stretches without a valid batch since the last one.
    gaps: Vec<Stretch>,
    /// The end of the log was torn; told only if nothing shows that more than a crash was at work.
    torn: Option<Finding>,
    fatal: bool,
}

/// The end of the chain so far.
#[derive(Clone, Copy, Debug, Default)]
struct Link {
    batch_seq: u64,
    crc: u32,
    /// Whether the chain before the next batch is known at all.
    known: bool,
}

#[derive(Clone, Debug)]
struct Stretch {
    file: String,
    base: Lsn,
    start: Lsn,
    end: Lsn,
    kind: GapKind,
}

impl<'a> Fold<'a> {
    pub(super) fn new(
        facts: &'a Facts,
        meta: &'a Superblock,
        bound: Lsn,
        snapshot_slot: u64,
        findings: Vec<Finding>,
    ) -> Fold<'a> {
        Fold {
            facts,
            meta,
            snapshot_slot,
            bound,
            findings,
            ranges: Vec::new(),
            batches: Vec::new(),
            end: Lsn(0),
            promises: 0,
            ballots: 0,
            slots: 0,
            commit_slot: 0,
            marked_slot: 0,
            top: 0,
            last: Link::default(),
            gaps: Vec::new(),
            torn: None,
            fatal: false,
        }
    }

    pub(super) fn run(&mut self, live: &[LiveSegment]) {
        let mut expected = self.meta.first_segment;
        for at in live {
            let segment = &self.facts.segments[at.segment];
            self.enter(segment, segment.seq == expected);
            expected = segment.seq + 1;
            for (item, found) in segment.items.iter().enumerate() {
                if self.torn.is_some() || self.fatal || found.start() >= at.void_from {
                    break;
                }
                match found {
                    Item::Gap(gap) => self.gaps.push(Stretch {
                        file: segment.path.clone(),
                        base: segment.header().map_or(Lsn(0), |header| header.base),
                        start: gap.start,
                        end: gap.end.min(at.void_from),
                        kind: gap.kind,
                    }),
                    Item::Batch(batch) => {
                        self.take(
                            Place {
                                segment: at.segment,
                                item,
                            },
                            segment,
                            batch,
                        );
                    }
                }
            }
        }
        if !self.fatal {
            self.finish(live);
        }
    }

    pub(super) fn outcome(&self) -> Outcome {
        if self.fatal {
            return Outcome::Fatal;
        }
        if self
            .ranges
            .iter()
            .any(|range| range.last > self.snapshot_slot)
        {
            let max_ballot = self
                .ranges
                .iter()
                .map(|range| range.ballot_max)
                .max()
                .unwrap_or(0);
            return Outcome::Faulty {
                ranges: self.ranges.clone(),
                max_ballot,
            };
        }
        if self.torn.is_some() {
            Outcome::TornTail
        } else {
            Outcome::Clean
        }
    }

    /// Highest slot that is lost although the log may serve, 0 if there is none. A snapshot that was verified just now
    /// stands for such slots. No promise is lost with them: a later header names the highest ballot before it.
    pub(super) fn covered(&self) -> u64 {
        let last = self.ranges.iter().map(|range| range.last).max();
        last.filter(|last| *last <= self.snapshot_slot).unwrap_or(0)
    }

    pub(super) fn note(&mut self, row: u8, file: &str, what: &str) {
        self.find(row, false, file, (0, 0), what, None);
    }

    /// Reports damage; with slots, they are lost.
    pub(super) fn lose(
        &mut self,
        row: u8,
        file: &str,
        offset: u64,
        length: u64,
        what: &str,
        slots: Option<SlotRange>,
    ) {
        self.ranges
            .extend(slots.filter(|range| !self.ranges.contains(range)));
        self.find(row, true, file, (offset, length), what, slots);
    }

    fn find(
        &mut self,
        row: u8,
        damage: bool,
        file: &str,
        (offset, length): (u64, u64),
        what: &str,
        slots: Option<SlotRange>,
    ) {
        let (file, what) = (file.to_owned(), what.to_owned());
        self.findings.push(Finding {
            row,
            damage,
            file,
            offset,
            length,
            what,
            slots,
        });
    }

    /// Begins a segment: its header says where the chain before it must stand.
    fn enter(&mut self, segment: &SegmentFacts, adjacent: bool) {
        let Some(header) = segment.header() else {
            return;
        };
        let first = self.batches.is_empty() && !self.last.known && self.gaps.is_empty();
        if first && adjacent {
            // The oldest segment kept: the chain before it is gone for good, and its header stands for it.
            self.last = Link {
                batch_seq: header.prev_batch_seq,
                crc: header.prev_header_crc,
                known: true,
            };
            self.end = Lsn(header.base.0 + crate::storage::BLOCK_BYTES as u64);
        }
        if self.last.known && adjacent && header.prev_batch_seq < self.last.batch_seq {
            let what = format!(
                "says that the log before it ends at batch {}, but batch {} is there",
                header.prev_batch_seq, self.last.batch_seq
            );
            self.fatal = true;
            self.find(10, true, &segment.path, (0, 0), &what, None);
        }
        let at_seam = self.last.known && header.prev_batch_seq == self.last.batch_seq;
        if adjacent && at_seam && self.last.crc == header.prev_header_crc && self.gaps.is_empty() {
            self.end = Lsn(header.base.0 + crate::storage::BLOCK_BYTES as u64);
        }
        self.ballots = self
            .ballots
            .max(header.max_ballot_ever)
            .max(header.promised);
        self.slots = self.slots.max(header.max_slot_ever);
    }

    /// Takes the next valid header.
    fn take(&mut self, place: Place, segment: &SegmentFacts, batch: &FoundBatch) {
        let header = &batch.header;
        if self.last.known && header.batch_seq <= self.last.batch_seq {
            let what = format!(
                "batch {} at {} stands after batch {}: two writers or a copied disk",
                header.batch_seq, header.lsn, self.last.batch_seq
            );
            self.fatal = true;
            return self.find(10, true, &segment.path, span(segment, header), &what, None);
        }
        let follows =
            header.batch_seq == self.last.batch_seq + 1 && header.prev_crc == self.last.crc;
        if !follows || !self.gaps.is_empty() {
            let hole = self
                .gaps
                .first()
                .map_or(self.end.min(header.lsn), |gap| gap.start);
            if hole >= self.bound {
                return self.tear(7, segment, header);
            }
            self.name_hole(segment, header);
        }
        self.gaps.clear();
        if !self.judge_body(segment, batch) {
            return;
        }
        self.last = Link {
            batch_seq: header.batch_seq,
            crc: header.crc,
            known: true,
        };
        self.end = header.end();
        self.believe(place, batch);
    }

    /// Rows 6 and 9: batches are missing before a valid one, below the bound.
    fn name_hole(&mut self, segment: &SegmentFacts, header: &BatchHeader) {
        let gone = header.batch_seq - self.last.batch_seq.min(header.batch_seq) - 1;
        let chained = header.prev_crc == self.last.crc;
        let slots = match gone {
            0 if chained => None,
            1 if self.last.known => before(header),
            _ => self.suspects(segment, header),
        };
        let what = match gone {
            0 if chained => format!(
                "blocks between batch {} and its successor",
                self.last.batch_seq
            ),
            0 => format!(
                "batch {} was replaced: its successor knew another",
                self.last.batch_seq
            ),
            1 => format!("batch {} is lost", header.batch_seq - 1),
            _ => format!("{gone} batches before batch {} are lost", header.batch_seq),
        };
        let gaps = std::mem::take(&mut self.gaps);
        match gaps.first() {
            Some(gap) => {
                let row = if gap.kind == GapKind::Misplaced { 8 } else { 6 };
                let row = if gap.kind == GapKind::Unreadable {
                    11
                } else {
                    row
                };
                let length = gaps
                    .iter()
                    .filter(|g| g.file == gap.file)
                    .map(|g| g.end.0)
                    .max();
                let length = length.unwrap_or(gap.end.0) - gap.start.0;
                let what = format!("{}: {what}", gap.kind);
                self.lose(
                    row,
                    &gap.file,
                    gap.start.0 - gap.base.0,
                    length,
                    &what,
                    slots,
                );
            }
            None => {
                let (offset, _) = span(segment, header);
                self.lose(9, &segment.path, offset, 0, &what, slots);
            }
        }
    }

    /// Rows 4, 5 and 29. Whether the fold goes on with this batch.
    fn judge_body(&mut self, segment: &SegmentFacts, batch: &FoundBatch) -> bool {
        let header = &batch.header;
        let (offset, length) = span(segment, header);
        match &batch.body {
            Body::Good => true,
            Body::BadPadding => {
                let what = format!(
                    "only the padding behind batch {} is not zero; its records are whole",
                    header.batch_seq
                );
                self.find(5, true, &segment.path, (offset, length), &what, None);
                true
            }
            Body::Impossible(what) => {
                let what = format!("good checksum over an impossible {what}: a bug of the writer");
                self.fatal = true;
                self.find(29, true, &segment.path, (offset, length), &what, None);
                false
            }
            Body::BadDirectory | Body::BadPayload if header.lsn >= self.bound => {
                self.tear(4, segment, header);
                false
            }
            Body::BadDirectory => {
                let what = format!("record headers of batch {} are damaged", header.batch_seq);
                self.lose(5, &segment.path, offset, length, &what, own(header));
                true
            }
            Body::BadPayload => {
                for record in batch.records.iter().filter(|record| !record.good) {
                    let head = &record.header;
                    let slots = head.kind.is_entry().then_some(SlotRange {
                        first: head.slot,
                        last: head.slot,
                        ballot_max: head.ballot,
                    });
                    let what = format!(
                        "payload of a record ({}) in batch {} is damaged",
                        head.kind, header.batch_seq
                    );
                    let at = offset + (record.lsn.0 - header.lsn.0);
                    self.lose(5, &segment.path, at, u64::from(head.length), &what, slots);
                }
                true
            }
        }
    }

    fn believe(&mut self, place: Place, batch: &FoundBatch) {
        let header = &batch.header;
        self.batches.push(place);
        self.ballots = self.ballots.max(header.max_ballot_ever);
        self.slots = self.slots.max(header.max_slot_ever);
        if batch.body.is_whole() {
            self.commit_slot = self.commit_slot.max(header.commit_slot);
        }
        let top = self.slots_before();
        for record in batch.records.iter().filter(|record| record.good) {
            let slot = record.header.slot;
            if record.header.kind.is_entry() && slot > top + crate::index::SLOT_JUMP_MAX {
                let what = format!(
                    "slot {slot} under a good checksum, far above {top}: a bug of the writer"
                );
                self.fatal = true;
                return self.find(29, true, "wal", (0, 0), &what, None);
            }
            if record.header.kind.is_entry() {
                self.top = self.top.max(slot);
            }
            match record.header.kind {
                RecordKind::Promise => self.promises = self.promises.max(record.header.ballot),
                RecordKind::SnapshotMark => {
                    self.marked_slot = self.marked_slot.max(record.header.slot);
                }
                _ => {}
            }
        }
    }

    /// The highest slot that can be known before the batch: the index bounds its memory by it.
    fn slots_before(&self) -> u64 {
        self.top.max(self.meta.removed_slot).max(self.snapshot_slot)
    }

    /// Drops everything from this batch on: nothing proves that it was durable.
    fn tear(&mut self, row: u8, segment: &SegmentFacts, header: &BatchHeader) {
        let (offset, length) = span(segment, header);
        self.torn = Some(Finding {
            row,
            damage: false,
            file: segment.path.clone(),
            offset,
            length,
            what: format!(
                "torn tail: batch {} at {} was never acknowledged and is dropped",
                header.batch_seq, header.lsn
            ),
            slots: None,
        });
    }

    /// Looks at what follows the last batch; rows 2, 3, 4, 8, 14 and 17.
    fn finish(&mut self, live: &[LiveSegment]) {
        let gaps = std::mem::take(&mut self.gaps);
        let newest = live.last().map(|at| &self.facts.segments[at.segment]);
        let suffix = if self.is_closed_here() {
            None
        } else {
            self.lost_suffix(newest, &gaps)
        };
        if let Some(lost) = suffix {
            self.torn = None;
            let slots = Some(SlotRange::open(self.snapshot_slot + 1));
            return self.lose(
                lost.row,
                &lost.file,
                lost.offset,
                lost.length,
                &lost.what,
                slots,
            );
        }
        let odd = |gap: &&Stretch| gap.kind != GapKind::Zero;
        if let (None, Some(gap)) = (&self.torn, gaps.iter().find(odd)) {
            let (offset, length) = (gap.start.0 - gap.base.0, gap.end.0 - gap.start.0);
            if self.is_closed_here() {
                let what = format!("{} after the end of a log that was closed", gap.kind);
                return self.find(4, true, &gap.file, (offset, length), &what, None);
            }
            self.torn = Some(Finding {
                row: 4,
                damage: false,
                file: gap.file.clone(),
                offset,
                length,
                what: format!(
                    "torn tail: {} after the end of the log, never acknowledged",
                    gap.kind
                ),
                slots: None,
            });
        }
        self.findings.extend(self.torn.clone());
    }

    /// Whether the log ends with the marker of a close in order: then nothing came after it.
    fn is_closed_here(&self) -> bool {
        let closed_at = self.meta.durable_hint.0 + crate::storage::BLOCK_BYTES as u64;
        self.meta.clean && self.end.0 == closed_at
    }

    /// Why more is gone from the end of the log than a crash takes. No crash shortens a segment, whose length was
    /// durable before its name, and none moves a whole header to another place.
    fn lost_suffix(&self, newest: Option<&SegmentFacts>, gaps: &[Stretch]) -> Option<Finding> {
        let finding = |row, file: &str, offset, length, what| Finding {
            row,
            damage: true,
            file: file.to_owned(),
            offset,
            length,
            what,
            slots: None,
        };
        if self.end < self.bound && self.torn.is_none() {
            let what = format!(
                "the log ends at {} but was durable up to {}",
                self.end, self.bound
            );
            let Some(gap) = gaps.first() else {
                let file = newest.map_or("wal", |segment| &segment.path);
                return Some(finding(3, file, 0, 0, what));
            };
            let length = self.bound.0.saturating_sub(gap.start.0);
            let what = format!("{}: {what}", gap.kind);
            return Some(finding(
                3,
                &gap.file,
                gap.start.0 - gap.base.0,
                length,
                what,
            ));
        }
        let named = self.meta.newest_segment;
        if newest.map_or(0, |segment| segment.seq) < named {
            let file = crate::layout::segment_path(named);
            let what = "the superblock names this segment as the newest; nobody knows what it held";
            return Some(finding(17, &file, 0, 0, what.to_owned()));
        }
        let segment = newest?;
        let header = segment.header()?;
        let batches_end = header.batches_end().0 - header.base.0;
        if segment.len < batches_end {
            let what = format!(
                "the file was cut to {} bytes, it was made with {}; nobody knows what stood behind",
                segment.len, header.capacity
            );
            let length = header.capacity - segment.len;
            return Some(finding(3, &segment.path, segment.len, length, what));
        }
        let misplaced = segment.items.iter().find_map(|item| match item {
            Item::Gap(gap) if gap.kind == GapKind::Misplaced && gap.start >= self.end => Some(gap),
            _ => None,
        })?;
        let offset = misplaced.start.0 - header.base.0;
        let length = misplaced.end.0 - misplaced.start.0;
        let what = "a batch of this file at another place: a write went astray".to_owned();
        Some(finding(8, &segment.path, offset, length, what))
    }

    /// Every slot that can have been in the batches before `header`: when more than one is gone, nobody knows which.
    fn suspects(&self, segment: &SegmentFacts, header: &BatchHeader) -> Option<SlotRange> {
        // The header of a segment knows what was written before it, a batch only what it holds itself, too.
        let opens = |of: &&crate::segment::SegmentHeader| {
            header.lsn.0 == of.base.0 + crate::storage::BLOCK_BYTES as u64
        };
        let (slot, ballot) = match segment.header().filter(opens) {
            Some(of) => (of.max_slot_ever, of.max_ballot_ever),
            None => (header.max_slot_ever, header.max_ballot_ever),
        };
        let (last, ballot_max) = (slot.max(self.meta.removed_slot), ballot.max(self.ballots));
        let first = self.meta.removed_slot + 1;
        (first <= last).then_some(SlotRange {
            first,
            last,
            ballot_max,
        })
    }
}

/// The slots of the batch directly before `header`.
fn before(header: &BatchHeader) -> Option<SlotRange> {
    let (first, last) = (header.prev_min_slot, header.prev_max_slot);
    (last > 0).then_some(SlotRange {
        first,
        last,
        ballot_max: header.max_ballot_ever,
    })
}

/// The slots of the batch itself.
fn own(header: &BatchHeader) -> Option<SlotRange> {
    let (first, last) = (header.min_slot, header.max_slot);
    (last > 0).then_some(SlotRange {
        first,
        last,
        ballot_max: header.max_ballot,
    })
}

/// Where a batch stands in its file.
fn span(segment: &SegmentFacts, header: &BatchHeader) -> (u64, u64) {
    let base = segment.header().map_or(header.lsn, |header| header.base);
    (header.lsn.0 - base.0, header.padded())
}
