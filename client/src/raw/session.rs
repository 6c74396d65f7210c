//! A session: numbers for calls, what was granted, and what may be believed about deadlines.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use net::ResponseBody;
use statemachine::{ClusterTime, Command, LockMode, Op, Outcome, Refusal, Seq, SessionId, Token};
use tokio::sync::{broadcast, watch};

use crate::Error;
use crate::clock::BootTime;
use crate::deadline::Pair;
use crate::done_set::DoneSet;
use crate::endpoint::Endpoint;
use crate::raw::beat;
use crate::raw::call::{Call, Reply, ask_once};
use crate::raw::finish::Finish;
use crate::raw::hold::{Hold, HoldState, LostWhy};
use crate::raw::link::Link;
use crate::raw::pace::Pace;

/// Appends of more bytes are not sent again in a hurry.
const SMALL_BYTES: usize = 64 << 10;

/// Dropped acquires remembered, while their cancels are on their way.
const LEAVING_MAX: usize = 1_024;
/// Losses remembered for grants that have not come yet.
const LOST_EARLY_MAX: usize = 64;

/// Notices kept for a slow listener; it then learns that it missed some.
const NOTICES_MAX: usize = 256;

/// A client's presence at the service. Clones share it.
///
/// It is kept alive in the background until it is closed or the last clone is dropped.
#[derive(Clone, Debug)]
pub struct Session {
    pub(crate) inner: Arc<Inner>,
}

#[derive(Debug)]
pub(crate) struct Inner {
    pub(crate) link: Link,
    id: SessionId,
    ttl: Duration,
    state: Mutex<State>,
    /// Held from taking a number to sending, so that calls leave in the order of their numbers.
    pub(crate) leaving: Mutex<()>,
    /// Whether beats are sent.
    auto: AtomicBool,
    /// Beats may be due at other times than before.
    changed: watch::Sender<()>,
    notices: broadcast::Sender<Notice>,
}

#[derive(Debug)]
struct State {
    last: u64,
    done: DoneSet,
    /// The attempt that bounds all deadlines best.
    pair: Pair,
    deadline: ClusterTime,
    /// As the last attempt was sent that kept the session.
    kept: BootTime,
    holds: BTreeMap<(String, Token), Hold>,
    /// Losses that were told before the grant itself, which takes another way through the library.
    lost_early: BTreeMap<Token, LostWhy>,
    /// Acquires that were dropped, the last of them.
    leaving: BTreeSet<Seq>,
    ended: Option<Ended>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ended {
    Closed,
    Expired,
}

/// What a session learns without asking.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Notice {
    /// A lock is, or may be, lost.
    Lost {
        /// The lock.
        lock: String,
        /// Its grant.
        token: Token,
        /// Why.
        why: LostWhy,
    },
    /// The session has expired.
    Expired,
}

impl Session {
    /// Opens a session. `ttl` absent: the cluster's default.
    ///
    /// # Errors
    ///
    /// [`Error`]; unknown if no answer came within `timeout`: a session that was opened unheard
    /// expires by itself.
    pub async fn open(
        link: &Link,
        ttl: Option<Duration>,
        name: &str,
        timeout: Duration,
    ) -> Result<Session, Error> {
        let command = Command::Open {
            nonce: rand::random(),
            ttl_ms: ttl.map_or(0, millis),
            name: name.to_owned(),
        };
        let bytes = Bytes::from(command.encode());
        let (reply, sent, stamp) = ask_once(link, Pace::CALM, bytes, timeout).await?;
        let Outcome::Opened {
            session,
            ttl_ms,
            deadline,
        } = reply.outcome
        else {
            return Err(Error::BadRequest(
                "the answer to open is of another kind".to_owned(),
            ));
        };
        // Without a stamp nothing can be believed yet: the pair says that all is past.
        let pair = Pair {
            sent,
            stamp: stamp.unwrap_or(ClusterTime(u64::MAX)),
        };
        let state = State {
            last: 0,
            done: DoneSet::default(),
            pair,
            deadline,
            kept: sent,
            holds: BTreeMap::new(),
            lost_early: BTreeMap::new(),
            leaving: BTreeSet::new(),
            ended: None,
        };
        let inner = Arc::new(Inner {
            link: link.clone(),
            id: session,
            ttl: Duration::from_millis(ttl_ms),
            state: Mutex::new(state),
            leaving: Mutex::new(()),
            auto: AtomicBool::new(true),
            changed: watch::Sender::new(()),
            notices: broadcast::Sender::new(NOTICES_MAX),
        });
        let weak = Arc::downgrade(&inner);
        link.inner.register(session, weak.clone());
        let background = &link.inner.background;
        background.spawn(beat::run(weak.clone(), inner.changed.subscribe()));
        background.spawn(beat::watch(weak, inner.changed.subscribe()));
        Ok(Session { inner })
    }

