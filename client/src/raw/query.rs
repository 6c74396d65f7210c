//! Requests that belong to no session: reads, and questions about the replicas.

use std::time::Duration;

use net::{MemberInfo, RequestBody, ResponseBody, Status};
use statemachine::{Answer, Command, Query, Slot};
use tokio::sync::mpsc;

use crate::Error;
use crate::endpoint::Endpoint;
use crate::raw::call::{self, Reply, unnumbered};
use crate::raw::exchange::{Ended, Exchange};
use crate::raw::link::{Link, Route};
use crate::raw::pace::Pace;

impl Link {
    /// Reads, linearizably, from whoever leads. Returns the slot whose state was read.
    ///
    /// # Errors
    ///
    /// [`Error::Unavailable`] if nobody answered in time; [`Error::Refused`] as in no such file.
    pub async fn query(&self, query: &Query, timeout: Duration) -> Result<(Slot, Answer), Error> {
        self.read(self.route(), query, false, timeout).await
    }

    /// Reads from one replica alone. With `stale` from its own state, however old; without,
    /// [`Error::NotLeader`] unless it leads.
    ///
    /// # Errors
    ///
    /// As [`Link::query`].
    pub async fn query_at(
        &self,
        endpoint: &Endpoint,
        query: &Query,
        stale: bool,
        timeout: Duration,
    ) -> Result<(Slot, Answer), Error> {
        self.read(self.route_to(endpoint), query, stale, timeout)
            .await
    }

    /// Reads the state of any replica that answers, however old.
    ///
    /// # Errors
    ///
    /// As [`Link::query`].
    pub async fn query_stale(
        &self,
        query: &Query,
        timeout: Duration,
    ) -> Result<(Slot, Answer), Error> {
        let asked = if self.inner.pin { 1 } else { usize::MAX };
        let candidates = self.candidates();
        let share = timeout
            / u32::try_from(candidates.len().min(asked))
                .unwrap_or(1)
                .max(1);
        for address in candidates.into_iter().take(asked) {
            match self.read(Route::At(address), query, true, share).await {
                Err(Error::Unavailable { .. }) => {}
                answer => return answer,
            }
        }
        Err(Error::Unavailable {
            reason: self.why_silent(),
        })
    }

    async fn read(
        &self,
        route: Route,
        query: &Query,
        stale: bool,
        timeout: Duration,
    ) -> Result<(Slot, Answer), Error> {
        let bytes = bytes::Bytes::from(query.encode());
        let body = || RequestBody::Query {
            stale,
            bytes: bytes.clone(),
        };
        let body = self
            .ask(route, &body, timeout)
            .await
            .map_err(nothing_done)?;
        let ResponseBody::Answer { slot, bytes } = body else {
            return Err(other_kind("query"));
        };
        match Answer::decode(&bytes) {
            Ok(Answer::Refused(refusal)) => Err(Error::Refused(refusal)),
            Ok(answer) => Ok((Slot(slot), answer)),
            Err(error) => Err(Error::BadRequest(format!(
                "the answer does not decode: {error}"
            ))),
        }
    }

    /// How one replica stands.
    ///
    /// # Errors
    ///
    /// [`Error::Unavailable`] if it does not answer in time.
    pub async fn status_at(&self, endpoint: &Endpoint, timeout: Duration) -> Result<Status, Error> {
        let body = || RequestBody::Status;
        let body = self
            .ask(self.route_to(endpoint), &body, timeout)
            .await
            .map_err(nothing_done)?;
        match body {
            ResponseBody::Status(status) => Ok(*status),
            _ => Err(other_kind("status")),
        }
    }

    /// As [`Link::status_at`], but asked once: a replica that refuses the connection is not waited for.
    ///
    /// # Errors
    ///
    /// [`Error::Unavailable`].
    pub async fn status_once(
        &self,
        endpoint: &Endpoint,
        timeout: Duration,
    ) -> Result<Status, Error> {
        match self
            .ask_once(endpoint, RequestBody::Status, timeout)
            .await?
        {
            ResponseBody::Status(status) => Ok(*status),
            _ => Err(other_kind("status")),
        }
    }

    /// All replicas' addresses as one replica knows them, asked once; remembered as by [`Link::members`].
    ///
    /// # Errors
    ///
    /// [`Error::Unavailable`].
    pub async fn members_once(
        &self,
        endpoint: &Endpoint,
        timeout: Duration,
    ) -> Result<Vec<MemberInfo>, Error> {
        match self
            .ask_once(endpoint, RequestBody::Members, timeout)
            .await?
        {
            ResponseBody::Members(members) => {
                self.learn(&members);
                Ok(members)
            }
            _ => Err(other_kind("members")),
        }
    }

