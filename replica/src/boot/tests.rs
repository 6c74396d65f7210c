//! A sole replica on a disk in memory: run, stop, damage, start again.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use net::{Request, RequestBody, ResponseBody};
use statemachine::{Command, Done, FileFact, LockMode, Op, Outcome, Seq, SessionId, Token};
use wal::SnapshotHeader;
use wal::storage::{Disk, MemDisk};

use super::*;
use crate::engine::{ConnId, Effect, Input, Now, Output};
use crate::records;

const NODE: NodeId = NodeId(1);

fn shared(disk: &MemDisk) -> SharedDisk {
    Arc::new(disk.clone())
}

fn config() -> BootConfig {
    let mut config = BootConfig::new(NODE);
    config.settings.files = 2;
    config.log = wal::Options {
        segment_bytes: 64 << 10,
    };
    config.snapshots = SnapshotPolicy {
        log_bytes: 32 << 10,
        slot_multiple: 4,
    };
    config
}

/// A folder born into a cluster of its own.
fn born() -> MemDisk {
    let disk = MemDisk::new();
    let mut folder = open_folder(shared(&disk), NODE, Environment::seeded(1)).expect("laid out");
    let members = vec![(NODE, DiskId(folder.meta().disk))];
    let record = BirthRecord {
        cluster: 7,
        name: "test".to_owned(),
        members,
    };
    folder
        .store_birth(record.cluster, &record.encode())
        .expect("stored");
    disk
}

struct Running {
    disk: MemDisk,
    booted: Booted,
    now: Now,
    requests: u64,
    outcomes: Vec<Outcome>,
    snapshots: usize,
}

fn start(disk: &MemDisk) -> Result<Running, Refusal> {
    start_with(disk, 2)
}

fn start_with(disk: &MemDisk, files: u32) -> Result<Running, Refusal> {
    let mut config = config();
    config.settings.files = files;
    if files > 2 {
        // The log stays whole, so that it can rebuild all files.
        config.log.segment_bytes = 4 << 20;
    }
    let folder = open_folder(shared(disk), NODE, Environment::seeded(disk.calls()))?;
    let now = Now {
        mono: MonoTime(1_000_000),
        wall_ms: 1,
    };
    let booted = boot(folder, shared(disk), &config, now.mono)?;
    let (outcomes, disk) = (Vec::new(), disk.clone());
    let mut running = Running {
        disk,
        booted,
        now,
        requests: 0,
        outcomes,
        snapshots: 0,
    };
    for _ in 0..30 {
        running.now.mono = running.now.mono.after(100_000);
        running.give(Input::Tick);
    }
    Ok(running)
}

impl Running {
    /// What a driver does, with a disk that is done at once.
    fn give(&mut self, input: Input) {
        let mut out = Output::default();
        self.booted.engine.handle(self.now, input, &mut out);
        self.booted.engine.finish(self.now, &mut out);
        for effect in std::mem::take(&mut out.effects) {
            match effect {
                Effect::File(op) => self.booted.files.apply(&op).expect("applied"),
                Effect::Reply { response, .. } => {
                    if let ResponseBody::Outcome { bytes, .. } = response.body {
                        self.outcomes
                            .push(Outcome::decode(&bytes).expect("an outcome"));
                    }
                }
                Effect::ReadFile(_) => {}
            }
        }
        for append in out.wal {
            let records: Vec<_> = append.records.into_iter().map(records::to_wal).collect();
            self.booted
                .writer
                .commit(&records, append.commit.0)
                .expect("written");
            self.give(Input::Durable { seq: append.seq });
        }
        if let Some(job) = out.snapshot {
            self.booted.files.sync_set().run().expect("synced");
            let mut payload = Vec::new();
            job.encode(&mut payload).expect("encoded");
            let header = SnapshotHeader {
                cluster: 7,
                slot: job.slot.0,
                membership: Bytes::new(),
            };
            let saved = wal::snapshot::save(&self.disk, &header, &mut payload.as_slice());
            let saved = saved.expect("saved");
            self.booted.writer.snapshot_saved(saved).expect("named");
            self.booted.files.on_snapshot_saved(&job);
            self.snapshots += 1;
            let meta = records::snapshot_meta(&saved);
            self.give(Input::SnapshotSaved {
                slot: job.slot,
                meta,
            });
        }
        if let Some(release) = out.release_log {
            let (snapshot, needed) = (release.snapshot.0, release.needed.0);
            let removed = self.booted.writer.remove_prefix(snapshot, needed, 1 << 40);
            let first = Slot(removed.expect("removed").first_slot);
            self.give(Input::LogTrimmed { first });
        }
    }

