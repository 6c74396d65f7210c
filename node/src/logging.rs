//! Log lines on standard error, written by a thread of their own.
//!
//! Whoever reads standard error may be slow or stuck, and a replica must not wait for it: lines go
//! through a bounded queue, and those that do not fit are counted and reported once there is room.
//!
//! What a line quotes may come from anybody. Line ends and escape sequences in it are written out, so that
//! nobody forges a line or speaks to the terminal of whoever reads the log.

use std::fmt::Write as _;
use std::io::{self, IsTerminal, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::time::Duration;

use statemachine::Printable;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;

use crate::config::LogFormat;

/// Lines that may wait for the reader of standard error.
const QUEUED_LINES_MAX: usize = 4096;
/// How long the end of the program waits for the last lines.
const FLUSH_PATIENCE: Duration = Duration::from_millis(500);

enum Item {
    Line(Vec<u8>),
    Flush(SyncSender<()>),
}

/// Writes out what is queued when dropped.
#[derive(Debug)]
pub struct Logging {
    queue: SyncSender<Item>,
}

/// Installs the log of this process; a second call leaves the first one's in place.
pub fn start(format: LogFormat, level: &str) -> Logging {
    let (queue, items) = sync_channel(QUEUED_LINES_MAX);
    let dropped = Arc::new(AtomicU64::new(0));
    let lines = Lines {
        queue: queue.clone(),
        dropped: dropped.clone(),
    };
    let writer = std::thread::Builder::new().name("log-lines".into());
    // Without the thread every line is dropped at once; a replica can still serve.
    let _ = writer.spawn(move || write_lines(&items, &dropped));
    let filter = EnvFilter::try_new(level).unwrap_or_else(|_| EnvFilter::new("info"));
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(lines);
    let _ = match format {
        LogFormat::Text => builder
            .with_target(false)
            .with_ansi(io::stderr().is_terminal())
            .try_init(),
        LogFormat::Json => builder.json().flatten_event(true).try_init(),
    };
    Logging { queue }
}

impl Logging {
    /// Waits a moment until what was logged so far is written.
    pub fn flush(&self) {
        let (done, written) = sync_channel(1);
        if self.queue.try_send(Item::Flush(done)).is_ok() {
            let _ = written.recv_timeout(FLUSH_PATIENCE);
        }
    }
}

impl Drop for Logging {
    fn drop(&mut self) {
        self.flush();
    }
}

fn write_lines(items: &Receiver<Item>, dropped: &AtomicU64) {
    while let Ok(item) = items.recv() {
        // Nobody can be told that standard error is gone.
        let _ = match item {
            Item::Line(line) => io::stderr().write_all(&line),
            Item::Flush(done) => done.send(()).map_err(io::Error::other),
        };
        let lost = dropped.swap(0, Ordering::Relaxed);
        if lost > 0 {
            let _ = writeln!(
                io::stderr(),
                "{lost} log lines dropped: standard error was not read in time"
            );
        }
    }
}

/// What `tracing` writes to: each write is one whole line.
#[derive(Clone, Debug)]
struct Lines {
    queue: SyncSender<Item>,
    dropped: Arc<AtomicU64>,
}

impl Write for Lines {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        match self.queue.try_send(Item::Line(one_line(line))) {
            Ok(()) => {}
            Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => {
                self.dropped.fetch_add(1, Ordering::Relaxed);
            }
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The line with everything escaped that is not to be shown as it is, but for the end of the line and the
/// colours that are put in for a terminal.
fn one_line(line: &[u8]) -> Vec<u8> {
    let text = String::from_utf8_lossy(line);
    let mut out = String::with_capacity(text.len());
    let mut rest = text.strip_suffix('\n').unwrap_or(&text);
    while let Some(at) = rest.find("\u{1b}[") {
        let (plain, escape) = rest.split_at(at);
        let _ = write!(out, "{}", Printable(plain));
        let digits = |c: char| c.is_ascii_digit() || c == ';';
        let inside = escape[2..].trim_start_matches(digits);
        let colour = escape.len() - inside.len() + 1;
        if inside.starts_with('m') {
            out.push_str(&escape[..colour]);
            rest = &escape[colour..];
        } else {
            out.push_str("\\u{1b}[");
            rest = &escape[2..];
        }
    }
    let _ = writeln!(out, "{}", Printable(rest));
    out.into_bytes()
}

impl<'a> MakeWriter<'a> for Lines {
    type Writer = Lines;

    fn make_writer(&'a self) -> Lines {
        self.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quoted_name_forges_no_line() {
        let line = "\u{1b}[32m INFO\u{1b}[0m file=a\n ERROR all is lost\u{1b}[2J\u{9b}1A\n";
        assert_eq!(
            String::from_utf8(one_line(line.as_bytes())).expect("text"),
            "\u{1b}[32m INFO\u{1b}[0m file=a\\n ERROR all is lost\\u{1b}[2J\\u{9b}1A\n"
        );
    }
}
