//! What somebody who waits for a lock gets to read: their place, and who is in the way.

use std::time::Duration;

use client::LockStatus;
use statemachine::{Answer, Query};

use crate::context::Context;
use crate::failure::Failure;
use crate::output;

/// How long a question about the holder may keep the news back.
const PATIENCE: Duration = Duration::from_secs(1);

/// One wait for one lock.
pub(super) struct Waiting<'a> {
    context: &'a Context,
    lock: &'a str,
    place: Option<u64>,
    /// Standard error is a terminal, on which one line is written over and over; in a file, one is enough.
    rewrites: bool,
}

impl<'a> Waiting<'a> {
    pub(super) fn new(context: &'a Context, lock: &'a str) -> Self {
        Waiting {
            context,
            lock,
            place: None,
            rewrites: !context.output.is_json() && output::error_is_watched(),
        }
    }

    /// The place in the queue is now this one.
    pub(super) async fn moved(&mut self, place: u64) {
        if self.place.replace(place) == Some(place) {
            return;
        }
        if !self.rewrites && self.context.output.is_json() {
            let message = format!("waiting for lock {}, position {place}", self.lock);
            let fields = [("lock", self.lock.into()), ("position", place.into())];
            let fields =
                fields.map(|(name, value): (&str, serde_json::Value)| (name.to_owned(), value));
            let fields = fields.into_iter().collect();
            return self.context.output.notice_with("waiting", &message, fields);
        }
        let behind = match self.status().await.and_then(|status| status.holder) {
            Some(holder) => format!(" behind {}", holder.name),
            None => String::new(),
        };
        let message = format!("waiting for lock {}, position {place}{behind}", self.lock);
        if self.rewrites {
            output::tell_again(&message);
        } else {
            self.context.output.notice("waiting", &message);
        }
    }

    /// The wait has ended well: what follows starts on a line of its own.
    pub(super) fn granted(&mut self) {
        if self.rewrites && self.place.is_some() {
            output::end_line();
        }
    }

    /// The wait is over in vain.
    pub(super) async fn over(&mut self, waited: Option<Duration>) -> Failure {
        self.granted();
        let mut message = format!("lock {} was not free", self.lock);
        if let Some(waited) = waited {
            message += &format!(" within {}", humantime::format_duration(waited));
        }
        if let Some(place) = self.place {
            message += &format!("; position {place} in the queue");
        }
        if let Some(holder) = self.status().await.and_then(|status| status.holder) {
            message += &format!("; held by {} with token {}", holder.name, holder.token);
        }
        Failure::new("wait_timed_out", message)
    }

    async fn status(&self) -> Option<LockStatus> {
        let query = Query::LockStatus {
            lock: self.lock.to_owned(),
        };
        let asked = self
            .context
            .link
            .query(&query, PATIENCE.min(self.context.timeout));
        match asked.await {
            Ok((_, Answer::Lock(status))) => Some(status),
            _ => None,
        }
    }
}
