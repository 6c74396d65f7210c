//! A set of connections shared by sessions, and who is thought to lead.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use net::{Backoff, Leader, MemberInfo};
use statemachine::{Outcome, SessionId};
use tokio_util::task::AbortOnDropHandle;

use crate::clock::BootTime;
use crate::endpoint::{Endpoint, Endpoints};
use crate::raw::background::Background;
use crate::raw::connection::Conn;
use crate::raw::session;
use crate::raw::unreached::{Fault, Unreached};

/// An address that just refused a connection is not dialled again for this long.
const REDIAL: Duration = Duration::from_millis(10);
/// First and longest wait between two searches for a leader.
const SEARCH: (Duration, Duration) = (Duration::from_millis(4), Duration::from_millis(25));

/// How long the replica thought to lead has for its greeting before all are asked who leads. While it starts, or is
/// stopped, its port takes connections and nobody greets.
const HEAD_START: Duration = Duration::from_millis(150);

/// How long after a leader had no room large commands ask for it first.
const PRESSED: Duration = Duration::from_secs(3);

/// Connections to the replicas of one cluster. Clones share them.
///
/// Connects when first used. The first endpoint is taken for the leader until a replica says
/// otherwise.
#[derive(Clone, Debug)]
pub struct Link {
    pub(crate) inner: Arc<Inner>,
}

#[derive(Debug)]
pub(crate) struct Inner {
    pub(crate) endpoints: Endpoints,
    pub(crate) pin: bool,
    name: String,
    /// Where connections live and leaders are looked for.
    pub(crate) background: Arc<Background>,
    state: Mutex<State>,
    /// Held by whoever looks for a leader, so that one does.
    pub(crate) search: tokio::sync::Mutex<Backoff>,
}

#[derive(Debug, Default)]
struct State {
    conns: HashMap<String, Arc<Conn>>,
    dialing: HashMap<String, Arc<tokio::sync::Mutex<Failure>>>,
    /// Sessions that hear of their losses.
    sessions: HashMap<SessionId, Weak<session::Inner>>,
    /// Addresses that were connected to once.
    reached: HashSet<String>,
    /// The address of the replica thought to lead.
    leader: Option<String>,
    /// Addresses of members that the user did not name.
    learned: Vec<String>,
    /// Sessions belong to one cluster; 0 until the first connection.
    cluster: u128,
    /// Until when the leader is taken to have too little room.
    pressed_until: Option<BootTime>,
}

/// When and why an address could not be reached last.
#[derive(Debug, Default)]
struct Failure(Option<(BootTime, Fault)>);

/// Which replica a request goes to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Route {
    /// Whoever leads; redirects are followed.
    Leader,
    /// This address alone.
    At(String),
}

impl Link {
    /// A link that greets as `name`. With `pin` only the first endpoint is asked.
    ///
    /// # Panics
    ///
    /// If the system refuses the library's one thread.
    pub fn new(endpoints: Endpoints, name: &str, pin: bool) -> Link {
        let leader = Some(endpoints.as_slice()[0].address.clone());
        let inner = Inner {
            endpoints,
            pin,
            name: name.to_owned(),
            background: Background::shared(),
            state: Mutex::new(State {
                leader,
                ..State::default()
            }),
            search: tokio::sync::Mutex::new(Backoff::new(SEARCH.0, SEARCH.1)),
        };
        Link {
            inner: Arc::new(inner),
        }
    }

    /// The endpoints it was made with.
    pub fn endpoints(&self) -> &Endpoints {
        &self.inner.endpoints
    }

    /// Whether any replica has ever been reached, so that something may have been sent.
    pub fn has_met_cluster(&self) -> bool {
        self.lock().cluster != 0
    }

    /// Ends all connections. Calls in flight find new ones.
    pub fn disconnect(&self) {
        for conn in self.lock().conns.values() {
            conn.close();
        }
    }

    /// Where requests for anybody go.
    pub(crate) fn route(&self) -> Route {
        if self.inner.pin {
            Route::At(self.inner.endpoints.as_slice()[0].address.clone())
        } else {
            Route::Leader
        }
    }

    /// A connection that is there already.
    pub(crate) fn ready(&self, route: &Route) -> Option<Arc<Conn>> {
        let state = self.lock();
        let address = match route {
            Route::Leader => state.leader.as_ref()?,
            Route::At(address) => address,
        };
        state
            .conns
            .get(address)
            .filter(|conn| conn.is_open())
            .cloned()
    }