    /// The session's id.
    pub fn id(&self) -> SessionId {
        self.inner.id
    }

    /// The agreed time to live.
    pub fn ttl(&self) -> Duration {
        self.inner.ttl
    }

    /// The link it uses.
    pub fn link(&self) -> &Link {
        &self.inner.link
    }

    /// Whether the session has neither expired, as far as told, nor been closed.
    pub fn is_open(&self) -> bool {
        self.inner.lock().ended.is_none()
    }

    /// Until when, by our own clock, the session certainly lives.
    pub fn deadline(&self) -> BootTime {
        let state = self.inner.lock();
        state.pair.local(state.deadline)
    }

    /// Until when, by our own clock, the lock is certainly held; in the past once it is not.
    pub fn hold_deadline(&self, hold: &Hold) -> BootTime {
        match hold.state() {
            HoldState::Held(deadline) => self.inner.lock().pair.local(deadline),
            HoldState::Ended | HoldState::Lost(_) => BootTime(0),
        }
    }

    /// What was granted under this token, if it is still in our books.
    pub fn hold(&self, lock: &str, token: Token) -> Option<Hold> {
        self.inner
            .lock()
            .holds
            .get(&(lock.to_owned(), token))
            .cloned()
    }

    /// All that is in our books.
    pub fn holds(&self) -> Vec<Hold> {
        self.inner.lock().holds.values().cloned().collect()
    }

    /// Notices from now on.
    pub fn notices(&self) -> broadcast::Receiver<Notice> {
        self.inner.notices.subscribe()
    }

    /// Whether the session keeps itself alive. On by default.
    pub fn set_keep_alive(&self, auto: bool) {
        self.inner.auto.store(auto, Ordering::Relaxed);
        self.inner.changed.send_replace(());
    }

    /// Whether keep-alives renew this lease. On by default. False if it is not in our books.
    pub fn set_renew(&self, lock: &str, token: Token, auto: bool) -> bool {
        let hold = self.hold(lock, token);
        if let Some(hold) = &hold {
            hold.set_renew(auto);
            self.inner.changed.send_replace(());
        }
        hold.is_some()
    }

    /// Sends one sign of life, with all tokens that are to be renewed.
    ///
    /// # Errors
    ///
    /// [`Error`]; session expired among them.
    pub async fn keep_alive(&self, timeout: Duration) -> Result<(), Error> {
        beat::send(&self.inner, timeout).await
    }

    /// Starts a call: numbers it, and sends it at once if a connection is there. The places of
    /// appends and the count of a release are filled in from our books.
    pub fn start(&self, op: Op) -> Call {
        Call::start(self, self.inner.link.route(), op)
    }

    /// As [`Session::start`], but numbers the call only; it is sent by [`Call::send`] or when it is
    /// waited for.
    pub(crate) fn prepare(&self, op: Op) -> Call {
        Call::prepare(self, self.inner.link.route(), op)
    }

    /// As [`Session::start`], asking one replica alone: [`Error::NotLeader`] if it does not lead.
    pub fn start_at(&self, op: Op, endpoint: &Endpoint) -> Call {
        Call::start(self, self.inner.link.route_to(endpoint), op)
    }

    /// Starts an acquire. `wait` absent: as long as the session lives; zero: not at all.
    pub fn acquire(&self, lock: &str, lease: Option<Duration>, wait: Option<Duration>) -> Call {
        self.start(Op::Acquire {
            lock: lock.to_owned(),
            lease_ms: lease.map(millis),
            wait_ms: wait.map(millis),
            mode: LockMode::Exclusive,
        })
    }

    /// Starts an append to the section of a held lock.
    pub fn append(&self, lock: &str, token: Token, file: &str, data: Bytes) -> Call {
        let (lock, file) = (lock.to_owned(), file.to_owned());
        self.start(Op::Append {
            lock,
            token,
            place: 0,
            file,
            data,
        })
    }

