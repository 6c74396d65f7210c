//! All clients of a run, ready before the clock starts.

use std::rc::Rc;

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt, stream};

use crate::args::{Load, Locks};
use crate::exclusion::Witness;
use crate::target::Target;
use crate::worker::Worker;

/// Connections at most; beyond, clients share them.
pub(crate) const LINKS_MAX: usize = 1_000;

/// Sessions opened at a time.
const OPENING_MAX: usize = 64;

/// The lock and file of the coursework, there from the start.
const COMMON: (&str, &str) = ("default", "file_0");

pub(crate) struct Crew {
    pub(crate) workers: Vec<Worker>,
    witnesses: Vec<Rc<Witness>>,
}

impl Crew {
    /// Opens a session for each client, and makes each its file.
    ///
    /// # Errors
    ///
    /// Fails if the service refuses one.
    pub(crate) async fn muster(target: &Target, load: &Load) -> Result<Crew, String> {
        let count = load.clients as usize;
        let links: Vec<_> = (0..count.min(LINKS_MAX)).map(|_| target.link()).collect();
        let witnesses: Vec<Rc<Witness>> = match load.locks {
            Locks::One => vec![Rc::default()],
            Locks::PerClient => (0..count).map(|_| Rc::default()).collect(),
        };
        let payload = Bytes::from(vec![b'.'; load.payload as usize]);
        let workers = stream::iter(0..count)
            .map(|index| {
                let link = links[index % links.len()].clone();
                let witness = witnesses[index % witnesses.len()].clone();
                let payload = payload.clone();
                async move {
                    let (lock, file) = match load.locks {
                        Locks::One => (COMMON.0.to_owned(), COMMON.1.to_owned()),
                        Locks::PerClient => (format!("bench-{index}"), format!("bench-{index}")),
                    };
                    let worker = Worker::connect(link, lock, file, payload, witness).await?;
                    if load.locks == Locks::PerClient {
                        worker.create_file().await?;
                    }
                    Ok(worker)
                }
            })
            .buffer_unordered(OPENING_MAX)
            .try_collect()
            .await
            .map_err(|error: client::Error| format!("opening sessions: {error}"))?;
        Ok(Crew { workers, witnesses })
    }

    /// What tells, once the workers are gone, whether every lock was exclusive.
    pub(crate) fn witnesses(&self) -> Vec<Rc<Witness>> {
        self.witnesses.clone()
    }
}

/// How often any of these locks was not exclusive.
pub(crate) fn violations(witnesses: &[Rc<Witness>]) -> u64 {
    witnesses.iter().map(|witness| witness.violations()).sum()
}
