//! The three sockets that a replica listens on, bound before anything is written to the disk.

use std::io::ErrorKind;
use std::net::SocketAddr;

use tokio::net::{TcpListener, lookup_host};

use crate::config::ServeConfig;
use crate::failure::{Exit, Failure};

/// Bound sockets; nobody is accepted yet.
#[derive(Debug)]
pub(crate) struct Listeners {
    /// For clients.
    pub(crate) client: TcpListener,
    /// For other replicas.
    pub(crate) peer: TcpListener,
    /// For the pages.
    pub(crate) http: TcpListener,
    /// Where they are and what clients are told.
    pub(crate) addresses: Addresses,
}

/// Where a replica is found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Addresses {
    /// Where it listens for clients.
    pub client: SocketAddr,
    /// Where it listens for other replicas.
    pub peer: SocketAddr,
    /// Where its pages are.
    pub http: SocketAddr,
    /// What clients are told to connect to.
    pub advertised: String,
}

impl Listeners {
    /// Binds all three.
    ///
    /// # Errors
    ///
    /// [`Exit::AddressInUse`] with the first address that is taken, [`Exit::Other`] for one that is none of this machine's.
    pub(crate) async fn bind(config: &ServeConfig) -> Result<Listeners, Failure> {
        let (client, client_at) = bind("client", &config.listen_client).await?;
        let (peer, peer_at) = bind("peer", &config.listen_peer).await?;
        let (http, http_at) = bind("http", &config.listen_http).await?;
        let advertised = config
            .advertise_client
            .clone()
            .unwrap_or_else(|| client_at.to_string());
        let addresses = Addresses {
            client: client_at,
            peer: peer_at,
            http: http_at,
            advertised,
        };
        Ok(Listeners {
            client,
            peer,
            http,
            addresses,
        })
    }
}

async fn bind(which: &str, address: &str) -> Result<(TcpListener, SocketAddr), Failure> {
    let refuse = |exit: Exit, what: String| {
        Failure::new(exit, format!("--listen-{which} {address}: {what}"))
    };
    let candidates = lookup_host(address)
        .await
        .map_err(|e| refuse(Exit::Other, e.to_string()))?;
    let mut last = refuse(Exit::Other, "the name has no address".into());
    for candidate in candidates {
        let bound = TcpListener::bind(candidate).await;
        match bound.and_then(|listener| Ok((listener.local_addr()?, listener))) {
            Ok((at, listener)) => return Ok((listener, at)),
            Err(error) if error.kind() == ErrorKind::AddrInUse => {
                last = refuse(Exit::AddressInUse, "the address is in use".into());
            }
            Err(error) => last = refuse(Exit::Other, error.to_string()),
        }
    }
    Err(last)
}
