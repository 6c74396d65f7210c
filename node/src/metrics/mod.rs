//! The figures on `/metrics`, in Prometheus' text form.
//!
//! What etcd has too bears etcd's name with `holdfast_` in place of `etcd_`, so that its dashboards
//! and alerts need little change: `holdfast_server_has_leader`,
//! `holdfast_disk_wal_fsync_duration_seconds`. What only a lock service has is `holdfast_lock_...`.
//!
//! [`locks`] counts what the state machine did, [`process`] what the operating system knows.
//! Figures that change all the time are counted where it happens; the others are set from a
//! [`Report`] when somebody asks.

pub mod locks;
pub mod process;
mod syncs;

use std::sync::Mutex;
use std::sync::atomic::Ordering;

use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;

use crate::server::desk::Report;
use locks::LockMetrics;
use process::ProcessMetrics;
use syncs::SyncSeconds;

/// From 64 us to 8.4 s, each bucket twice the one before: a commit.
pub(crate) fn seconds_histogram() -> Histogram {
    Histogram::new(exponential_buckets(0.000_064, 2.0, 18))
}

type Label = [(&'static str, &'static str); 1];
type OwnedLabel = [(&'static str, String); 1];

/// All figures of one replica.
#[derive(Debug)]
pub struct Metrics {
    registry: Mutex<Registry>,
    /// What the state machine did.
    pub locks: LockMetrics,
    process: ProcessMetrics,
    /// From handing a leader's entries to the log until they are chosen.
    pub commit_seconds: Histogram,
    /// Proposals that were refused or lost.
    pub proposals_failed: Counter,
    /// Changes of the leader that this replica saw.
    pub leader_changes: Counter,
    peer_sent_bytes: Family<OwnedLabel, Counter>,
    peer_received_bytes: Family<OwnedLabel, Counter>,
    /// Client connections that were ended by this side, by reason.
    pub connections_refused: Family<Label, Counter>,
    /// Batches of the reactor.
    pub batches: Counter,
    standing: Standing,
}

/// Bytes to and from one peer.
#[derive(Clone, Debug)]
pub struct Traffic {
    /// Queued for it.
    pub sent: Counter,
    /// Received from it.
    pub received: Counter,
}

/// Gauges that a report sets.
#[derive(Debug, Default)]
struct Standing {
    has_leader: Gauge,
    is_leader: Gauge,
    committed: Counter,
    applied: Counter,
    pending: Gauge,
    connections: Gauge,
    effects_waiting: Gauge,
    state_bytes: Gauge,
    state_bytes_max: Gauge,
    wal_bytes: Gauge,
    wal_written: Counter,
    wal_syncs: SyncSeconds,
    low_space: Gauge,
    files_damaged: Gauge,
    peer_lag: Family<OwnedLabel, Gauge>,
    peer_up: Family<OwnedLabel, Gauge>,
    fell_behind: Gauge,
}

impl Metrics {
    /// All figures at zero.
    #[allow(
        clippy::new_without_default,
        reason = "a replica has one, made on purpose"
    )]
    pub fn new() -> Metrics {
        let mut registry = Registry::with_prefix("holdfast");
        let metrics = Metrics {
            locks: LockMetrics::register(registry.sub_registry_with_prefix("lock")),
            process: ProcessMetrics::default(),
            commit_seconds: seconds_histogram(),
            proposals_failed: Counter::default(),
            leader_changes: Counter::default(),
            peer_sent_bytes: Family::default(),
            peer_received_bytes: Family::default(),
            connections_refused: Family::default(),
            batches: Counter::default(),
            standing: Standing::default(),
            registry: Mutex::default(),
        };
        metrics.register(&mut registry);
        *metrics.lock() = registry;
        metrics
    }

    fn register(&self, registry: &mut Registry) {
        let server = registry.sub_registry_with_prefix("server");
        let s = &self.standing;
        server.register(
            "has_leader",
            "Whether a leader is known",
            s.has_leader.clone(),
        );
        server.register(
            "is_leader",
            "Whether this replica leads",
            s.is_leader.clone(),
        );
        server.register(
            "leader_changes_seen",
            "Changes of the leader seen",
            self.leader_changes.clone(),
        );
        server.register(
            "proposals_committed",
            "The highest slot known as chosen",
            s.committed.clone(),
        );
        server.register(
            "proposals_applied",
            "The highest slot applied",
            s.applied.clone(),
        );
        server.register(
            "proposals_pending",
            "Slots in the log that are not chosen",
            s.pending.clone(),
        );
        server.register(
            "proposals_failed",
            "Proposals refused or lost",
            self.proposals_failed.clone(),
        );
        server.register(
            "client_connections",
            "Open client connections",
            s.connections.clone(),
        );
        server.register(
            "client_connections_ended",
            "Client connections ended by this side, by reason",
            self.connections_refused.clone(),
        );
        server.register(
            "effects_waiting",
            "Effects that wait for space on the disk",
            s.effects_waiting.clone(),
        );
        server.register(
            "state_bytes",
            "Bytes of the state by the agreed accounting",
            s.state_bytes.clone(),
        );
        server.register(
            "state_limit_bytes",
            "Bytes of state beyond which new work is refused",
            s.state_bytes_max.clone(),
        );
        server.register("batches", "Batches of inputs handled", self.batches.clone());
        server.register(
            "peers_fell_behind",
            "Replicas that need more than the log keeps",
            s.fell_behind.clone(),
        );
        server.register(
            "commit_duration_seconds",
            "From proposing entries until they are chosen",
            self.commit_seconds.clone(),
        );
        let disk = registry.sub_registry_with_prefix("disk");
        disk.register(
            "wal_fsync_duration_seconds",
            "Writes of the log with their sync",
            s.wal_syncs.clone(),
        );
        disk.register(
            "wal_size_bytes",
            "Bytes of log that a restart may read",
            s.wal_bytes.clone(),
        );
        disk.register(
            "wal_written_bytes",
            "Bytes written to the log",
            s.wal_written.clone(),
        );
        disk.register(
            "low_space",
            "Whether the disk is nearly full",
            s.low_space.clone(),
        );
        disk.register(
            "files_damaged",
            "Data files known to be damaged, whose reads are refused",
            s.files_damaged.clone(),
        );
        let network = registry.sub_registry_with_prefix("network");
        network.register(
            "peer_sent_bytes",
            "Bytes queued for a peer",
            self.peer_sent_bytes.clone(),
        );
        network.register(
            "peer_received_bytes",
            "Bytes received from a peer",
            self.peer_received_bytes.clone(),
        );
        network.register(
            "peer_lag_slots",
            "Slots that a peer has not made durable; only a leader knows",
            s.peer_lag.clone(),
        );
        network.register(
            "peer_up",
            "Whether the link to a peer stands",
            s.peer_up.clone(),
        );
    }

    /// The counts of the traffic with one peer.
    pub fn traffic(&self, peer: u16) -> Traffic {
        let label = peer_label(peer);
        Traffic {
            sent: self.peer_sent_bytes.get_or_create_owned(&label),
            received: self.peer_received_bytes.get_or_create_owned(&label),
        }
    }

    /// Sets what only the reactor knows.
    pub fn set(&self, report: &Report) {
        let s = &self.standing;
        let status = &report.status;
        s.has_leader.set(i64::from(status.leader.is_some()));
        s.is_leader.set(i64::from(status.role == "leader"));
        s.committed.inner().store(status.chosen, Ordering::Relaxed);
        s.applied.inner().store(status.applied, Ordering::Relaxed);
        s.pending
            .set(clamp(status.last.saturating_sub(status.chosen)));
        s.connections.set(clamp(report.load.connections));
        s.effects_waiting.set(clamp(report.load.effects_waiting));
        s.state_bytes.set(clamp(report.load.state_bytes));
        s.state_bytes_max.set(clamp(report.load.state_bytes_max));
        s.wal_bytes.set(clamp(status.log_bytes));
        s.wal_written
            .inner()
            .store(report.log.stats.bytes, Ordering::Relaxed);
        s.wal_syncs.set(&report.log.stats);
        s.low_space.set(i64::from(report.log.low_space));
        s.files_damaged.set(i64::from(status.files_damaged));
        s.fell_behind.set(report.fell_behind.len() as i64);
        let leads = status.role == "leader";
        for peer in &report.core.peers {
            let label = peer_label(peer.node.0);
            // Only a leader knows how far the others are.
            if leads {
                s.peer_lag.get_or_create(&label).set(clamp(peer.lag));
            } else {
                s.peer_lag.remove(&label);
            }
            s.peer_up.get_or_create(&label).set(i64::from(peer.up));
        }
    }

    /// All figures as Prometheus reads them.
    pub fn text(&self) -> String {
        let mut text = String::new();
        encode(&mut text, &self.lock()).expect("writing to a string cannot fail");
        // The process' own figures bear the names that every exporter gives them.
        let end = text
            .strip_suffix("# EOF\n")
            .map(str::len)
            .unwrap_or(text.len());
        text.truncate(end);
        text.push_str(&self.process.text());
        text
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Registry> {
        self.registry
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

fn peer_label(node: u16) -> OwnedLabel {
    [("peer", node.to_string())]
}

fn clamp(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

/// The figures in the older text format, for readers that do not ask for OpenMetrics: a counter's family bears the name
/// of its sample there, units are part of the names, and nothing marks the end.
pub fn plain(open_metrics: &str) -> String {
    let lines: Vec<&str> = open_metrics.lines().collect();
    let counters: Vec<&str> = lines
        .iter()
        .filter_map(|line| line.strip_prefix("# TYPE ")?.strip_suffix(" counter"))
        .collect();
    let mut text = String::with_capacity(open_metrics.len());
    for line in lines {
        if line == "# EOF" || line.starts_with("# UNIT ") {
            continue;
        }
        let mut words = line.splitn(4, ' ');
        match (words.next(), words.next(), words.next(), words.next()) {
            (Some("#"), Some(kind), Some(family), Some(rest)) if counters.contains(&family) => {
                text.push_str(&format!("# {kind} {family}_total {rest}\n"));
            }
            _ => {
                text.push_str(line);
                text.push('\n');
            }
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_that_dashboards_know() {
        let metrics = Metrics::new();
        let mut stats = wal::LogStats {
            syncs: 1,
            sync_us: 90,
            ..wal::LogStats::default()
        };
        stats.sync_buckets[1] = 1;
        metrics.standing.wal_syncs.set(&stats);
        let text = metrics.text();
        for name in [
            "holdfast_server_has_leader 0",
            "holdfast_server_leader_changes_seen_total 0",
            "holdfast_server_proposals_committed_total 0",
            "holdfast_disk_wal_fsync_duration_seconds_count 1",
            "holdfast_disk_wal_fsync_duration_seconds_bucket{le=\"0.0001\"} 1",
            "process_resident_memory_bytes ",
            "process_cpu_seconds_total ",
        ] {
            assert!(
                text.lines().any(|line| line.starts_with(name)),
                "{name} is missing in\n{text}"
            );
        }
        assert!(text.ends_with("# EOF\n"));
    }
}

#[cfg(test)]
mod plain_tests {
    #[test]
    fn the_older_format_names_counters_by_their_samples() {
        let open = "# HELP calls Calls.\n# TYPE calls counter\n# UNIT size bytes\ncalls_total 3\n\
                    # HELP size_bytes Size.\n# TYPE size_bytes gauge\nsize_bytes 7\n# EOF\n";
        let plain = "# HELP calls_total Calls.\n# TYPE calls_total counter\ncalls_total 3\n\
                     # HELP size_bytes Size.\n# TYPE size_bytes gauge\nsize_bytes 7\n";
        assert_eq!(super::plain(open), plain);
    }
}