    fn command(&mut self, command: &Command) -> Outcome {
        self.requests += 1;
        let body = RequestBody::Command(Bytes::from(command.encode()));
        let request = Request {
            id: self.requests,
            body,
        };
        self.give(Input::Client {
            conn: ConnId(1),
            request,
        });
        self.outcomes.pop().expect("answered")
    }

    fn op(&mut self, session: SessionId, seq: u64, op: Op) -> Outcome {
        let done = Done {
            below: seq - 1,
            also: Vec::new(),
        };
        self.command(&Command::Session {
            session,
            seq: Seq(seq),
            done,
            op,
        })
    }

    fn open(&mut self) -> SessionId {
        let nonce = u128::from(self.booted.engine.applied().0);
        match self.command(&Command::Open {
            nonce,
            ttl_ms: 0,
            name: "t".to_owned(),
        }) {
            Outcome::Opened { session, .. } => session,
            other => panic!("not opened: {other:?}"),
        }
    }

    /// Sections on `file_0`, from number `seq` on, until two snapshots are made. Returns the next number.
    fn sections_until_two_snapshots(
        &mut self,
        session: SessionId,
        mut seq: u64,
        data: &str,
    ) -> u64 {
        while self.snapshots < 2 {
            self.section(session, seq, "file_0", data);
            seq += 3;
        }
        seq
    }

    /// One section with one append.
    fn section(&mut self, session: SessionId, seq: u64, file: &str, text: &str) {
        let lock = || "default".to_owned();
        let mode = LockMode::Exclusive;
        let acquire = Op::Acquire {
            lock: lock(),
            lease_ms: None,
            wait_ms: None,
            mode,
        };
        let Outcome::Granted { token, .. } = self.op(session, seq, acquire) else {
            panic!("not granted")
        };
        let (file, data) = (file.to_owned(), Bytes::copy_from_slice(text.as_bytes()));
        let append = Op::Append {
            lock: lock(),
            token,
            place: 1,
            file,
            data,
        };
        assert!(matches!(
            self.op(session, seq + 1, append),
            Outcome::Appended { .. }
        ));
        let release = Op::Release {
            lock: lock(),
            token: Token(token.0),
            count: 1,
        };
        assert!(matches!(
            self.op(session, seq + 2, release),
            Outcome::Released { .. }
        ));
        self.now.mono = self.now.mono.after(60_000);
        self.give(Input::Tick);
    }
}

fn content(disk: &MemDisk, name: &str) -> String {
    let path = format!("files/{name}");
    let len = disk
        .open_read(&path)
        .expect("there")
        .len()
        .expect("measured");
    String::from_utf8(disk.peek(&path, 0, len as usize)).expect("text")
}

/// Every file of the folder with its bytes.
fn everything(disk: &MemDisk) -> BTreeMap<String, Vec<u8>> {
    let mut found = BTreeMap::new();
    for dir in ["wal", "snapshots", "files", "removed"] {
        for entry in disk.list(dir).expect("listed") {
            let path = format!("{dir}/{}", entry.name);
            let bytes = disk.peek(&path, 0, entry.len as usize);
            found.insert(path, bytes);
        }
    }
    found
}

