//! What the state machine wants done, in order: files changed, clients answered, files read.
//!
//! On a full disk the queue stops at the operation that did not fit and everything behind it waits,
//! answers too: an answer must never overtake the write that it speaks of. The same holds while another thread creates
//! or moves a file: nothing that may wait for the disk runs here, since the reactor renews everybody's leases. Reads of
//! large parts run elsewhere, which is sound because what a plan names never changes: files only grow.

use std::collections::VecDeque;
use std::sync::{Arc, mpsc};

use statemachine::{FileId, FileOp};

use crate::failure::{Exit, Failure, with_causes};
use crate::server::clients::Clients;
use crate::server::inbox::{Event, Inbox};
use crate::server::rebuilds::Done;
use replica::engine::{Effect, FileRead, SnapshotJob};
use replica::filestore::{
    CheckStep, FileDone, FileError, FileJob, FileStore, Needless, ReadError, ReadJob, Rebuild,
    RecheckMark, SyncSet,
};

/// Bytes of a data file that one slice of the background check reads.
const CHECK_SLICE_BYTES: usize = 256 << 10;
/// File reads that may wait for their file's check.
const UNCHECKED_MAX: usize = 1024;
/// When a reader is to ask again who is refused for something that passes.
const READ_AGAIN_MS: u64 = 100;
/// Answers that may wait for space together with the writes before them. Reads beyond are refused: they
/// can be asked for again.
const WAITING_ANSWERS_MAX: usize = 16_384;
/// Parts up to this are read at once, mostly from the page cache; larger ones on another thread.
const INLINE_READ_BYTES_MAX: usize = 64 << 10;

/// Effects that may wait before the engine is told to apply no more.
const WAITING_MAX: usize = 16_384;

/// A file whose bytes are not what was written.
#[derive(Debug)]
pub(crate) struct Rotten {
    id: FileId,
    name: String,
    what: String,
}

/// What the files' thread does.
#[derive(Debug)]
enum Work {
    Job(FileJob),
    Mark(RecheckMark),
}

/// The queue and the files.
#[derive(Debug)]
pub(crate) struct Effects {
    files: FileStore,
    inbox: Arc<Inbox>,
    waiting: VecDeque<Effect>,
    /// Reads of files that have not passed their check since the start.
    unchecked: Vec<FileRead>,
    /// A snapshot whose slot the files may not have reached yet.
    snapshot: Option<SnapshotJob>,
    checking: bool,
    /// A damaged file is being written again.
    rebuilding: bool,
    full: bool,
    /// To the thread that may wait for the disk.
    worker: mpsc::Sender<Work>,
    /// It carries out the first operation that waits, or what has to come before that.
    busy: bool,
}

impl Effects {
    /// Nothing to do yet; the files may still have to be checked.
    pub(crate) fn new(files: FileStore, inbox: Arc<Inbox>) -> Effects {
        let (worker, work) = mpsc::channel();
        let done = inbox.clone();
        std::thread::Builder::new()
            .name("files".to_owned())
            .spawn(move || carry_out(&work, &done))
            .expect("the machine starts a thread");
        Effects {
            worker,
            busy: false,
            files,
            inbox,
            waiting: VecDeque::new(),
            unchecked: Vec::new(),
            snapshot: None,
            checking: true,
            rebuilding: false,
            full: false,
        }
    }

    /// Effects that wait for space.
    pub(crate) fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// Bytes that file operations which wait will take of the disk.
    pub(crate) fn waiting_bytes(&self) -> u64 {
        let bytes = self.waiting.iter().map(|effect| match effect {
            Effect::File(FileOp::Write { data, .. }) => data.len() as u64,
            _ => 0,
        });
        bytes.sum()
    }

    /// Another replica leads while operations wait here for space, perhaps for hours: the answers behind them are not
    /// waited for. The leader remembers what every command came to, so the clients are sent there.
    pub(crate) fn let_go_of_answers(&mut self, clients: &Clients) {
        if !self.full {
            return;
        }
        self.waiting.retain(|effect| match effect {
            Effect::File(_) => true,
            Effect::Reply { conn, response } => {
                clients.reply(*conn, &ask_the_leader(response));
                false
            }
            Effect::ReadFile(read) => {
                clients.reply(read.origin.conn, &no_space(read.origin.request));
                false
            }
        });
    }

