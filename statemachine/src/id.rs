//! The numbers that name things: slots, sessions, commands of a session, grants, files, times.
//!
//! Each is a type of its own, so that a token never passes for a slot. All are plain data: they
//! order, hash, print and encode like the number inside.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A command's place in the agreed order. The first one is 1; 0 means "none yet".
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct Slot(pub u64);

/// A client's presence, named by the slot that opened it.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct SessionId(pub u64);

/// The number of a command within its session, counting up from 1.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct Seq(pub u64);

/// The number of a grant: grows with each one, over all locks of the cluster. 0 is never given.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct Token(pub u64);

/// A point in cluster time: milliseconds that a leader was at work since the cluster's birth.
///
/// It never runs faster than real time and stands still while there is no leader.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct ClusterTime(pub u64);

impl ClusterTime {
    /// The point `ms` milliseconds later; the end of time if there is no such point.
    #[must_use]
    pub fn after(self, ms: u64) -> ClusterTime {
        ClusterTime(self.0.saturating_add(ms))
    }

    /// Milliseconds from `now` until this point, 0 once it has come.
    #[must_use]
    pub fn left(self, now: ClusterTime) -> u64 {
        self.0.saturating_sub(now.0)
    }
}

/// A file's identity: the slot that created it and its number among those created there.
///
/// A file made later under the name of a removed one is another file, with another identity.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct FileId(
    /// The slot of creation.
    pub u64,
    /// The number among the files created in that slot, from 0.
    pub u32,
);

macro_rules! display_as_number {
    ($($name:ident),*) => {$(
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    )*};
}

display_as_number!(Slot, SessionId, Seq, Token, ClusterTime);

impl fmt::Display for FileId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.0, self.1)
    }
}
