//! The pages for people, monitors and load balancers: `/`, `/livez`, `/readyz`, `/status`,
//! `/metrics`.
//!
//! They are read-only and small. Nobody here can hold the replica up: there is a limit on
//! connections, each of which lives for a while only, and a question to the reactor is one event.

use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{Html, IntoResponse, Response};
use axum::routing::get;
use paxos::PeerStatus;
use serde_json::json;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Sleep;

use crate::metrics::Metrics;
use crate::server::desk::{Desk, Phase, Report};

/// Connections at once; further ones wait in the kernel's queue.
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
}

/// Serves the pages until the runtime ends.
pub async fn run(listener: TcpListener, pages: Pages) {
    let listener = Bounded {
        listener,
        permits: Arc::new(Semaphore::new(CONNECTIONS_MAX)),
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
    match pages.desk.report(false).await {
        Some(report) => report.not_ready,
        None => Some("the replica does not answer".into()),
    }
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
        "files_checked": s.files_checked, "version": s.version,
        "peers": peers, "fell_behind": behind,
        "disk_low": report.log.low_space, "oldest_unsynced_us": report.log.oldest_unsynced_us,
        "connections": report.load.connections, "effects_waiting": report.load.effects_waiting,
    })
}

/// Only a leader knows how far the others are.
fn peer_json(peer: &PeerStatus, leads: bool) -> serde_json::Value {
    let known = |value: u64| leads.then_some(value);
    json!({
        "id": peer.node.0, "up": peer.up, "durable": known(peer.durable.0),
        "lag": known(peer.lag), "wal_age_us": known(peer.wal_age_us),
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
        .any(|kinds| kinds.contains("application/openmetrics-text"));
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

fn plain(code: StatusCode, text: impl Into<String>) -> Response {
    (
        code,
        [(header::CONTENT_TYPE, "text/plain; charset=utf-8")],
        text.into(),
    )
        .into_response()
}

/// Accepts so many connections at once and gives each its time.
struct Bounded {
    listener: TcpListener,
    permits: Arc<Semaphore>,
}

impl axum::serve::Listener for Bounded {
    type Io = Mortal;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Mortal, SocketAddr) {
        let permit = self
            .permits
            .clone()
            .acquire_owned()
            .await
            .expect("never closed");
        loop {
            match self.listener.accept().await {
                Ok((stream, from)) => {
                    let end = Box::pin(tokio::time::sleep(CONNECTION_LIFE));
                    return (
                        Mortal {
                            stream,
                            end,
                            _permit: permit,
                        },
                        from,
                    );
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

/// A connection that ends when its time is over, whatever the other side does.
struct Mortal {
    stream: TcpStream,
    end: Pin<Box<Sleep>>,
    _permit: OwnedSemaphorePermit,
}

impl Mortal {
    fn check(&mut self, context: &mut Context<'_>) -> std::io::Result<()> {
        match self.end.as_mut().poll(context) {
            Poll::Ready(()) => Err(std::io::ErrorKind::TimedOut.into()),
            Poll::Pending => Ok(()),
        }
    }
}

impl AsyncRead for Mortal {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        self.check(context)?;
        Pin::new(&mut self.stream).poll_read(context, buffer)
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
