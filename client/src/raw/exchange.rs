//! One request asked until it is answered: attempts, redirects, retries.
//!
//! Every attempt has an id and a sending time of its own, and stays open until the exchange ends:
//! a late answer to an old attempt is as good as one to the newest.

use std::sync::Arc;
use std::time::Duration;

use net::{Backoff, Leader, RequestBody, ResponseBody};
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout_at};

use crate::raw::connection::{Attempt, Conn, Mail};
use crate::raw::link::{Link, Route};
use crate::raw::pace::{Pace, SILENCES_MAX};

/// Redirects followed in a row without a pause.
const REDIRECTS_MAX: u32 = 3;
/// Attempts kept open; the oldest goes when there would be more.
const ATTEMPTS_MAX: usize = 16;
/// Commands of at least this many bytes ask for room first while the leader has too little of it.
const LARGE_BYTES: usize = 64 << 10;
/// How long an answer about room may take: the leader lets askers wait for half a second.
const ROOM_PATIENCE: Duration = Duration::from_secs(1);
/// A time to come back is believed up to this.
const COME_BACK_MAX: Duration = Duration::from_secs(2);
/// First and longest wait after a replica could not take the request on.
const RETRY: (Duration, Duration) = (Duration::from_millis(5), Duration::from_millis(100));

/// Why an exchange ended without an answer.
#[derive(Debug)]
pub(crate) enum Ended {
    /// Time is up, or the service said that asking again does not help.
    Timeout {
        /// Whether an attempt may have been taken on by a replica.
        perhaps_done: bool,
        reason: String,
    },
    /// The only replica to ask does not lead.
    NotLeader(Option<Leader>),
    /// The service does not understand the request.
    Bad(String),
}

#[derive(Debug)]
pub(crate) struct Exchange {
    link: Link,
    route: Route,
    pace: Pace,
    mail: mpsc::Sender<Mail>,
    answers: mpsc::Receiver<Mail>,
    /// Sent, and not proved undone.
    attempts: Vec<Attempt>,
    /// An attempt that is no longer in the list may have been taken on.
    perhaps_done: bool,
    /// When silence has lasted long enough to send again.
    again: Instant,
    /// Times that this happened since anything was heard.
    silences: u32,
    /// Redirects in a row; replicas that name each other must not keep us running.
    redirects: u32,
    backoff: Backoff,
    /// How long the replica that refused last asked us to stay away.
    rest: Duration,
    /// Asks for room for the request, whose bytes have not been sent yet.
    room: Option<Attempt>,
    /// Whether room was given, so that the bytes may be sent.
    has_room: bool,
    reason: String,
}

/// What is said as long as nothing else is known.
const NO_ANSWER: &str = "no answer";

/// How trying to send went.
enum Sending {
    Sent,
    /// `pause`: nothing else has held us back.
    Failed {
        pause: bool,
    },
    /// Nobody was ever reached, and nobody will be soon.
    Hopeless,
    /// An older attempt was answered meanwhile.
    Received(Mail),
}

/// What follows from an answer that is not the last.
enum Next {
    Final(ResponseBody),
    /// Queued at this position.
    Waiting(u64),
    /// Ask again, at once or after a pause.
    Again {
        pause: bool,
    },
    Nothing,
    End(Ended),
}

impl Exchange {
    pub(crate) fn new(link: &Link, route: Route, pace: Pace) -> Exchange {
        let (mail, answers) = mpsc::channel(2 * ATTEMPTS_MAX);
        Exchange {
            link: link.clone(),
            route,
            pace,
            mail,
            answers,
            attempts: Vec::with_capacity(1),
            perhaps_done: false,
            again: Instant::now() + pace.silence(0),
            silences: 0,
            redirects: 0,
            backoff: Backoff::new(RETRY.0, RETRY.1),
            rest: Duration::ZERO,
            room: None,
            has_room: false,
            reason: NO_ANSWER.to_owned(),
        }
    }

    /// Sends a first attempt from this very thread, if a connection is there.
    pub(crate) fn send_now(&mut self, body: impl FnOnce() -> RequestBody) {
        if let Some(conn) = self.link.ready(&self.route) {
            self.send(&conn, body());
        }
    }

