//! What the state machine wants done, in order: files changed, clients answered, files read.
//!
//! On a full disk the queue stops at the operation that did not fit and everything behind it waits,
//! answers too: an answer must never overtake the write that it speaks of. The same holds while another thread creates
//! or moves a file: what may wait for the disk is handed out as a job, since whoever runs a replica renews everybody's leases.
//! Reads of large parts are jobs too, which is sound because what a plan names never changes: files only grow.

#[cfg(test)]
mod tests;

use std::collections::VecDeque;

use statemachine::{FileId, FileOp};

use crate::causes::with_causes;
use crate::engine::{ConnId, Effect, FileRead, SnapshotJob};
use crate::filestore::{
    CheckStep, FileDone, FileError, FileStore, Needless, ReadError, ReadJob, Rebuild, Rebuilt,
    SyncSet,
};
use crate::io::{FileNote, Job, Note, Output, Stop};

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

/// A part of a file to be read for a client, on a thread that may wait for the disk.
#[derive(Debug)]
pub struct PartRead {
    read: FileRead,
    job: ReadJob,
}

/// What came of a [`PartRead`].
#[derive(Debug)]
pub struct PartDone {
    conn: ConnId,
    response: net::Response,
    rotten: Option<Rotten>,
}

impl PartRead {
    /// Reads. A disk that fails here fails the reads of one file, not the replica: what it promised is in the log.
    #[must_use]
    pub fn run(self) -> PartDone {
        let PartRead { read, job } = self;
        let conn = read.origin.conn;
        let error = match job.run() {
            Ok(data) => {
                let response = read.answer(data);
                return PartDone {
                    conn,
                    response,
                    rotten: None,
                };
            }
            Err(error) => error,
        };
        let why = with_causes(&error);
        let what = match error {
            FileError::Rotten { from, to, .. } => {
                format!("bytes {from} to {to} are not what was written")
            }
            _ => why.clone(),
        };
        // It is written again from the log if that reaches back.
        PartDone {
            conn,
            response: unavailable(&read, why, READ_AGAIN_MS),
            rotten: Some(Rotten {
                id: read.id,
                name: read.name,
                what,
            }),
        }
    }
}

/// What became of one damaged file.
#[derive(Debug)]
pub struct RebuildDone {
    /// Its identity.
    pub id: FileId,
    /// Its name.
    pub name: String,
    /// The file, or why it is as it was.
    pub result: Result<Rebuilt, String>,
}

/// The queue and the files.
#[derive(Debug)]
pub(crate) struct Effects {
    files: FileStore,
    waiting: VecDeque<Effect>,
    /// Reads of files that have not passed their check since the start.
    unchecked: Vec<FileRead>,
    /// A snapshot whose slot the files may not have reached yet.
    snapshot: Option<SnapshotJob>,
    checking: bool,
    /// A damaged file is being written again, or waits for that.
    rebuilding: bool,
    full: bool,
    /// A [`Job::File`] is out: it carries out the first operation that waits, or what has to come before that.
    busy: bool,
    /// Clients leave so many answers unread that no large ones are added to them.
    readers_slow: bool,
}

impl Effects {
    /// Nothing to do yet; the files may still have to be checked.
    pub(crate) fn new(files: FileStore) -> Effects {
        Effects {
            files,
            waiting: VecDeque::new(),
            unchecked: Vec::new(),
            snapshot: None,
            checking: true,
            rebuilding: false,
            full: false,
            busy: false,
            readers_slow: false,
        }
    }

