//! What `node serve` runs with: every setting with its meaning, checked against the others.

use std::path::PathBuf;
use std::time::Duration;

use super::UsageError;
use super::layers::{Layers, Origin};
use super::peers::{Peer, parse_address, parse_id, parse_peers};
use super::quantity::{parse_count, parse_duration, parse_size, show_duration};
use super::setting::{Setting, Shape, setting};

/// Ports of replica 0: clients, peers, HTTP. A replica's own are these plus its id.
const BASE_PORTS: [u32; 3] = [7400, 7410, 7420];

const LEASE: std::ops::RangeInclusive<Duration> =
    Duration::from_millis(500)..=Duration::from_secs(86_400);

const IDLE: std::ops::RangeInclusive<Duration> =
    Duration::from_secs(1)..=Duration::from_secs(86_400);

/// The form of the log lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// The checked configuration of one replica.
#[derive(Clone, Debug)]
pub struct ServeConfig {
    /// This replica's number, never 0.
    pub id: u16,
    /// Its data folder.
    pub data: PathBuf,
    /// The cluster's label.
    pub cluster: String,
    /// All replicas, ascending by id, this one included; empty if it is alone.
    pub peers: Vec<Peer>,
    /// Hand leadership to the lowest id that is live and caught up.
    pub prefer_lowest_id: bool,
    /// Where it listens for clients, `host:port`.
    pub listen_client: String,
    /// Where it listens for other replicas.
    pub listen_peer: String,
    /// Where it listens for HTTP.
    pub listen_http: String,
    /// The address that clients are told; none: the one it listens on.
    pub advertise_client: Option<String>,
    /// How many files a new cluster has.
    pub files: u32,
    /// The default lease of a new cluster.
    pub default_lease: Duration,
    /// The default time to live of a session of a new cluster.
    pub default_ttl: Duration,
    /// Silence of a leader before another is looked for, at least.
    pub election_timeout: Duration,
    /// How often an idle leader shows itself.
    pub heartbeat: Duration,
    /// Client connections at most.
    pub max_clients: u32,
    /// A client connection without a frame for so long is ended.
    pub client_idle_timeout: Duration,
    /// Names by which the pages may be asked for, beside addresses and this machine's own.
    pub http_hosts: Vec<String>,
    /// Log bytes since the last snapshot that start the next one.
    pub snapshot_after_bytes: u64,
    /// Log bytes kept at most for a replica that is away.
    pub keep_log_bytes: u64,
    /// Bytes of one segment file.
    pub segment_bytes: u64,
    /// The form of the log lines.
    pub log_format: LogFormat,
    /// What is logged, as `tracing` filters are written.
    pub log_level: String,
}

/// One line of `--print-config`.
#[derive(Clone, Debug)]
pub struct Shown {
    /// Which setting.
    pub setting: &'static Setting,
    /// Its value as it could be written in a file.
    pub value: String,
    /// Where that came from.
    pub origin: Origin,
}

