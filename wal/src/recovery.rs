//! Recovery: scan what the disk shows, decide what it means, carry the unproven tail forward.
//!
//! ```text
//! disk --survey()--> Facts --decide()--> Decision --carry.rs--> an open log
//!      reads only          pure                    writes, only if the outcome lets the node serve
//! ```
//!
//! The decision is a pure function of the facts: each row of the table in `FORMAT.md` has a test that
//! builds facts by hand. Nothing here repairs anything: damage is named, with file, offset and slots.

mod decide;
mod facts;
mod fold;
mod identity;
mod live;
mod report;
mod snapshots;
mod survey;

pub use decide::{Decision, LiveSegment, Place, decide};
pub(crate) use decide::{refuse_contradiction, was_in_use};
pub use facts::{Facts, FoundBatch, Gap, GapKind, Item, SegmentFacts, SnapshotFacts};
pub use report::{Finding, Outcome, Recovery, Report, Source};
pub(crate) use survey::read_body;
pub use survey::{Surveyed, survey, survey_watched};

#[cfg(test)]
mod tests;
