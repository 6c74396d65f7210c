//! One connection to one replica: requests out, answers to whoever asked.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use net::connection::{Options, dial};
use net::{
    FrameReceiver, FrameSender, Hello, HelloRole, Request, RequestBody, Response, ResponseBody,
};
use statemachine::SessionId;
use tokio::sync::mpsc;

use crate::clock::BootTime;
use crate::raw::link;
use crate::raw::unreached::Fault;

/// Connecting and the handshake together.
const HANDSHAKE: Duration = Duration::from_secs(1);
/// Requests waiting to be written; beyond it the call waits and tries again.
const QUEUE_BYTES: usize = 64 << 20;

/// What comes back on an attempt.
#[derive(Debug)]
pub(crate) struct Mail {
    /// The attempt's id on its connection.
    pub(crate) id: u64,
    /// The connection it was sent on.
    pub(crate) from: Arc<Conn>,
    /// Our clock as the attempt was sent.
    pub(crate) sent: BootTime,
    /// The answer; `None` if the connection broke instead.
    pub(crate) body: Option<net::ResponseBody>,
}

#[derive(Debug)]
pub(crate) struct Conn {
    pub(crate) address: String,
    /// The cluster's id as the replica said it.
    pub(crate) cluster: u128,
    sender: FrameSender,
    pending: Mutex<Pending>,
    /// Who hears of what is told unasked.
    link: Weak<link::Inner>,
}

#[derive(Debug)]
struct Pending {
    open: bool,
    last: u64,
    /// By attempt id. Bounded by the attempts that callers keep, see `Exchange`.
    waiting: HashMap<u64, Waiter>,
}

#[derive(Debug)]
struct Waiter {
    sent: BootTime,
    mail: mpsc::Sender<Mail>,
}

/// One request as sent on one connection. Dropped: its answer is of no interest any more.
#[derive(Debug)]
pub(crate) struct Attempt {
    pub(crate) conn: Arc<Conn>,
    pub(crate) id: u64,
}

impl Conn {
    /// Connects and starts to read.
    pub(crate) async fn open(
        address: &str,
        cluster: u128,
        name: String,
        link: Weak<link::Inner>,
    ) -> Result<Arc<Conn>, Fault> {
        let addresses: Vec<_> = match tokio::net::lookup_host(address).await {
            Ok(found) => found.collect(),
            Err(error) => return Err(Fault::unknown_host(address, &error)),
        };
        let hello = Hello::new(cluster, HelloRole::Client { name });
        let options = Options {
            handshake: HANDSHAKE,
            queue_bytes: QUEUE_BYTES,
            ..Options::default()
        };
        let greeted = dial(&addresses[..], &hello, &options)
            .await
            .map_err(|error| Fault::connecting(address, &error))?;
        if let HelloRole::Peer(_) = greeted.hello.role {
            return Err(Fault::peer_port(address));
        }
        let conn = Arc::new(Conn {
            address: address.to_owned(),
            cluster: greeted.hello.cluster,
            sender: greeted.sender,
            link,
            pending: Mutex::new(Pending {
                open: true,
                last: 0,
                waiting: HashMap::new(),
            }),
        });
        tokio::spawn(read(conn.clone(), greeted.receiver));
        Ok(conn)
    }

    pub(crate) fn is_open(&self) -> bool {
        self.lock().open
    }

    /// Sends one attempt; its answers go to `mail`. Nothing if the connection has ended or its
    /// queue is full: then the request has certainly not been sent.
    pub(crate) fn send(
        self: &Arc<Conn>,
        body: RequestBody,
        mail: &mpsc::Sender<Mail>,
    ) -> Option<Attempt> {
        let mut pending = self.lock();
        if !pending.open {
            return None;
        }
        pending.last += 1;
        let id = pending.last;
        // The clock is read before the request can leave: a stamp that answers it is later.
        let waiter = Waiter {
            sent: BootTime::now(),
            mail: mail.clone(),
        };
        pending.waiting.insert(id, waiter);
        drop(pending);
        let attempt = Attempt {
            conn: self.clone(),
            id,
        };
        self.sender.send_body(Request { id, body }.encode()).ok()?;
        Some(attempt)
    }

    /// Ends the connection; who waits on it learns that it broke.
    pub(crate) fn close(&self) {
        self.sender.abort();
    }

    /// Sends what is queued, says goodbye and ends.
    pub(crate) fn leave(&self) {
        self.sender.close();
    }

    fn deliver(self: &Arc<Conn>, response: Response) {
        if let (Response::UNASKED, ResponseBody::Lost { session, bytes, .. }) =
            (response.id, &response.body)
        {
            if let Some(link) = self.link.upgrade() {
                link.lost(SessionId(*session), bytes);
            }
            return;
        }
        let pending = self.lock();
        let Some(waiter) = pending.waiting.get(&response.id) else {
            // Late, doubled, or given up: it belongs to nobody.
            return;
        };
        let mail = Mail {
            id: response.id,
            from: self.clone(),
            sent: waiter.sent,
            body: Some(response.body),
        };
        // A full mailbox loses an answer, as a network may; the call asks again.
        let _ = waiter.mail.try_send(mail);
    }

    fn end(self: &Arc<Conn>) {
        self.sender.abort();
        let mut pending = self.lock();
        pending.open = false;
        let waiting = std::mem::take(&mut pending.waiting);
        drop(pending);
        for (id, waiter) in waiting {
            let mail = Mail {
                id,
                from: self.clone(),
                sent: waiter.sent,
                body: None,
            };
            let _ = waiter.mail.try_send(mail);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Pending> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Attempt {
    fn drop(&mut self) {
        self.conn.lock().waiting.remove(&self.id);
    }
}

async fn read(conn: Arc<Conn>, mut receiver: FrameReceiver) {
    loop {
        let response = match receiver.next().await {
            Ok(body) => Response::decode(body),
            Err(closed) => {
                tracing::debug!(address = conn.address, reason = %closed, "connection ended");
                break;
            }
        };
        match response {
            Ok(response) => conn.deliver(response),
            Err(error) => {
                tracing::warn!(address = conn.address, %error, "connection ended");
                break;
            }
        }
    }
    conn.end();
}
