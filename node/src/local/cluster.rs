//! Replicas as child processes.
//!
//! Each is a `node serve` in a process group of its own, so that Ctrl-C in a terminal reaches only
//! the parent, which then ends them in good order; and each is tied to the parent's life, so that
//! nothing stays behind if the parent is killed.

use std::fs::File;
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::Command;
use tokio::time::timeout;

use statemachine::{Query, Token};

use super::lifeline;
use crate::config::setting::SETTINGS;
use crate::failure::{Exit, Failure};
use crate::server::start::fewer_clients;

/// A replica says that it is ready within this time, or something is wrong.
const READY_PATIENCE: Duration = Duration::from_secs(20);
/// How many clients a replica takes if nothing is said.
const CLIENTS: u32 = 10_000;
/// One that was asked to end is killed after this time.
const END_PATIENCE: Duration = Duration::from_secs(7);
/// How much of a child's log is shown when it failed.
const LOG_TAIL_BYTES: usize = 2000;

/// Which replicas there are and where.
#[derive(Clone, Debug)]
pub struct Layout {
    /// How many replicas, with the ids 1 and on.
    pub replicas: u16,
    /// Replica ID's ports are this + ID, + 10 + ID and + 20 + ID; 0 for any free ones.
    pub base_port: u16,
    /// Replica ID's data is in `data/ID`, its log lines in `data/ID.log`.
    pub data: PathBuf,
    /// More flags for `node serve`.
    pub flags: Vec<String>,
}

/// Child processes, all of one cluster.
#[derive(Debug)]
pub struct Cluster {
    /// Ascending by id.
    pub children: Vec<Child>,
}

/// One replica's process, running or not.
#[derive(Debug)]
pub struct Child {
    /// The replica's id.
    pub id: u16,
    /// Where it serves clients.
    pub client: String,
    /// Where its pages are.
    pub http: String,
    /// Its data folder.
    pub data: PathBuf,
    /// Its log lines.
    pub log: PathBuf,
    arguments: Vec<String>,
    process: Option<tokio::process::Child>,
}

/// A child that ended without having been asked to.
#[derive(Clone, Copy, Debug)]
pub struct Ended {
    /// The replica's id.
    pub id: u16,
    /// How.
    pub status: ExitStatus,
}

impl Cluster {
    /// Starts all replicas and waits until each is ready.
    ///
    /// # Errors
    ///
    /// [`Failure`] with the exit code of the first child that failed, and the end of its log. The
    /// others are killed.
    pub async fn start(layout: &Layout) -> Result<Cluster, Failure> {
        let ports = ports(layout)?;
        let mut layout = layout.clone();
        // The replicas' own advice would be to lower a setting that a local cluster does not have.
        if let Some(fit) = fewer_clients(CLIENTS)? {
            eprintln!(
                "node: the limit on open files leaves room for {fit} clients of each replica"
            );
            let flags = ["--max-clients".to_owned(), fit.to_string()];
            layout.flags.splice(0..0, flags);
        }
        let layout = &layout;
        let peers = ports
            .iter()
            .zip(1..)
            .map(|(ports, id): (_, u16)| format!("{id}=127.0.0.1:{}", ports[1]));
        let peers = peers.collect::<Vec<_>>().join(",");
        let mut children: Vec<Child> = (1..)
            .zip(&ports)
            .map(|(id, ports)| Child::new(layout, id, ports, &peers))
            .collect();
        let mut lines = Vec::new();
        for child in &mut children {
            lines.push(child.spawn()?);
        }
        for (child, lines) in children.iter_mut().zip(lines) {
            child.ready(lines).await?;
        }
        Ok(Cluster { children })
    }

    /// Waits until a replica leads and serves, so that whatever comes next finds a cluster that works.
    ///
    /// # Errors
    ///
    /// [`Failure`] if none does in time.
    pub async fn led(&self) -> Result<(), Failure> {
        let failed = |why: String| Failure::new(Exit::Other, why);
        let endpoints = self.endpoints().parse::<client::Endpoints>();
        let endpoints = endpoints.map_err(|e| failed(e.to_string()))?;
        let link = client::raw::Link::new(endpoints, "node", false);
        // A linearizable read takes a leader that a quorum follows.
        let query = Query::CheckToken {
            lock: "default".to_owned(),
            token: Token(0),
        };
        match link.query(&query, READY_PATIENCE).await {
            Ok(_) | Err(client::Error::Refused(_)) => Ok(()),
            Err(error) => Err(failed(format!(
                "no replica leads after {READY_PATIENCE:?}: {error}"
            ))),
        }
    }

