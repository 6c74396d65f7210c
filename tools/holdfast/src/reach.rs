//! Whether anybody can answer at all, asked beside the question itself once that takes long.
//!
//! The client library tries for as long as it is allowed to, since a replica may be just about to come back. A person
//! who mistyped a port, or has not started a cluster, should not wait for that.

use std::time::Duration;

use client::Endpoints;
use client::raw::Link;
use futures::future::join_all;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};

use crate::failure::Failure;

/// A cluster that answers within this time is not asked.
const FIRST_LOOK: Duration = Duration::from_millis(150);
/// Between two looks: a replica that is being restarted refuses for a moment.
const BETWEEN_LOOKS: Duration = Duration::from_millis(350);
/// How long one look may take.
const LOOK: Duration = Duration::from_secs(1);

/// Why an endpoint cannot answer.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Fault {
    Refused,
    UnknownHost,
    /// What listens there speaks HTTP.
    Http,
}

/// Resolves if two looks in a row find no endpoint that could answer, and nothing was ever sent to any; else never.
pub(crate) async fn until_nobody(link: &Link, pin: bool) -> Failure {
    sleep(FIRST_LOOK).await;
    for last in [false, true] {
        let faults = look(link.endpoints(), pin).await;
        if link.has_met_cluster() || faults.iter().any(|(_, fault)| fault.is_none()) {
            return std::future::pending().await;
        }
        if last {
            let faults = faults.into_iter();
            let faults: Vec<_> = faults
                .filter_map(|(at, fault)| Some((at, fault?)))
                .collect();
            return Failure::new("unavailable", sentence(&faults));
        }
        sleep(BETWEEN_LOOKS).await;
    }
    std::future::pending().await
}

async fn look(endpoints: &Endpoints, pin: bool) -> Vec<(String, Option<Fault>)> {
    let count = if pin { 1 } else { usize::MAX };
    let asked = endpoints
        .as_slice()
        .iter()
        .take(count)
        .map(|endpoint| async {
            let address = endpoint.address.clone();
            // Without an answer in time the endpoint may just be slow.
            let fault = timeout(LOOK, fault_of(&address)).await.unwrap_or(None);
            (address, fault)
        });
    join_all(asked).await
}

async fn fault_of(address: &str) -> Option<Fault> {
    let Ok(mut found) = tokio::net::lookup_host(address).await else {
        return Some(Fault::UnknownHost);
    };
    let Some(first) = found.next() else {
        return Some(Fault::UnknownHost);
    };
    let mut refused = None;
    for address in std::iter::once(first).chain(found) {
        match TcpStream::connect(address).await {
            Ok(stream) => return is_http(stream).await.then_some(Fault::Http),
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionRefused => {
                refused = Some(Fault::Refused);
            }
            Err(_) => return None,
        }
    }
    refused
}

/// Whether a request of HTTP is answered by HTTP. A replica's client port ends the connection.
async fn is_http(mut stream: TcpStream) -> bool {
    let mut answer = [0; 5];
    stream
        .write_all(b"GET /livez HTTP/1.0\r\n\r\n")
        .await
        .is_ok()
        && stream.read_exact(&mut answer).await.is_ok()
        && answer == *b"HTTP/"
}

fn sentence(faults: &[(String, Fault)]) -> String {
    let of = |wanted: &Fault| -> Vec<&str> {
        let those = faults.iter().filter(|(_, fault)| fault == wanted);
        those.map(|(address, _)| address.as_str()).collect()
    };
    let mut parts = Vec::new();
    let refused = of(&Fault::Refused);
    if !refused.is_empty() {
        let those = refused.join(", ");
        parts.push(match refused.len() == faults.len() && refused.len() > 1 {
            true => format!("connection refused by all {} ({those})", refused.len()),
            false => format!("connection refused by {those}"),
        });
    }
    let unknown = of(&Fault::UnknownHost);
    if !unknown.is_empty() {
        parts.push(format!("no such host: {}", unknown.join(", ")));
    }
    let http = of(&Fault::Http);
    if !http.is_empty() {
        parts.push(format!(
            "{} speaks HTTP: name the client port, not the HTTP port (20 less by default)",
            http.join(", ")
        ));
    }
    let advice = match refused.is_empty() {
        true => "",
        false => "; is a cluster running? try `node dev`",
    };
    format!("unavailable, not done: {}{advice}", parts.join("; "))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(faults: &[(&str, Fault)], expected: &str) {
        let faults: Vec<_> = faults
            .iter()
            .map(|(address, fault)| ((*address).to_owned(), fault.clone()))
            .collect();
        assert_eq!(
            sentence(&faults),
            format!("unavailable, not done: {expected}")
        );
    }

    #[test]
    fn every_endpoint_is_named_with_its_fault() {
        check(
            &[("a:1", Fault::Refused), ("b:2", Fault::Refused)],
            "connection refused by all 2 (a:1, b:2); is a cluster running? try `node dev`",
        );
        check(
            &[("a:1", Fault::Refused)],
            "connection refused by a:1; is a cluster running? try `node dev`",
        );
        check(
            &[("a:1", Fault::UnknownHost), ("b:2", Fault::Http)],
            "no such host: a:1; b:2 speaks HTTP: name the client port, not the HTTP port (20 less by default)",
        );
    }
}
