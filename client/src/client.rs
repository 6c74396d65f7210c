//! The client: sessions, opened as they are needed, and what can be done in them.

use std::sync::Arc;
use std::time::Duration;

use net::{MemberInfo, Status};
use statemachine::{Op, Token};
use tokio_util::task::AbortOnDropHandle;

use crate::Error;
use crate::endpoint::{Endpoint, Endpoints};
use crate::lines::Lines;
use crate::lock::LockRequest;
use crate::options::Options;
use crate::pool::{Pool, Seated};
use crate::raw::{Link, Session};
use crate::read::Reader;

/// How long a replica may take to say how it stands.
const STATUS_PATIENCE: Duration = Duration::from_secs(2);

/// A client of one cluster. Clones share connections and sessions.
///
/// Tasks that want the same lock of one client get it one after another, in the order in which they
/// asked. As many as like may hold, wait and append at once: where one session has too little
/// room for them, the client opens more.
///
/// A session keeps itself alive in the background. If it expires all the same, because the service
/// was not reached for longer than its TTL, calls fail with `session_expired`, and the next use
/// opens a new one: whatever the old one held is lost.
#[derive(Clone, Debug)]
pub struct Client {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    link: Link,
    options: Options,
    pool: tokio::sync::Mutex<Pool>,
    lines: Lines,
}

impl Client {
    /// Connects with default [`Options`] and opens a session. One endpoint is enough, `host:port`;
    /// it tells the rest. As `1=host:port` redirects go by id within the list.
    ///
    /// # Errors
    ///
    /// [`Error::Usage`] if an endpoint does not parse, else as [`Session::open`].
    pub async fn connect<S: AsRef<str>>(
        endpoints: impl IntoIterator<Item = S>,
    ) -> Result<Client, Error> {
        Client::connect_with(Endpoints::parse(endpoints)?, Options::default()).await
    }

    /// Connects with these options and opens a session.
    ///
    /// # Errors
    ///
    /// As [`Session::open`].
    pub async fn connect_with(endpoints: Endpoints, options: Options) -> Result<Client, Error> {
        let client = Client::lazy(endpoints, options);
        client.greet().await?;
        Ok(client)
    }

    /// Opens the first session.
    pub(crate) async fn greet(&self) -> Result<(), Error> {
        self.session().await?;
        self.learn_members();
        Ok(())
    }

    /// A client that connects, and opens its session, once it is used. Reads need no session.
    ///
    /// # Panics
    ///
    /// If the system refuses the library's one thread.
    pub fn lazy(endpoints: Endpoints, options: Options) -> Client {
        let link = Link::new(endpoints, &options.name, options.pin);
        let inner = Inner {
            link,
            options,
            pool: tokio::sync::Mutex::default(),
            lines: Lines::default(),
        };
        Client {
            inner: Arc::new(inner),
        }
    }

    /// The lock of this name, to be acquired.
    pub fn lock(&self, name: &str) -> LockRequest {
        LockRequest::new(self.clone(), name)
    }

    /// The first of the client's sessions; opened if there is none, or if the last one has expired. Locks are
    /// acquired in it, too, as long as they are not too many for one session.
    ///
    /// # Errors
    ///
    /// As [`Session::open`].
    pub async fn session(&self) -> Result<Session, Error> {
        let inner = self.inner.clone();
        self.in_background(async move {
            let mut pool = inner.pool.lock().await;
            pool.first(&inner.link, &inner.options).await
        })
        .await
    }

    /// A session with a free place.
    pub(crate) async fn seat(&self) -> Result<Seated, Error> {
        let inner = self.inner.clone();
        self.in_background(async move {
            let mut pool = inner.pool.lock().await;
            pool.seat(&inner.link, &inner.options).await
        })
        .await
    }

    /// Where tasks wait for each other.
    pub(crate) fn lines(&self) -> &Lines {
        &self.inner.lines
    }