/// What a file should hold is decided by the log, and by nothing that lies in `files/`.
#[test]
fn files_are_rebuilt_from_a_log_that_reaches_back() {
    let damages: [fn(&MemDisk); 4] = [
        |disk| disk.delete("files/file_0"),
        |disk| disk.truncate("files/file_0", 2),
        |disk| disk.damage("files/file_0", 0, b"X"),
        |disk| disk.damage("files/file_0", 7, b" appended by hand"),
    ];
    for damage in damages {
        let disk = born();
        let mut running = start(&disk).expect("started");
        let session = running.open();
        running.section(session, 1, "file_0", "one,");
        running.section(session, 4, "file_0", "two");
        drop(running);
        disk.kill();
        damage(&disk);
        let running = start(&disk).expect("started again");
        assert_eq!(content(&disk, "file_0"), "one,two");
        assert!(running.booted.report.applied > Slot(0));
    }
}

/// With the log cut, what was lost cannot come back: the start is refused, says what and where, and changes nothing.
#[test]
fn a_lost_file_that_the_log_does_not_reach_is_refused() {
    let disk = born();
    let mut running = start(&disk).expect("started");
    let session = running.open();
    running.section(session, 1, "file_1", "early");
    let mut seq = 4;
    while running.booted.writer.first_slot() <= 1 {
        running.section(session, seq, "file_0", "x");
        seq += 3;
        assert!(
            seq < 10_000,
            "the log is never cut, {} snapshots",
            running.snapshots
        );
    }
    let expected = content(&disk, "file_0");
    drop(running);
    disk.kill();

    let running = start(&disk).expect("an undamaged folder starts");
    assert!(running.booted.report.base > Slot(0));
    assert_eq!(content(&disk, "file_0"), expected);
    drop(running);
    disk.kill();

    disk.truncate("files/file_1", 3);
    let found = everything(&disk);
    let refusal = start(&disk).err().expect("refused");
    assert!(everything(&disk) == found, "the refusal has written");
    assert_eq!(refusal.exit, 5);
    let text = refusal.to_string();
    assert!(
        text.contains("file file_1: bytes 3 to 5 are missing"),
        "{text}"
    );
    assert!(text.contains("good copy"), "{text}");
}

#[test]
fn a_foreign_or_busy_folder_is_refused() {
    let disk = born();
    let other = open_folder(shared(&disk), NodeId(2), Environment::seeded(1)).err();
    assert_eq!(other.expect("refused").exit, 4);
    let _held = open_folder(shared(&disk), NODE, Environment::seeded(1)).expect("opened");
    let second = open_folder(shared(&disk), NODE, Environment::seeded(1)).err();
    assert_eq!(second.expect("refused").exit, 4);
}

/// What this user may not open is not damaged: the start is refused, names the file, and works once it may be opened.
#[test]
fn what_may_not_be_opened_is_not_called_damaged() {
    let disk = born();
    let mut running = start(&disk).expect("started");
    let session = running.open();
    running.sections_until_two_snapshots(session, 1, "y");
    drop(running);
    disk.kill();
    let mut paths = vec!["files/file_0".to_owned()];
    for dir in ["wal", "snapshots"] {
        let listed = disk.list(dir).expect("listed");
        paths.extend(listed.iter().map(|entry| format!("{dir}/{}", entry.name)));
    }
    for path in paths {
        disk.deny(&path);
        let refusal = start(&disk).err().expect(&path);
        assert_eq!(refusal.exit, 4, "{path}: {refusal}");
        assert!(refusal.message.contains(&path), "{path}: {refusal}");
        disk.heal();
        disk.kill();
    }
    start(&disk).expect("nothing was damaged");
}

