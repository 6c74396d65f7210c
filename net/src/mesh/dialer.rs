//! Keeps the link to one peer with a lower id.

use std::sync::Arc;

use crate::backoff::Backoff;
use crate::connection::{ConnectError, Greeted, dial};
use crate::hello::HelloRole;
use crate::mesh::links::Links;
use crate::mesh::{Greeting, MeshOptions};

pub(super) async fn run(
    peer: u16,
    address: String,
    options: MeshOptions,
    greeting: Greeting,
    links: Arc<Links>,
) {
    let mut backoff = Backoff::new(options.redial_floor, options.redial_ceiling);
    loop {
        match connect(peer, &address, &options, &greeting).await {
            Ok(greeted) => {
                backoff.reset();
                links.carry(peer, greeted).await;
            }
            Err(error @ (ConnectError::Mismatch(_) | ConnectError::Refused(_))) => {
                links
                    .refused(Some(peer), format!("{address}: {error}"))
                    .await;
            }
            Err(error) => tracing::debug!(peer, address, %error, "peer not reached"),
        }
        tokio::time::sleep(backoff.next_wait()).await;
    }
}

async fn connect(
    peer: u16,
    address: &str,
    options: &MeshOptions,
    greeting: &Greeting,
) -> Result<Greeted, ConnectError> {
    let addresses: Vec<_> = match tokio::net::lookup_host(address).await {
        Ok(found) => found.collect(),
        // Told like a peer that does not fit: somebody has to mend the list.
        Err(error) => return Err(ConnectError::Refused(format!("unknown host: {error}"))),
    };
    let greeted = dial(&addresses[..], &greeting(peer), &options.connection).await?;
    match &greeted.hello.role {
        HelloRole::Peer(said) if said.node == peer => Ok(greeted),
        HelloRole::Peer(said) => Err(ConnectError::Refused(format!(
            "node {} answers, expected {peer}",
            said.node
        ))),
        _ => Err(ConnectError::Refused(
            "a client port answers, expected a peer port".into(),
        )),
    }
}
