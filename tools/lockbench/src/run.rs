//! One run: the clients work, a window of it counts.

use std::future::Future;
use std::io::IsTerminal;
use std::rc::Rc;
use std::time::{Duration, Instant};

use tokio::task::JoinSet;

use crate::args::{Format, Load, Locks, Work};
use crate::crew::{Crew, violations};
use crate::report::Report;
use crate::target::Target;
use crate::window::Window;
use crate::worker::Worker;
use crate::{append, cycle, failover, scale};

/// Load that does not count yet.
const WARM_UP: Duration = Duration::from_secs(1);

/// How long clients may take to finish what they are at.
const FINISH_WITHIN: Duration = Duration::from_secs(15);

/// What a run came to, as it is to be printed.
pub(crate) struct Told {
    pub(crate) text: String,
    pub(crate) exclusion_violations: u64,
}

/// Does the work and says what came of it. `fewer_clients`: as many as each replica is to take, if not as many as it does by
/// itself.
///
/// # Errors
///
/// Fails if there is no cluster to work on.
pub(crate) async fn run(work: &Work, fewer_clients: Option<u64>) -> Result<Told, String> {
    let output = work.load().output;
    let (text, exclusion_violations) = match work {
        Work::Scale(scale) => {
            let report = scale::run(work, scale, fewer_clients).await?;
            let text = match output {
                Format::Table => report.table(),
                Format::Json => report.json(),
            };
            (text, report.exclusion_violations)
        }
        _ => {
            let report = run_load(work, fewer_clients).await?;
            let text = match output {
                Format::Table => report.table(),
                Format::Json => report.json(),
            };
            (text, report.exclusion_violations)
        }
    };
    Ok(Told {
        text,
        exclusion_violations,
    })
}

async fn run_load(work: &Work, fewer_clients: Option<u64>) -> Result<Report, String> {
    let load = work.load();
    let mut target = Target::of(load, fewer_clients).await?;
    match work {
        Work::Cycle(_) | Work::Scale(_) => measured(work, &target, cycle::work).await,
        Work::Append(_) => {
            let depth = load.depth as usize;
            measured(work, &target, move |worker, window| {
                append::work(worker, window, depth)
            })
            .await
        }
        Work::Failover(options) => failover::run(work, options, &mut target).await,
    }
}

async fn measured<F: Future<Output = Worker> + 'static>(
    work: &Work,
    target: &Target,
    each: impl Fn(Worker, Rc<Window>) -> F,
) -> Result<Report, String> {
    let load = work.load();
    let crew = Crew::muster(target, load).await?;
    let witnesses = crew.witnesses();
    let window = Rc::new(Window::new(load.cycles));
    let mut clients = JoinSet::new();
    for worker in crew.workers {
        clients.spawn_local(each(worker, window.clone()));
    }
    narrate(&format!(
        "{} clients on {} replicas: warming up, then measuring",
        load.clients, target.replicas
    ));
    tokio::time::sleep(WARM_UP).await;
    let (before, start) = (target.usage(), Instant::now());
    window.open();
    window.filled(load.duration).await;
    let seconds = start.elapsed().as_secs_f64();
    let used = target
        .usage()
        .zip(before)
        .map(|(after, before)| after - before);
    window.close();
    finish(clients).await;

    let mut report = empty(work, target);
    (report.cycles, report.failed) = window.counts();
    report.seconds = seconds;
    report.set_times(&window.times.borrow());
    report.server_cpu_s = used.map(|used| used.cpu.as_secs_f64());
    report.rss_bytes = used.map(|used| used.rss_bytes);
    report.exclusion_violations = violations(&witnesses);
    Ok(report)
}

/// Says on a terminal what is going on. Standard output stays for the one line of figures.
pub(crate) fn narrate(what: &str) {
    if std::io::stderr().is_terminal() {
        eprintln!("lockbench: {what}");
    }
}

/// Lets the clients end what they are at, and closes their sessions.
pub(crate) async fn finish(mut clients: JoinSet<Worker>) {
    let ended = async {
        while let Some(worker) = clients.join_next().await {
            if let Ok(worker) = worker {
                worker.close().await;
            }
        }
    };
    // Those that do not end in time are dropped with the set.
    _ = tokio::time::timeout(FINISH_WITHIN, ended).await;
}

/// A report of nothing yet.
pub(crate) fn empty(work: &Work, target: &Target) -> Report {
    let load: &Load = work.load();
    Report {
        work: work.name(),
        clients: load.clients,
        replicas: target.replicas,
        locks: match load.locks {
            Locks::One => "1",
            Locks::PerClient => "per-client",
        },
        seconds: 0.0,
        cycles: 0,
        failed: 0,
        cycle: None,
        acquire: None,
        append: None,
        release: None,
        server_cpu_s: None,
        rss_bytes: None,
        sync_p50_us: target.sync_p50_us,
        exclusion_violations: 0,
        first_success_ms: None,
        survival: None,
    }
}