/// Somebody took the log away: its replacement would empty the files.
#[test]
fn files_without_a_log_are_refused() {
    let disk = born();
    let mut running = start(&disk).expect("started");
    let session = running.open();
    running.section(session, 1, "file_0", "precious");
    drop(running);
    disk.kill();
    for entry in disk.list("wal").expect("listed") {
        disk.delete(&format!("wal/{}", entry.name));
    }
    let refusal = open_folder(shared(&disk), NODE, Environment::seeded(2)).err();
    let refusal = refusal.expect("refused");
    assert_eq!(refusal.exit, 5);
    assert!(refusal.message.contains("file_0"), "{refusal}");
    assert!(
        refusal.message.contains("if no replica ever ran"),
        "{refusal}"
    );
    assert_eq!(content(&disk, "file_0"), "precious");
    assert!(
        disk.list("wal").expect("listed").is_empty(),
        "nothing stands where the log is to be put back"
    );
    // Where a replica certainly ran, moving the files away would only lead to the next refusal.
    let header = SnapshotHeader {
        cluster: 7,
        slot: 3,
        membership: Bytes::new(),
    };
    wal::snapshot::save(&disk, &header, &mut &b"state"[..]).expect("saved");
    let refusal = open_folder(shared(&disk), NODE, Environment::seeded(2)).err();
    let refusal = refusal.expect("refused");
    assert_eq!(refusal.exit, 5);
    assert!(
        refusal.message.contains("put the folder wal/ back"),
        "{refusal}"
    );
    assert!(!refusal.message.contains("away"), "{refusal}");
}

/// However many files are gone, the operator reads a few lines, and no snapshot that never was is named.
#[test]
fn many_lost_files_are_told_in_short() {
    let disk = born();
    let mut running = start_with(&disk, 40).expect("started");
    let session = running.open();
    let mut seq = 1;
    for file in 0..40 {
        running.section(session, seq, &format!("file_{file}"), "y");
        seq += 3;
    }
    running.sections_until_two_snapshots(session, seq, "y");
    drop(running);
    disk.kill();
    for entry in disk.list("files").expect("listed") {
        disk.delete(&format!("files/{}", entry.name));
    }
    let running = start_with(&disk, 40).expect("rebuilt from the log");
    let warning = running.booted.report.warning().expect("told");
    assert!(warning.len() < 4_000, "{} bytes: {warning}", warning.len());
    assert!(warning.contains("more files"), "{warning}");
    assert!(warning.contains("from the empty state"), "{warning}");
    assert!(!warning.contains("snapshot of slot 0"), "{warning}");
}

/// A damaged snapshot costs a longer replay from the one before.
#[test]
fn a_damaged_snapshot_is_passed_over() {
    let disk = born();
    let mut running = start(&disk).expect("started");
    let session = running.open();
    running.sections_until_two_snapshots(session, 1, "y");
    let expected = content(&disk, "file_0");
    drop(running);
    disk.kill();
    let slots = wal::snapshot::list(&disk).expect("listed");
    let newest = *slots.last().expect("two snapshots");
    disk.flip_bit(&format!("snapshots/{newest:016x}.snap"), 5_000, 1);
    let running = start(&disk).expect("started from the older one");
    assert_eq!(running.booted.report.base, Slot(slots[slots.len() - 2]));
    assert_eq!(content(&disk, "file_0"), expected);
}

/// The record below the snapshot is gone from this log, the state that it led to is not. The operator is told in one line,
/// and a new snapshot follows at once.
#[test]
fn damage_below_a_snapshot_starts_and_is_told_in_one_line() {
    let disk = born();
    let mut running = start(&disk).expect("started");
    let session = running.open();
    running.sections_until_two_snapshots(session, 1, "z");
    let expected = content(&disk, "file_0");
    assert_eq!(running.booted.report.warning(), None);
    drop(running);
    disk.kill();
    let listed = disk.list("wal").expect("listed");
    let oldest = listed.iter().find(|entry| entry.name.ends_with(".wal"));
    let oldest = format!("wal/{}", oldest.expect("a segment").name);
    // The header of its second batch, behind the segment's header and the marker.
    disk.flip_bit(&oldest, 3 * 4096 + 40, 1);

    let mut running = start(&disk).expect("started");
    let warning = running.booted.report.warning().expect("told");
    assert_eq!(warning.lines().count(), 1);
    for part in [
        "1 damaged place",
        "a verified snapshot stands for the values",
        &oldest,
    ] {
        assert!(warning.contains(part), "{part}: {warning}");
    }
    assert_eq!(content(&disk, "file_0"), expected);
    let session = running.open();
    running.section(session, 1, "file_0", "!");
    assert_eq!(running.snapshots, 1, "a new one follows");
    assert_eq!(content(&disk, "file_0"), expected + "!");
}

