//! Accepts the peers with higher ids.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;

use crate::connection::{ConnectError, accept};
use crate::hello::{Hello, HelloRole};
use crate::mesh::links::Links;
use crate::mesh::{Greeting, MeshOptions};

/// Callers that may be in their handshake at once; more wait in the kernel's queue.
const HANDSHAKES_MAX: usize = 64;
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
    let handshakes = Arc::new(Semaphore::new(HANDSHAKES_MAX));
    let complaints = Arc::new(Mutex::new(Complaints::default()));
    // Ends with this future, so that no connection outlives the mesh.
    let mut connections = tokio::task::JoinSet::new();
    loop {
        let permit = handshakes
            .clone()
            .acquire_owned()
            .await
            .expect("never closed");
        while connections.try_join_next().is_some() {}
        match listener.accept().await {
            Ok((stream, from)) => {
                let (options, greeting, links) = (options.clone(), greeting.clone(), links.clone());
                let complaints = complaints.clone();
                connections.spawn(async move {
                    match greet(stream, &options, &greeting).await {
                        Ok((peer, greeted)) => {
                            drop(permit);
                            links.carry(peer, greeted).await;
                        }
                        // Keeps its permit: while nobody takes the refusals, they stay few.
                        Err(refused) => {
                            refuse(&from.to_string(), refused, &links, &complaints).await
                        }
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

type Refused = (Option<u16>, ConnectError);
type Accepted = Result<(u16, crate::connection::Greeted), Refused>;

async fn greet(stream: TcpStream, options: &MeshOptions, greeting: &Greeting) -> Accepted {
    let mut caller = None;
    let answer = |hello: &Hello| {
        let peer = known(hello, options)?;
        caller = Some(peer);
        Ok(greeting(peer))
    };
    let greeted = accept(stream, &options.connection, answer).await;
    match (greeted, caller) {
        (Ok(greeted), Some(peer)) => Ok((peer, greeted)),
        (Ok(_), None) => unreachable!("an accepted caller was known"),
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
        _ => Err("a client called the peer port".into()),
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
