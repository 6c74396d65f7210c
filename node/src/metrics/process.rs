//! What the operating system knows of this process, by the names that every exporter uses.

use std::fmt::Write;
use std::time::{SystemTime, UNIX_EPOCH};

/// Reads `/proc/self` when asked.
#[derive(Debug)]
pub(crate) struct ProcessMetrics {
    started_s: f64,
}

impl Default for ProcessMetrics {
    fn default() -> ProcessMetrics {
        let since = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        ProcessMetrics {
            started_s: since.as_secs_f64(),
        }
    }
}

impl ProcessMetrics {
    /// The figures and the end of the whole text. One that cannot be read is left out.
    pub(crate) fn text(&self) -> String {
        let mut text = String::new();
        let mut figure = |name: &str, kind: &str, help: &str, value: Option<f64>| {
            if let Some(value) = value {
                let family = name.strip_suffix("_total").unwrap_or(name);
                let _ = writeln!(
                    text,
                    "# HELP {family} {help}.\n# TYPE {family} {kind}\n{name} {value}"
                );
            }
        };
        figure(
            "process_cpu_seconds_total",
            "counter",
            "User and system CPU time in seconds",
            cpu_seconds(),
        );
        figure(
            "process_resident_memory_bytes",
            "gauge",
            "Resident memory in bytes",
            resident_bytes(),
        );
        figure(
            "process_open_fds",
            "gauge",
            "Open file descriptors",
            open_files(),
        );
        figure(
            "process_start_time_seconds",
            "gauge",
            "Start of the process since 1970",
            Some(self.started_s),
        );
        text.push_str("# EOF\n");
        text
    }
}

fn cpu_seconds() -> Option<f64> {
    let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
    // The second field, the program's name, is in brackets and may hold spaces. proc(5).
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace().skip(11);
    let user: u64 = fields.next()?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    Some((user + system) as f64 / rustix::param::clock_ticks_per_second() as f64)
}

fn resident_bytes() -> Option<f64> {
    let statm = std::fs::read_to_string("/proc/self/statm").ok()?;
    let pages: u64 = statm.split_whitespace().nth(1)?.parse().ok()?;
    Some((pages * rustix::param::page_size() as u64) as f64)
}

fn open_files() -> Option<f64> {
    Some(std::fs::read_dir("/proc/self/fd").ok()?.count() as f64)
}
