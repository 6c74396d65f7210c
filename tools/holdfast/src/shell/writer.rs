//! Standard output, line by line, on a thread of its own: a reader that is slow must not keep sessions from living.

use std::io::Write;

use tokio::sync::{mpsc, oneshot};

use crate::output::standard_output;

/// Lines that wait for a slow reader; then commands wait too.
const WAITING_MAX: usize = 4;

/// Where lines go.
#[derive(Debug, Clone)]
pub(crate) struct Writer(mpsc::Sender<String>);

impl Writer {
    /// Writes to standard output until the last clone is dropped; then the other value resolves.
    pub(crate) fn to_stdout() -> (Writer, oneshot::Receiver<()>) {
        let (sender, mut receiver) = mpsc::channel::<String>(WAITING_MAX);
        let (done, finished) = oneshot::channel();
        std::thread::spawn(move || {
            let mut out = standard_output().lock();
            while let Some(text) = receiver.blocking_recv() {
                if out
                    .write_all(text.as_bytes())
                    .and_then(|()| out.flush())
                    .is_err()
                {
                    // Nobody reads: the senders notice, as at the end of the input.
                    break;
                }
            }
            drop(receiver);
            _ = done.send(());
        });
        (Writer(sender), finished)
    }

    /// Writes one line.
    pub(crate) async fn line(&self, mut text: String) {
        text.push('\n');
        _ = self.0.send(text).await;
    }

    /// Asks a person for a line.
    pub(crate) async fn prompt(&self) {
        _ = self.0.send("holdfast> ".to_owned()).await;
    }

    /// Resolves once nobody reads any more.
    pub(crate) async fn closed(&self) {
        self.0.closed().await;
    }
}
