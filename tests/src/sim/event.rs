//! What is going to happen: a heap ordered by time, then by the order in which it was decided.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use replica::Input;
use replica::filestore::FileJob;

use super::network::ToClient;

/// One thing that happens at one time. `life` is the replica's: what was meant for an earlier life is
/// void.
#[derive(Debug)]
pub(crate) enum Event {
    /// An input reaches a replica's process.
    Deliver {
        replica: usize,
        life: u64,
        input: Input,
    },
    /// A message reaches a replica over a connection that may be gone by then.
    Message {
        from: usize,
        to: usize,
        link: u64,
        message: paxos::Message,
    },
    /// A replica works off what reached it.
    Run { replica: usize, life: u64 },
    /// A replica asked to be woken.
    Wake {
        replica: usize,
        life: u64,
        wake: u64,
    },
    /// A replica's disk has finished a commit group.
    LogDone { replica: usize, life: u64 },
    /// A replica makes the snapshot that it was handed.
    Snapshot { replica: usize, life: u64 },
    /// A replica's files' thread begins and ends a job.
    FileJob {
        replica: usize,
        life: u64,
        job: Box<FileJob>,
    },
    /// A replica's log gets a spare segment, and the disk's space is looked at.
    Housekeep { replica: usize, life: u64 },
    /// A dead replica starts.
    Start { replica: usize },
    /// A paused replica goes on.
    Resume { replica: usize, life: u64 },
    /// A disk has room again.
    Room { replica: usize },
    /// Connections that could stand and do not are made.
    Mesh,
    /// The cut directions carry messages again.
    Mend,
    /// A client's request reaches a replica.
    Request {
        replica: usize,
        conn: u64,
        request: net::Request,
    },
    /// Something reaches a client.
    ToClient { client: usize, what: ToClient },
    /// A client does what is due.
    ClientWake { client: usize, wake: u64 },
    /// A folder is copied.
    CopyFolder,
    /// What its replica has acknowledged by now, its peers will remember.
    RememberCopied,
    /// The folder is replaced.
    PutBack,
    /// An old copy must have stopped by now.
    CheckCopy,
    /// Something about a second process on a copy of a replica's folder.
    Twin(TwinEvent),
    /// Whether commits go on is looked at.
    Watch,
    /// The next fault strikes.
    Nemesis,
    /// Faults are over.
    Heal,
    /// Whether the cluster has recovered is looked at.
    Judge,
}

/// Of a second process on a copy of a replica's folder.
#[derive(Debug)]
pub(crate) enum TwinEvent {
    /// The folder is copied.
    Copy,
    /// The process starts on the copy.
    Start,
    /// Something reaches it, or its time has come.
    Input(Option<Box<Input>>),
    /// It must have stopped by now.
    Check,
}

/// The heap.
#[derive(Debug, Default)]
pub(crate) struct Agenda {
    heap: BinaryHeap<Reverse<Item>>,
    count: u64,
}

#[derive(Debug)]
struct Item {
    at_us: u64,
    number: u64,
    /// Boxed, as the heap moves its items about.
    event: Box<Event>,
}

impl PartialEq for Item {
    fn eq(&self, other: &Item) -> bool {
        self.number == other.number
    }
}

impl Eq for Item {}

impl PartialOrd for Item {
    fn partial_cmp(&self, other: &Item) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Item {
    fn cmp(&self, other: &Item) -> std::cmp::Ordering {
        (self.at_us, self.number).cmp(&(other.at_us, other.number))
    }
}

impl Agenda {
    /// Adds an event.
    pub(crate) fn add(&mut self, at_us: u64, event: Event) {
        self.count += 1;
        self.heap.push(Reverse(Item {
            at_us,
            number: self.count,
            event: Box::new(event),
        }));
    }

    /// Takes out the next event and its time.
    pub(crate) fn next(&mut self) -> Option<(u64, Event)> {
        self.heap
            .pop()
            .map(|Reverse(item)| (item.at_us, *item.event))
    }
}