    /// Whether some child has ended, as far as was noticed.
    pub fn has_ended(&self) -> bool {
        self.children.iter().any(|child| !child.runs())
    }

    /// Starts all replicas that have ended, at once since they may need each other. Returns for each how that went.
    pub async fn restart_ended(&mut self) -> Vec<(u16, Result<(), Failure>)> {
        let ended = self.children.iter_mut().filter(|child| !child.runs());
        let started = ended.map(|child| async { (child.id, child.restart().await) });
        futures::future::join_all(started).await
    }

    /// The client addresses, as `--endpoints` takes them.
    pub fn endpoints(&self) -> String {
        let addresses: Vec<&str> = self
            .children
            .iter()
            .map(|child| child.client.as_str())
            .collect();
        addresses.join(",")
    }

    /// The child of this replica.
    pub fn child(&mut self, id: u16) -> Option<&mut Child> {
        self.children.iter_mut().find(|child| child.id == id)
    }

    /// Waits until some running child ends by itself.
    pub async fn ended(&mut self) -> Ended {
        let ends = self
            .children
            .iter_mut()
            .filter(|child| child.process.is_some())
            .map(|child| {
                Box::pin(async {
                    let process = child.process.as_mut().expect("filtered");
                    let status = process.wait().await;
                    child.process = None;
                    (child.id, status)
                })
            });
        let ends: Vec<_> = ends.collect();
        if ends.is_empty() {
            return std::future::pending().await;
        }
        let ((id, status), ..) = futures::future::select_all(ends).await;
        Ended {
            id,
            status: status.unwrap_or_default(),
        }
    }

    /// Asks all to end, waits, and kills those that take too long.
    pub async fn end(&mut self) {
        for child in &self.children {
            child.signal(Signal::TERM);
        }
        for child in &mut self.children {
            child.wait_or_kill().await;
        }
    }
}

impl Child {
    fn new(layout: &Layout, id: u16, ports: &[u16; 3], peers: &str) -> Child {
        let address = |port: u16| format!("127.0.0.1:{port}");
        let data = layout.data.join(id.to_string());
        let mut arguments: Vec<String> = vec!["serve".into()];
        let mut flag = |name: &str, value: String| arguments.extend([format!("--{name}"), value]);
        flag("id", id.to_string());
        flag("data", data.display().to_string());
        flag("peers", peers.to_owned());
        flag("listen-client", address(ports[0]));
        flag("listen-peer", address(ports[1]));
        flag("listen-http", address(ports[2]));
        arguments.extend(layout.flags.iter().cloned());
        Child {
            id,
            client: address(ports[0]),
            http: address(ports[2]),
            log: layout.data.join(format!("{id}.log")),
            data,
            arguments,
            process: None,
        }
    }

    /// Starts the process again after it was killed or ended, and waits until it is ready.
    ///
    /// # Errors
    ///
    /// As [`Cluster::start`].
    pub async fn restart(&mut self) -> Result<(), Failure> {
        let lines = self.spawn()?;
        let ready = self.ready(lines).await;
        if ready.is_err() {
            self.kill().await;
        }
        ready
    }

    fn spawn(&mut self) -> Result<BufReader<tokio::process::ChildStdout>, Failure> {
        let failed = |what: &str, error: std::io::Error| {
            Failure::new(Exit::Other, format!("replica {}: {what}: {error}", self.id))
        };
        let program = std::env::current_exe().map_err(|e| failed("this program's own path", e))?;
        let log = File::options()
            .create(true)
            .append(true)
            .open(&self.log)
            .map_err(|e| failed("its log file", e))?;
        let mut command = Command::new(program);
        command
            .args(&self.arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log);
        // All is said by flags: what happens to stand in the environment is not meant for these.
        for setting in SETTINGS {
            command.env_remove(setting.variable());
        }
        command
            .env_remove("HOLDFAST_CONFIG")
            .env(lifeline::VARIABLE, std::process::id().to_string());
        command.process_group(0).kill_on_drop(true);
        let mut process = command.spawn().map_err(|e| failed("start", e))?;
        let lines = process.stdout.take().expect("piped");
        self.process = Some(process);
        Ok(BufReader::new(lines))
    }

