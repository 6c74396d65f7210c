//! What every verb needs: the way to the cluster, how long to wait, where to print.

use std::time::Duration;

use client::raw::{Link, Session};
use client::{Endpoints, Options};
use statemachine::{Answer, Query};

use crate::args::Global;
use crate::failure::Failure;
use crate::output::Output;

/// The global flags, made sense of.
#[derive(Debug, Clone)]
pub(crate) struct Context {
    pub(crate) link: Link,
    pub(crate) output: Output,
    pub(crate) timeout: Duration,
    pub(crate) name: String,
    /// Only the one endpoint left is to be asked.
    pub(crate) pin: bool,
}

impl Context {
    /// Connects to nobody yet. Needs a runtime around it.
    ///
    /// # Errors
    ///
    /// Usage, if the endpoints make no sense.
    pub(crate) fn new(global: &Global, output: Output) -> Result<Self, Failure> {
        let mut endpoints: Endpoints = global.endpoints.parse()?;
        if global.pin {
            endpoints = Endpoints::new(endpoints.as_slice()[..1].to_vec())?;
        }
        let name = global
            .name
            .clone()
            .unwrap_or_else(|| Options::default().name);
        let link = Link::new(endpoints, &name, global.pin);
        Ok(Context {
            link,
            output,
            timeout: global.timeout,
            name,
            pin: global.pin,
        })
    }

    /// Reads linearizably; returns the slot whose state was read, and the answer.
    pub(crate) async fn query(&self, query: &Query) -> Result<(u64, Answer), Failure> {
        let (slot, answer) = self.link.query(query, self.timeout).await?;
        Ok((slot.0, answer))
    }

    /// Opens a session that lives for `ttl` after its last sign, or as long as the cluster says.
    pub(crate) async fn session(&self, ttl: Option<Duration>) -> Result<Session, Failure> {
        Ok(Session::open(&self.link, ttl, &self.name, self.timeout).await?)
    }
}

/// An answer of another kind than asked for: a service that speaks another language.
pub(crate) fn unexpected(asked: &str) -> Failure {
    Failure::new(
        "bad_request",
        format_args!("the answer to {asked} is of another kind"),
    )
}
