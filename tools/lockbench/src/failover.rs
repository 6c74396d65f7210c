//! The work `failover`: the leader is killed with -9, and the time to the next success is taken, ten times.
//!
//! The call that is timed is begun right after the kill, by a client whose connection led to the dead leader. Between
//! two kills the dead replica is started again and catches up, so that each kill meets a whole cluster. Further
//! clients (`--clients`) load the cluster with cycles meanwhile.

use std::rc::Rc;
use std::time::{Duration, Instant};

use tokio::task::JoinSet;

use crate::args::Work;
use crate::crew::{Crew, violations};
use crate::cycle;
use crate::report::Report;
use crate::run::{empty, finish, narrate};
use crate::target::Target;
use crate::window::Window;
use crate::worker::Worker;

/// How often the leader is killed.
const KILLS: usize = 10;

/// Quiet time between a replica's return and the next kill, longer than an election.
const SETTLE: Duration = Duration::from_millis(700);

pub(crate) async fn run(work: &Work, target: &mut Target) -> Result<Report, String> {
    if target.cluster.is_none() {
        return Err(
            "failover kills replicas, so it needs a cluster of its own, not --endpoints".to_owned(),
        );
    }
    if target.replicas < 3 {
        return Err("failover needs at least --replicas 3".to_owned());
    }
    let mut crew = Crew::muster(target, work.load()).await?;
    let witnesses = crew.witnesses();
    let window = Rc::new(Window::new(None));
    let mut prober = crew.workers.pop().ok_or("failover needs a client")?;
    let mut others = JoinSet::new();
    for worker in crew.workers {
        others.spawn_local(cycle::work(worker, window.clone()));
    }
    window.open();
    let start = Instant::now();
    let mut times = Vec::with_capacity(KILLS);
    for kill in 1..=KILLS {
        narrate(&format!("kill {kill} of {KILLS}:"));
        let took = kill_once(target, &mut prober, &window).await?;
        times.push(took.as_secs_f64() * 1000.0);
    }
    let mut report = empty(work, target);
    report.seconds = start.elapsed().as_secs_f64();
    window.close();
    finish(others).await;
    prober.close().await;
    (report.cycles, report.failed) = window.counts();
    report.set_times(&window.times.borrow());
    report.rss_bytes = target.usage().map(|usage| usage.rss_bytes);
    report.exclusion_violations = violations(&witnesses);
    report.first_success_ms = Some(times);
    Ok(report)
}

/// One kill, the time to the next success, and the cluster made whole again.
async fn kill_once(
    target: &mut Target,
    prober: &mut Worker,
    window: &Window,
) -> Result<Duration, String> {
    let say = |error: std::io::Error| error.to_string();
    let leader = target.leader().await.map_err(say)?;
    // The prober's connection leads to the leader, as a busy client's would.
    prober
        .cycle()
        .await
        .map_err(|error| format!("before the kill: {error}"))?;
    narrate(&format!("  killing replica {leader}, which leads"));
    let start = Instant::now();
    if let Some(cluster) = &mut target.cluster {
        cluster.kill(leader);
    }
    let took = loop {
        match prober.acquire().await {
            Ok(token) => {
                let took = start.elapsed();
                prober
                    .release(token)
                    .await
                    .map_err(|error| format!("after the kill: {error}"))?;
                window.done(|_| ());
                break took;
            }
            Err(_) => {
                window.failed();
                prober.recover().await;
            }
        }
    };
    let next = target.leader().await.map_err(say)?;
    narrate(&format!(
        "  replica {next} leads; first success after {} ms",
        took.as_millis()
    ));
    let restarted = Instant::now();
    if let Some(cluster) = &mut target.cluster {
        cluster.restart(leader).map_err(say)?;
    }
    target.caught_up(leader).await.map_err(say)?;
    narrate(&format!(
        "  replica {leader} is back and has caught up after {} ms",
        restarted.elapsed().as_millis()
    ));
    tokio::time::sleep(SETTLE).await;
    Ok(took)
}
