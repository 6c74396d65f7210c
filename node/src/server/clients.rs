//! Client connections: accepting them, reading requests, writing answers.
//!
//! ```text
//! socket ──► task of the connection ──► inbox ──► reactor ──► queue of the connection ──► socket
//! ```
//!
//! Nobody can hold up the others: a caller that does not greet is gone after seconds, one that does
//! not read its answers is cut off when its queue is full, one that floods is read only as fast as
//! the reactor takes requests, one that says nothing for minutes is let go, and what is no frame ends
//! that one connection.
//!
//! What waits to be read is bounded for all clients together: once it exceeds [`Bounds::all`], a
//! client with more than an equal share of that is cut off at its next answer. So it never exceeds
//! twice that bound and one answer a client, however many there are.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use net::connection::{
    self, Closed, ConnectError, FrameReceiver, FrameSender, Greeted, Queued, SendError,
};
use net::{Hello, HelloRole, Request, Response};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

use crate::metrics::Metrics;
use crate::server::inbox::{Event, Inbox};
use crate::server::throttle::Throttle;
use replica::causes::with_causes;
use replica::engine::ConnId;

/// A caller greets within this time or is gone.
const HANDSHAKE: Duration = Duration::from_secs(5);
/// Bytes of answers that may wait to be read.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    /// For one client.
    each: usize,
    /// For all clients together. Above it no more file data is read for anybody, and those who read least are cut off.
    all: usize,
}

const BOUNDS: Bounds = Bounds {
    each: 64 << 20,
    all: 256 << 20,
};
/// After a failed accept, as out of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// The open connections. One thread's own.
#[derive(Debug)]
pub(crate) struct Clients {
    greeting: Hello,
    bounds: Bounds,
    connections_max: usize,
    /// A connection without a frame for so long is ended.
    idle_max: Duration,
    /// Bytes that wait to be read, over all connections.
    queued: Queued,
    inbox: Arc<Inbox>,
    metrics: Arc<Metrics>,
    open: RefCell<BTreeMap<ConnId, FrameSender>>,
    /// Accepted, greeted or not.
    accepted: Cell<usize>,
    last: Cell<u64>,
    /// Whose queues got something since the last flush.
    touched: RefCell<Vec<FrameSender>>,
    throttle: RefCell<Throttle>,
    closing: Cell<bool>,
}

impl Clients {
    /// No connections yet. `cluster`, `node` and `label` are what callers are greeted with.
    pub(crate) fn new(
        greeting: (u128, u16, String),
        limits: (usize, Duration),
        inbox: Arc<Inbox>,
        metrics: Arc<Metrics>,
    ) -> Rc<Clients> {
        Clients::with_bounds(BOUNDS, greeting, limits, inbox, metrics)
    }

    fn with_bounds(
        bounds: Bounds,
        (cluster, node, label): (u128, u16, String),
        (connections_max, idle_max): (usize, Duration),
        inbox: Arc<Inbox>,
        metrics: Arc<Metrics>,
    ) -> Rc<Clients> {
        Rc::new(Clients {
            bounds,
            greeting: Hello::new(cluster, HelloRole::Server { node, label }),
            connections_max,
            idle_max,
            queued: Queued::default(),
            inbox,
            metrics,
            open: RefCell::default(),
            accepted: Cell::new(0),
            last: Cell::new(0),
            touched: RefCell::default(),
            throttle: RefCell::new(Throttle::new(Instant::now())),
            closing: Cell::new(false),
        })
    }

