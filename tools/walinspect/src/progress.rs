//! How far a long scan has come, for whoever looks on.

use std::io::IsTerminal;
use std::sync::OnceLock;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use wal::scan::Surveyed;

/// Shorter scans are over before a bar could be read.
const BYTES_MIN: u64 = 64 << 20;

/// A bar on the terminal, or nothing at all.
#[derive(Debug)]
pub(crate) struct Progress {
    wanted: bool,
    bar: OnceLock<ProgressBar>,
}

impl Progress {
    /// Shows nothing if the scan is short, or standard error is no terminal.
    pub(crate) fn new(quiet: bool) -> Progress {
        Progress {
            wanted: !quiet && std::io::stderr().is_terminal(),
            bar: OnceLock::new(),
        }
    }

    /// The scan has come so far.
    pub(crate) fn show(&self, far: Surveyed) {
        if self.wanted && far.of >= BYTES_MIN {
            self.bar.get_or_init(|| bar(far.of)).set_position(far.bytes);
        }
    }

    /// Takes the bar away.
    pub(crate) fn clear(&self) {
        if let Some(bar) = self.bar.get() {
            bar.finish_and_clear();
        }
    }
}

fn bar(bytes: u64) -> ProgressBar {
    let bar = ProgressBar::with_draw_target(Some(bytes), ProgressDrawTarget::stderr());
    let shape = "{bar:30} {bytes} of {total_bytes}";
    if let Ok(style) = ProgressStyle::with_template(shape) {
        bar.set_style(style);
    }
    bar
}
