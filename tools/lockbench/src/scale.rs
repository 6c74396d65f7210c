//! The work `scale`: a crowd of sessions that hold locks, and what is asked of the service beside it.
//!
//! ```text
//! gather ──► alive, with busy clients ──► kill -9 of the leader, some times ──► all fall silent at once
//! ```
//!
//! All the while one probe asks how the replicas stand, one looks for the leader as a client does that just
//! started, and a bystander acquires and releases a lock of its own.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::{Duration, Instant};

use client::raw::Link;
use client::{Endpoint, Endpoints};
use serde::Serialize;
use statemachine::{Answer, Query};
use tokio::task::JoinSet;

use crate::args::{Scale, Work};
use crate::crew::{Crew, violations};
use crate::crowd::{Crowd, Size};
use crate::cycle;
use crate::latency::{Latency, Percentiles};
use crate::run::{finish, narrate};
use crate::target::Target;
use crate::window::Window;
use crate::worker::Worker;

/// How long one probe may take.
const PATIENCE: Duration = Duration::from_secs(60);
/// Between two probes of a kind.
const PROBE_EVERY: Duration = Duration::from_millis(200);
/// The bystander rests so long, so that it is no load.
const BYSTANDER_EVERY: Duration = Duration::from_millis(10);
/// After a replica has caught up, before the next kill.
const SETTLE: Duration = Duration::from_secs(2);

/// What a part of the run came to, as probes and bystander saw it.
#[derive(Debug, Serialize)]
pub(crate) struct Phase {
    phase: &'static str,
    seconds: f64,
    /// The slowest answer of a replica to how it stands; those that run.
    status_ms: Times,
    /// From nothing to a commit by the leader.
    scout_ms: Times,
    /// One acquire and release.
    bystander_ms: Times,
    bystander_failed: u64,
    /// The longest time in which the bystander had no success.
    longest_gap_ms: f64,
    busy_cycles: u64,
    busy_failed: u64,
    beats: u64,
    sessions_lost: u64,
    locks_lost: u64,
    longest_beat_gap_ms: f64,
    first_success_ms: Vec<f64>,
}

#[derive(Debug, Default, Serialize)]
struct Times {
    p50: f64,
    max: f64,
    count: u64,
}

/// What the whole run came to.
#[derive(Debug, Serialize)]
pub(crate) struct ScaleReport {
    v: u32,
    work: &'static str,
    sessions: u64,
    locks: u64,
    ttl_ms: u64,
    clients: u32,
    gather_seconds: f64,
    rss_bytes: Option<u64>,
    pub(crate) exclusion_violations: u64,
    phases: Vec<Phase>,
}

impl ScaleReport {
    pub(crate) fn json(&self) -> String {
        // Text keys and finite numbers always have a JSON form.
        serde_json::to_string(self).unwrap_or_default()
    }

    pub(crate) fn table(&self) -> String {
        let mut lines = vec![
            format!(
                "{} sessions with {} locks, ttl and leases {} ms, {} busy clients",
                self.sessions, self.locks, self.ttl_ms, self.clients
            ),
            format!(
                "gathered in {:.1} s; the replicas take {} MiB",
                self.gather_seconds,
                self.rss_bytes.unwrap_or(0) >> 20
            ),
            format!(
                "{:<10} {:>7} {:>15} {:>15} {:>15} {:>8} {:>9} {:>9} {:>6} {:>6}  first success after kill",
                "phase",
                "s",
                "status p50/max",
                "scout p50/max",
                "lock p50/max",
                "gap",
                "cycles",
                "beats",
                "lost s",
                "lost l"
            ),
        ];
        for phase in &self.phases {
            let times = |times: &Times| format!("{:.0}/{:.0} ms", times.p50, times.max);
            let first: Vec<String> = phase
                .first_success_ms
                .iter()
                .map(|ms| format!("{ms:.0}"))
                .collect();
            lines.push(format!(
                "{:<10} {:>7.1} {:>15} {:>15} {:>15} {:>5.0} ms {:>9} {:>9} {:>6} {:>6}  {}",
                phase.phase,
                phase.seconds,
                times(&phase.status_ms),
                times(&phase.scout_ms),
                times(&phase.bystander_ms),
                phase.longest_gap_ms,
                phase.busy_cycles,
                phase.beats,
                phase.sessions_lost,
                phase.locks_lost,
                first.join(", ")
            ));
        }
        lines.join("\n")
    }
}

/// What the probes and the bystander have seen since the last look.
struct Seen {
    status: Latency,
    scout: Latency,
    bystander: Latency,
    failed: u64,
    last_success: Instant,
    longest_gap: Duration,
}