    /// Accepts until the future is dropped.
    pub(crate) async fn accept(self: Rc<Clients>, listener: TcpListener) {
        loop {
            match listener.accept().await {
                Ok((stream, from)) if self.accepted.get() < self.connections_max => {
                    self.accepted.set(self.accepted.get() + 1);
                    tokio::task::spawn_local(self.clone().attend(stream, from.to_string()));
                }
                Ok((stream, from)) => {
                    drop(stream);
                    self.ended(
                        &from.to_string(),
                        "too_many",
                        &format!("{} connections are open", self.connections_max),
                    );
                }
                Err(error) => {
                    tracing::warn!(%error, "cannot accept client connections");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    /// Queues an answer. To a client that is gone it is dropped; one that does not read is cut off.
    pub(crate) fn reply(&self, conn: ConnId, response: &Response) {
        let open = self.open.borrow();
        let Some(sender) = open.get(&conn) else {
            return;
        };
        if self.overfull() && sender.queued_bytes() > self.bounds.all / open.len() {
            sender.abort();
            self.ended(
                &format!("connection {}", conn.0),
                "does_not_read",
                "too many answers wait to be read, and most of them here",
            );
            return;
        }
        match sender.send_body(response.encode()) {
            Ok(()) => self.touched.borrow_mut().push(sender.clone()),
            Err(SendError::Closed) => {}
            Err(error @ (SendError::Full | SendError::Frame(_))) => {
                sender.abort();
                self.ended(
                    &format!("connection {}", conn.0),
                    "does_not_read",
                    &error.to_string(),
                );
            }
        }
    }

    /// Writes what was queued since the last time, as far as the sockets take it: the answers of
    /// one batch to one client leave in one call.
    pub(crate) fn flush(&self) {
        for sender in self.touched.borrow_mut().drain(..) {
            if sender.queued_bytes() > 0 {
                sender.flush();
            }
        }
    }

    /// Whether clients leave so much unread that no file data should be added.
    pub(crate) fn overfull(&self) -> bool {
        self.queued_bytes() > self.bounds.all
    }

    /// Bytes of answers that are not written yet.
    pub(crate) fn queued_bytes(&self) -> usize {
        self.queued.bytes()
    }

    /// How many have greeted.
    pub(crate) fn count(&self) -> u64 {
        self.open.borrow().len() as u64
    }

    /// Says goodbye to all; what is queued is still written.
    pub(crate) fn close(&self) {
        self.closing.set(true);
        for sender in self.open.borrow().values() {
            sender.close();
        }
    }

    async fn attend(self: Rc<Clients>, stream: TcpStream, from: String) {
        let options = connection::Options {
            handshake: HANDSHAKE,
            queue_bytes: self.bounds.each,
            queued: self.queued.clone(),
        };
        let answer = |hello: &Hello| match hello.role {
            HelloRole::Client { .. } => Ok(self.greeting.clone()),
            _ => Err("a replica called the client port".to_owned()),
        };
        match connection::accept(stream, &options, answer).await {
            Ok(greeted) => self.converse(greeted, &from).await,
            Err(error) => self.ended(&from, handshake_reason(&error), &with_causes(&error)),
        }
        self.accepted.set(self.accepted.get() - 1);
    }

    async fn converse(&self, greeted: Greeted, from: &str) {
        let Greeted {
            hello,
            sender,
            mut receiver,
            ..
        } = greeted;
        let conn = ConnId(self.last.get() + 1);
        self.last.set(conn.0);
        if let HelloRole::Client { name } = &hello.role {
            tracing::debug!(from, conn = conn.0, name, "client connected");
        }
        if self.closing.get() {
            return;
        }
        self.open.borrow_mut().insert(conn, sender);
        match self.read(conn, &mut receiver).await {
            Ended::Closed(Closed::Fault(error)) => {
                self.ended(from, "bad_frame", &with_causes(&error))
            }
            Ended::Closed(closed) => {
                tracing::debug!(from, conn = conn.0, reason = %closed, "client gone")
            }
            Ended::Idle => tracing::debug!(from, conn = conn.0, "client idle for too long"),
            Ended::Nonsense(reason) => self.ended(from, "bad_request", &reason),
        }
        // Says goodbye, if that has not happened: the last sender goes.
        self.open.borrow_mut().remove(&conn);
        self.inbox.push(Event::ConnectionEnded(conn));
    }

    async fn read(&self, conn: ConnId, receiver: &mut FrameReceiver) -> Ended {
        loop {
            let mut next = match timeout(self.idle_max, receiver.next()).await {
                Ok(Ok(body)) => Some(body),
                Ok(Err(closed)) => return Ended::Closed(closed),
                Err(_) => return Ended::Idle,
            };
            let mut several = false;
            while let Some(body) = next {
                if let Err(reason) = self.take(conn, body) {
                    return Ended::Nonsense(reason);
                }
                next = match receiver.next_ready() {
                    Ok(body) => body,
                    Err(closed) => return Ended::Closed(closed),
                };
                several |= next.is_some();
            }
            if several {
                // The reactor, awake by now, goes first: a flood fills no queue.
                tokio::task::yield_now().await;
            }
        }
    }

    fn take(&self, conn: ConnId, body: Bytes) -> Result<(), String> {
        let request = Request::decode(body).map_err(|error| with_causes(&error))?;
        self.inbox.push(Event::Request { conn, request });
        Ok(())
    }

    /// Notes a connection that this side ended.
    fn ended(&self, from: &str, reason: &'static str, detail: &str) {
        self.metrics
            .connections_refused
            .get_or_create(&[("reason", reason)])
            .inc();
        if let Some(held_back) = self.throttle.borrow_mut().pass(Instant::now()) {
            tracing::warn!(
                from,
                reason,
                detail,
                held_back,
                "client port: connection ended"
            );
        }
    }
}

/// Why a conversation is over.
enum Ended {
    Closed(Closed),
    /// It has said nothing for too long.
    Idle,
    Nonsense(String),
}

fn handshake_reason(error: &ConnectError) -> &'static str {
    match error {
        ConnectError::Timeout(_) => "no_handshake",
        ConnectError::Mismatch(_) | ConnectError::Refused(_) => "mismatch",
        ConnectError::Closed(Closed::Fault(_)) | ConnectError::Decode(_) => "garbage",
        ConnectError::Dial(_) | ConnectError::Closed(_) => "broken",
    }
}

#[cfg(test)]
mod tests {
    use net::ResponseBody;
    use tokio::task::{LocalSet, spawn_local};

    use super::*;

    const SILENT: usize = 12;
    const ANSWER_BYTES: usize = 256 << 10;
    const PATIENCE: Duration = Duration::from_secs(30);

    fn answer(id: u64) -> Response {
        let bytes = Bytes::from(vec![7; ANSWER_BYTES]);
        Response {
            id,
            body: ResponseBody::Answer { slot: 1, bytes },
        }
    }

    async fn dial(at: std::net::SocketAddr) -> Greeted {
        let hello = Hello::new(0, HelloRole::Client { name: "t".into() });
        connection::dial(at, &hello, &connection::Options::default())
            .await
            .expect("greeted")
    }

    /// Clients that read nothing fill what the system buffers for them, then their share. The memory for all stays
    /// within twice the bound and an answer for each, they are cut off, and one that reads misses nothing.
    #[tokio::test]
    async fn silent_readers_are_cut_off_and_cost_a_bounded_amount() {
        let bounds = Bounds {
            each: 16 << 20,
            all: 4 << 20,
        };
        let clients = Clients::with_bounds(
            bounds,
            (1, 1, "x".into()),
            (100, PATIENCE),
            Arc::default(),
            Arc::new(Metrics::new()),
        );
        LocalSet::new()
            .run_until(async {
                let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
                let at = listener.local_addr().expect("an address");
                let acceptor = spawn_local(clients.clone().accept(listener));
                let mut reader = dial(at).await;
                let mut silent = Vec::new();
                for _ in 0..SILENT {
                    silent.push(dial(at).await);
                }
                let reading = spawn_local(async move {
                    let mut next = 1;
                    while let Ok(body) = reader.receiver.next().await {
                        let response = Response::decode(body).expect("an answer");
                        assert_eq!(response.id, next, "none is missing");
                        next += 1;
                    }
                    next - 1
                });
                let waited = Instant::now();
                while clients.count() <= SILENT as u64 {
                    assert!(waited.elapsed() < PATIENCE, "not all are connected");
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }

                // The reader came first.
                let mut sent = 0;
                let worst = 2 * bounds.all + (SILENT + 1) * (ANSWER_BYTES + 1024);
                while clients.count() > 1 {
                    assert!(waited.elapsed() < PATIENCE, "silent ones are still there");
                    sent += 1;
                    for conn in 1..=1 + SILENT as u64 {
                        clients.reply(ConnId(conn), &answer(sent));
                    }
                    clients.flush();
                    assert!(
                        clients.queued_bytes() <= worst,
                        "{}",
                        clients.queued_bytes()
                    );
                    // The reader keeps up before more is sent.
                    let queued = || {
                        clients
                            .open
                            .borrow()
                            .get(&ConnId(1))
                            .map(FrameSender::queued_bytes)
                    };
                    while queued().is_some_and(|bytes| bytes > 0) {
                        assert!(waited.elapsed() < PATIENCE, "the reader is held up");
                        tokio::time::sleep(Duration::from_millis(1)).await;
                    }
                }
                clients.close();
                assert_eq!(reading.await.expect("no panic"), sent);
                drop(silent);
                acceptor.abort();
            })
            .await;
    }
}
