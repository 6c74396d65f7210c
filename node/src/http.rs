//! The pages for people, monitors and load balancers: `/`, `/livez`, `/readyz`, `/status`,
//! `/metrics`.
//!
//! They are read-only and small. Nobody here can hold the replica up: there is a limit on
//! connections, each of which lives for a while only, and a question to the reactor is one event.
//! Nobody can keep others out either: when there are too many connections, the oldest that has said
//! nothing is closed, else the oldest.
//!
//! A browser can be led to a private address under a foreign name (DNS rebinding), and then shows the
//! pages to that name's owner. So only names that are this replica's own are answered ([`Hosts`]).

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{Html, IntoResponse, Response};
use axum::routing::get;
use paxos::PeerStatus;
use serde_json::json;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::Sleep;

use crate::config::ServeConfig;
use crate::metrics::Metrics;
use crate::server::desk::{Desk, Phase, Report};

/// Connections at once; one more closes another.
const CONNECTIONS_MAX: usize = 64;
/// A connection, however busy or idle, ends after this long.
const CONNECTION_LIFE: Duration = Duration::from_secs(30);
/// After a failed accept, as out of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What the pages are made of.
#[derive(Clone, Debug)]
pub struct Pages {
    /// Where to ask.
    pub desk: Desk,
    /// The figures.
    pub metrics: Arc<Metrics>,
    /// Under which names they are given out.
    pub hosts: Arc<Hosts>,
}

/// The names by which the pages may be asked for: any address, since a foreign name is never one;
/// `localhost`; the names in `--listen-http`, `--listen-client` and `--advertise-client`; and
/// those of `--http-hosts`.
#[derive(Clone, Debug, Default)]
pub struct Hosts(BTreeSet<String>);

impl Hosts {
    /// The names of a replica.
    pub fn new(config: &ServeConfig) -> Hosts {
        let addresses = [&config.listen_http, &config.listen_client];
        let addresses = addresses.into_iter().chain(&config.advertise_client);
        let own = addresses.map(|address| without_port(address).to_ascii_lowercase());
        Hosts(own.chain(config.http_hosts.iter().cloned()).collect())
    }

    /// Whether a request whose `Host` header says this is answered.
    fn knows(&self, host: &str) -> bool {
        let name = without_port(host).to_ascii_lowercase();
        let bare = name.trim_start_matches('[').trim_end_matches(']');
        let name = name.trim_end_matches('.');
        bare.parse::<IpAddr>().is_ok()
            || name == "localhost"
            || name.ends_with(".localhost")
            || self.0.contains(name)
    }
}

/// `host:port` or `host` without the port; `[::1]:80` keeps its brackets.
fn without_port(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((name, port))
            if port.bytes().all(|it| it.is_ascii_digit()) && !name.ends_with(':') =>
        {
            name
        }
        _ => host,
    }
}

async fn only_own_names(State(pages): State<Pages>, request: Request, next: Next) -> Response {
    let in_line = request.uri().host();
    let header = request.headers().get(header::HOST);
    let host = in_line.or_else(|| header.and_then(|host| host.to_str().ok()));
    match host {
        Some(host) if !pages.hosts.knows(host) => plain(
            StatusCode::MISDIRECTED_REQUEST,
            "unknown host name; start the replica with --http-hosts to allow it\n",
        ),
        // Without a name, as in HTTP/1.0, no browser asks.
        _ => next.run(request).await,
    }
}

/// Serves the pages until the runtime ends.
pub async fn run(listener: TcpListener, pages: Pages) {
    let listener = Bounded {
        listener,
        open: Arc::default(),
    };
    if let Err(error) = axum::serve(listener, router(pages)).await {
        tracing::error!(%error, "the HTTP port has stopped");
    }
}

fn router(pages: Pages) -> Router {
    Router::new()
        .route("/", get(index))
        .route("/livez", get(livez))
        .route("/readyz", get(readyz))
        .route("/status", get(status))
        .route("/metrics", get(metrics))
        .layer(from_fn_with_state(pages.clone(), only_own_names))
        .with_state(pages)
}

