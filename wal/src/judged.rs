//! A log that was read and judged, and of which no byte was changed.
//!
//! Between the judgement and the opening its owner can look at what else it needs, and leave the folder as it was found.

use std::fmt;
use std::sync::Arc;

use crate::batch::BatchHeader;
use crate::environment::Environment;
use crate::error::Error;
use crate::open;
use crate::reader::Shared;
use crate::record::Record;
use crate::recovery::{Decision, Facts, Outcome, Recovery, Report};
use crate::snapshot::SnapshotRef;
use crate::storage::{LockGuard, SharedDisk};
use crate::super_store::SuperStore;
use crate::writer::{Options, Writer};

/// See the module. It holds the folder's lock.
pub struct Judged {
    pub(crate) disk: SharedDisk,
    pub(crate) environment: Environment,
    pub(crate) supers: SuperStore,
    pub(crate) lock: Box<dyn LockGuard>,
    pub(crate) facts: Facts,
    pub(crate) decision: Decision,
    /// The index of what is believed.
    pub(crate) shared: Arc<Shared>,
    /// The batches to append again.
    pub(crate) carried: Vec<(BatchHeader, Vec<Record>)>,
}

impl Judged {
    /// What the log may be used for.
    #[must_use]
    pub fn outcome(&self) -> &Outcome {
        &self.decision.outcome
    }

    /// Why.
    #[must_use]
    pub fn report(&self) -> &Report {
        &self.decision.report
    }

    /// Usable snapshots, newest first.
    #[must_use]
    pub fn snapshots(&self) -> &[SnapshotRef] {
        &self.decision.snapshots
    }

    /// The first slot that the log holds or would hold.
    #[must_use]
    pub fn first_slot(&self) -> u64 {
        self.shared.index().first()
    }

    /// The last slot that it holds; `first_slot - 1` if none.
    #[must_use]
    pub fn last_slot(&self) -> u64 {
        self.shared.index().last()
    }

    /// Opens the log, which begins a life of it: the superblocks change, and the newest segment as a rule.
    ///
    /// If the outcome does not let the node serve (see [`Outcome::may_serve`]), nothing on the disk is changed and the
    /// writer refuses every append; what is readable can be read.
    ///
    /// # Errors
    ///
    /// [`Error::Io`], [`Error::NoSpace`].
    pub fn open(self, options: Options) -> Result<(Writer, Recovery), Error> {
        open::open(self, options)
    }
}

impl fmt::Debug for Judged {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Judged")
            .field("outcome", &self.decision.outcome)
            .finish_non_exhaustive()
    }
}
