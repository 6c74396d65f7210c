use std::sync::Arc;

use bytes::Bytes;
use net::{Response, ResponseBody};
use statemachine::FileFact;
use wal::storage::MemDisk;

use super::*;
use crate::engine::Origin;
use crate::filestore::Inspection;

fn write(name: &str, offset: u64, data: Vec<u8>) -> Effect {
    let data = Bytes::from(data);
    Effect::File(FileOp::Write {
        id: FileId(1, 0),
        name: name.into(),
        offset,
        data,
    })
}

/// Plays the files' thread until it has nothing left to do.
#[track_caller]
fn settle(effects: &mut Effects, out: &mut Output) {
    while let Some(at) = out.jobs.iter().position(|job| matches!(job, Job::File(_))) {
        let Job::File(job) = out.jobs.remove(at) else {
            unreachable!("just found")
        };
        assert!(effects.busy);
        effects.on_file_done(job.run(), out);
    }
    assert!(!effects.busy);
    assert_eq!(out.stop, None);
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

fn read_of(id: FileId, name: &str) -> FileRead {
    FileRead {
        origin: Origin {
            conn: ConnId(1),
            request: 1,
        },
        slot: paxos::Slot(2),
        id,
        name: name.to_owned(),
        offset: 0,
        len: 2,
        file_len: 2,
    }
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
        .cut_back(&[fact], Inspection::Lengths)
        .expect("nothing to cut");
    let mut effects = Effects::new(files);
    let mut out = Output::default();
    effects.run(&mut vec![Effect::ReadFile(read_of(id, &name))], &mut out);
    assert_eq!((effects.unchecked.len(), out.replies.len()), (1, 0));
    let remove = Effect::File(FileOp::Remove { id, name });
    effects.run(&mut vec![remove], &mut out);
    assert_eq!((effects.unchecked.len(), out.replies.len()), (0, 1));
}

/// A damaged file is counted. Its reader is to ask again while it may be written again, and not to once it cannot.
#[test]
fn a_rotten_file_is_known_and_refused() {
    let disk = MemDisk::new();
    let (files, id, name) = files_with_one(disk.clone());
    disk.damage("files/f", 0, b"x");
    let mut effects = Effects::new(files);
    let mut out = Output::default();
    assert_eq!(effects.damaged(), 0);
    let read = || vec![Effect::ReadFile(read_of(id, &name))];
    let mut refused = |effects: &mut Effects| {
        effects.run(&mut read(), &mut out);
        let (_, response) = out.replies.pop().expect("answered at once");
        let ResponseBody::Unavailable { retry_ms, .. } = response.body else {
            panic!("refused, not {response:?}")
        };
        retry_ms
    };
    assert_eq!(refused(&mut effects), READ_AGAIN_MS, "found rotten");
    assert_eq!(effects.damaged(), 1);
    assert_eq!(refused(&mut effects), READ_AGAIN_MS, "known");
    let result = Err("the log does not reach back".to_owned());
    let done = RebuildDone {
        id,
        name: name.clone(),
        result,
    };
    effects.on_rebuilt(done, &mut Output::default());
    assert_eq!(refused(&mut effects), ResponseBody::NO_RETRY_MS, "given up");
    assert_eq!(effects.damaged(), 1);
    assert!(out.jobs.iter().any(|job| matches!(job, Job::Mark(_))));
}

/// An answer must not overtake the write that it speaks of, and nothing may be done twice.
#[test]
fn a_full_disk_holds_back_everything_behind_it() {
    let disk = MemDisk::new();
    let files = FileStore::open(Arc::new(disk.clone())).expect("a file store");
    let mut effects = Effects::new(files);
    let mut out = Output::default();
    let create = FileOp::Create {
        id: FileId(1, 0),
        name: "f".into(),
    };
    let mut batch = vec![Effect::File(create), write("f", 0, b"ab".to_vec()), reply()];
    effects.run(&mut batch, &mut out);
    assert_eq!(out.replies.len(), 0, "the file is not made yet");
    settle(&mut effects, &mut out);
    assert_eq!((effects.waiting(), effects.is_blocked()), (0, false));
    assert_eq!(out.replies.len(), 1);

    disk.limit_room(Some(0));
    effects.hold_snapshot(SnapshotJob {
        slot: paxos::Slot(1),
        machine: statemachine::Machine::new(),
        clock: paxos::ClusterClock::default(),
    });
    let mut batch = vec![write("f", 2, vec![b'c'; 1 << 20]), reply()];
    effects.run(&mut batch, &mut out);
    assert_eq!((effects.waiting(), effects.is_blocked()), (2, true));
    assert_eq!(out.stop, None, "no space is no failure");
    assert!(
        effects.take_snapshot().is_none(),
        "the files are behind the snapshot"
    );
    effects.run(&mut vec![reply()], &mut out);
    assert_eq!(effects.waiting(), 3);
    let refusal = Effect::Reply {
        conn: ConnId(1),
        response: Response {
            id: 2,
            body: ResponseBody::NotLeader { leader: None },
        },
    };
    effects.run(&mut vec![refusal], &mut out);
    assert_eq!(effects.waiting(), 3, "a refusal waits for nothing");
    assert_eq!(out.replies.len(), 2);

    effects.let_go_of_answers(&mut out);
    assert_eq!(
        effects.waiting(),
        1,
        "once another leads, only the write waits"
    );
    assert_eq!(effects.waiting_bytes(), 1 << 20);

    disk.limit_room(None);
    effects.retry(&mut out);
    assert_eq!((effects.waiting(), effects.is_blocked()), (0, false));
    assert!(effects.take_snapshot().is_some());
    assert_eq!(disk.peek("files/f", 0, 4), b"abcc");
}
