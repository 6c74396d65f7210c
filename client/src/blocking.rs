//! The client for programs without a runtime: the same calls, each of which waits.
//!
//! ```no_run
//! # fn example() -> Result<(), client::Error> {
//! let client = client::blocking::Client::connect(["127.0.0.1:7401"])?;
//! let guard = client.lock("default").acquire()?;
//! guard.append("file_0", b"one line\n")?;
//! guard.release()?;
//! # Ok(())
//! # }
//! ```
//!
//! The library's own thread keeps the session alive. Calls wait, so none may be made from within an
//! async runtime; dropping what is here is fine anywhere.

use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::runtime::Handle;

use crate::endpoint::{Endpoint, Endpoints};
use crate::{
    AsOf, Error, FileFact, LockLine, LockStatus, LostWhy, MemberInfo, Options, Receipt,
    SessionFact, Status, Token,
};

/// A client whose calls wait. Clones share connections and session.
#[derive(Clone, Debug)]
pub struct Client {
    inner: crate::Client,
}

impl Client {
    /// As [`crate::Client::connect`].
    ///
    /// # Errors
    ///
    /// As there.
    ///
    /// # Panics
    ///
    /// Within an async runtime.
    pub fn connect<S: AsRef<str>>(endpoints: impl IntoIterator<Item = S>) -> Result<Client, Error> {
        Client::connect_with(Endpoints::parse(endpoints)?, Options::default())
    }

    /// As [`crate::Client::connect_with`].
    ///
    /// # Errors
    ///
    /// As [`Client::connect`].
    pub fn connect_with(endpoints: Endpoints, options: Options) -> Result<Client, Error> {
        let inner = crate::Client::lazy(endpoints, options);
        let client = Client { inner };
        client.wait(client.inner.greet())?;
        Ok(client)
    }

    /// The lock of this name, to be acquired.
    pub fn lock(&self, name: &str) -> LockRequest {
        LockRequest {
            client: self.clone(),
            inner: self.inner.lock(name),
        }
    }

    /// Linearizable reads.
    pub fn reader(&self) -> Reader {
        Reader {
            client: self.clone(),
            inner: self.inner.reader(),
        }
    }

    /// As [`crate::Client::create`].
    ///
    /// # Errors
    ///
    /// As there.
    pub fn create(&self, file: &str, guard: Option<&str>) -> Result<(), Error> {
        self.wait(self.inner.create(file, guard))
    }

    /// As [`crate::Client::remove`].
    ///
    /// # Errors
    ///
    /// As there.
    pub fn remove(&self, file: &str) -> Result<(), Error> {
        self.wait(self.inner.remove(file))
    }

    /// As [`crate::Client::force_release`].
    ///
    /// # Errors
    ///
    /// As there.
    pub fn force_release(&self, lock: &str, token: Token, reason: &str) -> Result<(), Error> {
        self.wait(self.inner.force_release(lock, token, reason))
    }

    /// As [`crate::Client::status`].
    pub fn status(&self) -> Vec<(Endpoint, Result<Status, Error>)> {
        self.wait(self.inner.status())
    }

    /// As [`crate::Client::members`].
    ///
    /// # Errors
    ///
    /// As there.
    pub fn members(&self) -> Result<Vec<MemberInfo>, Error> {
        self.wait(self.inner.members())
    }

    /// As [`crate::Client::health`].
    ///
    /// # Errors
    ///
    /// As there.
    pub fn health(&self) -> Result<Duration, Error> {
        self.wait(self.inner.health())
    }

    /// As [`crate::Client::transfer`].
    ///
    /// # Errors
    ///
    /// As there.
    pub fn transfer(&self, to: u16) -> Result<(), Error> {
        self.wait(self.inner.transfer(to))
    }

    /// As [`crate::Client::close`].
    ///
    /// # Errors
    ///
    /// As there.
    pub fn close(&self) -> Result<(), Error> {
        self.wait(self.inner.close())
    }

    fn wait<T>(&self, future: impl Future<Output = T>) -> T {
        let handle: &Handle = self.inner.link().inner.background.handle();
        handle.block_on(future)
    }
}

/// A lock by name, and how it is wanted. See [`crate::LockRequest`].
#[derive(Clone, Debug)]
pub struct LockRequest {
    client: Client,
    inner: crate::LockRequest,
}

impl LockRequest {
    /// How long the lock is held without an append, a renewal or a sign of life of this client.
    #[must_use]
    pub fn lease(mut self, lease: Duration) -> LockRequest {
        self.inner = self.inner.lease(lease);
        self
    }

    /// Waits in the queue for as long as the session lives.
    ///
    /// # Errors
    ///
    /// As [`crate::LockRequest::acquire`].
    pub fn acquire(self) -> Result<Guard, Error> {
        let inner = self.client.wait(self.inner.acquire())?;
        Ok(Guard {
            inner,
            client: self.client,
        })
    }