impl Seen {
    fn new() -> Seen {
        Seen {
            status: Latency::new(),
            scout: Latency::new(),
            bystander: Latency::new(),
            failed: 0,
            last_success: Instant::now(),
            longest_gap: Duration::ZERO,
        }
    }

    fn succeeded(&mut self, took: Duration) {
        self.bystander.record(took);
        self.longest_gap = self.longest_gap.max(self.last_success.elapsed());
        self.last_success = Instant::now();
    }
}

pub(crate) async fn run(
    work: &Work,
    scale: &Scale,
    fewer_clients: Option<u64>,
) -> Result<ScaleReport, String> {
    let mut target = Target::of(&scale.load, fewer_clients).await?;
    let size = Size {
        sessions: scale.sessions,
        locks: scale.held,
        ttl: scale.ttl,
        batch: scale.batch,
    };
    let seen = Rc::new(RefCell::new(Seen::new()));
    let mut probes = JoinSet::new();
    let mut crew = Crew::muster(&target, work.load()).await?;
    let witnesses = crew.witnesses();
    let bystander = crew.workers.pop().ok_or("scale needs a client")?;
    probes.spawn_local(ask_status(target.endpoints.clone(), seen.clone()));
    probes.spawn_local(scout(target.endpoints.clone(), seen.clone()));
    probes.spawn_local(stand_by(bystander, seen.clone()));

    narrate("gathering the crowd");
    let start = Instant::now();
    let crowd = Crowd::gather(size, || target.link()).await?;
    let mut report = ScaleReport {
        v: 1,
        work: "scale",
        sessions: crowd.counts.sessions.get(),
        locks: crowd.counts.locks.get(),
        ttl_ms: u64::try_from(scale.ttl.as_millis()).unwrap_or(u64::MAX),
        clients: scale.load.clients - 1,
        gather_seconds: start.elapsed().as_secs_f64(),
        rss_bytes: target.usage().map(|usage| usage.rss_bytes),
        exclusion_violations: 0,
        phases: Vec::new(),
    };
    let window = Rc::new(Window::new(None));
    window.open();
    let mut book = Book {
        seen,
        window: window.clone(),
        counts: crowd.counts.clone(),
        before: Before::default(),
        start,
    };
    report.phases.push(book.close("gather", Vec::new()));

    let mut busy = JoinSet::new();
    for worker in crew.workers {
        busy.spawn_local(cycle::work(worker, window.clone()));
    }
    narrate("all are kept alive");
    tokio::time::sleep(scale.load.duration).await;
    report.phases.push(book.close("alive", Vec::new()));

    if target.cluster.is_some() && scale.kills > 0 {
        let mut times = Vec::new();
        for kill in 1..=scale.kills {
            narrate(&format!("kill {kill} of {}", scale.kills));
            times.push(kill_once(&mut target).await?);
        }
        report.phases.push(book.close("kills", times));
    }

    narrate("the crowd falls silent");
    crowd.fall_silent().await;
    until_gone(&target.link(), scale).await?;
    report.phases.push(book.close("expiry", Vec::new()));
    window.close();
    finish(busy).await;
    probes.shutdown().await;
    report.exclusion_violations = violations(&witnesses);
    Ok(report)
}

/// Kills the leader; the time until somebody else has made a commit, in milliseconds.
async fn kill_once(target: &mut Target) -> Result<f64, String> {
    let say = |error: std::io::Error| error.to_string();
    let leader = target.leader().await.map_err(say)?;
    let link = target.link();
    link.health(PATIENCE).await.map_err(|e| e.to_string())?;
    let start = Instant::now();
    if let Some(cluster) = &mut target.cluster {
        cluster.kill(leader);
    }
    link.health(PATIENCE).await.map_err(|e| e.to_string())?;
    let took = start.elapsed();
    narrate(&format!("  a commit after {} ms", took.as_millis()));
    if let Some(cluster) = &mut target.cluster {
        cluster.restart(leader).map_err(say)?;
    }
    target.caught_up(leader).await.map_err(say)?;
    narrate(&format!(
        "  replica {leader} has caught up {:.1} s after the kill",
        start.elapsed().as_secs_f64()
    ));
    tokio::time::sleep(SETTLE).await;
    Ok(took.as_secs_f64() * 1e3)
}

