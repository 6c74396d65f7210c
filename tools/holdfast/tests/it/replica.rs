//! A real replica, which is a whole cluster, for as long as a test needs one.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;

use tempfile::TempDir;

/// A served replica with a temporary data folder; killed when dropped.
pub(crate) struct Replica {
    process: Child,
    folder: TempDir,
    /// Where clients find it.
    pub(crate) address: String,
    /// Where other replicas would find it.
    pub(crate) peer: String,
}

impl Replica {
    /// Starts one on free ports and waits until it serves.
    pub(crate) fn start() -> Replica {
        Replica::start_with(&[])
    }

    /// The same with further flags of `node serve`.
    pub(crate) fn start_with(flags: &[&str]) -> Replica {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let (process, address, peer) = serve(folder.path(), "127.0.0.1:0", flags);
        Replica {
            process,
            folder,
            address,
            peer,
        }
    }

    /// Kills it with -9.
    pub(crate) fn kill(&mut self) {
        self.process.kill().expect("killing the replica");
        self.process.wait().expect("waiting for the replica");
    }

    /// Starts it again at the same address, after [`Replica::kill`].
    pub(crate) fn restart(&mut self) {
        (self.process, self.address, self.peer) = serve(self.folder.path(), &self.address, &[]);
    }

    /// Its process id.
    pub(crate) fn pid(&self) -> u32 {
        self.process.id()
    }

    /// A program that runs holdfast, told where this replica is.
    pub(crate) fn around<'a>(&self, command: &'a mut Command) -> &'a mut Command {
        clean(command).env("HOLDFAST_ENDPOINTS", &self.address)
    }

    /// The holdfast program, told where this replica is.
    pub(crate) fn holdfast(&self) -> Command {
        let mut command = holdfast();
        command.env("HOLDFAST_ENDPOINTS", &self.address);
        command
    }
}

impl Drop for Replica {
    fn drop(&mut self) {
        _ = self.process.kill();
        _ = self.process.wait();
    }
}

/// The holdfast program.
pub(crate) fn holdfast() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_holdfast"));
    clean(&mut command);
    command
}

/// Takes away what a holdfast around this test would hand down.
fn clean(command: &mut Command) -> &mut Command {
    for variable in [
        "HOLDFAST_SECTION",
        "HOLDFAST_LOCK",
        "HOLDFAST_TOKEN",
        "HOLDFAST_ENDPOINTS",
    ] {
        command.env_remove(variable);
    }
    command
}

fn serve(data: &Path, client: &str, flags: &[&str]) -> (Child, String, String) {
    let mut process = Command::new(node_program())
        .args([
            "serve",
            "--listen-client",
            client,
            "--listen-peer",
            "127.0.0.1:0",
        ])
        .args(["--listen-http", "127.0.0.1:0"])
        .args(flags)
        .arg("--data")
        .arg(data)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("starting node");
    let mut line = String::new();
    let stdout = process.stdout.take().expect("a pipe");
    BufReader::new(stdout)
        .read_line(&mut line)
        .expect("the ready line");
    let address = |key: &str| {
        let address = line
            .split_whitespace()
            .find_map(|word| word.strip_prefix(key));
        address
            .unwrap_or_else(|| panic!("not ready: {line:?}"))
            .to_owned()
    };
    (process, address("client="), address("peer="))
}

/// The node program: of `HOLDFAST_TEST_BINARIES` if that is set, else of this workspace, built if it is not.
fn node_program() -> &'static Path {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    PROGRAM.get_or_init(|| {
        if let Some(folder) = std::env::var_os("HOLDFAST_TEST_BINARIES") {
            return Path::new(&folder).join("node");
        }
        let mut cargo = Command::new(env!("CARGO"));
        cargo.args(["build", "--quiet", "-p", "node", "--bin", "node"]);
        let folder = Path::new(env!("CARGO_BIN_EXE_holdfast"))
            .parent()
            .expect("a folder");
        if folder.ends_with("release") {
            cargo.arg("--release");
        }
        let built = cargo
            .current_dir(env!("CARGO_MANIFEST_DIR"))
            .status()
            .expect("running cargo");
        assert!(built.success(), "node does not build");
        folder.join("node")
    })
}
