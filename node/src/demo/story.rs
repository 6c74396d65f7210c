//! What happens in the demonstration, in order.

use std::io::IsTerminal;
use std::path::Path;
use std::process::ExitCode;
use std::rc::Rc;
use std::time::{Duration, Instant};

use client::{Client, Endpoints, Options};
use tokio::task::LocalSet;

use super::ledger::{LINES, Section};
use super::verdict::{Compared, compare};
use super::worker::{self, LEASE, LOCK, Shared};
use crate::failure::{Exit, Failure};
use crate::local::{Cluster, Folder, Layout};

const REPLICAS: u16 = 3;
const CLIENTS: u32 = 5;
/// Undisturbed work before the leader is killed, and after it is back.
const WORK: Duration = Duration::from_secs(4);
/// All replicas hold the same within this time after the last section.
const EQUAL_PATIENCE: Duration = Duration::from_secs(8);
/// A leader is known within this time.
const LEADER_PATIENCE: Duration = Duration::from_secs(8);
const POLL: Duration = Duration::from_millis(25);

/// The whole demonstration.
pub(super) async fn tell() -> Result<ExitCode, Failure> {
    let folder = Folder::temporary().map_err(|e| failed(format!("temporary folder: {e}")))?;
    let began = Instant::now();
    narrate(began, "starting three replicas on this machine");
    let layout = Layout {
        replicas: REPLICAS,
        base_port: 0,
        data: folder.path().to_owned(),
        flags: Vec::new(),
    };
    let mut cluster = Cluster::start(&layout).await?;
    println!(
        "{REPLICAS} replicas, {CLIENTS} clients, lock {LOCK}, {LINES} lines a section to each of 2 files"
    );
    let told = LocalSet::new().run_until(act(&mut cluster, began)).await;
    narrate(began, "comparing the files of all replicas");
    let told = match told {
        Ok(figures) => conclude(&cluster, &figures)
            .await
            .map(|compared| (figures, compared)),
        Err(failure) => Err(failure),
    };
    cluster.end().await;
    let (figures, compared) = told?;
    figures.print(&compared);
    println!("all held, in {:.1} s", began.elapsed().as_secs_f64());
    Ok(ExitCode::SUCCESS)
}

/// What was seen.
struct Figures {
    shared: Rc<Shared>,
    client: Client,
    leader: u16,
    next_leader: u16,
    failover: Duration,
    back: Duration,
    worked: Duration,
}

impl Figures {
    fn print(&self, compared: &Compared) {
        let cycles = self.shared.cycles.get();
        let seconds = self.worked.as_secs_f64();
        println!(
            "sections released    {cycles} in {seconds:.1} s, {:.0} a second",
            cycles as f64 / seconds
        );
        println!(
            "sections given up    {}",
            self.shared.setbacks.borrow().len()
        );
        println!(
            "leader {} killed      inside a section; replica {} took over, the section went on after {} ms",
            self.leader,
            self.next_leader,
            self.failover.as_millis()
        );
        println!(
            "replica {} back       {} ms after its restart",
            self.leader,
            self.back.as_millis()
        );
        println!(
            "files compared       {} on {REPLICAS} replicas, {} bytes each: equal; {} sections in them, each acknowledged one once",
            compared.files, compared.bytes, compared.sections
        );
    }
}

/// Says on a terminal what is going on, for somebody who watches; a script gets the figures only.
fn narrate(began: Instant, what: &str) {
    if std::io::stdout().is_terminal() {
        println!("{:6.2} s  {what}", began.elapsed().as_secs_f64());
    }
}

async fn act(cluster: &mut Cluster, began: Instant) -> Result<Figures, Failure> {
    let shared = Rc::new(Shared::default());
    let watcher = connect(cluster, "watcher").await?;
    let mut workers = Vec::new();
    for number in 1..=CLIENTS {
        let client = connect(cluster, &format!("client {number}")).await?;
        workers.push(tokio::task::spawn_local(worker::work(
            client,
            number,
            shared.clone(),
        )));
    }
    let start = Instant::now();
    narrate(
        began,
        &format!("{CLIENTS} clients take turns at the lock and write"),
    );
    tokio::time::sleep(WORK).await;
    let leader = leader_of(&watcher).await?;
    narrate(
        began,
        &format!("killing replica {leader}, which leads, inside a section (kill -9)"),
    );
    let failover = kill_inside_section(cluster, leader, &watcher, &shared).await?;
    narrate(
        began,
        &format!("the section went on after {} ms", failover.as_millis()),
    );
    let next_leader = leader_of(&watcher).await?;
    narrate(began, &format!("replica {next_leader} leads now"));
    let restarted = Instant::now();
    child(cluster, leader)?.restart().await?;
    let back = restarted.elapsed();
    narrate(
        began,
        &format!(
            "replica {leader} is back, {} ms after its restart",
            back.as_millis()
        ),
    );
    tokio::time::sleep(WORK).await;
    shared.stop.set(true);
    for worker in workers {
        worker
            .await
            .map_err(|e| failed(format!("a client ended early: {e}")))?;
    }
    Ok(Figures {
        worked: start.elapsed(),
        shared,
        client: watcher,
        leader,
        next_leader,
        failover,
        back,
    })
}