async fn index() -> Html<&'static str> {
    Html(concat!(
        "<!doctype html><meta charset=utf-8><title>Holdfast</title><h1>Holdfast ",
        env!("CARGO_PKG_VERSION"),
        "</h1><ul><li><a href=/status>/status</a> how this replica stands, as JSON",
        "<li><a href=/metrics>/metrics</a> figures for Prometheus",
        "<li><a href=/livez>/livez</a> whether the process works",
        "<li><a href=/readyz>/readyz</a> whether it can serve clients</ul>\n",
    ))
}

/// Alive: the process does what its phase asks of it, waiting for its peers included.
async fn livez(State(pages): State<Pages>) -> Response {
    match pages.desk.phase() {
        Phase::Serving => match pages.desk.report(false).await {
            Some(_) => plain(StatusCode::OK, "ok\n"),
            None => plain(
                StatusCode::SERVICE_UNAVAILABLE,
                "the replica does not answer\n",
            ),
        },
        _ => plain(StatusCode::OK, "ok\n"),
    }
}

/// Ready: a client that comes here is served, or sent to somebody who serves it.
async fn readyz(State(pages): State<Pages>) -> Response {
    match not_ready(&pages).await {
        None => plain(StatusCode::OK, "ready\n"),
        Some(why) => plain(
            StatusCode::SERVICE_UNAVAILABLE,
            format!("not ready: {why}\n"),
        ),
    }
}

async fn not_ready(pages: &Pages) -> Option<String> {
    match pages.desk.phase() {
        Phase::Unborn { waits_for } => return Some(waits_for),
        Phase::Booting => return Some("reading the log".into()),
        Phase::Stopping => return Some("stopping".into()),
        Phase::Serving => {}
    }
    let Some(report) = pages.desk.report(false).await else {
        return Some("the replica does not answer".into());
    };
    report.not_ready
}

async fn status(State(pages): State<Pages>) -> Response {
    let phase = pages.desk.phase();
    let report = match phase {
        Phase::Serving | Phase::Stopping => pages.desk.report(true).await,
        Phase::Unborn { .. } | Phase::Booting => None,
    };
    let body = match (&report, phase) {
        (Some(report), phase) => status_json(report, &phase),
        (None, Phase::Unborn { waits_for }) => {
            json!({"v": 1, "phase": "unborn", "waits_for": waits_for})
        }
        (None, phase) => json!({"v": 1, "phase": phase_name(&phase)}),
    };
    let code = if report.is_some() {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    (
        code,
        [(header::CONTENT_TYPE, "application/json")],
        format!("{body}\n"),
    )
        .into_response()
}

/// Numbers of 64 bits and more that name something are written as text: JSON's stop at 2^53.
fn status_json(report: &Report, phase: &Phase) -> serde_json::Value {
    let s = &report.status;
    let peers: Vec<_> = report
        .core
        .peers
        .iter()
        .map(|p| peer_json(p, s.role == "leader"))
        .collect();
    let behind: Vec<_> = report
        .fell_behind
        .iter()
        .map(|b| json!({"id": b.node, "needs": b.needs, "first_kept": b.first}))
        .collect();
    json!({
        "v": 1, "phase": phase_name(phase), "id": s.id,
        "ready": *phase == Phase::Serving && report.not_ready.is_none(), "not_ready": report.not_ready,
        "client": s.client, "peer": s.peer, "http": s.http,
        "cluster": format!("{:032x}", s.cluster), "cluster_name": s.cluster_name,
        "role": s.role, "ballot": s.ballot, "leader": s.leader,
        "chosen": s.chosen, "applied": s.applied, "last": s.last, "lag": s.lag,
        "log_bytes": s.log_bytes, "state_hash": format!("{:016x}", s.state_hash),
        "files_checked": s.files_checked, "files_damaged": s.files_damaged, "version": s.version,
        "peers": peers, "fell_behind": behind,
        "disk_low": report.log.low_space, "oldest_unsynced_us": report.log.oldest_unsynced_us,
        "refuses_work": report.refuses_work,
        "connections": report.load.connections, "effects_waiting": report.load.effects_waiting,
    })
}

/// Only a leader knows how far the others are.
fn peer_json(peer: &PeerStatus, leads: bool) -> serde_json::Value {
    let known = |value: u64| leads.then_some(value);
    json!({
        "id": peer.node.0, "up": peer.up, "durable": known(peer.durable.0),
        "lag": known(peer.lag), "wal_age_us": known(peer.wal_age_us),
        "refused": peer.refused.map(|why| why.to_string()),
    })
}

fn phase_name(phase: &Phase) -> &'static str {
    match phase {
        Phase::Unborn { .. } => "unborn",
        Phase::Booting => "booting",
        Phase::Serving => "serving",
        Phase::Stopping => "stopping",
    }
}

