//! A data folder before there is a log: the lock, the layout, the superblock.

use std::io;
use std::sync::Arc;

use bytes::Bytes;

use crate::environment::Environment;
use crate::error::Error;
use crate::judged::Judged;
use crate::layout::{FOLDERS, LOCK, WAL};
use crate::open;
use crate::recovery::{self, Facts, Recovery};
use crate::storage::{LockGuard, SharedDisk};
use crate::super_store::{self, Copies, SuperStore};
use crate::superblock::{BIRTH_BYTES_MAX, SuperFault, Superblock};
use crate::writer::{Options, Writer};

/// What the superblock says.
pub type Meta = Superblock;

/// An exclusively held data folder.
#[derive(Debug)]
pub struct Folder {
    disk: SharedDisk,
    environment: Environment,
    supers: SuperStore,
    /// The copies as they were found, which the scan judges; `None` once they were written.
    found: Option<Copies>,
    lock: Box<dyn LockGuard>,
}

impl Folder {
    /// Locks the folder; makes layout, disk id and superblock if it is new. Nothing is written to a folder in use.
    ///
    /// # Errors
    ///
    /// - [`Error::InUse`] if another process holds it,
    /// - [`Error::ForeignNode`] if it belongs to another node,
    /// - [`Error::NewerFormat`] if a later version wrote it,
    /// - [`Error::MetaLost`] if both superblock copies are lost: the node may have forgotten a promise,
    /// - [`Error::Io`].
    pub fn open(disk: SharedDisk, node: u16, environment: Environment) -> Result<Folder, Error> {
        let lock = disk.lock(LOCK).map_err(|error| match error.kind() {
            io::ErrorKind::WouldBlock => Error::InUse,
            _ => Error::io("lock", LOCK)(error),
        })?;
        super_store::settle(&*disk)?;
        let found = super_store::read_copies(&*disk)?;
        refuse_newer(&found)?;
        let mut environment = environment;
        let newest = super_store::newest(&found);
        match newest {
            Some(block) if block.node != node => {
                return Err(Error::ForeignNode {
                    found: block.node,
                    expected: node,
                });
            }
            Some(_) => {}
            None => {
                let facts = recovery::survey(&*disk)?;
                if recovery::was_in_use(&facts) {
                    return Err(meta_lost(&facts));
                }
            }
        }
        for folder in FOLDERS {
            disk.create_dir(folder)
                .map_err(Error::io("create", folder))?;
        }
        disk.sync_dir("").map_err(Error::io("sync", "."))?;
        let (supers, found) = if newest.is_some() {
            (SuperStore::open(disk.clone(), &found), Some(found))
        } else {
            let first = Superblock {
                node,
                disk: (environment.entropy)(),
                first_segment: 1,
                ..Superblock::default()
            };
            (SuperStore::format(disk.clone(), first)?, None)
        };
        Ok(Folder {
            disk,
            environment,
            supers,
            found,
            lock,
        })
    }

    /// What the superblock says.
    #[must_use]
    pub fn meta(&self) -> &Meta {
        self.supers.current()
    }

    /// Stores the cluster and its birth record; durable on return. Storing the same again is fine.
    ///
    /// # Errors
    ///
    /// [`Error::BornElsewhere`] if there is another one, [`Error::Damaged`] if the folder's files contradict each other,
    /// [`Error::TooLarge`], [`Error::Io`].
    pub fn store_birth(&mut self, cluster: u128, record: &[u8]) -> Result<(), Error> {
        let meta = self.meta();
        if meta.cluster == cluster && meta.birth == record {
            return Ok(());
        }
        if meta.cluster != 0 {
            return Err(Error::BornElsewhere {
                found: meta.cluster,
            });
        }
        if record.len() > BIRTH_BYTES_MAX {
            let (size, limit) = (record.len() as u64, BIRTH_BYTES_MAX as u64);
            return Err(Error::TooLarge {
                what: "birth record",
                size,
                limit,
            });
        }
        // Before the first write: a superblock from elsewhere must not replace the folder's own.
        if let Some(found) = &self.found {
            recovery::refuse_contradiction(&*self.disk, found)?;
        }
        self.found = None;
        let birth = Bytes::copy_from_slice(record);
        self.supers.update(|block| {
            block.cluster = cluster;
            block.birth = birth;
        })
    }

    /// Scans the log, decides what it means, and opens it.
    ///
    /// If the outcome does not let the node serve (see [`crate::Outcome::may_serve`]), nothing on the disk is
    /// changed and the writer refuses every append; what is readable can be read.
    ///
    /// # Errors
    ///
    /// [`Error::Io`], [`Error::NoSpace`]. Damage is no error: it is in the [`Recovery`]. A file that cannot be read for a
    /// reason that says nothing about its content, such as its permissions, is an error.
    pub fn open_log(self, options: Options) -> Result<(Writer, Recovery), Error> {
        self.judge_log()?.open(options)
    }

    /// Scans the log and decides what it means. Changes no byte.
    ///
    /// # Errors
    ///
    /// As [`Folder::open_log`].
    pub fn judge_log(self) -> Result<Judged, Error> {
        let Folder {
            disk,
            environment,
            supers,
            found,
            lock,
        } = self;
        settle(&disk, supers.current())?;
        let mut facts = recovery::survey(&*disk)?;
        if let Some(found) = found {
            facts.supers = found;
        }
        let decision = recovery::decide(&facts);
        let shared = Arc::new(open::build(&disk, &facts, &decision)?);
        let carried = open::carried_records(&disk, &facts, &decision)?;
        Ok(Judged {
            disk,
            environment,
            supers,
            lock,
            facts,
            decision,
            shared,
            carried,
        })
    }
}

/// Makes sure that what the scan reads is what the disk holds: a killed process leaves pages in the cache
/// that were never written, and a failed sync leaves pages that count as clean and never will be.
fn settle(disk: &SharedDisk, meta: &Superblock) -> Result<(), Error> {
    let entries = disk.list(WAL).map_err(Error::io("list", WAL))?;
    let names = entries
        .iter()
        .rev()
        .filter(|e| crate::layout::segment_seq(&e.name).is_some());
    for entry in names.take(2) {
        let path = format!("{WAL}/{}", entry.name);
        let file = match disk.open(&path) {
            Ok(file) => file,
            Err(error) if super_store::is_lost(&error) => continue,
            Err(error) => return Err(Error::io("open", &path)(error)),
        };
        file.sync().map_err(Error::io("sync", &path))?;
        if !meta.clean {
            file.drop_cache(0, entry.len);
        }
    }
    disk.sync_dir(WAL).map_err(Error::io("sync", WAL))
}

fn refuse_newer(found: &Copies) -> Result<(), Error> {
    for (copy, fault) in found.iter().enumerate() {
        if let Err(SuperFault::Major(major)) = fault {
            return Err(Error::NewerFormat {
                file: crate::layout::SUPERBLOCKS[copy].to_owned(),
                found: *major,
                known: crate::segment::FORMAT_MAJOR,
            });
        }
    }
    Ok(())
}

fn meta_lost(facts: &Facts) -> Error {
    let decision = recovery::decide(facts);
    Error::MetaLost(format!(
        "both copies of the superblock are lost, a promise may be forgotten (at least ballot {} was promised)\n{}",
        crate::record::Ballot(decision.promised),
        decision.report
    ))
}