    /// One question to one replica, sent once.
    async fn ask_once(
        &self,
        endpoint: &Endpoint,
        body: RequestBody,
        timeout: Duration,
    ) -> Result<ResponseBody, Error> {
        let address = &endpoint.address;
        let asked = async {
            let conn = self
                .dial_beside(address)
                .await
                .map_err(|fault| fault.to_string())?;
            let (mail, mut answers) = mpsc::channel(1);
            let _attempt = conn
                .send(body, &mail)
                .ok_or_else(|| format!("{address}: the connection is broken or busy"))?;
            drop(mail);
            let answer = answers.recv().await.and_then(|mail| mail.body);
            answer.ok_or_else(|| format!("{address}: the connection broke"))
        };
        tokio::time::timeout(timeout, asked)
            .await
            .unwrap_or_else(|_| Err(format!("{address}: no answer")))
            .map_err(|reason| Error::Unavailable { reason })
    }

    /// All replicas' addresses, from any that answers; remembered for finding the leader.
    ///
    /// # Errors
    ///
    /// [`Error::Unavailable`] if nobody answered in time.
    pub async fn members(&self, timeout: Duration) -> Result<Vec<MemberInfo>, Error> {
        let mut other = None;
        let candidates = self.candidates();
        let share = timeout / u32::try_from(candidates.len()).unwrap_or(1).max(1);
        for address in candidates {
            let body = || RequestBody::Members;
            match self
                .ask(Route::At(address), &body, share)
                .await
                .map_err(nothing_done)
            {
                Ok(ResponseBody::Members(members)) => {
                    self.learn(&members);
                    return Ok(members);
                }
                Ok(_) => other = Some(other_kind("members")),
                Err(Error::Unavailable { .. }) => {}
                Err(error) => other = Some(error),
            }
        }
        let reason = self.why_silent();
        Err(other.unwrap_or(Error::Unavailable { reason }))
    }

    /// Has a commit made, and says how long that took.
    ///
    /// # Errors
    ///
    /// [`Error`]; that an empty commit is unknown does no harm.
    pub async fn health(&self, timeout: Duration) -> Result<Duration, Error> {
        let asked = self
            .ask(self.route(), &|| RequestBody::Health, timeout)
            .await;
        match asked.map_err(unnumbered)? {
            ResponseBody::Health { commit_us } => Ok(Duration::from_micros(commit_us)),
            _ => Err(other_kind("health")),
        }
    }

    /// Has a command carried out that no [`Session`](crate::raw::Session) keeps books of, asking again as needed: for
    /// drivers that stand for thousands of clients at once. `term` is the shortest lease or time to live at stake.
    ///
    /// # Errors
    ///
    /// [`Error`]. Unknown if it may have been done; then it may be asked again, if it is numbered.
    pub async fn command(
        &self,
        command: &Command,
        term: Duration,
        timeout: Duration,
    ) -> Result<Reply, Error> {
        let bytes = command.encode().into();
        let (reply, ..) = call::ask_once(self, Pace::of(term), bytes, timeout).await?;
        Ok(reply)
    }

    /// Asks the leader to hand leadership to replica `to`.
    ///
    /// # Errors
    ///
    /// [`Error`].
    pub async fn transfer(&self, to: u16, timeout: Duration) -> Result<(), Error> {
        let asked = self
            .ask(self.route(), &|| RequestBody::Transfer { to }, timeout)
            .await;
        match asked.map_err(unnumbered)? {
            ResponseBody::Done => Ok(()),
            _ => Err(other_kind("transfer")),
        }
    }

    async fn ask(
        &self,
        route: Route,
        body: &(dyn Fn() -> RequestBody + Sync),
        timeout: Duration,
    ) -> Result<ResponseBody, Ended> {
        let mut exchange = Exchange::new(self, route, Pace::CALM);
        exchange
            .ask(timeout, body, &|_| ())
            .await
            .map(|(body, _)| body)
    }
}

/// What changes nothing is not done, whatever became of it.
fn nothing_done(ended: Ended) -> Error {
    match ended {
        Ended::Timeout { reason, .. } => Error::Unavailable { reason },
        other => unnumbered(other),
    }
}

fn other_kind(asked: &str) -> Error {
    Error::BadRequest(format!("the answer to {asked} is of another kind"))
}
