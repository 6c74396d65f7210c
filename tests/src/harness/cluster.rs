//! Replicas as real processes with real folders: killed, paused, cut off and brought back.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use super::binaries::command;
use super::client::Client;
use super::plan::Plan;
use super::process::Process;
use super::replica::Replica;
use super::shell::Shell;
use super::slots::Slot;
use crate::history::History;
use crate::proxy::{Proxy, Rules};

/// How long a replica may take until it says that it is ready. Generous: two cores, many tests.
const READY_LIMIT: Duration = Duration::from_secs(20);
/// How long after SIGTERM a replica may live: 5 s by the contract, and a second for the machine.
const STOP_LIMIT: Duration = Duration::from_secs(6);
/// The exit code of a replica whose address is in use.
const EXIT_ADDRESS_IN_USE: i32 = 3;

/// Replicas that were started here. Killed when dropped.
#[derive(Debug)]
pub struct Cluster {
    // First, so that processes end before their folder goes.
    pub(super) replicas: BTreeMap<u16, Replica>,
    pub(super) links: BTreeMap<(u16, u16), Proxy>,
    pub(super) plan: Plan,
    pub(super) history: Arc<History>,
    pub(super) folder: tempfile::TempDir,
    pub(super) _slot: Slot,
}

impl Cluster {
    /// That many replicas, see [`Plan::new`].
    pub fn start(replicas: u16) -> Cluster {
        Plan::new(replicas).start()
    }

    /// The ids of all replicas, dead ones too.
    pub fn ids(&self) -> Vec<u16> {
        self.replicas.keys().copied().collect()
    }

    /// The test's own folder; gone at its end.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// A replica's data folder.
    pub fn data(&self, id: u16) -> &Path {
        &self.replicas[&id].data
    }

    /// Where a replica takes clients.
    pub fn client_address(&self, id: u16) -> SocketAddr {
        self.replicas[&id].client
    }

    /// Where a replica takes peers.
    pub fn peer_address(&self, id: u16) -> SocketAddr {
        self.replicas[&id].peer
    }

    /// Where a replica serves its pages.
    pub fn http_address(&self, id: u16) -> SocketAddr {
        self.replicas[&id].http
    }

    /// What `--endpoints` takes: `1=HOST:PORT,2=…`, of all replicas.
    pub fn endpoints(&self) -> String {
        let one = |(id, replica): (&u16, &Replica)| format!("{id}={}", replica.client);
        self.replicas.iter().map(one).collect::<Vec<_>>().join(",")
    }

    /// What this test's clients have seen.
    pub fn history(&self) -> &Arc<History> {
        &self.history
    }

    /// The process of a live replica.
    ///
    /// # Panics
    ///
    /// If it is dead.
    pub fn process(&mut self, id: u16) -> &mut Process {
        self.replica(id).process.as_mut().expect("the replica runs")
    }

    fn replica(&mut self, id: u16) -> &mut Replica {
        self.replicas
            .get_mut(&id)
            .expect("a replica of this cluster")
    }

    /// A further flag for one replica, from its next start on.
    pub fn set_flag_of(&mut self, id: u16, name: &str, value: &str) {
        self.plan = self.plan.clone().flag_of(id, name, value);
    }

    // --- life and death ---

    /// Starts every replica that is dead, all at once, and waits until each is ready.
    ///
    /// # Panics
    ///
    /// If one is not, within 20 s.
    pub fn start_all(&mut self) {
        assert!(self.start_all_once(), "a replica's address is in use");
    }

    /// As [`Cluster::start_all`]; false if a replica found an address in use.
    pub(super) fn start_all_once(&mut self) -> bool {
        let dead: Vec<u16> = self
            .replicas
            .values()
            .filter(|r| r.process.is_none())
            .map(|r| r.id)
            .collect();
        for id in &dead {
            self.spawn(*id);
        }
        dead.iter().all(|id| self.await_ready(*id))
    }

    /// Starts one dead replica and waits until it is ready.
    ///
    /// # Panics
    ///
    /// If it is not, within 20 s.
    pub fn start_replica(&mut self, id: u16) {
        self.spawn(id);
        assert!(self.await_ready(id), "an address of replica {id} is in use");
    }

    /// Starts one dead replica and waits for nothing.
    pub fn spawn(&mut self, id: u16) {
        let command = self.command(id);
        self.spawn_as(id, command);
    }

    /// Starts one dead replica by a command of the test's own.
    pub fn spawn_as(&mut self, id: u16, mut command: Command) {
        let name = format!("node-{id}");
        let process = Process::spawn(&name, &mut command, self.folder.path());
        let replica = self.replica(id);
        assert!(replica.process.is_none(), "replica {id} runs already");
        replica.process = Some(process);
        replica.paused = false;
    }

    /// `node serve` with all flags of that replica.
    pub fn command(&self, id: u16) -> Command {
        self.command_of(&self.replicas[&id])
    }

    /// `node serve` as that replica, but on another folder and other addresses.
    pub fn command_on(&self, id: u16, data: &Path) -> Command {
        self.command_of(&Replica::new(id, data.to_owned()))
    }