    /// Whether the disk was full at the last try, or so much waits that no more should be applied.
    pub(crate) fn is_blocked(&self) -> bool {
        self.full || self.waiting.len() >= WAITING_MAX
    }

    /// Number of files that are known to be damaged.
    pub(crate) fn damaged(&self) -> u32 {
        self.files.damaged()
    }

    /// Whether a file is known to be damaged: what may rebuild it should stay in the log.
    pub(crate) fn has_damage(&self) -> bool {
        self.files.is_damaged()
    }

    /// Whether all files have passed their check.
    pub(crate) fn are_checked(&self) -> bool {
        !self.checking
    }

    /// Carries out `effects` after those that wait; on a full disk as far as it goes.
    ///
    /// # Errors
    ///
    /// [`Exit::WriteFailed`] if a file cannot be written for another reason than space.
    pub(crate) fn run(
        &mut self,
        effects: &mut Vec<Effect>,
        clients: &Clients,
    ) -> Result<(), Failure> {
        if !self.waiting.is_empty() {
            for effect in effects.drain(..) {
                match effect {
                    Effect::Reply { conn, response } if !tells_state(&response) => {
                        clients.reply(conn, &response);
                    }
                    Effect::Reply { conn, response }
                        if is_read(&response) && self.waiting.len() >= WAITING_ANSWERS_MAX =>
                    {
                        clients.reply(conn, &no_space(response.id));
                    }
                    Effect::ReadFile(read) if self.waiting.len() >= WAITING_ANSWERS_MAX => {
                        clients.reply(read.origin.conn, &no_space(read.origin.request));
                    }
                    effect => self.waiting.push_back(effect),
                }
            }
            return self.retry(clients);
        }
        let mut rest = effects.drain(..);
        while let Some(effect) = rest.next() {
            if let Some(kept) = self.one(effect, clients)? {
                self.waiting.push_back(kept);
                self.waiting.extend(rest);
                return Ok(());
            }
        }
        Ok(())
    }

    /// Tries again what waits for space.
    ///
    /// # Errors
    ///
    /// As [`Effects::run`].
    pub(crate) fn retry(&mut self, clients: &Clients) -> Result<(), Failure> {
        if self.busy {
            return Ok(());
        }
        while let Some(effect) = self.waiting.pop_front() {
            if let Some(kept) = self.one(effect, clients)? {
                self.waiting.push_front(kept);
                return Ok(());
            }
        }
        self.note_room();
        Ok(())
    }

    fn note_room(&mut self) {
        if std::mem::take(&mut self.full) {
            tracing::info!("there is space again: files are written");
        }
    }

    /// Takes note of what the files' thread has done, and goes on.
    ///
    /// # Errors
    ///
    /// As [`Effects::run`].
    pub(crate) fn on_file_done(
        &mut self,
        done: FileDone,
        clients: &Clients,
    ) -> Result<(), Failure> {
        self.busy = false;
        match self.files.finish(done) {
            Ok(carried_out) => {
                if carried_out {
                    self.waiting.pop_front();
                }
                self.note_room();
                self.retry(clients)
            }
            Err(error) => self.on_error(&error),
        }
    }

    /// A full disk is waited for; anything else ends the process.
    fn on_error(&mut self, error: &FileError) -> Result<(), Failure> {
        if !matches!(error, FileError::Full { .. }) {
            return Err(Failure::new(Exit::WriteFailed, with_causes(error)));
        }
        if !self.full {
            tracing::error!(
                error = with_causes(error),
                "no space for the data files: applying waits until there is"
            );
            self.full = true;
        }
        Ok(())
    }

    /// Gives the effect back if it has to wait.
    fn one(&mut self, effect: Effect, clients: &Clients) -> Result<Option<Effect>, Failure> {
        match effect {
            Effect::File(op) => {
                if let FileOp::Remove { id, .. } = &op {
                    self.refuse_reads(*id, clients);
                }
                return Ok(self.change(op)?.map(Effect::File));
            }
            Effect::Reply { conn, response } => clients.reply(conn, &response),
            Effect::ReadFile(read) => self.read(read, clients),
        }
        Ok(None)
    }