    /// A connection to whom the route leads, or why there is none now. Dropping it is safe.
    ///
    /// Connecting and searching run in the background: whoever waits for the same connection does
    /// not depend on the runtime of the caller who happened to be first.
    pub(crate) async fn connection(&self, route: &Route) -> Result<Arc<Conn>, Unreached> {
        if let Some(conn) = self.ready(route) {
            return Ok(conn);
        }
        let (link, route) = (self.clone(), route.clone());
        let connecting = async move { link.connect(&route).await };
        let task = AbortOnDropHandle::new(self.inner.background.spawn(connecting));
        task.await
            .unwrap_or_else(|ended| Err(Unreached::other(ended.to_string())))
    }

    async fn connect(&self, route: &Route) -> Result<Arc<Conn>, Unreached> {
        let address = match route {
            Route::At(address) => {
                let dialled = self.dial(address).await;
                return dialled.map_err(|fault| self.unreached(vec![fault]));
            }
            Route::Leader => self.lock().leader.clone(),
        };
        if let Some(address) = address
            && let Some(dialled) = self.dial_leader(&address).await
        {
            return dialled;
        }
        self.search().await
    }

    /// Connects to the replica thought to lead. Nothing if it takes its time: then others may know better. The attempt
    /// goes on beside that, for a replica far away.
    pub(crate) async fn dial_leader(&self, address: &str) -> Option<Result<Arc<Conn>, Unreached>> {
        let (link, to) = (self.clone(), address.to_owned());
        let dialling = self
            .inner
            .background
            .spawn(async move { link.dial(&to).await });
        let dialled = tokio::time::timeout(HEAD_START, dialling).await;
        if !matches!(dialled, Ok(Ok(Ok(_)))) {
            self.distrust(address);
        }
        // Others may be there: not hopeless before all were tried.
        match dialled.ok()? {
            Ok(dialled) => Some(dialled.map_err(|fault| Unreached::other(fault.to_string()))),
            Err(ended) => Some(Err(Unreached::other(ended.to_string()))),
        }
    }

    /// [`Link::dial`] in the background, where connections live however long the caller does.
    pub(crate) async fn dial_beside(&self, address: &str) -> Result<Arc<Conn>, Fault> {
        let (link, to) = (self.clone(), address.to_owned());
        let dialling = async move { link.dial(&to).await };
        let task = AbortOnDropHandle::new(self.inner.background.spawn(dialling));
        task.await.unwrap_or_else(|_| Err(Fault::silent(address)))
    }

    /// Why nobody answers, in words: the last fault of each replica that we could ask.
    pub fn why_silent(&self) -> String {
        let asked = if self.inner.pin { 1 } else { usize::MAX };
        let mut faults = Vec::new();
        for address in self.candidates().into_iter().take(asked) {
            let dialing = self.lock().dialing.get(&address).cloned();
            let failure = dialing.as_ref().and_then(|dialing| dialing.try_lock().ok());
            let fault =
                failure.and_then(|failure| failure.0.as_ref().map(|(_, fault)| fault.clone()));
            faults.push(fault.unwrap_or_else(|| Fault::silent(&address)));
        }
        self.unreached(faults).reason
    }

    /// Why none of these could be reached; hopeless if none ever was.
    pub(crate) fn unreached(&self, faults: Vec<Fault>) -> Unreached {
        let state = self.lock();
        let known = |fault: &Fault| state.reached.contains(&fault.address);
        let ever = faults.iter().any(known);
        drop(state);
        Unreached::by_all(&faults, !ever)
    }

    /// The connection to `address`, made if needed. Of several callers one dials.
    pub(crate) async fn dial(&self, address: &str) -> Result<Arc<Conn>, Fault> {
        if let Some(conn) = self.ready(&Route::At(address.to_owned())) {
            return Ok(conn);
        }
        let dialing = self
            .lock()
            .dialing
            .entry(address.to_owned())
            .or_default()
            .clone();
        let mut failure = dialing.lock().await;
        if let Some(conn) = self.ready(&Route::At(address.to_owned())) {
            return Ok(conn);
        }
        if let Some((when, why)) = &failure.0
            && BootTime::now() < when.after(REDIAL)
        {
            return Err(why.clone());
        }
        let cluster = self.lock().cluster;
        let link = Arc::downgrade(&self.inner);
        match Conn::open(address, cluster, self.inner.name.clone(), link).await {
            Ok(conn) => {
                failure.0 = None;
                Ok(self.keep(conn))
            }
            Err(fault) => {
                failure.0 = Some((BootTime::now(), fault.clone()));
                Err(fault)
            }
        }
    }