/// Returns how long the section stood still.
async fn kill_inside_section(
    cluster: &mut Cluster,
    leader: u16,
    client: &Client,
    shared: &Shared,
) -> Result<Duration, Failure> {
    let section = Section {
        client: 0,
        number: 1,
    };
    let files = worker::files_of(section);
    let lost = |error: client::Error| {
        failed(format!(
            "the section during which the leader was killed: {error}"
        ))
    };
    let guard = client
        .lock(LOCK)
        .lease(LEASE)
        .acquire()
        .await
        .map_err(lost)?;
    worker::write(&guard, section, &files, 0..1)
        .await
        .map_err(lost)?;
    child(cluster, leader)?.kill().await;
    let killed = Instant::now();
    worker::write(&guard, section, &files, 1..LINES)
        .await
        .map_err(lost)?;
    let failover = killed.elapsed();
    worker::release(guard, section, &files, shared)
        .await
        .map_err(lost)?;
    Ok(failover)
}

/// Waits until all replicas stand equal and compares their files.
async fn conclude(cluster: &Cluster, figures: &Figures) -> Result<Compared, Failure> {
    until_equal(&figures.client).await?;
    let folders: Vec<(u16, &Path)> = cluster
        .children
        .iter()
        .map(|child| (child.id, child.data.as_path()))
        .collect();
    compare(&folders, &figures.shared.ledger.borrow()).map_err(failed)
}

async fn until_equal(client: &Client) -> Result<(), Failure> {
    let end = Instant::now() + EQUAL_PATIENCE;
    loop {
        let all: Vec<_> = client
            .status()
            .await
            .into_iter()
            .filter_map(|(_, status)| status.ok())
            .collect();
        let equal = all.windows(2).all(|pair| {
            pair[0].applied == pair[1].applied && pair[0].state_hash == pair[1].state_hash
        });
        let settled = all.iter().all(|status| status.lag == 0);
        if all.len() == usize::from(REPLICAS) && equal && settled {
            return Ok(());
        }
        if Instant::now() > end {
            let stand: Vec<String> = all
                .iter()
                .map(|s| format!("{} at {} hash {:016x}", s.id, s.applied, s.state_hash))
                .collect();
            return Err(failed(format!(
                "the replicas do not become equal: {}",
                stand.join(", ")
            )));
        }
        tokio::time::sleep(POLL).await;
    }
}

async fn leader_of(client: &Client) -> Result<u16, Failure> {
    let end = Instant::now() + LEADER_PATIENCE;
    while Instant::now() < end {
        let all = client
            .status()
            .await
            .into_iter()
            .filter_map(|(_, status)| status.ok());
        if let Some(leader) = all.into_iter().find(|status| status.role == "leader") {
            return Ok(leader.id);
        }
        tokio::time::sleep(POLL).await;
    }
    Err(failed("no replica leads".into()))
}

async fn connect(cluster: &Cluster, name: &str) -> Result<Client, Failure> {
    let endpoints = cluster
        .children
        .iter()
        .map(|child| format!("{}={}", child.id, child.client));
    let endpoints = Endpoints::parse(endpoints).map_err(|e| failed(e.to_string()))?;
    let options = Options {
        name: name.to_owned(),
        ..Options::default()
    };
    Client::connect_with(endpoints, options)
        .await
        .map_err(|e| failed(format!("{name} cannot connect: {e}")))
}

fn child(cluster: &mut Cluster, id: u16) -> Result<&mut crate::local::Child, Failure> {
    cluster
        .child(id)
        .ok_or_else(|| failed(format!("there is no replica {id}")))
}

fn failed(why: String) -> Failure {
    Failure::new(Exit::Other, format!("demo: {why}"))
}