    fn change(&mut self, op: FileOp) -> Result<Option<FileOp>, Failure> {
        match self.files.begin(&op) {
            Ok(None) => Ok(None),
            Ok(Some(job)) => {
                self.busy = true;
                self.have_done(Work::Job(job));
                Ok(Some(op))
            }
            Err(error) => self.on_error(&error).map(|()| Some(op)),
        }
    }

    fn have_done(&self, work: Work) {
        // Only a panic ends that thread before this one, and that has been printed.
        let _ = self.worker.send(work);
    }

    fn read(&mut self, read: FileRead, clients: &Clients) {
        let large = read.len as usize > INLINE_READ_BYTES_MAX;
        let refuse = |reason: String, retry_ms| {
            clients.reply(read.origin.conn, &unavailable(&read, reason, retry_ms));
        };
        if large && clients.overfull() {
            let reason = "too many answers wait to be read; ask again".into();
            return refuse(reason, READ_AGAIN_MS);
        }
        match self.files.read_job(&read) {
            Ok(job) if large => {
                let inbox = self.inbox.clone();
                tokio::task::spawn_blocking(move || {
                    let (response, rotten) = answer(&read, job);
                    inbox.push(Event::FileRead {
                        conn: read.origin.conn,
                        response,
                        rotten,
                    });
                });
            }
            Ok(job) => {
                let (response, rotten) = answer(&read, job);
                clients.reply(read.origin.conn, &response);
                rotten
                    .into_iter()
                    .for_each(|rotten| self.on_rotten(&rotten));
            }
            Err(ReadError::Unchecked) if self.unchecked.len() < UNCHECKED_MAX => {
                self.unchecked.push(read)
            }
            Err(error) => {
                refuse(with_causes(&error), read_again_ms(&error));
            }
        }
    }

    /// Reads that waited for the check of a file that goes now: one made later under its name has
    /// other bytes.
    fn refuse_reads(&mut self, id: FileId, clients: &Clients) {
        for read in self.unchecked.extract_if(.., |read| read.id == id) {
            let reason = "the file is being removed; ask again".to_owned();
            clients.reply(read.origin.conn, &unavailable(&read, reason, READ_AGAIN_MS));
        }
    }

    /// A read found damage: the file is not read before it is written again, and the next start looks at every byte.
    pub(crate) fn on_rotten(&mut self, rotten: &Rotten) {
        let told = self
            .files
            .note_damage(rotten.id, &rotten.name, &rotten.what);
        tracing::warn!(file = rotten.name, "{told}");
        self.have_done(Work::Mark(self.files.recheck_mark()));
    }

    /// A damaged file to be written again from the log, if none is under way.
    pub(crate) fn take_rebuild(&mut self) -> Option<Rebuild> {
        if self.rebuilding {
            return None;
        }
        let next = self.files.next_rebuild().unwrap_or_else(|error| {
            not_rebuilt("a damaged file", &with_causes(&error));
            None
        });
        self.rebuilding = next.is_some();
        next
    }

    /// A damaged file was written again, or could not be.
    pub(crate) fn on_rebuilt(&mut self, done: Done) {
        self.rebuilding = false;
        match done.result {
            Ok(rebuilt) => {
                if self.files.rebuilt(rebuilt) {
                    let file = done.name;
                    tracing::info!(file, "written again from the log: it can be read again");
                }
            }
            Err(why) => {
                self.files.give_up(done.id);
                not_rebuilt(&done.name, &why);
            }
        }
    }

    /// Takes over a snapshot that is to be made.
    pub(crate) fn hold_snapshot(&mut self, job: SnapshotJob) {
        self.snapshot = Some(job);
    }

