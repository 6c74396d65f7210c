//! Accepts the peers with higher ids.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;

use crate::connection::{ConnectError, accept};
use crate::hello::{Hello, HelloRole};
use crate::mesh::links::Links;
use crate::mesh::{Greeting, MeshOptions};

/// Callers that may be in their handshake at once. One more, and the one that began first is cut off: a
/// peer greets within a round trip, so that callers who say nothing never keep it out.
const HANDSHAKES_MAX: usize = 256;
/// After a failed accept, as out of file descriptors.
const PAUSE: Duration = Duration::from_millis(50);
/// Between two lines about callers that came to nothing: strangers must not fill the log.
const BETWEEN_LINES: Duration = Duration::from_secs(1);

pub(super) async fn run(
    listener: TcpListener,
    options: MeshOptions,
    greeting: Greeting,
    links: Arc<Links>,
) {
    let handshakes = Arc::new(Handshakes::default());
    let complaints = Arc::new(Mutex::new(Complaints::default()));
    // Ends with this future, so that no connection outlives the mesh.
    let mut connections = tokio::task::JoinSet::new();
    loop {
        while connections.try_join_next().is_some() {}
        match listener.accept().await {
            Ok((stream, from)) => {
                let (options, greeting, links) = (options.clone(), greeting.clone(), links.clone());
                let complaints = complaints.clone();
                let handshakes = handshakes.clone();
                let (number, cut_off) = handshakes.begin();
                connections.spawn(async move {
                    let greeting = async {
                        match greet(stream, &options, &greeting).await {
                            Ok(greeted) => Some(greeted),
                            // Still counts as a handshake: while nobody takes the refusals, they stay few.
                            Err(refused) => {
                                refuse(&from.to_string(), refused, &links, &complaints).await;
                                None
                            }
                        }
                    };
                    let greeted = tokio::select! {
                        biased;
                        greeted = greeting => greeted,
                        _ = cut_off => None,
                    };
                    handshakes.end(number);
                    if let Some((peer, greeted)) = greeted {
                        links.carry(peer, greeted).await;
                    }
                });
            }
            Err(error) => {
                if let Some(silent) = next_line(&complaints) {
                    tracing::warn!(%error, silent, "cannot accept peer connections");
                }
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

/// The callers that have not greeted yet.
#[derive(Debug, Default)]
struct Handshakes(Mutex<Begun>);

#[derive(Debug, Default)]
struct Begun {
    last: u64,
    /// By number, so oldest first. Dropping a sender cuts its caller off.
    callers: BTreeMap<u64, oneshot::Sender<()>>,
}

impl Handshakes {
    /// Enters a caller, and cuts off the oldest if there are too many. Returns the caller's number and
    /// what ends when it is cut off itself.
    fn begin(&self) -> (u64, oneshot::Receiver<()>) {
        let (cut, cut_off) = oneshot::channel();
        let mut begun = self.lock();
        begun.last += 1;
        let number = begun.last;
        begun.callers.insert(number, cut);
        if begun.callers.len() > HANDSHAKES_MAX {
            begun.callers.pop_first();
        }
        (number, cut_off)
    }

    /// A caller is in its handshake no more.
    fn end(&self, number: u64) {
        self.lock().callers.remove(&number);
    }

    fn lock(&self) -> MutexGuard<'_, Begun> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

type Refused = (Option<u16>, ConnectError);
type Accepted = Result<(u16, crate::connection::Greeted), Refused>;

async fn greet(stream: TcpStream, options: &MeshOptions, greeting: &Greeting) -> Accepted {
    let mut caller = None;
    let answer = |hello: &Hello| {
        if let HelloRole::Client { .. } = hello.role {
            // So that it can say which port it was given.
            return Ok(Hello::of_peer_port(options.me));
        }
        let peer = known(hello, options)?;
        caller = Some(peer);
        Ok(greeting(peer))
    };
    let greeted = accept(stream, &options.connection, answer).await;
    match (greeted, caller) {
        (Ok(greeted), Some(peer)) => Ok((peer, greeted)),
        (Ok(_), None) => {
            let why = "a client called the peer port".to_owned();
            Err((None, ConnectError::Refused(why)))
        }
        (Err(error), caller) => Err((caller, error)),
    }
}

/// The caller's id, if it is one of our peers.
fn known(hello: &Hello, options: &MeshOptions) -> Result<u16, String> {
    match &hello.role {
        HelloRole::Peer(said) if options.peers.contains_key(&said.node) => Ok(said.node),
        HelloRole::Peer(said) if said.node == options.me => {
            Err(format!("another process claims to be node {}", said.node))
        }
        HelloRole::Peer(said) => Err(format!("node {} is not in --peers", said.node)),
        HelloRole::Client { .. } | HelloRole::Server { .. } => {
            Err("this is the port for replicas".into())
        }
    }
}

async fn refuse(from: &str, (peer, error): Refused, links: &Links, complaints: &Mutex<Complaints>) {
    if let ConnectError::Mismatch(_) | ConnectError::Refused(_) = error {
        links.refused(peer, format!("{from}: {error}")).await;
    } else if let Some(silent) = next_line(complaints) {
        // As an error value, so that its sources are written too.
        let error = &error as &(dyn std::error::Error + 'static);
        tracing::warn!(from, error, silent, "peer port: connection ended");
    }
}

/// When something was last said, and how often nothing was since.
#[derive(Debug, Default)]
struct Complaints {
    said: Option<Instant>,
    silent: u64,
}

impl Complaints {
    /// Whether to write a line at `now`; if so, how many before it were not written.
    fn next_line(&mut self, now: Instant) -> Option<u64> {
        if self.said.is_some_and(|said| now < said + BETWEEN_LINES) {
            self.silent += 1;
            return None;
        }
        self.said = Some(now);
        Some(std::mem::take(&mut self.silent))
    }
}

fn next_line(complaints: &Mutex<Complaints>) -> Option<u64> {
    let mut complaints = complaints.lock().unwrap_or_else(PoisonError::into_inner);
    complaints.next_line(Instant::now())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_of_callers_becomes_one_line_a_second() {
        let start = Instant::now();
        let mut complaints = Complaints::default();
        let lines = (0..100).filter_map(|_| complaints.next_line(start));
        assert_eq!(lines.collect::<Vec<_>>(), [0]);
        assert_eq!(complaints.next_line(start + BETWEEN_LINES), Some(99));
    }
}
