//! A short life of a lock, as the log of one replica holds it. Every way to lose a lock happens once.

use bytes::Bytes;
use paxos::{Ballot, Entry, EntryKind, NodeId};
use statemachine::{Command, Done, LockMode, Op, Seq, SessionId, Settings, Token};
use wal::{Record, RecordKind};

/// 2026-01-01T00:00:00Z.
const WALL_MS: u64 = 1_767_225_600_000;
/// Sessions are named by the slots that opened them.
pub(crate) const ALICE: u64 = 3;
pub(crate) const BOB: u64 = 4;

/// The last slot of the story that is known to be chosen; the one after it is accepted only.
pub(crate) const CHOSEN: u64 = 16;

pub(crate) fn ballot() -> Ballot {
    Ballot::new(7, NodeId(2))
}

/// Every slot's entry, from slot 1 on.
pub(crate) fn entries() -> Vec<Entry> {
    let settings = Settings {
        files: 2,
        ..Settings::default()
    };
    let app = |command: Command| (EntryKind::App, command.encode());
    let acquire = |session, seq| app(numbered(session, seq, acquire(Some(10_000))));
    let lock = || "default".to_owned();
    let data = Bytes::from_static(b"hello");
    let append = Op::Append {
        lock: lock(),
        token: Token(1),
        place: 1,
        file: "file_0".to_owned(),
        data,
    };
    let release = Op::Release {
        lock: lock(),
        token: Token(1),
        count: 1,
    };
    let force = Op::ForceRelease {
        lock: lock(),
        token: Token(3),
        reason: "stuck".to_owned(),
    };
    let abort = Op::Abort {
        lock: lock(),
        token: Token(4),
    };
    let told = vec![
        (
            1_000,
            (EntryKind::LeaderStart, 2_000u64.to_le_bytes().to_vec()),
        ),
        (1_000, (EntryKind::Settings, settings.encode())),
        (2_000, app(open("alice"))),
        (2_000, app(open("bob"))),
        (3_000, acquire(ALICE, 1)),
        (3_000, acquire(BOB, 1)),
        (4_000, app(numbered(ALICE, 2, append))),
        (5_000, app(numbered(ALICE, 3, release))),
        // Bob's lease of ten seconds ends.
        (17_000, (EntryKind::Time, Vec::new())),
        (18_000, acquire(ALICE, 4)),
        (19_000, app(numbered(BOB, 2, force))),
        (20_000, acquire(ALICE, 5)),
        (21_000, app(numbered(ALICE, 6, abort))),
        (22_000, acquire(ALICE, 7)),
        (23_000, app(numbered(ALICE, 8, Op::Close))),
        (24_000, acquire(BOB, 3)),
        (25_000, app(open("carol"))),
    ];
    let entry = |(stamp, (kind, payload)): (u64, (EntryKind, Vec<u8>))| {
        Entry::new(kind, ballot(), stamp, WALL_MS + stamp, &payload)
    };
    told.into_iter().map(entry).collect()
}

pub(crate) fn accept(slot: u64, entry: &Entry) -> Record {
    Record {
        kind: RecordKind::Accept,
        slot,
        ballot: ballot().raw(),
        payload: entry.bytes().clone(),
    }
}

pub(crate) fn open(name: &str) -> Command {
    Command::Open {
        nonce: u128::from_le_bytes([name.len() as u8; 16]),
        ttl_ms: 60_000,
        name: name.to_owned(),
    }
}

fn acquire(lease_ms: Option<u64>) -> Op {
    Op::Acquire {
        lock: "default".to_owned(),
        lease_ms,
        wait_ms: None,
        mode: LockMode::Exclusive,
    }
}

fn numbered(session: u64, seq: u64, op: Op) -> Command {
    Command::Session {
        session: SessionId(session),
        seq: Seq(seq),
        done: Done::default(),
        op,
    }
}
