//! A lock that a session was granted, as far as the client knows.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use statemachine::{ClusterTime, NotHeldWhy, Seq, Token};
use tokio::sync::watch;

use crate::clock::BootTime;
use crate::lines::Turn;
use crate::pool::Seat;
use crate::raw::pace::Pace;
use crate::raw::section::Section;

/// How long an overtaken call waits for what happens to those before it.
const NEWS: Duration = Duration::from_millis(250);

/// One grant. Clones share it.
#[derive(Clone, Debug)]
pub struct Hold {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    lock: String,
    token: Token,
    lease: Duration,
    state: watch::Sender<HoldState>,
    /// Something about the section has changed.
    moved: watch::Sender<()>,
    book: Mutex<Book>,
}

#[derive(Debug)]
struct Book {
    section: Section,
    /// As a call whose answer renewed the lease was sent.
    renewed: BootTime,
    /// Whether keep-alives carry the token.
    renew: bool,
    /// The owner was told that it may be lost.
    told: bool,
    /// A release was started, so that appends without an answer may be applied with it.
    releasing: bool,
    /// Its owner has dropped it, and its abort is on its way.
    unwanted: bool,
    /// What the client keeps for as long as the lock may be held.
    place: Option<Place>,
}

/// What a lock takes up in its client: the turn of its tasks, and a seat in the session.
#[derive(Debug)]
pub(crate) struct Place {
    pub(crate) _turn: Turn,
    pub(crate) _seat: Seat,
}

/// How a grant stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HoldState {
    /// Held until this cluster time at least: the earlier of lease and session, as told last.
    Held(ClusterTime),
    /// Given back by its owner.
    Ended,
    /// Lost, and why.
    Lost(LostWhy),
}

/// Why a lock is, or may be, lost.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LostWhy {
    /// By the client's own clock it may have ended. The service was not heard in time.
    Deadline,
    /// The service says that it is not held any more.
    NotHeld(Option<NotHeldWhy>),
    /// The session has expired.
    SessionExpired,
}

impl std::fmt::Display for LostWhy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            LostWhy::Deadline => f.write_str("its deadline may have passed"),
            LostWhy::NotHeld(Some(why)) => write!(f, "its token {why}"),
            LostWhy::NotHeld(None) => f.write_str("it is not held any more"),
            LostWhy::SessionExpired => f.write_str("the session has expired"),
        }
    }
}

impl Hold {
    pub(crate) fn new(lock: &str, token: Token, lease: Duration, sent: BootTime) -> Hold {
        let book = Book {
            section: Section::default(),
            renewed: sent,
            renew: true,
            told: false,
            releasing: false,
            unwanted: false,
            place: None,
        };
        let inner = Inner {
            lock: lock.to_owned(),
            token,
            lease,
            state: watch::Sender::new(HoldState::Held(ClusterTime(0))),
            moved: watch::Sender::new(()),
            book: Mutex::new(book),
        };
        Hold {
            inner: Arc::new(inner),
        }
    }

    /// A token that this session was not granted, or not any more; kept for the places of appends
    /// that are sent all the same. Never renewed.
    pub(crate) fn foreign(lock: &str, token: Token) -> Hold {
        let hold = Hold::new(lock, token, Duration::MAX, BootTime(0));
        hold.set_renew(false);
        hold.tell_once();
        hold
    }

    /// The lock's name.
    pub fn lock(&self) -> &str {
        &self.inner.lock
    }

    /// The grant's number.
    pub fn token(&self) -> Token {
        self.inner.token
    }

    /// The agreed lease.
    pub fn lease(&self) -> Duration {
        self.inner.lease
    }

    /// How it stands, as told last.
    pub fn state(&self) -> HoldState {
        self.inner.state.borrow().clone()
    }

    /// Follows how it stands.
    pub fn watch(&self) -> watch::Receiver<HoldState> {
        self.inner.state.subscribe()
    }

    /// Whether keep-alives renew the lease. On by default.
    pub fn set_renew(&self, renew: bool) {
        self.book().renew = renew;
    }

    pub(crate) fn renews(&self) -> bool {
        self.book().renew
    }

    /// When the lease should be renewed.
    pub(crate) fn due(&self) -> BootTime {
        let after = Pace::of(self.inner.lease).renew_after();
        self.book().renewed.after(after)
    }

    /// The service told a deadline in answer to an attempt sent at `sent`. A lease never shrinks,
    /// so that the latest deadline told is true whatever order answers come in.
    pub(crate) fn told(&self, deadline: ClusterTime, sent: BootTime) {
        {
            let mut book = self.book();
            book.renewed = book.renewed.max(sent);
        }
        self.inner.state.send_if_modified(|state| match state {
            HoldState::Held(known) if *known < deadline => {
                *known = deadline;
                true
            }
            _ => false,
        });
    }

    /// Given back, or lost: the first of these stays.
    pub(crate) fn end(&self, end: HoldState) -> bool {
        let ended = self.inner.state.send_if_modified(|state| {
            let held = matches!(state, HoldState::Held(_));
            if held {
                *state = end;
            }
            held
        });
        self.vacate();
        ended
    }

    /// Keeps the place until the lock is given back or lost.
    pub(crate) fn occupy(&self, place: Place) {
        let mut book = self.book();
        book.place = Some(place);
        drop(book);
        if !matches!(self.state(), HoldState::Held(_)) {
            self.vacate();
        }
    }

    /// Its owner has dropped it.
    pub(crate) fn set_unwanted(&self) {
        let mut book = self.book();
        book.unwanted = true;
        book.renew = false;
        drop(book);
        self.vacate();
    }

    pub(crate) fn is_unwanted(&self) -> bool {
        self.book().unwanted
    }

    /// The next task of the client may ask for the lock.
    fn vacate(&self) {
        let place = self.book().place.take();
        drop(place);
    }

    /// A release was started.
    pub(crate) fn set_releasing(&self) {
        self.book().releasing = true;
    }

    /// Whether a release was ever started.
    pub(crate) fn is_releasing(&self) -> bool {
        self.book().releasing
    }

    /// True the first time.
    pub(crate) fn tell_once(&self) -> bool {
        // Its owner must take it for lost, so that another task may try.
        self.vacate();
        !std::mem::replace(&mut self.book().told, true)
    }

    pub(crate) fn section<T>(&self, work: impl FnOnce(&mut Section) -> T) -> T {
        work(&mut self.book().section)
    }

    /// Changes the section and wakes those who wait for their turn to be sent again.
    pub(crate) fn move_section(&self, work: impl FnOnce(&mut Section)) {
        work(&mut self.book().section);
        self.inner.moved.send_replace(());
    }

    /// Waits until a call that was out of order may be sent again, or for as long as is sensible
    /// without news.
    pub(crate) async fn turn(&self, seq: Option<Seq>) {
        let mut moved = self.inner.moved.subscribe();
        while !self.section(|section| section.may_send_again(seq)) {
            let news = tokio::time::timeout(NEWS, moved.changed()).await;
            if !matches!(news, Ok(Ok(()))) || !matches!(self.state(), HoldState::Held(_)) {
                return;
            }
        }
    }

    pub(crate) fn place(&self, seq: Seq) -> u32 {
        // An append that has an answer is not sent again, other than to hear the same answer.
        self.section(|section| section.place(seq)).unwrap_or(1)
    }

    fn book(&self) -> MutexGuard<'_, Book> {
        self.inner
            .book
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}
