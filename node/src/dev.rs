//! `node dev`: a cluster on this machine, until Ctrl-C or for as long as a command runs.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::{ExitCode, ExitStatus};
use std::time::Duration;

use std::os::unix::process::ExitStatusExt;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::timeout;

use crate::failure::{Exit, Failure};
use crate::local::{Cluster, Folder, Layout};

/// The command has this long to follow the signal that ends `dev`.
const COMMAND_PATIENCE: Duration = Duration::from_secs(5);

/// A killed process is gone after this time.
const DYING: Duration = Duration::from_secs(1);

/// What `node dev` was asked for.
#[derive(Clone, Debug)]
pub struct Options {
    /// How many replicas.
    pub replicas: u16,
    /// Where the data is kept; none: a temporary folder.
    pub data: Option<PathBuf>,
    /// First port; 0: any free ones.
    pub base_port: u16,
    /// The command and its arguments; empty: until a signal.
    pub command: Vec<OsString>,
}

/// Runs the cluster.
///
/// # Errors
///
/// [`Failure`] if a replica does not start, with the exit code of that replica.
pub fn run(options: &Options) -> Result<ExitCode, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|e| Failure::new(Exit::Other, format!("runtime: {e}")))?;
    runtime.block_on(run_cluster(options))
}

async fn run_cluster(options: &Options) -> Result<ExitCode, Failure> {
    let where_to = options.data.clone().unwrap_or_else(std::env::temp_dir);
    let where_to = where_to.display();
    let folder = match &options.data {
        Some(path) => Folder::lasting(path),
        None => Folder::temporary(),
    };
    let folder = folder
        .map_err(|e| Failure::new(Exit::DataRefused, format!("data folder {where_to}: {e}")))?;
    let mut stop = Stop::catch()?;
    let mut again = caught(SignalKind::user_defined1())?;
    let layout = Layout {
        replicas: options.replicas,
        base_port: options.base_port,
        // What is printed to be typed elsewhere must not depend on where this was started.
        data: std::path::absolute(folder.path()).unwrap_or_else(|_| folder.path().to_owned()),
        flags: Vec::new(),
    };
    let mut cluster = tokio::select! {
        started = Cluster::start(&layout) => started?,
        // The children die with what is dropped here.
        number = stop.next() => return Ok(ExitCode::from(128 + number)),
    };
    tokio::select! {
        led = cluster.led() => led?,
        number = stop.next() => {
            cluster.end().await;
            return Ok(ExitCode::from(128 + number));
        }
    }
    introduce(options, &cluster, &folder);
    let code = if options.command.is_empty() {
        until_signal(&mut cluster, &mut stop, &mut again).await
    } else {
        beside_command(options, &mut cluster, &mut stop, &mut again).await
    };
    cluster.end().await;
    code
}

/// A line for each replica, then what to type next; to standard error if a command owns the output.
fn introduce(options: &Options, cluster: &Cluster, folder: &Folder) {
    let mut text = String::new();
    for child in &cluster.children {
        text += &format!(
            "replica {}  client {}  http {}  pid {}\n           data {}  log {}\n",
            child.id,
            child.client,
            child.http,
            child.pid().unwrap_or(0),
            child.data.display(),
            child.log.display()
        );
    }
    if !options.command.is_empty() {
        eprint!("{text}");
        return;
    }
    text += "\nIn another terminal:\n";
    text += &format!("  export HOLDFAST_ENDPOINTS={}\n", cluster.endpoints());
    text += "  holdfast status\n";
    text += "  holdfast append file_0 hello\n";
    text += "  holdfast lock default -- sh -c 'echo holding token $HOLDFAST_TOKEN; sleep 5'\n";
    if let [first, ..] = cluster.children.as_slice() {
        text += &format!(
            "\nTo see a replica fail (replica {} here; `holdfast status` names the leader), and come back:\n",
            first.id
        );
        text += &format!("  kill -9 {}\n", first.pid().unwrap_or(0));
        text += &format!("  {}\n", restart_line());
    }
    let fate = if folder.is_temporary() {
        "removes the data"
    } else {
        "keeps the data"
    };
    text += &format!("\nCtrl-C stops the replicas and {fate}.\n");
    print!("{text}");
}

/// What starts again the replicas that have ended. They are started by this process, so that they end with it.
fn restart_line() -> String {
    format!("kill -USR1 {}", std::process::id())
}