async fn metrics(State(pages): State<Pages>, asked: HeaderMap) -> Response {
    if pages.desk.phase() == Phase::Serving
        && let Some(report) = pages.desk.report(false).await
    {
        pages.metrics.set(&report);
    }
    let accepts = asked.get_all(header::ACCEPT).iter();
    let open = accepts
        .filter_map(|kinds| kinds.to_str().ok())
        .any(wants_open_metrics);
    let (kind, text) = match open {
        true => (
            "application/openmetrics-text; version=1.0.0; charset=utf-8",
            pages.metrics.text(),
        ),
        false => (
            "text/plain; version=0.0.4; charset=utf-8",
            crate::metrics::plain(&pages.metrics.text()),
        ),
    };
    ([(header::CONTENT_TYPE, kind)], text).into_response()
}

/// Whether a list of media types names OpenMetrics and does not exclude it by a weight of 0.
fn wants_open_metrics(kinds: &str) -> bool {
    kinds.split(',').any(|kind| {
        let mut parts = kind.split(';').map(str::trim);
        let named = parts.next().unwrap_or_default();
        let excluded = parts.any(|part| {
            let weight = part.split_once('=');
            weight.is_some_and(|(name, weight)| {
                name.trim().eq_ignore_ascii_case("q")
                    && weight
                        .trim()
                        .parse::<f32>()
                        .is_ok_and(|weight| weight == 0.0)
            })
        });
        named.eq_ignore_ascii_case("application/openmetrics-text") && !excluded
    })
}

fn plain(code: StatusCode, text: impl Into<String>) -> Response {
    (
        code,
        [(header::CONTENT_TYPE, "text/plain; charset=utf-8")],
        text.into(),
    )
        .into_response()
}

/// Accepts connections, gives each its time, and closes one when there are too many.
struct Bounded {
    listener: TcpListener,
    open: Arc<Open>,
}

