//! The log's own counts of its syncs, as a histogram.
//!
//! The log counts them where they happen, on whichever thread that is; here they are only shown.

use std::sync::{Arc, Mutex, PoisonError};

use prometheus_client::encoding::{EncodeMetric, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;
use wal::{LogStats, SYNC_BUCKETS_US};

/// The newest counts. Clones show the same.
#[derive(Clone, Debug, Default)]
pub(super) struct SyncSeconds {
    stats: Arc<Mutex<LogStats>>,
}

impl SyncSeconds {
    pub(super) fn set(&self, stats: &LogStats) {
        *self.stats.lock().unwrap_or_else(PoisonError::into_inner) = stats.clone();
    }
}

impl EncodeMetric for SyncSeconds {
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> Result<(), std::fmt::Error> {
        let stats = self
            .stats
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        let bounds = SYNC_BUCKETS_US
            .iter()
            .map(|us| *us as f64 / 1e6)
            .chain([f64::MAX]);
        let buckets: Vec<(f64, u64)> = bounds.zip(stats.sync_buckets).collect();
        encoder.encode_histogram::<NoLabelSet>(
            stats.sync_us as f64 / 1e6,
            stats.syncs,
            &buckets,
            None,
        )
    }

    fn metric_type(&self) -> MetricType {
        MetricType::Histogram
    }
}