    /// Runs what others may wait for, too, on the library's thread: the caller's runtime may end or be
    /// blocked.
    async fn in_background<T: Send + 'static>(
        &self,
        work: impl Future<Output = Result<T, Error>> + Send + 'static,
    ) -> Result<T, Error> {
        let task = self.link().inner.background.spawn(work);
        AbortOnDropHandle::new(task).await.unwrap_or_else(|ended| {
            Err(Error::Unavailable {
                reason: ended.to_string(),
            })
        })
    }

    /// Linearizable reads. [`Reader::stale`] makes them cheap and old.
    pub fn reader(&self) -> Reader {
        Reader::new(self.link().clone(), self.options().timeout)
    }

    /// Creates an empty file, guarded by the lock of its own name if no other is given.
    ///
    /// # Errors
    ///
    /// [`Error`]; refused if it exists or the name is no file name.
    pub async fn create(&self, file: &str, guard: Option<&str>) -> Result<(), Error> {
        let (file, guard) = (file.to_owned(), guard.map(str::to_owned));
        self.command(Op::CreateFile { file, guard }).await
    }

    /// Removes a file.
    ///
    /// # Errors
    ///
    /// [`Error`]; refused if there is none or it has pending appends.
    pub async fn remove(&self, file: &str) -> Result<(), Error> {
        self.command(Op::RemoveFile {
            file: file.to_owned(),
        })
        .await
    }

    /// Takes a lock from its holder, whoever that is. The reason is kept in the log.
    ///
    /// # Errors
    ///
    /// [`Error`]; refused if the token is not the current one.
    pub async fn force_release(&self, lock: &str, token: Token, reason: &str) -> Result<(), Error> {
        let (lock, reason) = (lock.to_owned(), reason.to_owned());
        self.command(Op::ForceRelease {
            lock,
            token,
            reason,
        })
        .await
    }

    /// How each replica stands, by endpoint: those given, else those that the cluster names. Each is asked once, and
    /// waited for at most 2 s: an answer needs neither its disk nor the other replicas.
    pub async fn status(&self) -> Vec<(Endpoint, Result<Status, Error>)> {
        let patience = self.options().timeout.min(STATUS_PATIENCE);
        let asked = self
            .everybody()
            .await
            .into_iter()
            .map(|endpoint| async move {
                let status = self.link().status_once(&endpoint, patience).await;
                (endpoint, status)
            });
        futures::future::join_all(asked).await
    }

    /// All replicas' addresses.
    ///
    /// # Errors
    ///
    /// [`Error::Unavailable`] if no replica answers.
    pub async fn members(&self) -> Result<Vec<MemberInfo>, Error> {
        self.link().members(self.options().timeout).await
    }

    /// Has a commit made, and says how long that took.
    ///
    /// # Errors
    ///
    /// [`Error`].
    pub async fn health(&self) -> Result<Duration, Error> {
        self.link().health(self.options().timeout).await
    }

    /// Hands leadership to replica `to`.
    ///
    /// # Errors
    ///
    /// [`Error`].
    pub async fn transfer(&self, to: u16) -> Result<(), Error> {
        self.link().transfer(to, self.options().timeout).await
    }

    /// Ends its sessions; their locks are freed, pending appends discarded. Without it they end by
    /// themselves after their TTL.
    ///
    /// # Errors
    ///
    /// [`Error`].
    pub async fn close(&self) -> Result<(), Error> {
        let sessions = self.inner.pool.lock().await.take_all();
        let timeout = self.options().timeout;
        let closing = sessions.iter().map(|session| session.close(timeout));
        let closed = futures::future::join_all(closing).await;
        closed.into_iter().collect()
    }

    /// The connections.
    pub fn link(&self) -> &Link {
        &self.inner.link
    }

    /// The options it was made with.
    pub fn options(&self) -> &Options {
        &self.inner.options
    }

    async fn command(&self, op: Op) -> Result<(), Error> {
        let call = self.session().await?.start(op);
        call.wait(self.options().timeout).await.map(drop)
    }

    async fn everybody(&self) -> Vec<Endpoint> {
        let given = self.link().endpoints();
        if given.by_id() || self.options().pin {
            return given.as_slice().to_vec();
        }
        let members = self.members().await.unwrap_or_default();
        let named = members
            .into_iter()
            .filter(|member| !member.client.is_empty());
        let named: Vec<_> = named
            .map(|it| Endpoint {
                id: Some(it.id),
                address: it.client,
            })
            .collect();
        if named.is_empty() {
            given.as_slice().to_vec()
        } else {
            named
        }
    }

    /// So that the leader is found again when the endpoints given are down.
    fn learn_members(&self) {
        let link = self.link().clone();
        if link.endpoints().by_id() || self.options().pin {
            return;
        }
        let timeout = self.options().timeout;
        link.inner.background.clone().spawn(async move {
            if let Err(error) = link.members(timeout).await {
                tracing::debug!(%error, "members not learned");
            }
        });
    }
}
