//! The arrows between the crates, as `ARCHITECTURE.md` draws them, and the fences around the pure
//! ones. A wrong arrow fails here and not in a review.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

/// Which of our crates each crate may use. The ground crates use none.
const ARROWS: [(&str, &[&str]); 11] = [
    ("wal", &[]),
    ("paxos", &[]),
    ("statemachine", &[]),
    ("net", &[]),
    ("replica", &["wal", "paxos", "statemachine", "net"]),
    // `client` for the demo, which is a user like any other.
    (
        "node",
        &["wal", "paxos", "statemachine", "net", "replica", "client"],
    ),
    ("client", &["net", "statemachine"]),
    ("holdfast", &TOOLS),
    // `replica` to replay a log as a replica does.
    ("walinspect", &["wal", "paxos", "statemachine", "replica"]),
    ("lockbench", &TOOLS),
    (
        "tests",
        &[
            "wal",
            "paxos",
            "statemachine",
            "net",
            "replica",
            "node",
            "client",
        ],
    ),
];

const TOOLS: [&str; 5] = ["wal", "paxos", "statemachine", "net", "client"];

/// Crates without clock, socket, file, thread or hash map.
const PURE: [&str; 3] = ["paxos", "statemachine", "replica"];

/// What a fence must name, each with a reason.
const FENCED: [&str; 6] = [
    "time::Instant",
    "time::SystemTime",
    "thread::spawn",
    "fs::File",
    "net::TcpStream",
    "HashMap",
];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// The workspace's packages as cargo sees them.
fn packages() -> Vec<Value> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        .args([
            "metadata",
            "--no-deps",
            "--offline",
            "--format-version",
            "1",
            "--manifest-path",
        ])
        .arg(root().join("Cargo.toml"))
        .output()
        .expect("cargo runs");
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let metadata: Value = serde_json::from_slice(&output.stdout).expect("metadata is JSON");
    metadata["packages"].as_array().expect("packages").clone()
}

/// Each package's dependencies on our own, of every kind (tests and build scripts too).
fn arrows() -> BTreeMap<String, BTreeSet<String>> {
    let packages = packages();
    let name = |value: &Value| value["name"].as_str().expect("a name").to_owned();
    let ours: BTreeSet<String> = packages.iter().map(name).collect();
    packages
        .iter()
        .map(|package| {
            let uses = package["dependencies"].as_array().expect("dependencies");
            let uses = uses.iter().map(name).filter(|used| ours.contains(used));
            (name(package), uses.collect())
        })
        .collect()
}

#[test]
fn arrows_point_down() {
    let allowed: BTreeMap<&str, &[&str]> = ARROWS.into_iter().collect();
    for (package, uses) in arrows() {
        let may = allowed
            .get(package.as_str())
            .unwrap_or_else(|| panic!("{package} is new: give it a place in ARROWS"));
        for used in uses {
            assert!(
                may.contains(&used.as_str()),
                "{package} uses {used}, but may use only {may:?} (ARCHITECTURE.md)"
            );
        }
    }
}

#[test]
fn folder_package_and_crate_share_one_name() {
    for package in packages() {
        let manifest = Path::new(package["manifest_path"].as_str().expect("a path"));
        let folder = manifest
            .parent()
            .and_then(Path::file_name)
            .expect("a folder");
        assert_eq!(folder.to_str(), package["name"].as_str());
    }
}

#[test]
fn pure_crates_are_fenced() {
    for name in PURE {
        let path = root().join(name).join("clippy.toml");
        let fence = std::fs::read_to_string(&path)
            .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        for fenced in FENCED {
            assert!(
                fence.contains(fenced),
                "{name}/clippy.toml no longer fences off {fenced}"
            );
        }
        assert!(fence.contains("reason"), "{name}/clippy.toml gives reasons");
    }
}

/// `clippy` may not run where the tests do, so what the fences keep out is looked for here too.
#[test]
fn pure_crates_read_no_clock_and_touch_no_file() {
    const OUT: [&str; 7] = [
        "Instant::now",
        "SystemTime",
        "std::fs",
        "std::net",
        "std::thread",
        "HashMap",
        "rand::",
    ];
    for name in PURE {
        for path in sources(&root().join(name).join("src")) {
            let text = std::fs::read_to_string(&path).expect("a source can be read");
            for (number, line) in text.lines().enumerate() {
                let code = line.split("//").next().unwrap_or_default();
                let found = OUT.iter().find(|word| code.contains(**word));
                assert!(
                    found.is_none(),
                    "{}:{}: {found:?}",
                    path.display(),
                    number + 1
                );
            }
        }
    }
}

/// `unsafe` is one small file that maps segments.
#[test]
fn unsafe_stays_in_the_map_of_the_log() {
    for package in packages() {
        let manifest = Path::new(package["manifest_path"].as_str().expect("a path"));
        let folder = manifest.parent().expect("a folder");
        for path in sources(&folder.join("src")) {
            let text = std::fs::read_to_string(&path).expect("a source can be read");
            let allows = text.contains("allow(unsafe_code") || text.contains("expect(unsafe_code");
            let is_map = path.components().any(|part| part.as_os_str() == "wal")
                && path.file_stem().is_some_and(|stem| stem == "map");
            let is_door_to_it = text.contains("mod map;");
            assert!(
                !allows || is_map || is_door_to_it,
                "{} allows unsafe code",
                path.display()
            );
        }
    }
}

/// Whoever clones this has another machine.
#[test]
fn no_source_names_a_machine() {
    // Written apart, lest this file finds itself.
    let homes = [
        ["/ho", "me/"],
        ["/Us", "ers/"],
        ["/ro", "ot/"],
        ["/wo", "rk/"],
    ]
    .map(|halves| halves.concat());
    for package in packages() {
        let manifest = Path::new(package["manifest_path"].as_str().expect("a path"));
        for path in sources(manifest.parent().expect("a folder")) {
            let text = std::fs::read_to_string(&path).expect("a source can be read");
            let found = homes.iter().find(|home| text.contains(home.as_str()));
            assert!(found.is_none(), "{} names {found:?}", path.display());
        }
    }
}

/// All Rust sources below a folder.
fn sources(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() && entry.file_name() != "target" {
            found.extend(sources(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
    found
}
