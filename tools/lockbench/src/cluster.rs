//! A cluster of its own: replicas as child processes on loopback, data in a temporary folder, all gone at the end.

use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

/// How long a replica may take until it says that it is ready.
const READY_WITHIN: Duration = Duration::from_secs(30);

/// Replicas that die with this value.
#[derive(Debug)]
pub(crate) struct Cluster {
    program: PathBuf,
    folder: TempDir,
    /// `1=host:port,…` of the peers.
    peers: String,
    /// Clients that each takes at once, if not as many as by itself.
    max_clients: Option<u64>,
    replicas: Vec<Replica>,
}

#[derive(Debug)]
struct Replica {
    id: u16,
    client: String,
    process: Option<Child>,
}

impl Cluster {
    /// Starts replicas 1 to `count` of `program`, data under `parent`, each for `max_clients` if that is given.
    ///
    /// # Errors
    ///
    /// Fails if one cannot be started or is not ready in time; what it said is in the message.
    pub(crate) fn start(
        program: &Path,
        count: u16,
        parent: &Path,
        max_clients: Option<u64>,
    ) -> io::Result<Cluster> {
        let folder = tempfile::Builder::new()
            .prefix("lockbench-")
            .tempdir_in(parent)?;
        let addresses = free_addresses(2 * usize::from(count))?;
        let (clients, peers) = addresses.split_at(usize::from(count));
        let mut cluster = Cluster {
            program: program.to_owned(),
            folder,
            peers: listed(peers),
            max_clients,
            replicas: (1..=count)
                .zip(clients)
                .map(|(id, client)| Replica {
                    id,
                    client: client.clone(),
                    process: None,
                })
                .collect(),
        };
        // All at once: the first of them is ready only with a majority.
        let waits: Vec<_> = (1..=count)
            .map(|id| cluster.spawn(id))
            .collect::<io::Result<_>>()?;
        waits.into_iter().try_for_each(|ready| ready.wait())?;
        Ok(cluster)
    }

    /// Where clients find it: `1=host:port,…`.
    pub(crate) fn endpoints(&self) -> String {
        self.replicas
            .iter()
            .map(|r| format!("{}={}", r.id, r.client))
            .collect::<Vec<_>>()
            .join(",")
    }

    /// The processes that run.
    pub(crate) fn pids(&self) -> impl Iterator<Item = u32> {
        self.replicas
            .iter()
            .filter_map(|replica| replica.process.as_ref().map(Child::id))
    }

    /// The ids of the replicas that run.
    pub(crate) fn running(&self) -> impl Iterator<Item = u16> {
        self.replicas
            .iter()
            .filter(|replica| replica.process.is_some())
            .map(|replica| replica.id)
    }

    /// Kills a replica with -9; returns once it is dead.
    pub(crate) fn kill(&mut self, id: u16) {
        let replica = self.replicas.iter_mut().find(|replica| replica.id == id);
        if let Some(mut process) = replica.and_then(|replica| replica.process.take()) {
            end(&mut process);
        }
    }

    /// Stops a replica (SIGSTOP) or lets it go on (SIGCONT).
    ///
    /// # Errors
    ///
    /// Fails if it does not run.
    pub(crate) fn signal(&self, id: u16, signal: Signal) -> io::Result<()> {
        let replica = self.replicas.iter().find(|replica| replica.id == id);
        let process = replica.and_then(|replica| replica.process.as_ref());
        let pid = process.and_then(|process| Pid::from_raw(i32::try_from(process.id()).ok()?));
        let pid = pid.ok_or_else(|| io::Error::other(format!("replica {id} does not run")))?;
        Ok(kill_process(pid, signal)?)
    }

    /// Starts a replica that was killed; returns once it is ready.
    ///
    /// # Errors
    ///
    /// As [`Cluster::start`].
    pub(crate) fn restart(&mut self, id: u16) -> io::Result<()> {
        self.spawn(id)?.wait()
    }

    fn spawn(&mut self, id: u16) -> io::Result<Ready> {
        let replica = &mut self.replicas[usize::from(id) - 1];
        let log = self.folder.path().join(format!("{id}.log"));
        let limit = self.max_clients.map(|count| count.to_string());
        let limit = limit.iter().flat_map(|count| ["--max-clients", count]);
        let mut process = Command::new(&self.program)
            .args(["serve", "--id", &id.to_string(), "--peers", &self.peers])
            .args([
                "--listen-client",
                &replica.client,
                "--listen-http",
                "127.0.0.1:0",
            ])
            .args(limit)
            .arg("--data")
            .arg(self.folder.path().join(id.to_string()))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(File::options().create(true).append(true).open(&log)?)
            .spawn()
            .map_err(|error| io::Error::other(format!("{}: {error}", self.program.display())))?;
        let stdout = process.stdout.take();
        replica.process = Some(process);
        Ok(Ready::of(
            stdout.into_iter().map(BufReader::new).next(),
            log,
        ))
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for replica in &mut self.replicas {
            replica.process.iter_mut().for_each(end);
        }
    }
}

fn end(process: &mut Child) {
    _ = process.kill();
    _ = process.wait();
}

/// Waits for the line that a replica prints once it serves.
struct Ready {
    line: mpsc::Receiver<String>,
    log: PathBuf,
}

impl Ready {
    fn of(stdout: Option<impl BufRead + Send + 'static>, log: PathBuf) -> Ready {
        let (sender, line) = mpsc::channel();
        std::thread::spawn(move || {
            let line = stdout.and_then(|stdout| stdout.lines().next()?.ok());
            line.map(|line| sender.send(line))
        });
        Ready { line, log }
    }

    fn wait(self) -> io::Result<()> {
        match self.line.recv_timeout(READY_WITHIN) {
            Ok(line) if line.starts_with("ready ") => Ok(()),
            heard => {
                let how = match heard {
                    Ok(line) => format!("it said {line:?}"),
                    Err(mpsc::RecvTimeoutError::Timeout) => format!("{READY_WITHIN:?} are over"),
                    Err(mpsc::RecvTimeoutError::Disconnected) => "it ended".to_owned(),
                };
                let log = std::fs::read_to_string(&self.log).unwrap_or_default();
                let last = log.lines().last().unwrap_or("it said nothing");
                Err(io::Error::other(format!(
                    "a replica did not get ready, {how}: {last}"
                )))
            }
        }
    }
}

/// Addresses that were free a moment ago.
fn free_addresses(count: usize) -> io::Result<Vec<String>> {
    let listeners: Vec<_> = (0..count)
        .map(|_| TcpListener::bind("127.0.0.1:0"))
        .collect::<io::Result<_>>()?;
    listeners
        .iter()
        .map(|listener| listener.local_addr().map(|address| address.to_string()))
        .collect()
}

fn listed(addresses: &[String]) -> String {
    (1..)
        .zip(addresses)
        .map(|(id, address): (u16, _)| format!("{id}={address}"))
        .collect::<Vec<_>>()
        .join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_that_is_no_replica_is_reported() {
        let folder = tempfile::tempdir().unwrap();
        let error = Cluster::start(Path::new("/bin/false"), 1, folder.path(), None).unwrap_err();
        assert!(error.to_string().contains("did not get ready"), "{error}");
        assert_eq!(
            std::fs::read_dir(folder.path()).unwrap().count(),
            0,
            "the data stayed behind"
        );
    }

    #[test]
    fn a_list_names_ids_from_one() {
        assert_eq!(listed(&["a:1".to_owned(), "b:2".to_owned()]), "1=a:1,2=b:2");
    }
}
