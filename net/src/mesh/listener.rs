//! Accepts the peers with higher ids.

use std::sync::Arc;
use std::time::Duration;

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

pub(super) async fn run(
    listener: TcpListener,
    options: MeshOptions,
    greeting: Greeting,
    links: Arc<Links>,
) {
    let handshakes = Arc::new(Semaphore::new(HANDSHAKES_MAX));
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
                connections.spawn(async move {
                    let from = from.to_string();
                    let accepted = greet(stream, &options, &greeting).await;
                    drop(permit);
                    carry(&from, accepted, &links).await;
                });
            }
            Err(error) => {
                tracing::warn!(%error, "cannot accept peer connections");
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

type Accepted = Result<(u16, crate::connection::Greeted), (Option<u16>, ConnectError)>;

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

async fn carry(from: &str, accepted: Accepted, links: &Links) {
    match accepted {
        Ok((peer, greeted)) => links.carry(peer, greeted).await,
        Err((peer, error @ (ConnectError::Mismatch(_) | ConnectError::Refused(_)))) => {
            links.refused(peer, format!("{from}: {error}")).await;
        }
        Err((_, error)) => tracing::warn!(from, %error, "peer port: connection ended"),
    }
}
