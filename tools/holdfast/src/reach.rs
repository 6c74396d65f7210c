//! Whether the endpoints are HTTP ports, asked beside the question itself once that takes long.
//!
//! The client library says at once if nobody listens. Somebody who listens and hangs up may be a replica that is just
//! ending, so the library goes on trying; a person who named the wrong port should not wait for that.

use std::time::Duration;

use client::raw::Link;
use futures::future::join_all;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};

use crate::failure::Failure;

/// A cluster that answers within this time is not asked.
const FIRST_LOOK: Duration = Duration::from_millis(150);
/// How long one look may take.
const LOOK: Duration = Duration::from_secs(1);

/// Resolves if all endpoints speak HTTP; else never.
pub(crate) async fn until_only_http(link: &Link, pin: bool) -> Failure {
    sleep(FIRST_LOOK).await;
    let count = if pin { 1 } else { usize::MAX };
    let endpoints = link.endpoints().as_slice().iter().take(count);
    let addresses: Vec<_> = endpoints
        .map(|endpoint| endpoint.address.as_str())
        .collect();
    let looks = addresses.iter().map(|&address| async move {
        // Without an answer in time the endpoint may just be slow.
        timeout(LOOK, speaks_http(address)).await.unwrap_or(false)
    });
    let all = join_all(looks).await.into_iter().all(|http| http);
    if !all || link.has_met_cluster() {
        return std::future::pending().await;
    }
    let message = format!(
        "unavailable, not done: {} speaks HTTP: name the client port, not the HTTP port (20 less by default)",
        addresses.join(", ")
    );
    Failure::new("unavailable", message)
}

/// Whether a request of HTTP is answered by HTTP. A replica's client port ends the connection.
async fn speaks_http(address: &str) -> bool {
    let Ok(mut stream) = TcpStream::connect(address).await else {
        return false;
    };
    let mut answer = [0; 5];
    stream
        .write_all(b"GET /livez HTTP/1.0\r\nHost: localhost\r\n\r\n")
        .await
        .is_ok()
        && stream.read_exact(&mut answer).await.is_ok()
        && answer == *b"HTTP/"
}