    fn keep(&self, conn: Arc<Conn>) -> Arc<Conn> {
        let mut state = self.lock();
        if state.cluster == 0 {
            state.cluster = conn.cluster;
        }
        state.reached.insert(conn.address.clone());
        state.conns.insert(conn.address.clone(), conn.clone());
        conn
    }

    /// `from` said that it does not lead, and perhaps who does. Returns whether somebody is named.
    pub(crate) fn redirected(&self, from: &str, leader: Option<&Leader>) -> bool {
        let named = leader
            .and_then(|leader| self.address_of(leader))
            .filter(|it| it != from);
        let mut state = self.lock();
        if state
            .leader
            .as_deref()
            .is_none_or(|current| current == from)
        {
            state.leader = named.clone();
        }
        named.is_some()
    }

    /// Somebody at `address` does not answer as a leader would.
    pub(crate) fn distrust(&self, address: &str) {
        let mut state = self.lock();
        if state.leader.as_deref() == Some(address) {
            state.leader = None;
        }
    }

    /// The leader had no room for new work.
    pub(crate) fn press(&self) {
        self.lock().pressed_until = Some(BootTime::now().after(PRESSED));
    }

    /// Whether the leader had no room for new work a moment ago.
    pub(crate) fn is_pressed(&self) -> bool {
        let until = self.lock().pressed_until;
        until.is_some_and(|until| BootTime::now() < until)
    }

    pub(crate) fn trust(&self, address: &str) {
        self.lock().leader = Some(address.to_owned());
    }

    pub(crate) fn thought_leader(&self) -> Option<String> {
        self.lock().leader.clone()
    }

    /// Everybody whom we could ask, the user's endpoints first.
    pub(crate) fn candidates(&self) -> Vec<String> {
        let named = self
            .inner
            .endpoints
            .as_slice()
            .iter()
            .map(|it| it.address.clone());
        named.chain(self.lock().learned.iter().cloned()).collect()
    }

    /// Remembers members that the user did not name. Not with a list by id: ways that the user
    /// chose are not to be bypassed.
    pub(crate) fn learn(&self, members: &[MemberInfo]) {
        if self.inner.endpoints.by_id() || self.inner.pin || members.is_empty() {
            return;
        }
        let named = self.inner.endpoints.as_slice();
        let known = |address: &str| named.iter().any(|it| it.address == address);
        self.lock().learned = members
            .iter()
            .map(|member| member.client.clone())
            .filter(|address| !address.is_empty() && !known(address))
            .collect();
    }

    fn address_of(&self, leader: &Leader) -> Option<String> {
        if self.inner.endpoints.by_id() {
            return self
                .inner
                .endpoints
                .of_id(leader.id)
                .map(|it| it.address.clone());
        }
        Some(leader.address.clone()).filter(|address| !address.is_empty())
    }

    /// The route to one endpoint alone.
    pub(crate) fn route_to(&self, endpoint: &Endpoint) -> Route {
        Route::At(endpoint.address.clone())
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.inner.lock()
    }
}

impl Inner {
    /// From now on the session hears of its losses.
    pub(crate) fn register(&self, id: SessionId, session: Weak<session::Inner>) {
        self.lock().sessions.insert(id, session);
    }

    /// The session is used no more.
    pub(crate) fn forget(&self, id: SessionId) {
        self.lock().sessions.remove(&id);
    }

    /// The service told unasked what a session has lost.
    pub(crate) fn lost(&self, id: SessionId, bytes: &[u8]) {
        let session = self.lock().sessions.get(&id).and_then(Weak::upgrade);
        match (session, Outcome::decode(bytes)) {
            (Some(session), Ok(Outcome::Refused(refusal))) => session.lost(&refusal),
            (_, Ok(_)) => {}
            (_, Err(error)) => tracing::warn!(session = %id, %error, "a loss was not understood"),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        let state = self.state.get_mut().unwrap_or_else(PoisonError::into_inner);
        for conn in state.conns.values() {
            conn.leave();
        }
    }
}
