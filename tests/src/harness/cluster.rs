//! Replicas as real processes with real folders: killed, paused, cut off and brought back.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::Value;

use super::binaries::program;
use super::client::Client;
use super::patience::{until, wait_for};
use super::process::Process;
use super::shell::Shell;
use super::slots::Slot;
use super::{http, ports};
use crate::history::History;
use crate::proxy::{Proxy, Rules};

/// How long a replica may take until it says that it is ready. Generous: two cores, many tests.
const READY_LIMIT: Duration = Duration::from_secs(20);
/// How long after SIGTERM a replica may live: 5 s by the contract, and a second for the machine.
const STOP_LIMIT: Duration = Duration::from_secs(6);
/// How long the replicas may take to become equal once nothing is wrong any more.
pub const QUIET_LIMIT: Duration = Duration::from_secs(20);
/// The exit code of a replica whose address is in use.
const EXIT_ADDRESS_IN_USE: i32 = 3;
const STARTS_MAX: usize = 3;
/// Holds the largest append several times over.
const SEGMENT_SIZE: &str = "4MiB";

/// Files by name with their bytes, of one replica.
pub type Files = BTreeMap<String, Vec<u8>>;

/// What kind of cluster to start.
#[derive(Clone, Debug)]
pub struct Plan {
    replicas: u16,
    flags: Vec<String>,
    flags_of: BTreeMap<u16, Vec<String>>,
    data_of: BTreeMap<u16, PathBuf>,
    links: bool,
}

impl Plan {
    /// That many replicas with ids from 1, at their defaults but for the size of a segment: zeros
    /// for the usual one take longer to write than most tests.
    pub fn new(replicas: u16) -> Plan {
        let flags = ["--segment-size", SEGMENT_SIZE].map(str::to_owned).to_vec();
        let (flags_of, data_of) = (BTreeMap::new(), BTreeMap::new());
        Plan {
            replicas,
            flags,
            flags_of,
            data_of,
            links: false,
        }
    }

    /// A flag for every replica.
    #[must_use]
    pub fn flag(mut self, name: &str, value: &str) -> Plan {
        self.flags.extend([name.to_owned(), value.to_owned()]);
        self
    }

    /// A flag for one.
    #[must_use]
    pub fn flag_of(mut self, id: u16, name: &str, value: &str) -> Plan {
        self.flags_of
            .entry(id)
            .or_default()
            .extend([name.to_owned(), value.to_owned()]);
        self
    }

    /// A data folder elsewhere than in the test's own folder, for one replica.
    #[must_use]
    pub fn data_of(mut self, id: u16, folder: &Path) -> Plan {
        self.data_of.insert(id, folder.to_owned());
        self
    }

    /// With a proxy on each link between replicas, so that a test can cut them.
    #[must_use]
    pub fn with_links(mut self) -> Plan {
        self.links = true;
        self
    }

    /// Starts them all and waits until each is ready.
    ///
    /// # Panics
    ///
    /// If one is not, within 20 s.
    pub fn start(self) -> Cluster {
        let mut cluster = self.prepare();
        for _ in 1..STARTS_MAX {
            if cluster.start_all_once() {
                return cluster;
            }
            // Somebody outside this program took one of the ports: others.
            let plan = cluster.plan.clone();
            drop(cluster);
            cluster = plan.prepare();
        }
        cluster.start_all();
        cluster
    }

    /// Folders and addresses, but no process yet.
    pub fn prepare(self) -> Cluster {
        let slot = Slot::take();
        let folder = tempfile::Builder::new()
            .prefix("holdfast-test-")
            .tempdir()
            .expect("there is a place for temporary folders");
        let ids = 1..=self.replicas;
        let data = |id: u16| {
            let own = || folder.path().join(id.to_string());
            self.data_of.get(&id).cloned().unwrap_or_else(own)
        };
        let replicas: BTreeMap<u16, Replica> =
            ids.map(|id| (id, Replica::new(id, data(id)))).collect();
        let mut links = BTreeMap::new();
        if self.links {
            for from in replicas.keys() {
                for (to, target) in replicas.iter().filter(|(to, _)| *to != from) {
                    links.insert((*from, *to), Proxy::start(target.peer, Arc::default()));
                }
            }
        }
        Cluster {
            replicas,
            links,
            plan: self,
            history: Arc::default(),
            folder,
            _slot: slot,
        }
    }
}

/// Replicas that were started here. Killed when dropped.
#[derive(Debug)]
pub struct Cluster {
    // First, so that processes end before their folder goes.
    replicas: BTreeMap<u16, Replica>,
    links: BTreeMap<(u16, u16), Proxy>,
    plan: Plan,
    history: Arc<History>,
    folder: tempfile::TempDir,
    _slot: Slot,
}

#[derive(Debug)]
struct Replica {
    id: u16,
    data: PathBuf,
    client: SocketAddr,
    peer: SocketAddr,
    http: SocketAddr,
    process: Option<Process>,
    paused: bool,
}

impl Replica {
    fn new(id: u16, data: PathBuf) -> Replica {
        Replica {
            id,
            data,
            client: ports::pick(),
            peer: ports::pick(),
            http: ports::pick(),
            process: None,
            paused: false,
        }
    }

    fn ready_line(&self) -> String {
        let Replica {
            id,
            client,
            peer,
            http,
            ..
        } = self;
        format!("ready id={id} client={client} peer={peer} http={http}")
    }