impl ServeConfig {
    /// Gives the texts in `layers` their meaning, and tells of each setting where it came from.
    ///
    /// # Errors
    ///
    /// Names the first setting that is wrong, what was written, where, and what was expected.
    pub fn resolve(layers: &Layers) -> Result<(ServeConfig, Vec<Shown>), UsageError> {
        let mut take = Resolver {
            layers,
            shown: Vec::new(),
        };
        let id = take.one("id", "1".into(), parse_id)?;
        let data = take.one("data", format!("./holdfast-data/{id}"), parse_path)?;
        let cluster = take.one("cluster", "holdfast".into(), parse_label)?;
        let peers = take.one("peers", String::new(), parse_peers)?;
        let own = peers
            .iter()
            .find(|peer| peer.id == id)
            .map(|peer| peer.address.clone());
        if own.is_none() && !peers.is_empty() {
            let named = peers
                .iter()
                .map(|peer| peer.id.to_string())
                .collect::<Vec<_>>()
                .join(", ");
            return Err(take.complain("peers", format!("replica {id} itself is not among {named}")));
        }
        let prefer_lowest_id = take.one("prefer-leader", "none".into(), parse_policy)?;
        let [client, peer, http] =
            BASE_PORTS.map(|base| format!("127.0.0.1:{}", base + u32::from(id)));
        let config = ServeConfig {
            listen_client: take.one("listen-client", client, parse_address)?,
            listen_peer: take.one("listen-peer", own.unwrap_or(peer), parse_address)?,
            listen_http: take.one("listen-http", http, parse_address)?,
            advertise_client: take.one("advertise-client", String::new(), parse_advertised)?,
            files: take.one("files", "100".into(), |text| parse_count(text, 0..=100_000))?,
            default_lease: take.one("default-lease", "20s".into(), |text| {
                parse_duration(text, LEASE)
            })?,
            default_ttl: take.one("default-ttl", "20s".into(), |text| {
                parse_duration(text, LEASE)
            })?,
            election_timeout: take.one("election-timeout", "500ms".into(), |text| {
                between_ms(text, 20, 60_000)
            })?,
            heartbeat: take.one("heartbeat", "50ms".into(), |text| {
                between_ms(text, 2, 20_000)
            })?,
            max_clients: take.one("max-clients", "10000".into(), |text| {
                parse_count(text, 1..=1_000_000)
            })?,
            client_idle_timeout: take.one("client-idle-timeout", "5m".into(), |text| {
                parse_duration(text, IDLE)
            })?,
            http_hosts: take.one("http-hosts", String::new(), parse_hosts)?,
            snapshot_after_bytes: take.one("snapshot-after", "128MiB".into(), |text| {
                parse_size(text, 64 << 10..=1 << 40)
            })?,
            keep_log_bytes: take.one("keep-log", "1GiB".into(), |text| {
                parse_size(text, 1 << 20..=1 << 50)
            })?,
            segment_bytes: take.one("segment-size", "64MiB".into(), parse_segment)?,
            log_format: take.one("log-format", "text".into(), parse_format)?,
            log_level: take.one("log-level", "info".into(), parse_level)?,
            id,
            data,
            cluster,
            peers,
            prefer_lowest_id,
        };
        config.check(&take)?;
        Ok((config, take.shown))
    }

    /// What no setting shows on its own.
    fn check(&self, take: &Resolver<'_>) -> Result<(), UsageError> {
        if self.election_timeout < self.heartbeat * 4 {
            let (election, heartbeat) = (
                show_duration(self.election_timeout),
                show_duration(self.heartbeat),
            );
            // Whoever gave only one of them is told about that one.
            return Err(match take.layers.get("election-timeout") {
                Some(_) => take.complain(
                    "election-timeout",
                    format!("{election} is less than four heartbeats of {heartbeat}"),
                ),
                None => take.complain(
                    "heartbeat",
                    format!("{heartbeat} is more than a quarter of --election-timeout, which is {election}"),
                ),
            });
        }
        if self.advertise_client.is_none() && is_unspecified(&self.listen_client) {
            let why = format!(
                "clients cannot be told to connect to {}: give --advertise-client too",
                self.listen_client
            );
            return Err(take.complain("listen-client", why));
        }
        Ok(())
    }
}

/// Takes settings one by one out of the layers and remembers what it took.
struct Resolver<'a> {
    layers: &'a Layers,
    shown: Vec<Shown>,
}

impl Resolver<'_> {
    fn one<T>(
        &mut self,
        name: &'static str,
        default: String,
        parse: impl FnOnce(&str) -> Result<T, String>,
    ) -> Result<T, UsageError> {
        let (value, origin) = match self.layers.get(name) {
            Some((text, origin)) => (text.to_owned(), origin),
            None => (default, Origin::Default),
        };
        let parsed = parse(&value).map_err(|why| self.complain(name, why))?;
        self.shown.push(Shown {
            setting: setting(name),
            value,
            origin,
        });
        Ok(parsed)
    }

    fn complain(&self, name: &str, why: String) -> UsageError {
        let origin = self
            .layers
            .get(name)
            .map_or(Origin::Default, |(_, origin)| origin);
        match origin {
            Origin::Flag => UsageError(format!("--{name}: {why}")),
            other => UsageError(format!(
                "--{name}: {why} ({})",
                other.describe(setting(name))
            )),
        }
    }
}