impl Running {
    /// What the state says of `file_0`.
    fn fact(&self) -> FileFact {
        let facts = self.booted.engine.machine().files();
        let found = facts.into_iter().find(|fact| fact.name == "file_0");
        found.expect("made")
    }

    /// Notes that `file_0` is damaged, and what a read of it says now.
    fn find_damage(&mut self) -> (crate::filestore::Rebuild, bool) {
        let fact = self.fact();
        let files = &mut self.booted.files;
        let told = files.note_damage(fact.id, "file_0", "its bytes are not what was written");
        assert!(told.contains("refused until it is written again"), "{told}");
        let file = files
            .next_rebuild()
            .expect("opened")
            .expect("to be written again");
        assert!(files.next_rebuild().expect("nothing to open").is_none());
        let refused = self.read().is_err();
        (file, refused)
    }

    fn read(&mut self) -> Result<Bytes, crate::filestore::ReadError> {
        let fact = self.fact();
        let origin = crate::engine::Origin {
            conn: ConnId(1),
            request: 1,
        };
        self.booted.files.read(&crate::engine::FileRead {
            origin,
            slot: self.booted.engine.applied(),
            id: fact.id,
            name: fact.name,
            offset: 0,
            len: fact.length as u32,
            file_len: fact.length,
        })
    }
}

/// While the replica runs, and with an append that comes meanwhile.
#[test]
fn a_rotten_file_is_written_again_from_the_log() {
    let disk = born();
    let mut running = start(&disk).expect("started");
    let session = running.open();
    running.section(session, 1, "file_0", "0123456789");
    let mut seq = 4;
    // From the empty state, from the older snapshot, and from the newest one.
    for from_end in [8, 25, 15] {
        if from_end > 8 {
            seq = running.sections_until_two_snapshots(session, seq, "0123456789");
        }
        if from_end == 25 {
            running.section(session, seq, "file_0", "behind the snapshot");
            seq += 3;
        }
        let good = content(&disk, "file_0");
        disk.flip_bit("files/file_0", good.len() as u64 - from_end, 3);
        assert!(running.read().is_err());
        let (file, refused) = running.find_damage();
        assert!(refused);
        let applied = running.booted.engine.applied();
        running.section(session, seq, "file_0", "+");
        seq += 3;
        let reader = running.booted.writer.reader();
        let rebuilt = rebuild(&reader, applied, file).expect("the log reaches back");
        assert!(running.booted.files.rebuilt(rebuilt));
        assert!(!running.booted.files.is_damaged());
        assert_eq!(running.read().expect("read again"), good.clone() + "+");
        assert_eq!(content(&disk, "file_0"), good + "+");
    }
}

#[test]
fn a_rotten_file_that_the_log_does_not_reach_stays_refused() {
    let disk = born();
    let mut running = start(&disk).expect("started");
    let session = running.open();
    running.section(session, 1, "file_0", "early");
    let mut seq = 4;
    while running.booted.writer.first_slot() <= 1 {
        running.section(session, seq, "file_1", "x");
        seq += 3;
    }
    disk.flip_bit("files/file_0", 1, 3);
    let (file, refused) = running.find_damage();
    let applied = running.booted.engine.applied();
    let why = rebuild(&running.booted.writer.reader(), applied, file).err();
    let why = why.expect("nothing to rebuild it from");
    assert!(why.contains("which the snapshot of slot"), "{why}");
    assert!(why.contains("the log begins at slot"), "{why}");
    assert!(refused && running.read().is_err());
}
