//! A section: what the holder of a lock has appended and not yet released.

use bytes::Bytes;
use imbl::{OrdMap, Vector};
use serde::{Deserialize, Serialize};

use crate::budget::PENDING_BYTES;
use crate::digest;
use crate::name::Name;
use crate::{Refusal, SectionPart, Settings};

/// The appends of one grant, in order.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Section {
    appends: Vector<Pending>,
    /// Bytes of data in them.
    bytes: u64,
    /// The files they go to.
    files: OrdMap<Name, ()>,
    /// The hash of the appends, in order.
    hash: u128,
}

/// One append that waits for its release.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Pending {
    pub(crate) file: Name,
    pub(crate) data: Bytes,
}

impl Section {
    /// How many appends there are.
    pub(crate) fn count(&self) -> u32 {
        u32::try_from(self.appends.len()).expect("the limit of appends is far below")
    }

    /// Bytes of data pending.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Whether anything is pending for `file`.
    pub(crate) fn touches(&self, file: &str) -> bool {
        self.files.contains_key(file)
    }

    /// Refuses an append of `bytes` to `file` that would make the section too large.
    pub(crate) fn check(&self, file: &str, bytes: u64, limits: &Settings) -> Result<(), Refusal> {
        let files = self.files.len() as u64 + u64::from(!self.touches(file));
        let would_be = [
            (
                SectionPart::Bytes,
                self.bytes + bytes,
                limits.section_bytes_max,
            ),
            (
                SectionPart::Appends,
                self.appends.len() as u64 + 1,
                limits.section_appends_max,
            ),
            (SectionPart::Files, files, limits.section_files_max),
        ];
        match would_be
            .into_iter()
            .find(|&(_, value, limit)| value > limit)
        {
            None => Ok(()),
            Some((what, value, limit)) => Err(Refusal::SectionTooLarge { what, limit, value }),
        }
    }

    /// Adds one append at the end.
    pub(crate) fn push(&mut self, append: Pending) {
        self.bytes += append.data.len() as u64;
        self.files.insert(append.file.clone(), ());
        self.hash = digest::chain(self.hash, &[append.file.as_bytes(), &append.data]);
        self.appends.push_back(append);
    }

    /// The appends, in order.
    pub(crate) fn iter(&self) -> impl ExactSizeIterator<Item = &Pending> {
        self.appends.iter()
    }

    /// The files they go to, by name.
    pub(crate) fn files(&self) -> impl Iterator<Item = &Name> {
        self.files.keys()
    }

    /// The hash of the appends, in order.
    pub(crate) fn hash(&self) -> u128 {
        self.hash
    }

    /// What it takes of the budget.
    pub(crate) fn cost(&self) -> u64 {
        self.bytes + self.appends.len() as u64 * PENDING_BYTES
    }
}
