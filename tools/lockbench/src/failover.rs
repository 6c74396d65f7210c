//! The work `failover`: the leader is killed with -9 or stopped, and the time to the next success is taken.
//!
//! The call that is timed is begun right after the kill, by a client whose connection led to the dead leader. Between
//! two kills the dead replica is started again and catches up, so that each kill meets a whole cluster. Further
//! clients (`--clients`) load the cluster with cycles meanwhile, and holders (`--holders`) keep their locks.
//!
//! Whether the first candidacy won is told by ballots: each candidacy takes the next round.

use std::rc::Rc;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use tokio::task::JoinSet;

use crate::args::{Failover, Work};
use crate::crew::{Crew, violations};
use crate::cycle;
use crate::holders::Holders;
use crate::report::Report;
use crate::run::{empty, finish, narrate};
use crate::target::Target;
use crate::window::Window;
use crate::worker::Worker;

/// Quiet time between a replica's return and the next kill, longer than an election.
const SETTLE: Duration = Duration::from_millis(700);

/// Beyond its lease, until a holder has certainly given its lock up.
const LATE: Duration = Duration::from_millis(100);

pub(crate) async fn run(
    work: &Work,
    options: &Failover,
    target: &mut Target,
) -> Result<Report, String> {
    let mut crew = Crew::muster(target, work.load()).await?;
    let witnesses = crew.witnesses();
    let window = Rc::new(Window::new(None));
    let mut prober = crew.workers.pop().ok_or("failover needs a client")?;
    let mut others = JoinSet::new();
    for worker in crew.workers {
        others.spawn_local(cycle::work(worker, window.clone()));
    }
    let count = options.holders as usize;
    let mut holders = Holders::acquire(&target.endpoints, count, options.lease).await?;
    window.open();
    let start = Instant::now();
    let mut times = Vec::new();
    for kill in 1..=options.kills {
        narrate(&format!("kill {kill} of {}:", options.kills));
        let killed = Instant::now();
        let change = kill_once(target, options.pause, &mut prober, &window).await?;
        times.push(change.took.as_secs_f64() * 1000.0);
        if count > 0 {
            let told = killed + options.lease + LATE;
            tokio::time::sleep_until(told.into()).await;
            let lost = holders.count(change.candidacies == 1).await?;
            if lost > 0 {
                let (took, tries) = (change.took.as_millis(), change.candidacies);
                narrate(&format!(
                    "  {lost} locks lost; {tries} candidacies, {took} ms"
                ));
            }
        }
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
    report.survival = (count > 0).then_some(holders.survival);
    Ok(report)
}

/// One change of leader.
struct Change {
    /// To the next success.
    took: Duration,
    /// Rounds that the ballots went up by.
    candidacies: u64,
}

/// One kill, the time to the next success, and the cluster made whole again.
async fn kill_once(
    target: &mut Target,
    pause: Option<Duration>,
    prober: &mut Worker,
    window: &Window,
) -> Result<Change, String> {
    let say = |error: std::io::Error| error.to_string();
    let leader = target.leader().await.map_err(say)?;
    let before = target.round(leader).await.map_err(say)?;
    // The prober's connection leads to the leader, as a busy client's would.
    prober
        .cycle()
        .await
        .map_err(|error| format!("before the kill: {error}"))?;
    narrate(&format!("  killing replica {leader}, which leads"));
    let start = Instant::now();
    if let Some(cluster) = &mut target.cluster {
        match pause {
            Some(_) => cluster.signal(leader, Signal::STOP).map_err(say)?,
            None => cluster.kill(leader),
        }
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
    let after = target.round(next).await.map_err(say)?;
    narrate(&format!(
        "  replica {next} leads; first success after {} ms",
        took.as_millis()
    ));
    if let Some(pause) = pause {
        tokio::time::sleep_until((start + pause).into()).await;
    }
    let restarted = Instant::now();
    if let Some(cluster) = &mut target.cluster {
        match pause {
            Some(_) => cluster.signal(leader, Signal::CONT).map_err(say)?,
            None => cluster.restart(leader).map_err(say)?,
        }
    }
    target.caught_up(leader).await.map_err(say)?;
    narrate(&format!(
        "  replica {leader} is back and has caught up after {} ms",
        restarted.elapsed().as_millis()
    ));
    tokio::time::sleep(SETTLE).await;
    Ok(Change {
        took,
        candidacies: after.saturating_sub(before),
    })
}
