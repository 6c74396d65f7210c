//! The thread that changes the users' files, in order, since that may wait for the disk.

use std::sync::{Arc, mpsc};

use replica::Done;
use replica::filestore::{FileJob, RecheckMark};

use crate::server::inbox::{Event, Inbox};

/// What the thread does.
#[derive(Debug)]
pub(crate) enum Work {
    /// Carries a file operation out; it ends as [`Done::File`].
    Job(FileJob),
    /// Has the next start verify every byte.
    Mark(RecheckMark),
}

/// The thread; it ends with this.
#[derive(Debug)]
pub(crate) struct Files {
    work: mpsc::Sender<Work>,
}

impl Files {
    /// Starts the thread.
    ///
    /// # Panics
    ///
    /// If the system refuses another thread.
    pub(crate) fn start(inbox: Arc<Inbox>) -> Files {
        let (work, todo) = mpsc::channel();
        std::thread::Builder::new()
            .name("files".to_owned())
            .spawn(move || {
                for work in todo {
                    match work {
                        Work::Job(job) => {
                            inbox.push(Event::Done(Done::File(Box::new(job.run()))));
                        }
                        Work::Mark(mark) => mark.make(),
                    }
                }
            })
            .expect("the machine starts a thread");
        Files { work }
    }

    /// Has it done after what came before.
    pub(crate) fn have_done(&self, work: Work) {
        // Only a panic ends that thread before this one, and that has been printed.
        let _ = self.work.send(work);
    }
}