    async fn ready(
        &mut self,
        mut lines: BufReader<tokio::process::ChildStdout>,
    ) -> Result<(), Failure> {
        let mut line = String::new();
        match timeout(READY_PATIENCE, lines.read_line(&mut line)).await {
            Ok(Ok(_)) if line.starts_with("ready ") => Ok(()),
            Ok(_) => Err(self.failure().await),
            Err(_) => Err(Failure::new(
                Exit::Other,
                format!(
                    "replica {} is not ready after {READY_PATIENCE:?}; its log: {}",
                    self.id,
                    self.log_tail()
                ),
            )),
        }
    }

    /// Why it ended before it was ready.
    async fn failure(&mut self) -> Failure {
        let status = match self.process.take() {
            Some(mut process) => process.wait().await.ok(),
            None => None,
        };
        let exit = match status.and_then(|status| status.code()) {
            Some(3) => Exit::AddressInUse,
            Some(4) => Exit::DataRefused,
            Some(5) => Exit::Damaged,
            Some(6) => Exit::WriteFailed,
            _ => Exit::Other,
        };
        let advice = match exit {
            Exit::AddressInUse => {
                "\nAnother cluster may run here; choose other ports with --base-port PORT, or any free ones with --base-port 0"
            }
            _ => "",
        };
        Failure::new(
            exit,
            format!(
                "replica {} did not start:\n{}{advice}",
                self.id,
                self.log_tail().trim_end()
            ),
        )
    }

    /// The end of its log.
    pub fn log_tail(&self) -> String {
        let bytes = std::fs::read(&self.log).unwrap_or_default();
        let from = bytes.len().saturating_sub(LOG_TAIL_BYTES);
        let tail = &bytes[from..];
        // From the start of a line, if any line begins there.
        let line = (from > 0).then(|| tail.iter().position(|&byte| byte == b'\n'));
        let skipped = line.flatten().map_or(0, |at| at + 1);
        String::from_utf8_lossy(&tail[skipped..]).into_owned()
    }

    /// Whether its process has not ended, as far as was noticed.
    pub fn runs(&self) -> bool {
        self.process.is_some()
    }

    /// The process id, if it runs.
    pub fn pid(&self) -> Option<u32> {
        self.process.as_ref()?.id()
    }

    /// Kills it as a power cut would, and waits until it is gone.
    pub async fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            // It can only fail if the process has ended.
            let _ = process.kill().await;
        }
    }

    fn signal(&self, signal: Signal) {
        let pid = self.pid().and_then(|pid| Pid::from_raw(pid.cast_signed()));
        if let Some(pid) = pid {
            // Not reaped yet, so the id is still that child's.
            let _ = kill_process(pid, signal);
        }
    }

    async fn wait_or_kill(&mut self) {
        let Some(mut process) = self.process.take() else {
            return;
        };
        if timeout(END_PATIENCE, process.wait()).await.is_err() {
            let _ = process.kill().await;
        }
    }
}

/// Client, peer and HTTP port of each replica.
fn ports(layout: &Layout) -> Result<Vec<[u16; 3]>, Failure> {
    if layout.base_port == 0 {
        return free_ports(layout.replicas)
            .map_err(|e| Failure::new(Exit::Other, format!("free ports: {e}")));
    }
    let of = |id: u16| [0, 10, 20].map(|offset| layout.base_port + offset + id);
    Ok((1..=layout.replicas).map(of).collect())
}

/// Ports that are free now. They are held until all are found, so that none is given twice.
fn free_ports(replicas: u16) -> std::io::Result<Vec<[u16; 3]>> {
    let mut held = Vec::new();
    let mut port = || -> std::io::Result<u16> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let port = listener.local_addr()?.port();
        held.push(listener);
        Ok(port)
    };
    (0..replicas)
        .map(|_| Ok([port()?, port()?, port()?]))
        .collect()
}
