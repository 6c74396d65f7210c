//! The programs under test, built once per test run with the profile and target folder of the test.
//!
//! `HOLDFAST_TEST_BINARIES=DIR` takes them from there instead: installed ones, or a release build.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

static FOLDER: OnceLock<PathBuf> = OnceLock::new();

/// A program of this workspace, without any setting from the environment of whoever runs the tests.
///
/// # Panics
///
/// If the workspace does not build.
pub fn command(name: &str) -> Command {
    let mut command = Command::new(program(name));
    for (setting, _) in std::env::vars_os() {
        if setting.to_string_lossy().starts_with("HOLDFAST_") {
            command.env_remove(setting);
        }
    }
    command
}

/// The path of a program of this workspace: `node`, `holdfast`, `walinspect`, `lockbench`.
///
/// # Panics
///
/// If the workspace does not build.
fn program(name: &str) -> PathBuf {
    let folder = FOLDER.get_or_init(|| match std::env::var_os("HOLDFAST_TEST_BINARIES") {
        Some(folder) => PathBuf::from(folder),
        None => build(),
    });
    let path = folder.join(name);
    assert!(path.is_file(), "no program {}", path.display());
    path
}

/// Builds and says where the programs are: two levels above this test (`PROFILE/deps/it-…`).
fn build() -> PathBuf {
    let test = std::env::current_exe().expect("a running program has a path");
    let folder = test
        .parent()
        .and_then(Path::parent)
        .expect("tests lie in PROFILE/deps")
        .to_owned();
    let target = folder.parent().expect("PROFILE lies in the target folder");
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command.args(["build", "--quiet", "--workspace", "--bins"]);
    match folder.file_name().and_then(|name| name.to_str()) {
        Some("debug") | None => {}
        Some("release") => {
            command.arg("--release");
        }
        Some(profile) => {
            command.args(["--profile", profile]);
        }
    }
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR")).join("../Cargo.toml");
    let status = command
        .arg("--manifest-path")
        .arg(manifest)
        .env("CARGO_TARGET_DIR", target)
        .status()
        .expect("cargo runs");
    assert!(
        status.success(),
        "the programs under test do not build: {status}"
    );
    folder
}
