//! Names of things: replicas, disks, clusters, slots, log submissions and moments.
//!
//! Each is a type of its own, so that two bare integers never stand side by side in a signature.

use std::fmt;

/// A replica's number, given by the operator (`--id`), 1 or more; part of every ballot it owns.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId(pub u16);

/// The random number a data folder got when it was formatted.
///
/// A voter is the pair (node, disk): a wiped disk is another voter, so that a replica that forgot
/// its promises cannot vote under its old name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DiskId(pub u64);

/// The random number of a cluster, made at its birth. Zero is "not born yet".
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClusterId(pub u128);

/// A command's place in the agreed order.
///
/// - Range: the first slot is 1; [`Slot::NONE`] (0) means "none yet".
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Slot(pub u64);

impl Slot {
    /// No slot yet: below the first one.
    pub const NONE: Slot = Slot(0);

    /// The slot after this one.
    #[must_use]
    pub const fn next(self) -> Slot {
        Slot(self.0.saturating_add(1))
    }

    /// The slot before this one; [`Slot::NONE`] stays where it is.
    #[must_use]
    pub const fn prev(self) -> Slot {
        Slot(self.0.saturating_sub(1))
    }
}

/// One run of a replica's process on its disk.
///
/// Every start takes the next incarnation and draws a new `start` number, so two copies of one folder that
/// were both started differ in one of the two.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Life {
    /// Number of starts on that disk, this one included; 0 if no start is known of.
    pub incarnation: u64,
    /// A random number drawn at the start.
    pub start: u64,
}

impl Life {
    /// Whether this start came after `known`: it has a higher incarnation.
    #[must_use]
    pub const fn is_after(self, known: Life) -> bool {
        self.incarnation > known.incarnation
    }
}

impl fmt::Display for Life {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({:016x})", self.incarnation, self.start)
    }
}

/// Counts the submissions to the local log since the core was made: 1, 2, 3. It is not on disk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WalSeq(pub u64);

/// A moment on the driver's monotonic clock, in microseconds from an origin of its choice.
///
/// The core only subtracts and compares; it never asks for the time itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MonoTime(pub u64);

impl MonoTime {
    /// This moment and `us` microseconds; far futures stay at the end of time.
    #[must_use]
    pub const fn after(self, us: u64) -> MonoTime {
        MonoTime(self.0.saturating_add(us))
    }

    /// Microseconds from `earlier` to this moment, 0 if `earlier` is later.
    #[must_use]
    pub const fn since(self, earlier: MonoTime) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

impl fmt::Display for DiskId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl fmt::Display for ClusterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl fmt::Display for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}
