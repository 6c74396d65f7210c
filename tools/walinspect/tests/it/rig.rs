//! Folders to look at, the program that looks, and what it said.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::Arc;

use paxos::ClusterClock;
use serde_json::Value;
use statemachine::{Applied, At, ClusterTime, FileOp, Machine, Slot};
use tempfile::TempDir;
use wal::storage::{BLOCK_BYTES, RealDisk};
use wal::{Environment, Folder, Options, Record, RecordKind, SnapshotHeader, SnapshotRef, Writer};

use crate::story;

/// A data folder that is removed with this.
pub(crate) struct Rig {
    folder: TempDir,
}

impl Rig {
    /// A folder with nothing in it.
    pub(crate) fn empty() -> Rig {
        Rig {
            folder: tempfile::tempdir().expect("a folder for the test"),
        }
    }

    /// The story, written slot by slot and closed in order.
    pub(crate) fn whole() -> Rig {
        let rig = Rig::empty();
        let mut log = rig.open(1);
        tell(&mut log);
        log.close().expect("close");
        rig
    }

    /// The story; the replica was killed right after its last write.
    pub(crate) fn killed() -> Rig {
        let rig = Rig::empty();
        let mut log = rig.open(1);
        tell(&mut log);
        rig
    }

    pub(crate) fn open(&self, seed: u64) -> Writer {
        let disk = RealDisk::at(self.path());
        let folder = Folder::open(Arc::new(disk), 2, Environment::seeded(seed)).expect("open");
        // So small that the story takes several segments.
        let options = Options {
            segment_bytes: 8 * BLOCK_BYTES as u64,
        };
        folder.open_log(options).expect("open the log").0
    }

    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }

    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.path().join(name)
    }

    pub(crate) fn segment(&self, seq: u64) -> PathBuf {
        self.file(&wal::layout::segment_path(seq))
    }

    /// Changes one byte.
    pub(crate) fn flip(&self, name: impl AsRef<Path>, at: u64) {
        let path = self.path().join(name);
        let mut bytes = fs::read(&path).expect("read");
        bytes[at as usize] ^= 0x10;
        fs::write(&path, bytes).expect("write");
    }

    /// Runs the program on the folder.
    pub(crate) fn run(&self, arguments: &[&str]) -> Said {
        let path = self.path().to_str().expect("a plain path");
        run(&[arguments, &["--dir", path]].concat())
    }

    /// The object of the one record of a slot, as `dump` tells it.
    pub(crate) fn record(&self, slot: u64) -> Value {
        let slot = slot.to_string();
        let said = self.run(&["dump", "--json", "--slot", &slot]);
        said.objects().pop().expect("a record of the slot")
    }

    /// Every file with its bytes and time of change.
    pub(crate) fn contents(&self) -> BTreeMap<PathBuf, (Vec<u8>, std::time::SystemTime)> {
        let mut found = BTreeMap::new();
        let mut folders = vec![self.path().to_owned()];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder).expect("list") {
                let path = entry.expect("an entry").path();
                let meta = path.metadata().expect("look at it");
                if meta.is_dir() {
                    folders.push(path.clone());
                    found.insert(path, (Vec::new(), meta.modified().expect("a time")));
                } else {
                    let bytes = fs::read(&path).expect("read");
                    found.insert(path, (bytes, meta.modified().expect("a time")));
                }
            }
        }
        found
    }

    /// Writes what a replica would write to the users' files.
    fn carry_out(&self, op: &FileOp) {
        fs::create_dir_all(self.file("files")).expect("create");
        let (FileOp::Create { name, .. }
        | FileOp::Write { name, .. }
        | FileOp::Remove { name, .. }) = op;
        let path = self.file(&format!("files/{name}"));
        match op {
            FileOp::Create { .. } => fs::write(path, "").expect("create"),
            FileOp::Write { offset, data, .. } => {
                let mut bytes = fs::read(&path).expect("read");
                bytes.truncate(*offset as usize);
                bytes.extend_from_slice(data);
                fs::write(path, bytes).expect("write");
            }
            FileOp::Remove { .. } => fs::remove_file(path).expect("remove"),
        }
    }

    /// Takes a snapshot of the story as of `slot`, as a replica does.
    pub(crate) fn save_snapshot(&self, log: &mut Writer, slot: u64) -> SnapshotRef {
        let mut machine = Machine::new();
        let mut clock = ClusterClock::default();
        for (at, entry) in (1..=slot).zip(story::entries()) {
            let moved = clock.observe(paxos::Slot(at), &entry);
            let at = At {
                slot: Slot(at),
                time: ClusterTime(moved.time_ms),
                wall_ms: entry.wall_ms(),
            };
            let payload = entry.payload();
            let what = match entry.kind() {
                paxos::EntryKind::App => Applied::Encoded(&payload),
                paxos::EntryKind::Settings => {
                    Applied::Settings(statemachine::Settings::decode(&payload).expect("settings"))
                }
                paxos::EntryKind::LeaderStart => Applied::LeaderStart { grace_ms: 2_000 },
                _ => Applied::Time,
            };
            let effects = machine.apply(at, what);
            effects.files.iter().for_each(|op| self.carry_out(op));
        }
        let mut payload = Vec::new();
        payload.extend_from_slice(&1u64.to_le_bytes());
        payload.extend_from_slice(&clock.time_ms.to_le_bytes());
        payload.extend_from_slice(&clock.leader.raw().to_le_bytes());
        machine.encode_snapshot(&mut payload).expect("encode");
        let header = SnapshotHeader {
            cluster: 0,
            slot,
            membership: bytes::Bytes::new(),
        };
        let disk = RealDisk::at(self.path());
        let saved = wal::snapshot::save(&disk, &header, &mut &payload[..]).expect("save");
        log.snapshot_saved(saved).expect("name it");
        let words = [saved.slot, saved.length, saved.digest].map(u64::to_le_bytes);
        let mark = Record {
            kind: RecordKind::SnapshotMark,
            slot,
            ballot: 0,
            payload: bytes::Bytes::copy_from_slice(words.as_flattened()),
        };
        log.commit(&[mark], slot).expect("mark it");
        saved
    }
}