impl axum::serve::Listener for Bounded {
    type Io = Mortal;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Mortal, SocketAddr) {
        loop {
            match self.listener.accept().await {
                Ok((stream, from)) => {
                    let connection = Mortal {
                        stream,
                        end: Box::pin(tokio::time::sleep(CONNECTION_LIFE)),
                        number: self.open.begin(),
                        open: self.open.clone(),
                    };
                    return (connection, from);
                }
                Err(error) => {
                    tracing::warn!(%error, "cannot accept HTTP connections");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    fn local_addr(&self) -> std::io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

/// The open connections by the order in which they came.
#[derive(Debug, Default)]
struct Open(Mutex<Connections>);

#[derive(Debug, Default)]
struct Connections {
    last: u64,
    by_number: BTreeMap<u64, Connection>,
}

#[derive(Debug, Default)]
struct Connection {
    /// Whether anything has come from the other side.
    spoke: bool,
    /// Whether it is to end to make room.
    over: bool,
    waker: Option<Waker>,
}

impl Open {
    /// Enters a connection; if there are too many another one ends: the oldest silent one, else the oldest.
    fn begin(&self) -> u64 {
        let mut open = self.lock();
        open.last += 1;
        let number = open.last;
        let living = || open.by_number.iter().filter(|(_, it)| !it.over);
        if living().count() >= CONNECTIONS_MAX {
            let silent = living().find(|(_, it)| !it.spoke);
            let oldest = silent
                .or_else(|| living().next())
                .map(|(number, _)| *number);
            if let Some(connection) = oldest.and_then(|it| open.by_number.get_mut(&it)) {
                connection.over = true;
                if let Some(waker) = connection.waker.take() {
                    waker.wake();
                }
            }
        }
        open.by_number.insert(number, Connection::default());
        number
    }

    /// Whether a connection is to end; if not, `context` is woken when it is.
    fn is_over(&self, number: u64, context: &Context<'_>) -> bool {
        let mut open = self.lock();
        let Some(connection) = open.by_number.get_mut(&number) else {
            return true;
        };
        connection.waker = Some(context.waker().clone());
        connection.over
    }

    fn spoke(&self, number: u64) {
        if let Some(connection) = self.lock().by_number.get_mut(&number) {
            connection.spoke = true;
        }
    }

    fn lock(&self) -> MutexGuard<'_, Connections> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A connection that ends when its time is over or its place is needed, whatever the other side does.
struct Mortal {
    stream: TcpStream,
    end: Pin<Box<Sleep>>,
    number: u64,
    open: Arc<Open>,
}

impl Mortal {
    fn check(&mut self, context: &mut Context<'_>) -> std::io::Result<()> {
        let time_is_up = self.end.as_mut().poll(context).is_ready();
        if time_is_up || self.open.is_over(self.number, context) {
            return Err(std::io::ErrorKind::TimedOut.into());
        }
        Ok(())
    }
}

impl Drop for Mortal {
    fn drop(&mut self) {
        self.open.lock().by_number.remove(&self.number);
    }
}

impl AsyncRead for Mortal {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        self.check(context)?;
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(context, buffer);
        if buffer.filled().len() > before {
            self.open.spoke(self.number);
        }
        read
    }
}

impl AsyncWrite for Mortal {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        self.check(context)?;
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<std::io::Result<()>> {
        self.check(context)?;
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn open_metrics_are_given_to_those_who_want_them() {
        for yes in [
            "application/openmetrics-text; version=1.0.0",
            "text/plain;q=0.5, Application/OpenMetrics-Text;q=0.8",
            "APPLICATION/OPENMETRICS-TEXT",
        ] {
            assert!(wants_open_metrics(yes), "{yes}");
        }
        for no in [
            "",
            "*/*",
            "text/plain",
            "application/openmetrics-text;q=0",
            "application/openmetrics-text; version=1.0.0; Q=0.000, text/plain",
            "application/openmetrics-text-like",
        ] {
            assert!(!wants_open_metrics(no), "{no}");
        }
    }

    /// Whoever says half a request on each connection keeps nobody out: the newcomer is never the one to go.
    #[test]
    fn room_is_made_by_the_oldest_silent_connection_or_else_by_the_oldest() {
        let open = Open::default();
        let context = Context::from_waker(Waker::noop());
        let begun: Vec<u64> = (0..CONNECTIONS_MAX).map(|_| open.begin()).collect();
        begun.iter().for_each(|&number| open.spoke(number));
        let newcomer = open.begin();
        let over = |number: u64| open.is_over(number, &context);
        assert!(over(begun[0]) && !over(begun[1]) && !over(newcomer));
        let next = open.begin();
        assert!(over(newcomer), "the only silent one");
        assert!(!over(begun[1]) && !over(next));
    }

    #[test]
    fn foreign_host_names_are_not_known() {
        let hosts = Hosts(BTreeSet::from(["node1.example".to_owned()]));
        for host in [
            "127.0.0.1:7421",
            "10.0.0.7",
            "[::1]:7421",
            "[::1]",
            "localhost:7421",
            "LOCALHOST",
            "node1.example:80",
            "Node1.example.",
        ] {
            assert!(hosts.knows(host), "{host}");
        }
        for host in [
            "attacker.example",
            "attacker.example:7421",
            "",
            "127.0.0.1.attacker.example",
        ] {
            assert!(!hosts.knows(host), "{host}");
        }
    }
}
