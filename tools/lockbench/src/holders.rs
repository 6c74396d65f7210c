//! Clients of the library that hold a lock each while leaders come and go.

use std::time::Duration;

use client::{Client, Endpoints, Guard, Options};
use serde::Serialize;

/// What became of the holders.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Survival {
    pub(crate) holders: usize,
    pub(crate) lease_ms: u64,
    /// Changes of leader that the first candidacy won, and locks lost at these.
    pub(crate) first_won: u64,
    pub(crate) lost_at_first: u64,
    /// Changes of leader after which a candidacy had failed, and locks lost at these.
    pub(crate) others: u64,
    pub(crate) lost_at_others: u64,
}

pub(crate) struct Holders {
    lease: Duration,
    held: Vec<(Client, String, Option<Guard>)>,
    pub(crate) survival: Survival,
}

impl Holders {
    /// Each connects as a client of its own and acquires its lock.
    ///
    /// # Errors
    ///
    /// The first failure.
    pub(crate) async fn acquire(
        endpoints: &Endpoints,
        count: usize,
        lease: Duration,
    ) -> Result<Holders, String> {
        let mut holders = Holders {
            lease,
            held: Vec::new(),
            survival: Survival {
                holders: count,
                lease_ms: u64::try_from(lease.as_millis()).unwrap_or(u64::MAX),
                ..Survival::default()
            },
        };
        for number in 0..count {
            let options = Options {
                name: format!("holder {number}"),
                session_ttl: Some(lease),
                ..Options::default()
            };
            let client = Client::lazy(endpoints.clone(), options);
            holders
                .held
                .push((client, format!("holder-{number}"), None));
        }
        holders.take_up().await?;
        Ok(holders)
    }

    /// Counts who has lost its lock, after a change of leader that the first candidacy won or not.
    pub(crate) async fn count(&mut self, first: bool) -> Result<u64, String> {
        let mut lost = 0;
        for (_, _, guard) in &mut self.held {
            if guard.as_ref().is_some_and(|guard| !guard.is_valid()) {
                lost += 1;
                *guard = None;
            }
        }
        let survival = &mut self.survival;
        let (changes, losses) = if first {
            (&mut survival.first_won, &mut survival.lost_at_first)
        } else {
            (&mut survival.others, &mut survival.lost_at_others)
        };
        *changes += 1;
        *losses += lost;
        self.take_up().await?;
        Ok(lost)
    }

    /// Acquires what is not held.
    async fn take_up(&mut self) -> Result<(), String> {
        for (client, lock, guard) in &mut self.held {
            if guard.is_none() {
                let acquired = client.lock(lock).lease(self.lease).acquire().await;
                *guard = Some(acquired.map_err(|error| format!("holding {lock}: {error}"))?);
            }
        }
        Ok(())
    }
}