    /// The snapshot that may be made now, with the files to sync before. It names lengths as of its
    /// slot: recorded while writes of that slot still wait for space, it would name bytes that no
    /// file has, and let go of the log that has them.
    pub(crate) fn take_snapshot(&mut self) -> Option<(SnapshotJob, SyncSet)> {
        if !self.waiting.is_empty() {
            return None;
        }
        debug_assert!(!self.busy, "what it carries out waits");
        let job = self.snapshot.take()?;
        Some((job, self.files.sync_set()))
    }

    /// What the snapshot of this job made needless, to be unlinked elsewhere.
    pub(crate) fn on_snapshot_saved(&mut self, job: &SnapshotJob) -> Needless {
        self.files.needless(job)
    }

    /// Bytes of removed files that two more snapshots would let go of.
    pub(crate) fn reclaimable_bytes(&self) -> u64 {
        self.files.reclaimable_bytes()
    }

    /// No room was found for what a snapshot needs synced: the next one tries again.
    pub(crate) fn on_sync_failed(&mut self, set: SyncSet) {
        self.files.sync_failed(set);
    }

    /// Checks a little more of the files, and answers the reads that waited for it. Returns whether
    /// there is more to check. A file that is not what the log and the last snapshot say is not read any more.
    pub(crate) fn check_more(&mut self, clients: &Clients) -> bool {
        if !self.checking {
            return false;
        }
        match self.files.check_slice(CHECK_SLICE_BYTES) {
            CheckStep::Working => {}
            CheckStep::Checked(_) => self.answer_checked(clients),
            CheckStep::Idle => {
                self.checking = false;
                self.answer_checked(clients);
            }
            CheckStep::Damaged(what) => {
                tracing::warn!("{what}");
                self.have_done(Work::Mark(self.files.recheck_mark()));
                self.answer_checked(clients);
            }
        }
        self.checking
    }

    fn answer_checked(&mut self, clients: &Clients) {
        for read in std::mem::take(&mut self.unchecked) {
            self.read(read, clients);
        }
    }
}

/// Whether an answer speaks of what was applied, so that it must not overtake a write. Refusals at the
/// door do not: they would fill the queue, since whoever is not answered asks again.
fn tells_state(response: &net::Response) -> bool {
    use net::ResponseBody::{Bad, NotLeader, Unavailable, Unknown, Waiting};
    !matches!(
        response.body,
        Bad { .. } | NotLeader { .. } | Unavailable { .. } | Unknown { .. } | Waiting { .. }
    )
}

/// The files' thread: what may wait for the disk, in order.
fn carry_out(work: &mpsc::Receiver<Work>, inbox: &Inbox) {
    for work in work {
        match work {
            Work::Job(job) => inbox.push(Event::FileDone(Box::new(job.run()))),
            Work::Mark(mark) => mark.make(),
        }
    }
}

/// Whether nothing was changed for this answer.
fn is_read(response: &net::Response) -> bool {
    matches!(response.body, net::ResponseBody::Answer { .. })
}

/// What is said in place of an answer that waits behind a write, once another replica leads.
fn ask_the_leader(response: &net::Response) -> net::Response {
    use net::ResponseBody::{Answer, Outcome, Unknown};
    match &response.body {
        Outcome { .. } => net::Response {
            id: response.id,
            body: Unknown {
                reason: "the data files' disk is full here, and another replica leads; ask again"
                    .to_owned(),
            },
        },
        Answer { .. } => no_space(response.id),
        _ => response.clone(),
    }
}

/// What a read is told while applying waits for space and too many others wait already.
fn no_space(id: u64) -> net::Response {
    net::Response {
        id,
        body: net::ResponseBody::Unavailable {
            reason: "the data files are behind; retry".to_owned(),
            retry_ms: 1_000,
        },
    }
}

/// Reads, on whatever thread this is. A disk that fails here fails the reads of one file, not the replica: what
/// it promised is in the log.
fn answer(read: &FileRead, job: ReadJob) -> (net::Response, Option<Rotten>) {
    let error = match job.run() {
        Ok(data) => return (read.answer(data), None),
        Err(error) => error,
    };
    let why = with_causes(&error);
    let what = match error {
        FileError::Rotten { from, to, .. } => {
            format!("bytes {from} to {to} are not what was written")
        }
        _ => why.clone(),
    };
    let rotten = Rotten {
        id: read.id,
        name: read.name.clone(),
        what,
    };
    // It is written again from the log if that reaches back.
    (unavailable(read, why, READ_AGAIN_MS), Some(rotten))
}