    fn command_of(&self, replica: &Replica) -> Command {
        let id = replica.id;
        let mut command = command("node");
        command
            .args(["serve", "--id", &id.to_string()])
            .args(["--cluster", &self.plan.cluster])
            .arg("--data")
            .arg(&replica.data)
            .args(["--peers", &self.peers(id)])
            .args(["--listen-client", &replica.client.to_string()])
            .args(["--listen-peer", &replica.peer.to_string()])
            .args(["--listen-http", &replica.http.to_string()])
            .args(&self.plan.flags)
            .args(
                self.plan
                    .flags_of
                    .get(&id)
                    .map(Vec::as_slice)
                    .unwrap_or_default(),
            );
        command
    }

    /// `--peers` as replica `id` sees them: itself where it listens, the others by its links.
    fn peers(&self, id: u16) -> String {
        let address = |(to, replica): (&u16, &Replica)| {
            let by = self
                .links
                .get(&(id, *to))
                .map_or(replica.peer, Proxy::address);
            format!("{to}={by}")
        };
        self.replicas
            .iter()
            .map(address)
            .collect::<Vec<_>>()
            .join(",")
    }

    /// Waits for the ready line; false if the replica found an address in use.
    fn await_ready(&mut self, id: u16) -> bool {
        let replica = self.replica(id);
        let expected = replica.ready_line();
        let process = replica.process.as_mut().expect("the replica runs");
        let line = process.stdout().wait_line(0, Instant::now() + READY_LIMIT);
        if line.is_none() && process.exited().and_then(|s| s.code()) == Some(EXIT_ADDRESS_IN_USE) {
            replica.process = None;
            return false;
        }
        assert_eq!(
            line.as_deref(),
            Some(expected.as_str()),
            "a replica that accepts clients says so in one line on standard output (interfaces.md)"
        );
        true
    }

    /// `kill -9`.
    pub fn kill(&mut self, id: u16) {
        if let Some(mut process) = self.replica(id).process.take() {
            process.kill();
        }
    }

    /// `kill -9` of all, as close together as it goes.
    pub fn kill_all(&mut self) {
        for replica in self.replicas.values_mut() {
            if let Some(process) = &mut replica.process {
                process.signal(Signal::KILL);
            }
        }
        for id in self.ids() {
            self.kill(id);
        }
    }

    /// SIGTERM, and waits for the end.
    ///
    /// # Panics
    ///
    /// If it does not exit with 0 within the 5 s of the contract, or has written more than its
    /// ready line to standard output.
    pub fn stop(&mut self, id: u16) {
        let mut process = self.replica(id).process.take().expect("the replica runs");
        process.signal(Signal::TERM);
        let code = process.exit_code(STOP_LIMIT);
        assert_eq!(
            code,
            Some(0),
            "SIGTERM: sync, exit 0 within 5 s\n{}",
            process.stderr_tail()
        );
        let lines = process.stdout().all();
        assert_eq!(
            lines.len(),
            1,
            "standard output is the ready line and nothing else: {lines:?}"
        );
    }

    /// SIGSTOP.
    pub fn pause(&mut self, id: u16) {
        self.process(id).signal(Signal::STOP);
        self.replica(id).paused = true;
    }

    /// SIGCONT.
    pub fn resume(&mut self, id: u16) {
        self.process(id).signal(Signal::CONT);
        self.replica(id).paused = false;
    }

    // --- links between replicas ---

    /// Cuts every link of a replica with the others. Needs [`Plan::with_links`].
    pub fn isolate(&self, id: u16) {
        assert!(
            !self.links.is_empty(),
            "this cluster was planned without links"
        );
        self.links_of(id).for_each(Proxy::sever);
    }

    /// Ends [`Cluster::isolate`].
    pub fn rejoin(&self, id: u16) {
        self.links_of(id).for_each(Proxy::heal);
    }

    fn links_of(&self, id: u16) -> impl Iterator<Item = &Proxy> {
        self.links
            .iter()
            .filter(move |((from, to), _)| *from == id || *to == id)
            .map(|(_, p)| p)
    }

    // --- clients ---

    /// A shell that reaches the replicas directly.
    pub fn shell(&self, name: &str) -> Shell {
        Shell::start(
            name,
            &self.endpoints(),
            self.folder.path(),
            &[],
            Arc::clone(&self.history),
        )
    }

    /// A shell behind proxies of its own, one for each replica.
    pub fn client(&self, name: &str) -> Client {
        self.client_with(name, &[])
    }

    /// As [`Cluster::client`], with flags for `holdfast shell`.
    pub fn client_with(&self, name: &str, flags: &[&str]) -> Client {
        let rules: Arc<Rules> = Arc::default();
        let proxy = |(id, replica): (&u16, &Replica)| {
            (*id, Proxy::start(replica.client, Arc::clone(&rules)))
        };
        let proxies: BTreeMap<u16, Proxy> = self.replicas.iter().map(proxy).collect();
        let history = Arc::clone(&self.history);
        Client::start(name, rules, proxies, self.folder.path(), flags, history)
    }

    /// `holdfast` with the endpoints of this cluster, to be given a verb.
    pub fn holdfast(&self) -> Command {
        let mut command = command("holdfast");
        command.args(["--endpoints", &self.endpoints()]);
        command
    }
}