    /// Starts a renewal of the lease.
    pub fn renew(&self, lock: &str, token: Token) -> Call {
        self.start(Op::Renew {
            lock: lock.to_owned(),
            token,
        })
    }

    /// Starts a release, which applies the section.
    pub fn release(&self, lock: &str, token: Token) -> Call {
        self.start(Op::Release {
            lock: lock.to_owned(),
            token,
            count: 0,
        })
    }

    /// Starts an abort, which discards the section.
    pub fn abort(&self, lock: &str, token: Token) -> Call {
        self.start(Op::Abort {
            lock: lock.to_owned(),
            token,
        })
    }

    /// Starts to end an acquire: out of the queue, or given back if just granted.
    pub fn cancel(&self, acquire: &Call) -> Call {
        self.start(Op::Cancel { seq: acquire.seq() })
    }

    /// Ends the session: its locks are freed, pending appends discarded. Dropping the future does not
    /// stop it.
    ///
    /// A close that was sent more than once may hear that the session is gone. That is a success: whether
    /// the first attempt closed it or it expired, nothing is left of it.
    ///
    /// # Errors
    ///
    /// [`Error`]. That it had expired before anything was asked is one.
    pub async fn close(&self, timeout: Duration) -> Result<(), Error> {
        self.set_keep_alive(false);
        let call = self.start(Op::Close);
        let closing = Finish::new(self.clone(), call, timeout, ());
        match closing.wait().await {
            Err(Error::Unknown(_)) if !self.is_open() => Ok(()),
            answer => answer,
        }
    }

    /// Whether somebody may still believe in this grant.
    pub(crate) fn is_wanted(&self, lock: &str, token: Token) -> bool {
        let hold = self.hold(lock, token);
        hold.is_some_and(|hold| !hold.is_unwanted() && self.hold_deadline(&hold) > BootTime::now())
    }

    /// Nobody wants this acquire any more; its cancel is on its way.
    pub(crate) fn leave(&self, acquire: Seq) {
        let mut state = self.inner.lock();
        state.leaving.insert(acquire);
        if state.leaving.len() > LEAVING_MAX {
            state.leaving.pop_first();
        }
    }

    /// Whether nobody wants this acquire any more.
    pub(crate) fn is_leaving(&self, acquire: Seq) -> bool {
        self.inner.lock().leaving.contains(&acquire)
    }

    /// The service is not reached: no more signs of life, so that it ends the session with all it has.
    pub(crate) fn give_up(&self) {
        self.inner.expired();
    }
}

impl Inner {
    pub(crate) fn id(&self) -> SessionId {
        self.id
    }

    pub(crate) fn ttl(&self) -> Duration {
        self.ttl
    }

    pub(crate) fn beats(&self) -> bool {
        self.auto.load(Ordering::Relaxed) && self.lock().ended.is_none()
    }

    pub(crate) fn is_over(&self) -> bool {
        self.lock().ended.is_some()
    }

    /// The next number; an append gets its place with it, so that both count alike.
    pub(crate) fn number(&self, op: &Op) -> Seq {
        let mut state = self.lock();
        state.last += 1;
        let seq = Seq(state.last);
        if let Op::Append { lock, token, .. } = op {
            let hold = state.holds.entry((lock.clone(), *token));
            let unknown = || Hold::foreign(lock, *token);
            hold.or_insert_with(unknown)
                .section(|section| section.add(seq));
        }
        if let Op::Release { lock, token, .. } = op
            && let Some(hold) = state.holds.get(&(lock.clone(), *token))
        {
            hold.set_releasing();
        }
        seq
    }

    /// The command as it stands now: places and answered numbers change between attempts.
    pub(crate) fn command(&self, seq: Seq, op: &Op) -> Bytes {
        let mut op = op.clone();
        let state = self.lock();
        match &mut op {
            Op::Append {
                lock, token, place, ..
            } => {
                let hold = state.holds.get(&(lock.clone(), *token));
                *place = hold.map_or(1, |hold| hold.place(seq));
            }
            Op::Release { lock, token, count } => {
                let hold = state.holds.get(&(lock.clone(), *token));
                *count = hold.map_or(0, |hold| hold.section(|section| section.count()));
            }
            _ => {}
        }
        let done = state.done.to_done();
        drop(state);
        Command::Session {
            session: self.id,
            seq,
            done,
            op,
        }
        .encode()
        .into()
    }