    /// Forgets whom it was sent to and sends again, when next asked.
    pub(crate) fn repeat(&mut self) {
        self.perhaps_done |= !self.attempts.is_empty();
        self.attempts.clear();
        self.room = None;
    }

    /// Asks until there is an answer, at most for `patience` after the last sign that the service
    /// has the request. `waiting` hears of positions in a queue.
    pub(crate) async fn ask(
        &mut self,
        patience: Duration,
        body: &(dyn Fn() -> RequestBody + Sync),
        waiting: &(dyn Fn(u64) + Sync),
    ) -> Result<(ResponseBody, Mail), Ended> {
        let mut until = Instant::now() + patience;
        let mut send = self.attempts.is_empty() && self.room.is_none();
        let mut pause = false;
        loop {
            let got = if send {
                match self.send_or_receive(until, pause, body).await {
                    Sending::Received(mail) => Some(mail),
                    Sending::Hopeless => return Err(self.timed_out()),
                    Sending::Failed { .. } if Instant::now() >= until => {
                        return Err(self.timed_out());
                    }
                    Sending::Failed { pause: rest } => {
                        pause = rest;
                        continue;
                    }
                    Sending::Sent => {
                        send = false;
                        continue;
                    }
                }
            } else {
                timeout_at(until.min(self.again), self.answers.recv())
                    .await
                    .ok()
                    .flatten()
            };
            let Some(mut mail) = got else {
                if Instant::now() >= until {
                    return Err(self.timed_out());
                }
                self.on_silence();
                (send, pause) = (true, false);
                continue;
            };
            match self.judge(&mut mail) {
                Next::Final(body) => return Ok((body, mail)),
                Next::End(ended) => return Err(ended),
                Next::Waiting(position) => {
                    waiting(position);
                    self.silences = 0;
                    until = until.max(Instant::now() + patience.max(self.pace.patience()));
                    self.again = Instant::now() + self.pace.reask();
                }
                Next::Again { pause: rest } => (send, pause) = (true, rest),
                Next::Nothing => {}
            }
        }
    }

    /// Waits for a connection and sends; an answer to an older attempt goes first.
    async fn send_or_receive(
        &mut self,
        until: Instant,
        pause: bool,
        body: &(dyn Fn() -> RequestBody + Sync),
    ) -> Sending {
        let rest = if pause {
            self.backoff.next_wait().max(std::mem::take(&mut self.rest))
        } else {
            Duration::ZERO
        };
        let (link, route) = (self.link.clone(), self.route.clone());
        let connection = async {
            if !rest.is_zero() {
                tokio::time::sleep(rest).await;
            }
            link.connection(&route).await
        };
        let connection = tokio::select! {
            biased;
            Some(mail) = self.answers.recv() => return Sending::Received(mail),
            connection = timeout_at(until, connection) => connection,
        };
        match connection {
            Ok(Ok(conn)) if self.send(&conn, body()) => Sending::Sent,
            Ok(Err(unreached)) => {
                self.reason = unreached.reason;
                if unreached.hopeless {
                    return Sending::Hopeless;
                }
                // Whoever leads is searched for next, and that paces itself.
                Sending::Failed {
                    pause: self.route != Route::Leader,
                }
            }
            Ok(Ok(_)) | Err(_) => Sending::Failed { pause: true },
        }
    }

    /// Returns whether it is on its way.
    fn send(&mut self, conn: &Arc<Conn>, mut body: RequestBody) -> bool {
        let asks_room = !self.has_room && self.link.is_pressed();
        let room = large(&body).filter(|_| asks_room);
        if let Some(bytes) = room {
            body = RequestBody::Room { bytes };
        }
        let Some(attempt) = conn.send(body, &self.mail) else {
            self.reason = format!("{}: the connection is broken or busy", conn.address);
            return false;
        };
        if room.is_some() {
            self.room = Some(attempt);
            self.again = Instant::now() + ROOM_PATIENCE;
            return true;
        }
        self.has_room = false;
        if self.attempts.len() == ATTEMPTS_MAX {
            self.attempts.remove(0);
            self.perhaps_done = true;
        }
        self.attempts.push(attempt);
        self.again = Instant::now() + self.pace.silence(self.silences);
        true
    }

