//! What recovery says: outcome, findings, where its bound W comes from.

use std::fmt;

use bytes::Bytes;

use crate::record::{Ballot, Lsn, SlotRange};
use crate::snapshot::SnapshotRef;

/// What the log may be used for after a scan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Everything that was durable is here.
    Clean,
    /// The same; the end of the last, never acknowledged write was torn and is dropped.
    TornTail,
    /// Durable values are damaged or gone. The node must never answer "nothing accepted" for these slots.
    Faulty {
        /// The slots, and up to which ballot.
        ranges: Vec<SlotRange>,
        /// The highest ballot of any lost version.
        max_ballot: u64,
    },
    /// A promise may be forgotten: this disk must not act as the same acceptor again.
    MetaLost,
    /// A contradiction that no crash and no rot explains: two writers, a foreign file, a later format.
    Fatal,
}

impl Outcome {
    /// Whether the log opens for appending.
    #[must_use]
    pub fn may_serve(&self) -> bool {
        matches!(self, Outcome::Clean | Outcome::TornTail)
    }

    /// One word for programs.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Outcome::Clean => "clean",
            Outcome::TornTail => "torn-tail",
            Outcome::Faulty { .. } => "faulty",
            Outcome::MetaLost => "meta-lost",
            Outcome::Fatal => "fatal",
        }
    }
}

/// One thing that recovery noticed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// Row of the decision table in `FORMAT.md`.
    pub row: u8,
    /// Whether it is damage; else only worth telling.
    pub damage: bool,
    /// The file, relative to the data folder.
    pub file: String,
    /// Where in the file, in bytes.
    pub offset: u64,
    /// How many bytes; 0 if unknown.
    pub length: u64,
    /// What is the matter.
    pub what: String,
    /// The slots that it touches, if any.
    pub slots: Option<SlotRange>,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[{}] {}", self.row, self.file)?;
        if self.length > 0 {
            write!(f, " bytes {}..{}", self.offset, self.offset + self.length)?;
        }
        write!(f, ": {}", self.what)?;
        match &self.slots {
            Some(range) => write!(f, "; {range}"),
            None => Ok(()),
        }
    }
}

/// Something that proves the log durable up to a position.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    /// What says so.
    pub what: String,
    /// Everything below was durable.
    pub lsn: Lsn,
}

/// What recovery found and why it decided as it did; prints as lines for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// The decision in one word.
    pub outcome: Outcome,
    /// Everything below this position was durable: damage there is damage, not a torn write.
    pub durable_bound: Lsn,
    /// The highest of each kind of proof; `durable_bound` is their maximum.
    pub sources: Vec<Source>,
    /// Where the log ends.
    pub end: Lsn,
    /// Everything noticed, in the order of the log.
    pub findings: Vec<Finding>,
    /// Damage took slots up to this one, and a snapshot verified at this open stands for them: the log serves, as
    /// if they were removed, and its peers get them from others. 0 if there are none.
    pub without_slots_to: u64,
}

impl Report {
    /// The damage among the findings.
    pub fn damage(&self) -> impl Iterator<Item = &Finding> {
        self.findings.iter().filter(|finding| finding.damage)
    }

    /// The outcome in one word for people; `damaged` if the log may serve although something in it is.
    #[must_use]
    pub fn verdict(&self) -> &'static str {
        if self.serves_damaged() {
            "damaged"
        } else {
            self.outcome.name()
        }
    }

    /// What the damage means, in one line; `None` if nothing is damaged.
    #[must_use]
    pub fn meaning(&self) -> Option<String> {
        let places = self.damage().count();
        let one_many = if places == 1 { "place" } else { "places" };
        let first = self.damage().next()?;
        let meaning = match self.without_slots_to {
            _ if !self.outcome.may_serve() => "the log cannot be used".to_owned(),
            0 => "no acknowledged value is lost".to_owned(),
            slot => format!(
                "a verified snapshot stands for the values up to slot {slot}; they are not served to other replicas"
            ),
        };
        Some(format!(
            "{places} damaged {one_many}: {meaning}; the first: {first}"
        ))
    }

    fn serves_damaged(&self) -> bool {
        self.outcome.may_serve() && self.damage().next().is_some()
    }

    /// What the operator of a node with this log can do now.
    #[must_use]
    pub fn advice(&self) -> &'static str {
        match self.outcome {
            Outcome::Clean | Outcome::TornTail if self.serves_damaged() => {
                "the node starts, and nothing that it acknowledged is lost; check the disk, because the next damage may \
                 hit what only this log holds. The damaged places go with their segments after the next snapshots"
            }
            Outcome::Clean | Outcome::TornTail => "nothing to do",
            Outcome::Faulty { .. } => {
                "keep the folder as evidence and look at it with `walinspect explain`; this version cannot \
                 repair a log from its peers: restore the files named above from the disk they were lost \
                 from. A majority of the other replicas goes on without it; it cannot be replaced by a \
                 new node yet"
            }
            Outcome::MetaLost => {
                "the node may have forgotten a promise and must not run again with this folder as it is: restore \
                 wal/super.0 or wal/super.1 as they were, or the whole folder wal/ if it is gone. A majority of the other replicas goes on without it; it \
                 cannot be replaced by a new node yet"
            }
            Outcome::Fatal => {
                "check that the folder belongs to this node, is no copy of another folder, and was not \
                 written by a newer version; `walinspect explain` shows the contradiction"
            }
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "outcome {}", self.verdict())?;
        writeln!(
            f,
            "durable up to {}, log ends at {}",
            self.durable_bound, self.end
        )?;
        for source in &self.sources {
            writeln!(f, "  {} proves {}", source.what, source.lsn)?;
        }
        for finding in &self.findings {
            writeln!(
                f,
                "{} {finding}",
                if finding.damage { "damage" } else { "note" }
            )?;
        }
        if let Outcome::Faulty { ranges, max_ballot } = &self.outcome {
            for range in ranges {
                writeln!(f, "lost {range}")?;
            }
            if *max_ballot != u64::MAX {
                writeln!(f, "highest ballot lost {}", Ballot(*max_ballot))?;
            }
        }
        if self.without_slots_to > 0 {
            writeln!(
                f,
                "slots up to {} are covered by the snapshot and not served",
                self.without_slots_to
            )?;
        }
        write!(f, "advice: {}", self.advice())
    }
}

/// What opening a log yields beside the log.
#[derive(Clone, Debug)]
pub struct Recovery {
    /// What the log may be used for.
    pub outcome: Outcome,
    /// Why.
    pub report: Report,
    /// The highest ballot promised; an accept at a ballot counts as its promise.
    pub promised: u64,
    /// The highest ballot that any record or hint names.
    pub max_ballot_ever: u64,
    /// The highest slot that this node once knew chosen; a hint.
    pub commit_slot: u64,
    /// The first slot that the log still holds (or would hold).
    pub first_slot: u64,
    /// The last slot it holds; `first_slot - 1` if none.
    pub last_slot: u64,
    /// The snapshots that may be used: authorised and verified, newest first.
    pub snapshots: Vec<SnapshotRef>,
    /// Process starts of this folder, this one included.
    pub incarnation: u64,
    /// What the replica last recorded about its peers; empty if it never did.
    pub peers: Bytes,
}