fn not_rebuilt(file: &str, why: &str) {
    tracing::warn!(
        file,
        why,
        "not written again while the replica runs; the next start tries once more, or ends with 5 and says what to put back"
    );
}

fn unavailable(read: &FileRead, reason: String, retry_ms: u64) -> net::Response {
    net::Response {
        id: read.origin.request,
        body: net::ResponseBody::Unavailable { reason, retry_ms },
    }
}

/// When whoever was refused a read should ask again.
fn read_again_ms(error: &ReadError) -> u64 {
    match error {
        ReadError::Damaged { lasting: true, .. } => net::ResponseBody::NO_RETRY_MS,
        _ => READ_AGAIN_MS,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::Metrics;
    use bytes::Bytes;
    use net::{Response, ResponseBody};
    use replica::engine::ConnId;
    use statemachine::FileFact;
    use wal::storage::MemDisk;

    fn write(name: &str, offset: u64, data: Vec<u8>) -> Effect {
        let data = Bytes::from(data);
        Effect::File(FileOp::Write {
            id: FileId(1, 0),
            name: name.into(),
            offset,
            data,
        })
    }

    /// Plays the reactor until the files' thread has nothing left to do.
    #[track_caller]
    fn settle(effects: &mut Effects, clients: &Clients) {
        let since = std::time::Instant::now();
        while effects.busy {
            assert!(since.elapsed().as_secs() < 20, "the files' thread is stuck");
            let mut events = Vec::new();
            effects.inbox.take(&mut events);
            for event in events {
                if let Event::FileDone(done) = event {
                    effects.on_file_done(*done, clients).expect("no failure");
                }
            }
            std::thread::yield_now();
        }
    }

    fn reply() -> Effect {
        Effect::Reply {
            conn: ConnId(1),
            response: Response {
                id: 1,
                body: ResponseBody::Done,
            },
        }
    }

    /// A store with a file `f` of two bytes.
    fn files_with_one(disk: MemDisk) -> (FileStore, FileId, String) {
        let mut files = FileStore::open(Arc::new(disk)).expect("a file store");
        let (id, name) = (FileId(1, 0), "f".to_owned());
        let create = FileOp::Create {
            id,
            name: name.clone(),
        };
        files.apply(&create).expect("made");
        let Effect::File(op) = write("f", 0, b"ab".to_vec()) else {
            panic!("a write")
        };
        files.apply(&op).expect("written");
        (files, id, name)
    }

    /// A read planned before a removal must not find the bytes of the next file of that name.
    #[test]
    fn a_read_that_waits_for_a_check_ends_with_its_file() {
        let (mut files, id, name) = files_with_one(MemDisk::new());
        let fact = FileFact {
            id,
            name: name.clone(),
            guard: "f".into(),
            length: 2,
            crc32: 0,
        };
        files
            .cut_back(&[fact], replica::filestore::Inspection::Lengths)
            .expect("nothing to cut");
        let inbox = Arc::new(Inbox::default());
        let clients = Clients::new(
            (1, 1, "x".into()),
            (1, std::time::Duration::MAX),
            inbox.clone(),
            Arc::new(Metrics::new()),
        );
        let mut effects = Effects::new(files, inbox);
        let origin = replica::engine::Origin {
            conn: ConnId(1),
            request: 1,
        };
        let read = FileRead {
            origin,
            slot: paxos::Slot(2),
            id,
            name: name.clone(),
            offset: 0,
            len: 2,
            file_len: 2,
        };
        effects
            .run(&mut vec![Effect::ReadFile(read)], &clients)
            .expect("waits");
        assert_eq!(effects.unchecked.len(), 1);
        let remove = Effect::File(FileOp::Remove { id, name });
        effects.run(&mut vec![remove], &clients).expect("begun");
        assert_eq!(effects.unchecked.len(), 0);
    }

    /// A damaged file is counted. Its reader is to ask again while it may be written again, and not to once it cannot.
    #[test]
    fn a_rotten_file_is_known_and_refused() {
        let disk = MemDisk::new();
        let (mut files, id, name) = files_with_one(disk.clone());
        disk.damage("files/f", 0, b"x");
        let origin = replica::engine::Origin {
            conn: ConnId(1),
            request: 1,
        };
        let read = FileRead {
            origin,
            slot: paxos::Slot(2),
            id,
            name,
            offset: 0,
            len: 2,
            file_len: 2,
        };
        let job = files.read_job(&read).expect("not known yet");
        let (response, rotten) = answer(&read, job);
        let ResponseBody::Unavailable { retry_ms, .. } = response.body else {
            panic!("refused, not {response:?}")
        };
        assert_eq!(retry_ms, READ_AGAIN_MS);
        let inbox = Arc::new(Inbox::default());
        let mut effects = Effects::new(files, inbox);
        assert_eq!(effects.damaged(), 0);
        effects.on_rotten(&rotten.expect("told"));
        assert_eq!(effects.damaged(), 1);
        for given_up in [false, true] {
            let refused = effects.files.read_job(&read).expect_err("damaged");
            let ends = read_again_ms(&refused) == ResponseBody::NO_RETRY_MS;
            assert_eq!(ends, given_up, "{refused:?}");
            let result = Err("the log does not reach back".to_owned());
            let name = "f".to_owned();
            effects.on_rebuilt(Done { id, name, result });
        }
        assert_eq!(effects.damaged(), 1);
    }

    /// An answer must not overtake the write that it speaks of, and nothing may be done twice.
    #[test]
    fn a_full_disk_holds_back_everything_behind_it() {
        let disk = MemDisk::new();
        let files = FileStore::open(Arc::new(disk.clone())).expect("a file store");
        let inbox = Arc::new(Inbox::default());
        let clients = Clients::new(
            (1, 1, "x".into()),
            (1, std::time::Duration::MAX),
            inbox.clone(),
            Arc::new(Metrics::new()),
        );
        let mut effects = Effects::new(files, inbox);
        let create = FileOp::Create {
            id: FileId(1, 0),
            name: "f".into(),
        };
        let mut batch = vec![Effect::File(create), write("f", 0, b"ab".to_vec()), reply()];
        effects.run(&mut batch, &clients).expect("room enough");
        settle(&mut effects, &clients);
        assert_eq!((effects.waiting(), effects.is_blocked()), (0, false));

        disk.limit_room(Some(0));
        effects.hold_snapshot(SnapshotJob {
            slot: paxos::Slot(1),
            machine: statemachine::Machine::new(),
            clock: paxos::ClusterClock::default(),
        });
        let mut batch = vec![write("f", 2, vec![b'c'; 1 << 20]), reply()];
        effects
            .run(&mut batch, &clients)
            .expect("no space is no failure");
        assert_eq!((effects.waiting(), effects.is_blocked()), (2, true));
        assert!(
            effects.take_snapshot().is_none(),
            "the files are behind the snapshot"
        );
        effects
            .run(&mut vec![reply()], &clients)
            .expect("still no failure");
        assert_eq!(effects.waiting(), 3);
        let refusal = Effect::Reply {
            conn: ConnId(1),
            response: Response {
                id: 2,
                body: ResponseBody::NotLeader { leader: None },
            },
        };
        effects
            .run(&mut vec![refusal], &clients)
            .expect("still no failure");
        assert_eq!(effects.waiting(), 3, "a refusal waits for nothing");

        effects.let_go_of_answers(&clients);
        assert_eq!(
            effects.waiting(),
            1,
            "once another leads, only the write waits"
        );
        assert_eq!(effects.waiting_bytes(), 1 << 20);

        disk.limit_room(None);
        effects.retry(&clients).expect("room again");
        assert_eq!((effects.waiting(), effects.is_blocked()), (0, false));
        assert!(effects.take_snapshot().is_some());
        assert_eq!(disk.peek("files/f", 0, 4), b"abcc");
    }
}