    /// Acquires the lock if it is free now.
    ///
    /// # Errors
    ///
    /// As [`crate::LockRequest::try_acquire`].
    pub fn try_acquire(self) -> Result<Guard, Error> {
        let inner = self.client.wait(self.inner.try_acquire())?;
        Ok(Guard {
            inner,
            client: self.client,
        })
    }

    /// Waits in the queue for so long.
    ///
    /// # Errors
    ///
    /// As [`crate::LockRequest::acquire_within`].
    pub fn acquire_within(self, wait: Duration) -> Result<Guard, Error> {
        let inner = self.client.wait(self.inner.acquire_within(wait))?;
        Ok(Guard {
            inner,
            client: self.client,
        })
    }
}

/// A lock that is held. See [`crate::Guard`].
#[derive(Debug)]
pub struct Guard {
    inner: crate::Guard,
    client: Client,
}

impl Guard {
    /// The number of the grant.
    pub fn token(&self) -> Token {
        self.inner.token()
    }

    /// Until when the lock is certainly held.
    pub fn deadline(&self) -> Instant {
        self.inner.deadline()
    }

    /// Whether the lock is certainly held now.
    pub fn is_valid(&self) -> bool {
        self.inner.is_valid()
    }

    /// Waits until the lock is, or may be, lost.
    pub fn wait_lost(&self) -> LostWhy {
        self.client.wait(self.inner.lost())
    }

    /// Adds to the section and waits until it is durable. Returns the bytes pending.
    ///
    /// # Errors
    ///
    /// As [`crate::Guard::append`].
    pub fn append(&self, file: &str, data: impl AsRef<[u8]>) -> Result<u64, Error> {
        self.client.wait(self.inner.append(file, data))
    }

    /// Starts the lease anew.
    ///
    /// # Errors
    ///
    /// As [`crate::Guard::renew`].
    pub fn renew(&self) -> Result<(), Error> {
        self.client.wait(self.inner.renew())
    }

    /// Applies all that was appended and gives the lock back.
    ///
    /// # Errors
    ///
    /// As [`crate::Guard::release`].
    pub fn release(self) -> Result<Receipt, Error> {
        self.client.wait(self.inner.release())
    }

    /// Discards all that was appended and gives the lock back.
    ///
    /// # Errors
    ///
    /// As [`crate::Guard::abort`].
    pub fn abort(self) -> Result<(), Error> {
        self.client.wait(self.inner.abort())
    }
}

/// Reads the cluster's state. See [`crate::Reader`].
#[derive(Clone, Debug)]
pub struct Reader {
    client: Client,
    inner: crate::Reader,
}

impl Reader {
    /// From any replica that answers, however old its state is.
    #[must_use]
    pub fn stale(mut self) -> Reader {
        self.inner = self.inner.stale();
        self
    }

    /// As [`crate::Reader::lock_status`].
    ///
    /// # Errors
    ///
    /// As there.
    pub fn lock_status(&self, lock: &str) -> Result<AsOf<LockStatus>, Error> {
        self.client.wait(self.inner.lock_status(lock))
    }

    /// As [`crate::Reader::locks`].
    ///
    /// # Errors
    ///
    /// As there.
    pub fn locks(&self, prefix: &str) -> Result<AsOf<Vec<LockLine>>, Error> {
        self.client.wait(self.inner.locks(prefix))
    }

    /// As [`crate::Reader::sessions`].
    ///
    /// # Errors
    ///
    /// As there.
    pub fn sessions(&self) -> Result<AsOf<Vec<SessionFact>>, Error> {
        self.client.wait(self.inner.sessions())
    }

    /// As [`crate::Reader::files`].
    ///
    /// # Errors
    ///
    /// As there.
    pub fn files(&self) -> Result<AsOf<Vec<FileFact>>, Error> {
        self.client.wait(self.inner.files())
    }

    /// As [`crate::Reader::stat`].
    ///
    /// # Errors
    ///
    /// As there.
    pub fn stat(&self, file: &str) -> Result<AsOf<FileFact>, Error> {
        self.client.wait(self.inner.stat(file))
    }

    /// As [`crate::Reader::read`].
    ///
    /// # Errors
    ///
    /// As there.
    pub fn read(&self, file: &str, offset: u64, length: u64) -> Result<AsOf<Bytes>, Error> {
        self.client.wait(self.inner.read(file, offset, length))
    }

    /// As [`crate::Reader::check_token`].
    ///
    /// # Errors
    ///
    /// As there.
    pub fn check_token(&self, lock: &str, token: Token) -> Result<AsOf<bool>, Error> {
        self.client.wait(self.inner.check_token(lock, token))
    }
}