impl Shown {
    /// The line as a configuration file would hold it, with its origin as a comment.
    pub fn line(&self) -> String {
        let value = match self.setting.shape {
            Shape::Number => self.value.clone(),
            Shape::Text => toml::Value::String(self.value.clone()).to_string(),
        };
        let pair = format!("{} = {value}", self.setting.name);
        format!("{pair:<48} # {}", self.origin.describe(self.setting))
    }
}

fn is_unspecified(address: &str) -> bool {
    address
        .parse::<std::net::SocketAddr>()
        .is_ok_and(|address| address.ip().is_unspecified())
}

fn between_ms(text: &str, low: u64, high: u64) -> Result<Duration, String> {
    parse_duration(
        text,
        Duration::from_millis(low)..=Duration::from_millis(high),
    )
}

fn parse_path(text: &str) -> Result<PathBuf, String> {
    if text.is_empty() {
        Err("a folder is needed".into())
    } else {
        Ok(PathBuf::from(text))
    }
}

fn parse_label(text: &str) -> Result<String, String> {
    let fits = (1..=64).contains(&text.len()) && !text.contains(|c: char| c.is_control());
    if fits {
        Ok(text.to_owned())
    } else {
        Err("a name of 1 to 64 bytes is needed".into())
    }
}

fn parse_policy(text: &str) -> Result<bool, String> {
    match text {
        "none" => Ok(false),
        "lowest-id" => Ok(true),
        _ => Err(format!(
            "`{text}` is not a policy; there are `none` and `lowest-id`"
        )),
    }
}

fn parse_advertised(text: &str) -> Result<Option<String>, String> {
    if text.is_empty() {
        Ok(None)
    } else {
        parse_address(text).map(Some)
    }
}

/// At least so large that the longest command fits into the smallest: a leader takes on what its
/// followers must be able to write.
fn parse_segment(text: &str) -> Result<u64, String> {
    let bytes = parse_size(text, 4 << 20..=1 << 30)?;
    if bytes.is_multiple_of(4096) {
        Ok(bytes)
    } else {
        Err(format!("{text} is not a multiple of 4096 bytes"))
    }
}

fn parse_hosts(text: &str) -> Result<Vec<String>, String> {
    let names = text
        .split(',')
        .map(str::trim)
        .filter(|name| !name.is_empty());
    names
        .map(|name| {
            let plain = |c: char| c.is_ascii_alphanumeric() || "-._".contains(c);
            match name.chars().all(plain) {
                true => Ok(name.to_ascii_lowercase()),
                false => Err(format!("`{name}` is not a host name; ports are not needed")),
            }
        })
        .collect()
}

fn parse_format(text: &str) -> Result<LogFormat, String> {
    match text {
        "text" => Ok(LogFormat::Text),
        "json" => Ok(LogFormat::Json),
        _ => Err(format!(
            "`{text}` is not a format; there are `text` and `json`"
        )),
    }
}

fn parse_level(text: &str) -> Result<String, String> {
    const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];
    // A lone word that is no level would mean a part of the program of that name, and silence all others.
    let stray = text
        .split(',')
        .find(|part| !part.contains('=') && !LEVELS.contains(&part.trim()));
    if stray.is_some() {
        return Err(format!(
            "`{text}` is not a log level; there are {}, and PART=LEVEL with commas between",
            LEVELS.join(", ")
        ));
    }
    match text.parse::<tracing_subscriber::EnvFilter>() {
        Ok(_) => Ok(text.to_owned()),
        Err(e) => Err(format!("`{text}` is not a log level: {e}")),
    }
}