async fn until_signal(
    cluster: &mut Cluster,
    stop: &mut Stop,
    again: &mut Signal,
) -> Result<ExitCode, Failure> {
    loop {
        tokio::select! {
            _ = stop.next() => {
                eprintln!("stopping");
                return Ok(ExitCode::SUCCESS);
            }
            _ = again.recv() => {
                tokio::select! {
                    () = start_again(cluster) => {}
                    _ = stop.next() => return Ok(ExitCode::SUCCESS),
                }
            }
            ended = cluster.ended() => {
                let tail = cluster.child(ended.id).map(|child| child.log_tail()).unwrap_or_default();
                eprintln!("replica {} ended ({}); the end of its log:\n{}", ended.id, ended.status, tail.trim_end());
                if cluster.children.iter().all(|child| !child.runs()) {
                    eprintln!("no replica is left");
                }
                eprintln!("to start it again:\n  {}", restart_line());
            }
        }
    }
}

/// Starts all replicas that have ended, and says how that went.
async fn start_again(cluster: &mut Cluster) {
    if !cluster.has_ended() {
        // One that was killed in the same breath may still be about to end.
        let _ = timeout(DYING, cluster.ended()).await;
    }
    if !cluster.has_ended() {
        eprintln!("all replicas run");
    }
    for (id, started) in cluster.restart_ended().await {
        match (started, cluster.child(id).and_then(|child| child.pid())) {
            (Ok(()), Some(pid)) => eprintln!("replica {id} is back, pid {pid}"),
            (Ok(()), None) => eprintln!("replica {id} ended again"),
            (Err(failure), _) => eprintln!("{failure}"),
        }
    }
}

/// Runs the command and returns its exit code.
async fn beside_command(
    options: &Options,
    cluster: &mut Cluster,
    stop: &mut Stop,
    again: &mut Signal,
) -> Result<ExitCode, Failure> {
    let [program, arguments @ ..] = options.command.as_slice() else {
        unreachable!("there is a command")
    };
    let mut command = tokio::process::Command::new(program);
    command
        .args(arguments)
        .env("HOLDFAST_ENDPOINTS", cluster.endpoints())
        .kill_on_drop(true);
    let mut process = match command.spawn() {
        Ok(process) => process,
        Err(error) => {
            eprintln!("node: {}: {error}", program.to_string_lossy());
            let missing = error.kind() == std::io::ErrorKind::NotFound;
            return Ok(ExitCode::from(if missing { 127 } else { 126 }));
        }
    };
    loop {
        tokio::select! {
            status = process.wait() => {
                let status = status.map_err(|e| Failure::new(Exit::Other, format!("waiting for the command: {e}")))?;
                return Ok(exit_code(status));
            }
            number = stop.next() => {
                // Ctrl-C has reached it already; whoever signalled only us gets the same end.
                if timeout(COMMAND_PATIENCE, process.wait()).await.is_err() {
                    let _ = process.kill().await;
                }
                return Ok(ExitCode::from(128 + number));
            }
            _ = again.recv() => start_again(cluster).await,
            ended = cluster.ended() => eprintln!("node: replica {} ended ({})", ended.id, ended.status),
        }
    }
}

/// As a shell has it: the command's own, or 128 and the signal that ended it.
fn exit_code(status: ExitStatus) -> ExitCode {
    let code = status
        .code()
        .or_else(|| status.signal().map(|number| 128 + number));
    ExitCode::from(
        code.and_then(|code| u8::try_from(code).ok())
            .unwrap_or(Exit::Other as u8),
    )
}

fn caught(kind: SignalKind) -> Result<Signal, Failure> {
    signal(kind).map_err(|e| Failure::new(Exit::Other, format!("signals: {e}")))
}

/// The signals that end `dev`.
struct Stop {
    interrupt: Signal,
    terminate: Signal,
    hangup: Signal,
}

impl Stop {
    fn catch() -> Result<Stop, Failure> {
        Ok(Stop {
            interrupt: caught(SignalKind::interrupt())?,
            terminate: caught(SignalKind::terminate())?,
            hangup: caught(SignalKind::hangup())?,
        })
    }

    /// The number of the next one.
    async fn next(&mut self) -> u8 {
        tokio::select! {
            _ = self.interrupt.recv() => 2,
            _ = self.terminate.recv() => 15,
            _ = self.hangup.recv() => 1,
        }
    }
}