    /// Whether clients leave too many answers unread.
    pub(crate) fn note_readers(&mut self, slow: bool) {
        self.readers_slow = slow;
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
    pub(crate) fn let_go_of_answers(&mut self, out: &mut Output) {
        if !self.full {
            return;
        }
        self.waiting.retain(|effect| match effect {
            Effect::File(_) => true,
            Effect::Reply { conn, response } => {
                out.reply(*conn, ask_the_leader(response));
                false
            }
            Effect::ReadFile(read) => {
                out.reply(read.origin.conn, no_space(read.origin.request));
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
    pub(crate) fn run(&mut self, effects: &mut Vec<Effect>, out: &mut Output) {
        if !self.waiting.is_empty() {
            for effect in effects.drain(..) {
                match effect {
                    Effect::Reply { conn, response } if !tells_state(&response) => {
                        out.reply(conn, response);
                    }
                    Effect::Reply { conn, response }
                        if is_read(&response) && self.waiting.len() >= WAITING_ANSWERS_MAX =>
                    {
                        out.reply(conn, no_space(response.id));
                    }
                    Effect::ReadFile(read) if self.waiting.len() >= WAITING_ANSWERS_MAX => {
                        out.reply(read.origin.conn, no_space(read.origin.request));
                    }
                    effect => self.waiting.push_back(effect),
                }
            }
            return self.retry(out);
        }
        let mut rest = effects.drain(..);
        while let Some(effect) = rest.next() {
            if let Some(kept) = self.one(effect, out) {
                self.waiting.push_back(kept);
                self.waiting.extend(rest);
                return;
            }
        }
    }

    /// Tries again what waits for space.
    pub(crate) fn retry(&mut self, out: &mut Output) {
        if self.busy {
            return;
        }
        while let Some(effect) = self.waiting.pop_front() {
            if let Some(kept) = self.one(effect, out) {
                self.waiting.push_front(kept);
                return;
            }
        }
        self.note_room(out);
    }

    fn note_room(&mut self, out: &mut Output) {
        if std::mem::take(&mut self.full) {
            out.notes.push(Note::Files(FileNote::RoomAgain));
        }
    }

    /// Takes note of what a [`Job::File`] did, and goes on.
    pub(crate) fn on_file_done(&mut self, done: FileDone, out: &mut Output) {
        self.busy = false;
        match self.files.finish(done) {
            Ok(carried_out) => {
                if carried_out {
                    self.waiting.pop_front();
                }
                self.note_room(out);
                self.retry(out);
            }
            Err(error) => self.on_error(&error, out),
        }
    }

    /// A full disk is waited for; anything else ends the process.
    fn on_error(&mut self, error: &FileError, out: &mut Output) {
        let why = with_causes(error);
        if !matches!(error, FileError::Full { .. }) {
            out.stop.get_or_insert(Stop::WriteFailed(why));
        } else if !std::mem::replace(&mut self.full, true) {
            out.notes.push(Note::Files(FileNote::NoRoom { why }));
        }
    }

    /// Gives the effect back if it has to wait.
    fn one(&mut self, effect: Effect, out: &mut Output) -> Option<Effect> {
        match effect {
            Effect::File(op) => {
                if let FileOp::Remove { id, .. } = &op {
                    self.refuse_reads(*id, out);
                }
                return self.change(op, out).map(Effect::File);
            }
            Effect::Reply { conn, response } => out.reply(conn, response),
            Effect::ReadFile(read) => self.read(read, out),
        }
        None
    }

    fn change(&mut self, op: FileOp, out: &mut Output) -> Option<FileOp> {
        match self.files.begin(&op) {
            Ok(None) => None,
            Ok(Some(job)) => {
                self.busy = true;
                out.jobs.push(Job::File(job));
                Some(op)
            }
            Err(error) => {
                self.on_error(&error, out);
                Some(op)
            }
        }
    }

    fn read(&mut self, read: FileRead, out: &mut Output) {
        let conn = read.origin.conn;
        let large = read.len as usize > INLINE_READ_BYTES_MAX;
        if large && self.readers_slow {
            let reason = "too many answers wait to be read; ask again".into();
            return out.reply(conn, unavailable(&read, reason, READ_AGAIN_MS));
        }
        match self.files.read_job(&read) {
            Ok(job) if large => out.jobs.push(Job::Read(PartRead { read, job })),
            Ok(job) => self.on_part_read(PartRead { read, job }.run(), out),
            Err(ReadError::Unchecked) if self.unchecked.len() < UNCHECKED_MAX => {
                self.unchecked.push(read)
            }
            Err(error) => {
                let retry_ms = read_again_ms(&error);
                out.reply(conn, unavailable(&read, with_causes(&error), retry_ms));
            }
        }
    }

    /// A part was read. A file found damaged is not read again before it is written again, and the next start looks
    /// at every byte.
    pub(crate) fn on_part_read(&mut self, done: PartDone, out: &mut Output) {
        out.reply(done.conn, done.response);
        if let Some(Rotten { id, name, what }) = done.rotten {
            let told = self.files.note_damage(id, &name, &what);
            self.tell_damage(told, out);
        }
    }

    fn tell_damage(&self, told: String, out: &mut Output) {
        out.notes.push(Note::Files(FileNote::Damaged { told }));
        out.jobs.push(Job::Mark(self.files.recheck_mark()));
    }

    /// Reads that waited for the check of a file that goes now: one made later under its name has
    /// other bytes.
    fn refuse_reads(&mut self, id: FileId, out: &mut Output) {
        for read in self.unchecked.extract_if(.., |read| read.id == id) {
            let reason = "the file is being removed; ask again".to_owned();
            out.reply(read.origin.conn, unavailable(&read, reason, READ_AGAIN_MS));
        }
    }

    /// A damaged file to be written again from the log, if none is under way.
    pub(crate) fn take_rebuild(&mut self, out: &mut Output) -> Option<Rebuild> {
        if self.rebuilding {
            return None;
        }
        let next = self.files.next_rebuild().unwrap_or_else(|error| {
            let file = "a damaged file".to_owned();
            let why = with_causes(&error);
            out.notes
                .push(Note::Files(FileNote::NotRebuilt { file, why }));
            None
        });
        self.rebuilding = next.is_some();
        next
    }

    /// A damaged file was written again, or could not be.
    pub(crate) fn on_rebuilt(&mut self, done: RebuildDone, out: &mut Output) {
        self.rebuilding = false;
        let file = done.name;
        match done.result {
            Ok(rebuilt) => {
                if self.files.rebuilt(rebuilt) {
                    out.notes.push(Note::Files(FileNote::Rebuilt { file }));
                }
            }
            Err(why) => {
                self.files.give_up(done.id);
                out.notes
                    .push(Note::Files(FileNote::NotRebuilt { file, why }));
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

    /// Checks a little more of the files, and answers the reads that waited for it. A file that is not what the log and
    /// the last snapshot say is not read any more.
    pub(crate) fn check_more(&mut self, out: &mut Output) {
        if !self.checking {
            return;
        }
        match self.files.check_slice(CHECK_SLICE_BYTES) {
            CheckStep::Working => {}
            CheckStep::Checked(_) => self.answer_checked(out),
            CheckStep::Idle => {
                self.checking = false;
                self.answer_checked(out);
            }
            CheckStep::Damaged(told) => {
                self.tell_damage(told, out);
                self.answer_checked(out);
            }
        }
    }

    fn answer_checked(&mut self, out: &mut Output) {
        for read in std::mem::take(&mut self.unchecked) {
            self.read(read, out);
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