/// Writes the story, a batch for each slot; each names the slots before it as chosen.
pub(crate) fn tell(log: &mut Writer) {
    let promise = Record {
        kind: RecordKind::Promise,
        slot: 0,
        ballot: story::ballot().raw(),
        payload: bytes::Bytes::new(),
    };
    log.commit(&[promise], 0).expect("promise");
    for (slot, entry) in (1..).zip(story::entries()) {
        let commit = (slot - 1).min(story::CHOSEN);
        log.commit(&[story::accept(slot, &entry)], commit)
            .expect("accept");
    }
}

/// Runs the program.
pub(crate) fn run(arguments: &[&str]) -> Said {
    let output = Command::new(env!("CARGO_BIN_EXE_walinspect"))
        .args(arguments)
        .output()
        .expect("the program runs");
    Said::of(output)
}

/// What the program said, and its exit code.
#[derive(Debug)]
pub(crate) struct Said {
    pub(crate) code: i32,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Said {
    fn of(output: Output) -> Said {
        let text = |bytes| String::from_utf8(bytes).expect("plain text");
        let said = Said {
            code: output.status.code().expect("no signal ended it"),
            out: text(output.stdout),
            err: text(output.stderr),
        };
        assert!(!said.err.contains("panicked"), "{said:?}");
        said
    }

    /// Its output as objects, of which each begins with version and kind.
    pub(crate) fn objects(&self) -> Vec<Value> {
        let parse = |line: &str| {
            assert!(line.starts_with(r#"{"v":1,"kind":""#), "{line}");
            serde_json::from_str(line).expect("an object a line")
        };
        self.out.lines().map(parse).collect()
    }

    /// The objects of one kind.
    pub(crate) fn kind(&self, kind: &str) -> Vec<Value> {
        let mut objects = self.objects();
        objects.retain(|object| object["kind"] == kind);
        objects
    }

    /// Asserts the exit code.
    #[track_caller]
    pub(crate) fn exits(self, code: i32) -> Said {
        assert_eq!(self.code, code, "{self:?}");
        self
    }

    /// Asserts that it was told.
    #[track_caller]
    pub(crate) fn tells(self, words: &str) -> Said {
        let told = self.out.contains(words) || self.err.contains(words);
        assert!(told, "no `{words}` in {self:?}");
        self
    }
}
