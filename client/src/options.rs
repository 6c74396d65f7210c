//! How a client behaves, with the defaults.

use std::time::Duration;

/// Settings of a client; see each field for its default.
#[derive(Clone, Debug)]
pub struct Options {
    /// What the client calls itself, for people. Default `user@host:pid`.
    pub name: String,
    /// How long the session outlives its last sign of life. Default: the cluster's (20 s).
    pub session_ttl: Option<Duration>,
    /// How long a call waits for an answer; time in a lock's queue is extra. Default 5 s.
    pub timeout: Duration,
    /// Ask the first endpoint only and follow no redirect. Default off.
    pub pin: bool,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            name: default_name(),
            session_ttl: None,
            timeout: Duration::from_secs(5),
            pin: false,
        }
    }
}

/// `user@host:pid`.
fn default_name() -> String {
    let user = std::env::var("USER").unwrap_or_else(|_| "user".to_owned());
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname");
    let host = host.unwrap_or_else(|_| "localhost".to_owned());
    format!("{user}@{}:{}", host.trim(), std::process::id())
}
