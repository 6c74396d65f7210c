//! The shell's sessions by name, with the tokens that each remembers.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use client::raw;
use statemachine::Token;

use super::request::Id;
use crate::held;

/// Sessions that a shell keeps at a time.
const SESSIONS_MAX: usize = 1024;

/// All sessions; the first has no name.
#[derive(Debug, Default)]
pub(crate) struct Sessions(RefCell<BTreeMap<Option<String>, Rc<ShellSession>>>);

/// One session.
#[derive(Debug)]
pub(crate) struct ShellSession {
    pub(crate) raw: raw::Session,
    /// The last token granted for each lock.
    tokens: RefCell<BTreeMap<String, Token>>,
    /// Which command a grant was the answer to.
    grants: RefCell<BTreeMap<Token, Id>>,
}

impl Sessions {
    pub(crate) fn get(&self, name: Option<&str>) -> Option<Rc<ShellSession>> {
        self.0.borrow().get(&name.map(str::to_owned)).cloned()
    }

    pub(crate) fn all(&self) -> Vec<Rc<ShellSession>> {
        self.0.borrow().values().cloned().collect()
    }

    /// Whether there is no room for one more.
    pub(crate) fn is_full(&self) -> bool {
        self.0.borrow().len() >= SESSIONS_MAX
    }

    /// Takes in a session that was just opened, in place of the one that had its name.
    pub(crate) fn put(&self, name: Option<String>, raw: raw::Session) -> Rc<ShellSession> {
        let session = Rc::new(ShellSession {
            raw,
            tokens: RefCell::default(),
            grants: RefCell::default(),
        });
        self.0.borrow_mut().insert(name, session.clone());
        session
    }
}

impl ShellSession {
    /// The token meant where none is named: the last one granted, or 0, which is never current.
    pub(crate) fn token(&self, lock: &str, given: Option<u64>) -> Token {
        let remembered = self.tokens.borrow().get(lock).copied();
        given.map(Token).or(remembered).unwrap_or(Token(0))
    }

    /// The command `id` was granted this lock.
    pub(crate) fn granted(&self, lock: &str, token: Token, id: &Id) {
        if let Some(before) = self.tokens.borrow_mut().insert(lock.to_owned(), token) {
            self.grants.borrow_mut().remove(&before);
        }
        self.grants.borrow_mut().insert(token, id.clone());
    }

    /// The command that this grant was the answer to.
    pub(crate) fn granted_to(&self, token: Token) -> Option<Id> {
        self.grants.borrow().get(&token).cloned()
    }

    /// Ends it, unless it has ended.
    pub(crate) async fn close(&self, timeout: Duration) {
        if self.raw.is_open() {
            _ = tokio::time::timeout(timeout, held::close(&self.raw)).await;
        }
    }
}