    fn answers(&self) -> bool {
        self.process.is_some() && !self.paused
    }
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
    fn start_all_once(&mut self) -> bool {
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
        let replica = &self.replicas[&id];
        let mut command = Command::new(program("node"));
        command
            .args(["serve", "--id", &id.to_string(), "--cluster", "test"])
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

    // --- what they say ---

    /// `/status` of a replica; `None` if it does not answer.
    pub fn status(&self, id: u16) -> Option<Value> {
        let replica = &self.replicas[&id];
        if !replica.answers() {
            return None;
        }
        let (code, body) = http::get(replica.http, "/status").ok()?;
        (code == 200).then(|| serde_json::from_str(&body).ok())?
    }

    /// The statuses of all that answer.
    pub fn statuses(&self) -> BTreeMap<u16, Value> {
        self.ids()
            .into_iter()
            .filter_map(|id| Some((id, self.status(id)?)))
            .collect()
    }

    /// Waits until one replica leads and each that answers knows it; its id.
    ///
    /// # Panics
    ///
    /// If there is none within 20 s.
    pub fn leader(&self) -> u16 {
        until("one leader that all know", QUIET_LIMIT, || {
            let statuses = self.statuses();
            let leader = statuses
                .iter()
                .find(|(_, s)| s["role"] == "leader")
                .map(|(id, _)| *id)?;
            statuses
                .values()
                .all(|s| s["leader"] == leader)
                .then_some(leader)
        })
    }

    /// A live replica that does not lead.
    pub fn follower(&self) -> u16 {
        let leader = self.leader();
        let answering = self
            .replicas
            .values()
            .find(|r| r.id != leader && r.answers());
        answering.expect("a replica besides the leader").id
    }

    /// Waits until every live replica has applied all that any of them knows to be chosen now.
    ///
    /// # Panics
    ///
    /// If they have not within 20 s.
    pub fn wait_equal(&self) {
        let live = self
            .replicas
            .values()
            .filter(|replica| replica.answers())
            .count();
        let number = |status: &Value, field: &str| status[field].as_u64();
        let mut goal = None;
        wait_for(
            "all replicas to have applied what is chosen",
            QUIET_LIMIT,
            || {
                let statuses = self.statuses();
                if statuses.len() < live {
                    return false;
                }
                if goal.is_none() && statuses.values().any(|status| status["role"] == "leader") {
                    goal = statuses
                        .values()
                        .filter_map(|status| number(status, "chosen"))
                        .max();
                }
                let reached = |status: &Value| {
                    number(status, "applied") >= goal
                        && number(status, "effects_waiting") == Some(0)
                };
                goal.is_some() && statuses.values().all(reached)
            },
        );
    }

    /// The files of a replica as they lie in its data folder.
    pub fn files(&self, id: u16) -> Files {
        let folder = self.replicas[&id].data.join("files");
        let entries = std::fs::read_dir(&folder)
            .unwrap_or_else(|error| panic!("cannot list {}: {error}", folder.display()));
        entries
            .map(|entry| {
                let entry = entry.expect("a folder entry can be read");
                let name = entry.file_name().to_string_lossy().into_owned();
                (
                    name,
                    std::fs::read(entry.path()).expect("a file can be read"),
                )
            })
            .collect()
    }

    /// Waits until all live replicas are equal and returns their files, the same on each.
    ///
    /// # Panics
    ///
    /// If they do not become equal, or the files differ.
    pub fn equal_files(&self) -> Files {
        self.wait_equal();
        let live: Vec<u16> = self
            .replicas
            .values()
            .filter(|r| r.answers())
            .map(|r| r.id)
            .collect();
        let first = self.files(live[0]);
        for id in &live[1..] {
            let other = self.files(*id);
            let differing: Vec<&String> = first
                .keys()
                .chain(other.keys())
                .filter(|name| first.get(*name) != other.get(*name))
                .collect();
            assert!(
                differing.is_empty(),
                "files of replicas {} and {id} differ at equal slots: {differing:?}",
                live[0]
            );
        }
        first
    }

    /// Asserts what a file holds, on every live replica: on disk once their slots are equal, and by
    /// `cat` from each.
    ///
    /// # Panics
    ///
    /// If one holds something else.
    pub fn assert_file(&self, name: &str, expected: &str) {
        let files = self.equal_files();
        let on_disk = files
            .get(name)
            .map(|bytes| String::from_utf8_lossy(bytes).into_owned());
        assert_eq!(
            on_disk.as_deref(),
            Some(expected),
            "files/{name} on every replica"
        );
        let shell = self.shell("reader");
        shell.assert_cat(name, expected);
        for replica in self.replicas.values().filter(|replica| replica.answers()) {
            shell.assert_stale_cat(replica.id, name, expected);
        }
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
        let mut command = Command::new(program("holdfast"));
        command.args(["--endpoints", &self.endpoints()]);
        command
    }

    /// Asserts that what all clients of this test saw can be (see [`crate::history::order`]).
    ///
    /// # Panics
    ///
    /// If it cannot.
    pub fn check_order(&self) {
        let found = crate::history::order::violations(&self.history.events());
        assert!(
            found.is_empty(),
            "the history cannot be:\n{}",
            found.join("\n")
        );
    }

    /// Asserts order, and that the files are what clients were told. For tests whose appends are
    /// lines that no other repeats (see [`crate::history::sections`]).
    ///
    /// # Panics
    ///
    /// If not.
    pub fn check_sections(&self) {
        self.check_order();
        let files = self.equal_files();
        let found = crate::history::sections::violations(&self.history.events(), &files);
        assert!(
            found.is_empty(),
            "the files cannot be:\n{}",
            found.join("\n")
        );
    }
}
