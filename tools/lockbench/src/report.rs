//! The outcome of a run: columns for people, one JSON object a line for programs.
//!
//! The fields are a contract that scripts rely on; what was not measured is `null`, never left out.

use comfy_table::{Table, presets};
use serde::{Serialize, Serializer, ser::SerializeMap};

use crate::holders::Survival;
use crate::latency::{CycleTimes, Percentiles};

/// What one run came to.
#[derive(Debug, Clone)]
pub(crate) struct Report {
    pub(crate) work: &'static str,
    pub(crate) clients: u32,
    pub(crate) replicas: usize,
    /// `1` or `per-client`.
    pub(crate) locks: &'static str,
    pub(crate) seconds: f64,
    /// Cycles done, or appends; what failed is not among them.
    pub(crate) cycles: u64,
    pub(crate) failed: u64,
    pub(crate) cycle: Option<Percentiles>,
    pub(crate) acquire: Option<Percentiles>,
    pub(crate) append: Option<Percentiles>,
    pub(crate) release: Option<Percentiles>,
    /// Of all replicas together; `None` if they are not ours.
    pub(crate) server_cpu_s: Option<f64>,
    pub(crate) rss_bytes: Option<u64>,
    pub(crate) sync_p50_us: Option<u64>,
    pub(crate) exclusion_violations: u64,
    /// `failover` only: after each kill, the time to the next success.
    pub(crate) first_success_ms: Option<Vec<f64>>,
    /// `failover` with `--holders` only.
    pub(crate) survival: Option<Survival>,
}

impl Report {
    /// Takes over what was measured of each call.
    pub(crate) fn set_times(&mut self, times: &CycleTimes) {
        self.cycle = times.cycle.percentiles();
        self.acquire = times.acquire.percentiles();
        self.append = times.append.percentiles();
        self.release = times.release.percentiles();
    }

    fn cycles_per_s(&self) -> f64 {
        if self.seconds > 0.0 {
            self.cycles as f64 / self.seconds
        } else {
            0.0
        }
    }

    fn calls(&self) -> [(&'static str, Option<Percentiles>); 4] {
        [
            ("cycle", self.cycle),
            ("acquire", self.acquire),
            ("append", self.append),
            ("release", self.release),
        ]
    }

    /// The line for programs.
    pub(crate) fn json(&self) -> String {
        // Text keys and finite numbers always have a JSON form.
        serde_json::to_string(self).unwrap_or_default()
    }

    /// The table for people.
    pub(crate) fn table(&self) -> String {
        let mut table = Table::new();
        table.load_preset(presets::NOTHING);
        for (name, value) in self.lines() {
            table.add_row([name, value]);
        }
        for column in table.column_iter_mut() {
            column.set_padding((0, 2));
        }
        table
            .lines()
            .map(|line| line.trim_end().to_owned())
            .collect::<Vec<_>>()
            .join("\n")
    }

    fn lines(&self) -> Vec<(String, String)> {
        let mut lines = vec![
            (
                "work".to_owned(),
                format!(
                    "{}, {} clients, {} replicas, locks {}",
                    self.work, self.clients, self.replicas, self.locks
                ),
            ),
            ("measured".to_owned(), format!("{:.2} s", self.seconds)),
            (
                "done".to_owned(),
                format!("{} ({:.0}/s)", self.cycles, self.cycles_per_s()),
            ),
            ("failed".to_owned(), self.failed.to_string()),
        ];
        for (name, percentiles) in self.calls() {
            if let Some(Percentiles {
                p50_us,
                p99_us,
                p999_us,
            }) = percentiles
            {
                lines.push((
                    format!("{name} p50 / p99 / p99.9"),
                    format!("{p50_us} / {p99_us} / {p999_us} us"),
                ));
            }
        }
        if let (Some(cpu), Some(rss)) = (self.server_cpu_s, self.rss_bytes) {
            lines.push(("server CPU".to_owned(), format!("{cpu:.2} s")));
            lines.push((
                "server memory".to_owned(),
                format!("{:.1} MiB", rss as f64 / f64::from(1 << 20)),
            ));
        }
        if let Some(us) = self.sync_p50_us {
            lines.push(("raw write and sync p50".to_owned(), format!("{us} us")));
        }
        lines.push((
            "exclusion violations".to_owned(),
            self.exclusion_violations.to_string(),
        ));
        if let Some(each) = &self.first_success_ms {
            let all: Vec<_> = each.iter().map(|ms| format!("{ms:.0}")).collect();
            lines.push((
                "first success after kill".to_owned(),
                format!("{} ms", all.join(", ")),
            ));
            lines.push((
                "median".to_owned(),
                format!("{:.0} ms", median(each).unwrap_or(f64::NAN)),
            ));
        }
        if let Some(it) = &self.survival {
            lines.push((
                "holders".to_owned(),
                format!("{} with leases of {} ms", it.holders, it.lease_ms),
            ));
            lines.push((
                "first candidacy won".to_owned(),
                format!("{} times, {} locks lost", it.first_won, it.lost_at_first),
            ));
            lines.push((
                "a later one".to_owned(),
                format!("{} times, {} locks lost", it.others, it.lost_at_others),
            ));
        }
        lines
    }
}

impl Serialize for Report {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("v", &1)?;
        map.serialize_entry("work", self.work)?;
        map.serialize_entry("clients", &self.clients)?;
        map.serialize_entry("replicas", &self.replicas)?;
        map.serialize_entry("locks", self.locks)?;
        map.serialize_entry("seconds", &rounded(self.seconds))?;
        map.serialize_entry("cycles", &self.cycles)?;
        map.serialize_entry("cycles_per_s", &rounded(self.cycles_per_s()))?;
        map.serialize_entry("failed", &self.failed)?;
        for (name, percentiles) in self.calls() {
            map.serialize_entry(&format!("{name}_p50_us"), &percentiles.map(|it| it.p50_us))?;
            map.serialize_entry(&format!("{name}_p99_us"), &percentiles.map(|it| it.p99_us))?;
            map.serialize_entry(
                &format!("{name}_p999_us"),
                &percentiles.map(|it| it.p999_us),
            )?;
        }
        map.serialize_entry("server_cpu_s", &self.server_cpu_s.map(rounded))?;
        map.serialize_entry("rss_bytes", &self.rss_bytes)?;
        map.serialize_entry("sync_p50_us", &self.sync_p50_us)?;
        map.serialize_entry("exclusion_violations", &self.exclusion_violations)?;
        if let Some(each) = &self.first_success_ms {
            map.serialize_entry(
                "first_success_ms",
                &each.iter().copied().map(rounded).collect::<Vec<_>>(),
            )?;
            map.serialize_entry("first_success_ms_median", &median(each).map(rounded))?;
        }
        if let Some(survival) = &self.survival {
            map.serialize_entry("survival", survival)?;
        }
        map.end()
    }
}

