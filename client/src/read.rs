//! Reads: of locks, sessions and files.

use std::time::Duration;

use bytes::Bytes;
use statemachine::{
    Answer, FileFact, LockLine, LockStatus, PAGE_MAX, Page, Query, READ_BYTES_MAX, SessionFact,
    Slot, Token,
};

use crate::Error;
use crate::raw::Link;

/// Reads the cluster's state. Needs no session.
///
/// Linearizable by default: what a read finds is at least as new as all that was acknowledged before
/// it began.
#[derive(Clone, Debug)]
pub struct Reader {
    link: Link,
    timeout: Duration,
    stale: bool,
}

/// What was read, with the slot whose state it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AsOf<T> {
    /// The slot whose state was read.
    pub slot: Slot,
    /// What was found.
    pub value: T,
}

impl Reader {
    pub(crate) fn new(link: Link, timeout: Duration) -> Reader {
        Reader {
            link,
            timeout,
            stale: false,
        }
    }

    /// From any replica that answers, however old its state is; [`AsOf::slot`] says how old.
    #[must_use]
    pub fn stale(mut self) -> Reader {
        self.stale = true;
        self
    }

    /// Who holds a lock and who waits for it; free ones too.
    ///
    /// # Errors
    ///
    /// [`Error`].
    pub async fn lock_status(&self, lock: &str) -> Result<AsOf<LockStatus>, Error> {
        let query = Query::LockStatus {
            lock: lock.to_owned(),
        };
        self.one(query, |answer| match answer {
            Answer::Lock(status) => Some(status),
            _ => None,
        })
        .await
    }

    /// The locks that are held and whose names begin so.
    ///
    /// # Errors
    ///
    /// [`Error`].
    pub async fn locks(&self, prefix: &str) -> Result<AsOf<Vec<LockLine>>, Error> {
        self.pages(
            |after: Option<String>| Query::Locks {
                prefix: prefix.to_owned(),
                after,
                limit: PAGE_MAX,
            },
            |answer| match answer {
                Answer::Locks(page) => Some(page),
                _ => None,
            },
            |line| line.lock.clone(),
        )
        .await
    }

    /// The open sessions.
    ///
    /// # Errors
    ///
    /// [`Error`].
    pub async fn sessions(&self) -> Result<AsOf<Vec<SessionFact>>, Error> {
        self.pages(
            |after| Query::Sessions {
                after,
                limit: PAGE_MAX,
            },
            |answer| match answer {
                Answer::Sessions(page) => Some(page),
                _ => None,
            },
            |fact| fact.session,
        )
        .await
    }

    /// The files.
    ///
    /// # Errors
    ///
    /// [`Error`].
    pub async fn files(&self) -> Result<AsOf<Vec<FileFact>>, Error> {
        self.pages(
            |after| Query::Files {
                after,
                limit: PAGE_MAX,
            },
            |answer| match answer {
                Answer::Files(page) => Some(page),
                _ => None,
            },
            |fact| fact.name.clone(),
        )
        .await
    }

    /// One file's guard, length and checksum.
    ///
    /// # Errors
    ///
    /// [`Error`]; refused as `no_such_file`.
    pub async fn stat(&self, file: &str) -> Result<AsOf<FileFact>, Error> {
        let query = Query::Stat {
            file: file.to_owned(),
        };
        self.one(query, |answer| match answer {
            Answer::File(fact) => Some(fact),
            _ => None,
        })
        .await
    }

    /// Up to `length` bytes of a file from `offset` on; fewer at its end. Longer reads than the
    /// service gives at once are put together; since files only grow, what was read stays true.
    ///
    /// # Errors
    ///
    /// [`Error`]; refused as `no_such_file`.
    pub async fn read(&self, file: &str, offset: u64, length: u64) -> Result<AsOf<Bytes>, Error> {
        let end = offset.saturating_add(length);
        let mut found = self.part(file, offset, end).await?;
        let mut whole = found.value.0.to_vec();
        while (offset + whole.len() as u64) < end.min(found.value.1) {
            let next = self.part(file, offset + whole.len() as u64, end).await?;
            if next.value.0.is_empty() {
                break;
            }
            whole.extend_from_slice(&next.value.0);
            found.slot = next.slot;
        }
        Ok(AsOf {
            slot: found.slot,
            value: whole.into(),
        })
    }

    /// A whole file.
    ///
    /// # Errors
    ///
    /// As [`Reader::read`].
    pub async fn read_all(&self, file: &str) -> Result<AsOf<Bytes>, Error> {
        self.read(file, 0, u64::MAX).await
    }

    /// Whether the token is the current one of that lock: for whoever is written to under it.
    ///
    /// # Errors
    ///
    /// [`Error`].
    pub async fn check_token(&self, lock: &str, token: Token) -> Result<AsOf<bool>, Error> {
        let query = Query::CheckToken {
            lock: lock.to_owned(),
            token,
        };
        self.one(query, |answer| match answer {
            Answer::Token { current } => Some(current),
            _ => None,
        })
        .await
    }

    /// Bytes, and the file's length.
    async fn part(&self, file: &str, offset: u64, end: u64) -> Result<AsOf<(Bytes, u64)>, Error> {
        let len = u64::from(READ_BYTES_MAX).min(end.saturating_sub(offset));
        let len = u32::try_from(len).unwrap_or(READ_BYTES_MAX);
        let query = Query::Read {
            file: file.to_owned(),
            offset,
            len,
        };
        self.one(query, |answer| match answer {
            Answer::Data { data, file_len, .. } => Some((data, file_len)),
            _ => None,
        })
        .await
    }

    async fn one<T>(
        &self,
        query: Query,
        pick: impl Fn(Answer) -> Option<T>,
    ) -> Result<AsOf<T>, Error> {
        let (slot, answer) = if self.stale {
            self.link.query_stale(&query, self.timeout).await?
        } else {
            self.link.query(&query, self.timeout).await?
        };
        match pick(answer) {
            Some(value) => Ok(AsOf { slot, value }),
            None => Err(Error::BadRequest(
                "the answer is of another kind".to_owned(),
            )),
        }
    }

    /// All pages of a list, with the slot of the last: each page is true as of its own slot.
    async fn pages<T, K>(
        &self,
        query: impl Fn(Option<K>) -> Query,
        pick: impl Fn(Answer) -> Option<Page<T>>,
        key: impl Fn(&T) -> K,
    ) -> Result<AsOf<Vec<T>>, Error> {
        let mut all = Vec::new();
        loop {
            let after = all.last().map(&key);
            let AsOf {
                slot,
                value: Page { items, more },
            } = self.one(query(after), &pick).await?;
            let none = items.is_empty();
            all.extend(items);
            if !more || none {
                return Ok(AsOf { slot, value: all });
            }
        }
    }
}