    /// An attempt sent at `sent` was answered, and its own entry stamped so.
    pub(crate) fn heard(&self, sent: BootTime, stamp: Option<ClusterTime>) {
        let mut state = self.lock();
        if let Some(stamp) = stamp {
            state.pair = state.pair.better(Pair { sent, stamp });
            state.kept = state.kept.max(sent);
        }
    }

    /// The service told the session's own deadline in answer to an attempt sent at `sent`.
    pub(crate) fn kept(&self, deadline: ClusterTime, sent: BootTime) {
        let mut state = self.lock();
        state.deadline = state.deadline.max(deadline);
        state.kept = state.kept.max(sent);
    }

    /// The owner of an unanswered call wants it no more: it will not run from now on.
    pub(crate) fn given_up(&self, seq: Seq, op: &Op) {
        // First of all: whoever takes its place in the section must say that it is given up.
        self.done(seq);
        if let Op::Append { lock, token, .. } = op
            && let Some(hold) = self.lock().holds.get(&(lock.clone(), *token))
        {
            hold.move_section(|section| section.refused(seq));
        }
    }

    /// The books' entry for a grant.
    pub(crate) fn find(&self, lock: &str, token: Token) -> Option<Hold> {
        self.lock().holds.get(&(lock.to_owned(), token)).cloned()
    }

    /// No answer to this number is wanted any more.
    pub(crate) fn done(&self, seq: Seq) {
        self.lock().done.insert(seq);
    }

    /// Writes an answer into the books.
    pub(crate) fn settled(&self, seq: Seq, op: &Op, outcome: &Outcome, sent: BootTime) {
        match (op, outcome) {
            (
                Op::Acquire { lock, .. },
                Outcome::Granted {
                    token,
                    deadline,
                    lease_ms,
                },
            ) => {
                let lease = Duration::from_millis(*lease_ms);
                self.granted(lock, *token, *deadline, lease, sent);
            }
            (Op::Append { lock, token, .. }, outcome) => {
                self.appended(seq, lock, *token, outcome, sent);
            }
            (Op::Renew { lock, token }, Outcome::Renewed { deadline }) => {
                self.told(lock, *token, *deadline, sent);
            }
            (Op::Release { lock, token, .. }, Outcome::Released { .. })
            | (Op::Abort { lock, token }, Outcome::Aborted) => {
                self.end_hold(lock, *token, HoldState::Ended);
            }
            (Op::Close, Outcome::Closed) => self.over(Ended::Closed),
            _ => {}
        }
        if let Outcome::Refused(refusal) = outcome {
            self.refused(refusal);
        }
    }

    fn granted(
        &self,
        lock: &str,
        token: Token,
        deadline: ClusterTime,
        lease: Duration,
        sent: BootTime,
    ) {
        let mut state = self.lock();
        let key = (lock.to_owned(), token);
        let hold = state
            .holds
            .entry(key)
            .or_insert_with(|| Hold::new(lock, token, lease, sent));
        hold.told(deadline, sent);
        let lost = state.lost_early.remove(&token);
        drop(state);
        if let Some(why) = lost {
            self.end_hold(lock, token, HoldState::Lost(why));
        }
        self.changed.send_replace(());
    }

    fn appended(&self, seq: Seq, lock: &str, token: Token, outcome: &Outcome, sent: BootTime) {
        let Some(hold) = self.lock().holds.get(&(lock.to_owned(), token)).cloned() else {
            return;
        };
        if let Outcome::Appended { deadline, .. } = outcome {
            hold.move_section(|section| section.accepted(seq));
            hold.told(*deadline, sent);
        } else {
            hold.move_section(|section| section.refused(seq));
        }
    }

    /// A lease's deadline, as told in answer to an attempt sent at `sent`.
    pub(crate) fn told(&self, lock: &str, token: Token, deadline: ClusterTime, sent: BootTime) {
        if let Some(hold) = self.lock().holds.get(&(lock.to_owned(), token)) {
            hold.told(deadline, sent);
        }
    }