    fn judge(&mut self, mail: &mut Mail) -> Next {
        let from = mail.from.address.clone();
        let about_room = self
            .room
            .take_if(|it| it.id == mail.id && Arc::ptr_eq(&it.conn, &mail.from))
            .is_some();
        let Some(body) = mail.body.take() else {
            self.reason = format!("{from}: the connection broke");
            self.perhaps_done |= !about_room;
            self.settle_attempt(mail);
            self.link.distrust(&from);
            return Next::Again { pause: false };
        };
        self.silences = 0;
        if !matches!(body, ResponseBody::NotLeader { .. }) {
            self.redirects = 0;
        }
        match body {
            ResponseBody::Waiting { position } => Next::Waiting(position),
            ResponseBody::NotLeader { leader } => {
                self.settle_attempt(mail);
                self.on_not_leader(&from, leader)
            }
            ResponseBody::Unavailable { reason, retry_ms } => {
                self.settle_attempt(mail);
                self.reason = format!("{from}: {reason}");
                if retry_ms == ResponseBody::NO_RETRY_MS {
                    return Next::End(self.timed_out());
                }
                if retry_ms > 0 {
                    self.rest = come_back(retry_ms);
                    self.link.press();
                }
                Next::Again { pause: true }
            }
            ResponseBody::Done if about_room => {
                self.has_room = true;
                Next::Again { pause: false }
            }
            ResponseBody::Unknown { reason } => {
                self.settle_attempt(mail);
                self.perhaps_done = true;
                self.reason = format!("{from}: {reason}");
                Next::Again { pause: true }
            }
            ResponseBody::Bad { reason } => Next::End(Ended::Bad(reason)),
            body => {
                self.settle_attempt(mail);
                Next::Final(body)
            }
        }
    }

    fn on_not_leader(&mut self, from: &str, leader: Option<Leader>) -> Next {
        if self.route != Route::Leader {
            return Next::End(Ended::NotLeader(leader));
        }
        self.reason = format!("{from}: does not lead");
        let named = self.link.redirected(from, leader.as_ref());
        if !self.attempts.is_empty() {
            // Another attempt is under way, to somebody else.
            return Next::Nothing;
        }
        self.redirects = if named { self.redirects + 1 } else { 0 };
        Next::Again {
            pause: self.redirects > REDIRECTS_MAX,
        }
    }

    /// After a while of silence the network may have lost a message; after two, somebody else may
    /// lead.
    fn on_silence(&mut self) {
        self.silences += 1;
        let Some(last) = self.attempts.last().or(self.room.as_ref()) else {
            return;
        };
        self.reason = format!("{}: no answer", last.conn.address);
        if self.silences.is_multiple_of(SILENCES_MAX) {
            self.link.distrust(&last.conn.address);
        }
    }

    fn settle_attempt(&mut self, mail: &Mail) {
        self.attempts
            .retain(|attempt| attempt.id != mail.id || !Arc::ptr_eq(&attempt.conn, &mail.from));
    }

    /// Whether an attempt that was not answered may have been taken on by a replica.
    pub(crate) fn perhaps_done(&self) -> bool {
        self.perhaps_done || !self.attempts.is_empty()
    }

    fn timed_out(&self) -> Ended {
        let perhaps_done = self.perhaps_done();
        let reason = match (&self.route, self.reason.as_str()) {
            // Not even connected: whom we have tried is all that can be told.
            (Route::Leader, NO_ANSWER) if !perhaps_done => self.link.why_silent(),
            (Route::At(address), NO_ANSWER) => format!("{address}: {NO_ANSWER}"),
            _ => self.reason.clone(),
        };
        Ended::Timeout {
            perhaps_done,
            reason,
        }
    }
}

/// Length of a command that is to ask for room under pressure.
fn large(body: &RequestBody) -> Option<u64> {
    match body {
        RequestBody::Command(bytes) if bytes.len() >= LARGE_BYTES => Some(bytes.len() as u64),
        _ => None,
    }
}

/// As the leader asked, and up to a quarter more: those who were told the same spread out.
fn come_back(retry_ms: u64) -> Duration {
    let rest = Duration::from_millis(retry_ms).min(COME_BACK_MAX);
    rest.mul_f64(1.0 + rand::random::<f64>() / 4.0)
}