/// Waits until nothing of the crowd is left.
async fn until_gone(link: &Link, scale: &Scale) -> Result<(), String> {
    let query = Query::Locks {
        prefix: "crowd-".to_owned(),
        after: None,
        limit: 1,
    };
    let start = Instant::now();
    let within = 2 * scale.ttl + Duration::from_secs(300);
    while start.elapsed() < within {
        if let Ok((_, Answer::Locks(page))) = link.query(&query, PATIENCE).await
            && page.items.is_empty()
        {
            return Ok(());
        }
        tokio::time::sleep(PROBE_EVERY).await;
    }
    Err("the crowd's locks did not end".to_owned())
}

/// Asks all replicas how they stand, at once, as `holdfast status` does.
async fn ask_status(endpoints: Endpoints, seen: Rc<RefCell<Seen>>) {
    let link = Link::new(endpoints.clone(), "lockbench status", false);
    loop {
        let asked = endpoints.as_slice().iter().map(|endpoint: &Endpoint| {
            let link = &link;
            async move {
                let start = Instant::now();
                let status = link.status_once(endpoint, PATIENCE).await;
                status.ok().map(|_| start.elapsed())
            }
        });
        let took = futures::future::join_all(asked).await;
        if let Some(slowest) = took.into_iter().flatten().max() {
            seen.borrow_mut().status.record(slowest);
        }
        tokio::time::sleep(PROBE_EVERY).await;
    }
}

/// Looks for the leader as a client does that has just started, each time from another replica on.
async fn scout(endpoints: Endpoints, seen: Rc<RefCell<Seen>>) {
    let mut order: Vec<Endpoint> = endpoints.as_slice().to_vec();
    loop {
        order.rotate_left(1);
        let list: Vec<String> = order.iter().map(ToString::to_string).collect();
        let Ok(endpoints) = Endpoints::parse(&list) else {
            return;
        };
        let link = Link::new(endpoints, "lockbench scout", false);
        let start = Instant::now();
        if link.health(PATIENCE).await.is_ok() {
            seen.borrow_mut().scout.record(start.elapsed());
        }
        link.disconnect();
        tokio::time::sleep(PROBE_EVERY).await;
    }
}

/// Acquires and releases, so that a time without service shows.
async fn stand_by(mut worker: Worker, seen: Rc<RefCell<Seen>>) {
    loop {
        let start = Instant::now();
        let cycled = async {
            let token = worker.acquire().await?;
            worker.release(token).await
        };
        if cycled.await.is_ok() {
            seen.borrow_mut().succeeded(start.elapsed());
        } else {
            seen.borrow_mut().failed += 1;
            worker.recover().await;
        }
        tokio::time::sleep(BYSTANDER_EVERY).await;
    }
}

/// What had been counted when the last phase ended.
#[derive(Default)]
struct Before {
    cycles: u64,
    failed: u64,
    beats: u64,
    sessions_lost: u64,
    locks_lost: u64,
}

/// Turns what is counted all the time into phases.
struct Book {
    seen: Rc<RefCell<Seen>>,
    window: Rc<Window>,
    counts: Rc<crate::crowd::Counts>,
    before: Before,
    start: Instant,
}

impl Book {
    fn close(&mut self, phase: &'static str, first_success_ms: Vec<f64>) -> Phase {
        let last_success = self.seen.borrow().last_success;
        let fresh = Seen {
            last_success,
            ..Seen::new()
        };
        let seen = std::mem::replace(&mut *self.seen.borrow_mut(), fresh);
        let (cycles, failed) = self.window.counts();
        let now = Before {
            cycles,
            failed,
            beats: self.counts.beats.get(),
            sessions_lost: self.counts.sessions_lost.get(),
            locks_lost: self.counts.locks_lost.get(),
        };
        let before = std::mem::replace(&mut self.before, now);
        let phase = Phase {
            phase,
            seconds: self.start.elapsed().as_secs_f64(),
            status_ms: times(&seen.status),
            scout_ms: times(&seen.scout),
            bystander_ms: times(&seen.bystander),
            bystander_failed: seen.failed,
            longest_gap_ms: ms(seen.longest_gap.max(last_success.elapsed())),
            busy_cycles: self.before.cycles - before.cycles,
            busy_failed: self.before.failed - before.failed,
            beats: self.before.beats - before.beats,
            sessions_lost: self.before.sessions_lost - before.sessions_lost,
            locks_lost: self.before.locks_lost - before.locks_lost,
            longest_beat_gap_ms: ms(self.counts.longest.take()),
            first_success_ms,
        };
        self.start = Instant::now();
        phase
    }
}

fn times(latency: &Latency) -> Times {
    let Some(Percentiles { p50_us, .. }) = latency.percentiles() else {
        return Times::default();
    };
    Times {
        p50: p50_us as f64 / 1e3,
        max: latency.max_us() as f64 / 1e3,
        count: latency.count(),
    }
}

fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}