    /// The service told this unasked.
    pub(crate) fn lost(&self, refusal: &Refusal) {
        if let Refusal::NotHeld { lock, token, why } = refusal
            && self.find(lock, *token).is_none()
        {
            let mut state = self.lock();
            let why = LostWhy::NotHeld(Some(why.clone()));
            state.lost_early.insert(*token, why);
            if state.lost_early.len() > LOST_EARLY_MAX {
                state.lost_early.pop_first();
            }
            return;
        }
        self.refused(refusal);
    }

    fn refused(&self, refusal: &Refusal) {
        match refusal {
            Refusal::SessionExpired => self.expired(),
            Refusal::NotHeld { lock, token, why } => {
                let why = LostWhy::NotHeld(Some(why.clone()));
                self.end_hold(lock, *token, HoldState::Lost(why));
            }
            _ => {}
        }
    }

    /// Takes a grant out of the books.
    pub(crate) fn end_hold(&self, lock: &str, token: Token, end: HoldState) {
        let Some(hold) = self.lock().holds.remove(&(lock.to_owned(), token)) else {
            return;
        };
        self.end_removed(&hold, end);
    }

    fn end_removed(&self, hold: &Hold, end: HoldState) {
        if hold.end(end.clone())
            && let HoldState::Lost(why) = end
        {
            self.tell_lost(hold, why);
        }
    }

    /// Says once that a lock is, or may be, lost.
    pub(crate) fn tell_lost(&self, hold: &Hold, why: LostWhy) {
        if hold.tell_once() {
            let lock = hold.lock().to_owned();
            let _ = self.notices.send(Notice::Lost {
                lock,
                token: hold.token(),
                why,
            });
        }
    }

    /// The service says that the session is no more.
    pub(crate) fn expired(&self) {
        self.over(Ended::Expired);
    }

    fn over(&self, ended: Ended) {
        let mut state = self.lock();
        let first = state.ended.is_none();
        state.ended.get_or_insert(ended);
        let holds = std::mem::take(&mut state.holds);
        drop(state);
        let end = match ended {
            Ended::Closed => HoldState::Ended,
            Ended::Expired => HoldState::Lost(LostWhy::SessionExpired),
        };
        for hold in holds.values() {
            self.end_removed(hold, end.clone());
        }
        if first && ended == Ended::Expired {
            let _ = self.notices.send(Notice::Expired);
        }
        self.changed.send_replace(());
    }

    pub(crate) fn holds(&self) -> Vec<Hold> {
        self.lock().holds.values().cloned().collect()
    }

    /// When the session itself wants its next sign of life.
    pub(crate) fn due(&self) -> BootTime {
        self.lock().kept.after(Pace::of(self.ttl).renew_after())
    }

    /// How soon silence is taken for a fault: by the shortest term that a call is about.
    pub(crate) fn pace(&self, op: &Op) -> Pace {
        let lease = match op {
            // Sending it again would cost more than it helps.
            Op::Append { data, .. } if data.len() > SMALL_BYTES => return Pace::CALM,
            Op::Acquire { lease_ms, .. } => lease_ms.map(Duration::from_millis),
            Op::Append { lock, token, .. }
            | Op::Renew { lock, token }
            | Op::Release { lock, token, .. }
            | Op::Abort { lock, token } => self.find(lock, *token).map(|hold| hold.lease()),
            _ => None,
        };
        Pace::of(lease.map_or(self.ttl, |lease| lease.min(self.ttl)))
    }

    pub(crate) fn local(&self, deadline: ClusterTime) -> BootTime {
        self.lock().pair.local(deadline)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.link.inner.forget(self.id);
    }
}

/// What `ask_once` and calls share: bytes of an outcome with what carried them.
pub(crate) fn decode_outcome(body: ResponseBody) -> Result<(Reply, Option<ClusterTime>), Error> {
    let ResponseBody::Outcome {
        slot,
        stamp_ms,
        bytes,
    } = body
    else {
        return Err(Error::BadRequest("the answer is not an outcome".to_owned()));
    };
    let outcome = Outcome::decode(&bytes)
        .map_err(|error| Error::BadRequest(format!("the outcome does not decode: {error}")))?;
    let reply = Reply {
        slot: statemachine::Slot(slot),
        outcome,
    };
    Ok((reply, stamp_ms.map(ClusterTime)))
}

/// Whole milliseconds, at least one for any time that is not zero.
pub(crate) fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX)
}
