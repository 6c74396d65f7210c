//! The table of what a replica can be told: one row a setting, read by the command line, the
//! environment, the configuration file, `--print-config` and the help text alike.

/// How `--print-config` writes a value, so that what it prints is a valid configuration file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// A bare number.
    Number,
    /// A quoted string: names, addresses, durations ("500ms"), sizes ("64MiB").
    Text,
}

/// One setting of `node serve`.
#[derive(Debug)]
pub struct Setting {
    /// The name as a flag and as a key of the configuration file, for example `default-lease`.
    pub name: &'static str,
    /// What stands for the value in the help text.
    pub value_name: &'static str,
    /// How it is printed.
    pub shape: Shape,
    /// One line for people, with the default where it does not depend on other settings.
    pub help: &'static str,
}

impl Setting {
    /// The environment variable of this setting: `HOLDFAST_` and the flag's name.
    pub fn variable(&self) -> String {
        format!("HOLDFAST_{}", self.name.to_uppercase().replace('-', "_"))
    }
}

const fn text(name: &'static str, value_name: &'static str, help: &'static str) -> Setting {
    Setting {
        name,
        value_name,
        shape: Shape::Text,
        help,
    }
}

const fn number(name: &'static str, value_name: &'static str, help: &'static str) -> Setting {
    Setting {
        name,
        value_name,
        shape: Shape::Number,
        help,
    }
}

/// Every setting, in the order of the help text.
pub const SETTINGS: &[Setting] = &[
    number(
        "id",
        "ID",
        "This replica's number in the cluster, 1 to 65535 [default: 1]",
    ),
    text(
        "data",
        "DIR",
        "Where this replica keeps its log, snapshots and files [default: ./holdfast-data/ID]",
    ),
    text(
        "cluster",
        "NAME",
        "The cluster's label, chosen at its birth [default: holdfast]",
    ),
    text(
        "peers",
        "1=HOST:PORT,2=...",
        "All replicas with the addresses that this one dials, itself included [default: it is alone]",
    ),
    text(
        "prefer-leader",
        "POLICY",
        "`lowest-id`: the lowest live, caught-up id is handed leadership [default: none]",
    ),
    text(
        "listen-client",
        "HOST:PORT",
        "Where clients connect; port 0 takes a free one [default: 127.0.0.1:7400+ID]",
    ),
    text(
        "listen-peer",
        "HOST:PORT",
        "Where other replicas connect [default: this id's address in --peers, else 127.0.0.1:7410+ID]",
    ),
    text(
        "listen-http",
        "HOST:PORT",
        "Where /metrics, /status, /livez and /readyz are [default: 127.0.0.1:7420+ID]",
    ),
    text(
        "advertise-client",
        "HOST:PORT",
        "The address that clients are told [default: where it listens for them]",
    ),
    number(
        "files",
        "N",
        "How many files file_0, file_1, ... a new cluster has [default: 100]",
    ),
    text(
        "default-lease",
        "TIME",
        "The lease of a lock that names none, agreed by a new cluster [default: 20s]",
    ),
    text(
        "default-ttl",
        "TIME",
        "The time to live of a session that names none, agreed by a new cluster [default: 20s]",
    ),
    text(
        "election-timeout",
        "TIME",
        "Silence of the leader after which another one is looked for [default: 500ms]",
    ),
    text(
        "heartbeat",
        "TIME",
        "How often a leader without work shows that it is there [default: 50ms]",
    ),
    number(
        "max-clients",
        "N",
        "Client connections at most; further ones are closed at once [default: 10000]",
    ),
    text(
        "client-idle-timeout",
        "TIME",
        "A client connection that sends nothing for so long is closed [default: 5m]",
    ),
    text(
        "http-hosts",
        "NAME,...",
        "Host names by which the HTTP pages may be asked for, beside addresses and localhost [default: none]",
    ),
    text(
        "snapshot-after",
        "SIZE",
        "Log written since the last snapshot that starts the next one [default: 128MiB]",
    ),
    text(
        "keep-log",
        "SIZE",
        "Log kept at most for a replica that is away [default: 1GiB]",
    ),
    text(
        "segment-size",
        "SIZE",
        "Size of one segment file of the log [default: 64MiB]",
    ),
    text(
        "log-format",
        "text|json",
        "The form of the log lines on standard error [default: text]",
    ),
    text(
        "log-level",
        "LEVEL",
        "error, warn, info, debug or trace, also by module [default: info]",
    ),
];

/// The row of `name`.
///
/// # Panics
///
/// Panics if there is none: names are written in this crate only.
pub fn setting(name: &str) -> &'static Setting {
    SETTINGS
        .iter()
        .find(|setting| setting.name == name)
        .expect("every setting stands in the table")
}
