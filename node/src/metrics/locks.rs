//! What a lock service counts: waits, holds, queues, grants, refusals, sessions.
//!
//! Times are in cluster time, as the state machine decides by them; a leader's wall clock would
//! count pauses that no client could have seen.

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;
use statemachine::{Event, LeftQueueWhy, LostWhy};

use super::Label;

/// Counted on every replica as it applies, so that any of them can be asked.
#[derive(Debug)]
pub struct LockMetrics {
    acquire_wait_seconds: Histogram,
    hold_seconds: Histogram,
    queue_length: Histogram,
    grants: Counter,
    lost: Family<Label, Counter>,
    left_queue: Family<Label, Counter>,
    refusals: Family<Label, Counter>,
    appends: Counter,
    appended_bytes: Counter,
    discarded_appends: Counter,
    sessions_opened: Counter,
    sessions_closed: Counter,
    sessions_expired: Counter,
    dedup_hits: Counter,
    unreadable: Counter,
}

/// From 1 ms to a day.
fn cluster_seconds() -> Histogram {
    Histogram::new(exponential_buckets(0.001, 4.0, 14))
}

impl LockMetrics {
    pub(super) fn register(registry: &mut Registry) -> LockMetrics {
        let m = LockMetrics {
            acquire_wait_seconds: cluster_seconds(),
            hold_seconds: cluster_seconds(),
            queue_length: Histogram::new(exponential_buckets(1.0, 2.0, 17)),
            grants: Counter::default(),
            lost: Family::default(),
            left_queue: Family::default(),
            refusals: Family::default(),
            appends: Counter::default(),
            appended_bytes: Counter::default(),
            discarded_appends: Counter::default(),
            sessions_opened: Counter::default(),
            sessions_closed: Counter::default(),
            sessions_expired: Counter::default(),
            dedup_hits: Counter::default(),
            unreadable: Counter::default(),
        };
        registry.register(
            "acquire_wait_seconds",
            "Time in the queue before a grant",
            m.acquire_wait_seconds.clone(),
        );
        registry.register(
            "hold_seconds",
            "Time from grant to release or loss",
            m.hold_seconds.clone(),
        );
        registry.register(
            "queue_length",
            "Acquires still waiting at each grant",
            m.queue_length.clone(),
        );
        registry.register("grants", "Locks granted", m.grants.clone());
        registry.register("ended", "Grants that ended, by reason", m.lost.clone());
        registry.register(
            "left_queue",
            "Acquires that left their queue without the lock, by reason",
            m.left_queue.clone(),
        );
        registry.register("refusals", "Commands refused, by code", m.refusals.clone());
        registry.register("appends", "Appends taken into sections", m.appends.clone());
        registry.register(
            "appended_bytes",
            "Bytes taken into sections",
            m.appended_bytes.clone(),
        );
        registry.register(
            "discarded_appends",
            "Appends that were never applied",
            m.discarded_appends.clone(),
        );
        registry.register(
            "sessions_opened",
            "Sessions opened",
            m.sessions_opened.clone(),
        );
        registry.register(
            "sessions_closed",
            "Sessions closed by their clients",
            m.sessions_closed.clone(),
        );
        registry.register(
            "sessions_expired",
            "Sessions that expired",
            m.sessions_expired.clone(),
        );
        registry.register(
            "dedup_hits",
            "Commands that came again and did not run again",
            m.dedup_hits.clone(),
        );
        registry.register(
            "unreadable_entries",
            "Chosen entries that this version cannot read",
            m.unreadable.clone(),
        );
        m
    }

    /// Counts what happened in an applied slot.
    pub fn observe(&self, event: &Event) {
        match event {
            Event::SessionOpened { .. } => count(&self.sessions_opened),
            Event::SessionClosed { .. } => count(&self.sessions_closed),
            Event::SessionExpired { .. } => count(&self.sessions_expired),
            Event::Granted {
                waited_ms,
                queue_len,
                ..
            } => {
                count(&self.grants);
                self.acquire_wait_seconds.observe(seconds(*waited_ms));
                self.queue_length.observe(*queue_len as f64);
            }
            Event::LeftQueue { why, .. } => {
                count(&self.left_queue.get_or_create(&left_queue_label(*why)))
            }
            Event::Lost {
                why,
                held_ms,
                discarded_appends,
                ..
            } => {
                count(&self.lost.get_or_create(&lost_label(why)));
                self.hold_seconds.observe(seconds(*held_ms));
                self.discarded_appends.inc_by(u64::from(*discarded_appends));
            }
            Event::Appended { bytes, .. } => {
                count(&self.appends);
                self.appended_bytes.inc_by(*bytes);
            }
            Event::DedupHit { .. } => count(&self.dedup_hits),
            Event::Refused { code } => count(&self.refusals.get_or_create(&[("code", *code)])),
            Event::Unreadable { .. } => count(&self.unreadable),
            Event::Queued { .. }
            | Event::Renewed { .. }
            | Event::FileCreated { .. }
            | Event::FileRemoved { .. }
            | Event::Settings { .. }
            | Event::LeaderStarted { .. } => {}
        }
    }
}

fn count(counter: &Counter) {
    counter.inc();
}

fn seconds(ms: u64) -> f64 {
    ms as f64 / 1000.0
}

fn left_queue_label(why: LeftQueueWhy) -> Label {
    let why = match why {
        LeftQueueWhy::TimedOut => "timed_out",
        LeftQueueWhy::Cancelled => "cancelled",
        LeftQueueWhy::GivenUp => "given_up",
        LeftQueueWhy::SessionExpired => "session_expired",
        LeftQueueWhy::SessionClosed => "session_closed",
    };
    [("why", why)]
}

fn lost_label(why: &LostWhy) -> Label {
    let why = match why {
        LostWhy::Released => "released",
        LostWhy::Aborted => "aborted",
        LostWhy::GivenBack => "given_back",
        LostWhy::LeaseExpired => "lease_expired",
        LostWhy::SessionExpired => "session_expired",
        LostWhy::SessionClosed => "session_closed",
        LostWhy::Forced { .. } => "forced",
    };
    [("why", why)]
}