fn rounded(value: f64) -> f64 {
    (value * 1000.0).round() / 1000.0
}

/// The middle one, or the mean of the middle two; `None` of nothing.
fn median(values: &[f64]) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    match (sorted.len() % 2, sorted.get(middle)) {
        (1, Some(value)) => Some(*value),
        (0, Some(value)) => Some((sorted[middle - 1] + value) / 2.0),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn report() -> Report {
        let mut report = Report {
            work: "cycle",
            clients: 50,
            replicas: 3,
            locks: "per-client",
            seconds: 2.0,
            cycles: 3000,
            failed: 1,
            cycle: None,
            acquire: None,
            append: None,
            release: None,
            server_cpu_s: Some(1.5),
            rss_bytes: Some(3 << 20),
            sync_p50_us: Some(170),
            exclusion_violations: 0,
            first_success_ms: None,
            survival: None,
        };
        let mut times = CycleTimes::new();
        times.append.record(Duration::from_micros(250));
        report.set_times(&times);
        report
    }

    /// The names and their order are the contract.
    #[test]
    fn one_line_with_exactly_the_named_fields() {
        assert_eq!(
            report().json(),
            r#"{"v":1,"work":"cycle","clients":50,"replicas":3,"locks":"per-client","seconds":2.0,"cycles":3000,"cycles_per_s":1500.0,"failed":1,"#.to_owned()
                + r#""cycle_p50_us":null,"cycle_p99_us":null,"cycle_p999_us":null,"acquire_p50_us":null,"acquire_p99_us":null,"acquire_p999_us":null,"#
                + r#""append_p50_us":250,"append_p99_us":250,"append_p999_us":250,"release_p50_us":null,"release_p99_us":null,"release_p999_us":null,"#
                + r#""server_cpu_s":1.5,"rss_bytes":3145728,"sync_p50_us":170,"exclusion_violations":0}"#
        );
    }

    #[test]
    fn failover_tells_each_kill_and_the_median() {
        let mut report = report();
        report.first_success_ms = Some(vec![90.0, 70.5, 400.0, 80.0]);
        assert!(report.json().ends_with(
            r#""first_success_ms":[90.0,70.5,400.0,80.0],"first_success_ms_median":85.0}"#
        ));
        assert!(report.table().contains("85 ms"));
        report.survival = Some(Survival {
            holders: 20,
            lease_ms: 2_000,
            first_won: 9,
            lost_at_first: 0,
            others: 1,
            lost_at_others: 3,
        });
        assert!(report.json().ends_with(
            r#""survival":{"holders":20,"lease_ms":2000,"first_won":9,"lost_at_first":0,"others":1,"lost_at_others":3}}"#
        ));
        assert!(report.table().contains("9 times, 0 locks lost"));
    }

    #[test]
    fn medians() {
        assert_eq!(median(&[]), None);
        assert_eq!(median(&[3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(&[4.0, 1.0]), Some(2.5));
    }

    #[test]
    fn people_see_rates_and_times() {
        let table = report().table();
        for part in [
            "cycle, 50 clients, 3 replicas, locks per-client",
            "3000 (1500/s)",
            "250 / 250 / 250 us",
            "3.0 MiB",
        ] {
            assert!(table.contains(part), "{part} is not in\n{table}");
        }
    }
}
