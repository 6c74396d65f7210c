//! Golden bytes: a log written today must be read the same for ever.
//!
//! Each line of `codec.golden` is one value and its bytes in hexadecimal, in groups as they come:
//! the version, the number of the variant, then the fields. A line that changes is a change of the
//! format and needs another version; a new variant adds lines at the end of its kind.
//! `UPDATE=1 cargo test -p statemachine --test codec` writes the file anew.

use std::fmt::Write;
use std::path::Path;

use statemachine::{
    Answer, Beat, BeatAnswer, BeatState, ClusterTime, Command, Done, Fate, FileFact, FileId,
    FullPart, LockBeat, LockMode, Machine, Measured, NameFault, NotHeldWhy, Op, Outcome, Page,
    Query, Refusal, SectionPart, Seq, SessionExpired, SessionId, Settings, Slot, Token,
};

#[test]
fn bytes_are_as_they_were() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/codec/codec.golden");
    let mut found = String::new();
    for command in commands() {
        let bytes = command.encode();
        assert_eq!(Command::decode(&bytes), Ok(command.clone()));
        line(&mut found, &format!("{command:?}"), &bytes);
    }
    for outcome in outcomes() {
        let bytes = outcome.encode();
        assert_eq!(Outcome::decode(&bytes), Ok(outcome.clone()));
        line(&mut found, &format!("{outcome:?}"), &bytes);
    }
    for query in queries() {
        let bytes = query.encode();
        assert_eq!(Query::decode(&bytes), Ok(query.clone()));
        line(&mut found, &format!("{query:?}"), &bytes);
    }
    for answer in answers() {
        let bytes = answer.encode();
        assert_eq!(Answer::decode(&bytes), Ok(answer.clone()));
        line(&mut found, &format!("{answer:?}"), &bytes);
    }
    for settings in [Settings::of_first_rules(), Settings::default()] {
        assert_eq!(Settings::decode(&settings.encode()), Ok(settings.clone()));
        line(&mut found, &format!("{settings:?}"), &settings.encode());
    }

    // Two sessions, a lock with a section and a waiter, two files; its layout is told in
    // `src/snapshot`. Under the first rules, bytes and hash are those of the first program.
    let snapshot = crate::hostile::snapshot_under(&Settings::of_first_rules());
    line(&mut found, "a snapshot under the first rules", &snapshot);
    let hash = crate::first_hash::of(&snapshot).to_le_bytes();
    line(&mut found, "its hash", &[&[1][..], &hash].concat());
    let machine = Machine::decode_snapshot(&snapshot).expect("it is sound");
    let mut again = Vec::new();
    machine.encode_snapshot(&mut again).expect("to memory");
    assert_eq!(again, snapshot);

    let snapshot = crate::hostile::snapshot();
    line(&mut found, "a snapshot", &snapshot);
    let machine = Machine::decode_snapshot(&snapshot).expect("it is sound");
    let hash = machine.state_hash().to_le_bytes();
    line(&mut found, "its hash", &[&[2][..], &hash].concat());

    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(&path, &found).expect("a writable file");
    }
    let told = std::fs::read_to_string(&path).expect("the golden file");
    for (number, (told, found)) in told.lines().zip(found.lines()).enumerate() {
        assert_eq!(told, found, "{}:{}", path.display(), number + 1);
    }
    assert_eq!(
        told.lines().count(),
        found.lines().count(),
        "{}",
        path.display()
    );
}

fn line(out: &mut String, value: &str, bytes: &[u8]) {
    writeln!(out, "{value}").expect("to a string");
    let (version, rest) = bytes.split_first().expect("a version byte");
    write!(out, "    {version:02x}").expect("to a string");
    for chunk in rest.chunks(4) {
        out.push(' ');
        chunk
            .iter()
            .for_each(|byte| write!(out, "{byte:02x}").expect("to a string"));
    }
    out.push('\n');
}

fn commands() -> Vec<Command> {
    let lock = || "default".to_owned();
    let token = Token(0x0102_0304_0506_0708);
    let file = || "file_0".to_owned();
    let ops = vec![
        Op::Close,
        Op::Acquire {
            lock: lock(),
            lease_ms: None,
            wait_ms: Some(0),
            mode: LockMode::Exclusive,
        },
        Op::Acquire {
            lock: lock(),
            lease_ms: Some(1),
            wait_ms: None,
            mode: LockMode::Exclusive,
        },
        Op::Cancel { seq: Seq(6) },
        Op::Renew {
            lock: lock(),
            token,
        },
        Op::Append {
            lock: lock(),
            token,
            place: 9,
            file: file(),
            data: (&b"\n\0\xff"[..]).into(),
        },
        Op::Release {
            lock: lock(),
            token,
            count: 9,
        },
        Op::Abort {
            lock: lock(),
            token,
        },
        Op::CreateFile {
            file: file(),
            guard: None,
        },
        Op::CreateFile {
            file: file(),
            guard: Some(lock()),
        },
        Op::RemoveFile { file: file() },
        Op::ForceRelease {
            lock: lock(),
            token,
            reason: "why".to_owned(),
        },
    ];
    let beat = Beat {
        session: SessionId(5),
        tokens: vec![(lock(), token)],
    };
    let mut commands = vec![
        Command::Open {
            nonce: 0x0f,
            ttl_ms: 20_000,
            name: "me".to_owned(),
        },
        Command::KeepAlive {
            beats: vec![
                beat,
                Beat {
                    session: SessionId(6),
                    tokens: vec![],
                },
            ],
        },
    ];
    let done = Done {
        below: 2,
        also: vec![(4, 5)],
    };
    commands.extend(ops.into_iter().map(|op| {
        let (session, seq) = (SessionId(5), Seq(7));
        Command::Session {
            session,
            seq,
            done: done.clone(),
            op,
        }
    }));
    commands.push(Command::Settle {
        lock: lock(),
        token,
    });
    commands
}

fn outcomes() -> Vec<Outcome> {
    let (token, deadline) = (Token(3), ClusterTime(4));
    let beats = vec![
        BeatAnswer {
            session: SessionId(5),
            result: Ok(BeatState {
                deadline,
                locks: vec![LockBeat {
                    lock: "a".to_owned(),
                    token,
                    deadline: Some(deadline),
                }],
            }),
        },
        BeatAnswer {
            session: SessionId(6),
            result: Err(SessionExpired),
        },
    ];
    let mut outcomes = vec![
        Outcome::Opened {
            session: SessionId(5),
            ttl_ms: 6,
            deadline,
        },
        Outcome::Alive { beats },
        Outcome::Closed,
        Outcome::Granted {
            token,
            deadline,
            lease_ms: 7,
        },
        Outcome::Cancelled { given_back: true },
        Outcome::Renewed { deadline },
        Outcome::Appended {
            pending_bytes: 8,
            deadline,
        },
        Outcome::Released {
            slot: Slot(9),
            lengths: vec![("a".to_owned(), 10)],
        },
        Outcome::Aborted,
        Outcome::Created {
            id: FileId(11, 12),
            guard: "a".to_owned(),
        },
        Outcome::Removed,
        Outcome::ForceReleased,
    ];
    outcomes.extend(refusals().into_iter().map(Outcome::Refused));
    let (slot, lengths) = (Slot(9), Some(vec![("a".to_owned(), 10)]));
    let fates = [
        Fate::Done { slot, lengths },
        Fate::Done {
            slot,
            lengths: None,
        },
        Fate::Never,
        Fate::Unknown,
    ];
    outcomes.extend(fates.map(|fate| Outcome::Settled { fate }));
    outcomes
}

fn refusals() -> Vec<Refusal> {
    let name = || "a".to_owned();
    let not_held = |why| Refusal::NotHeld {
        lock: name(),
        token: Token(1),
        why,
    };
    let (limit, value) = (1, 2);
    vec![
        Refusal::SessionExpired,
        Refusal::Busy {
            lock: name(),
            holder: SessionId(1),
            holder_name: name(),
        },
        Refusal::WaitTimedOut,
        Refusal::AlreadyHeld { token: Token(1) },
        Refusal::AlreadyWaiting { seq: Seq(1) },
        Refusal::QueueFull { limit },
        Refusal::TooManySessions { limit },
        not_held(NotHeldWhy::LeaseEnded),
        not_held(NotHeldWhy::Released),
        not_held(NotHeldWhy::Aborted),
        not_held(NotHeldWhy::GivenBack),
        not_held(NotHeldWhy::Forced { reason: name() }),
        not_held(NotHeldWhy::OtherSession),
        not_held(NotHeldWhy::Unknown),
        Refusal::OutOfOrder { expected: 1 },
        Refusal::NoSuchFile { file: name() },
        Refusal::WrongGuard { guard: name() },
        Refusal::TooLarge {
            what: Measured::Append,
            limit,
            value,
        },
        Refusal::TooLarge {
            what: Measured::SessionName,
            limit,
            value,
        },
        Refusal::TooLarge {
            what: Measured::Reason,
            limit,
            value,
        },
        Refusal::SectionTooLarge {
            what: SectionPart::Bytes,
            limit,
            value,
        },
        Refusal::SectionTooLarge {
            what: SectionPart::Appends,
            limit,
            value,
        },
        Refusal::SectionTooLarge {
            what: SectionPart::Files,
            limit,
            value,
        },
        Refusal::Exists { file: name() },
        Refusal::PendingAppends { file: name() },
        Refusal::BadName {
            name: name(),
            reason: NameFault::Empty,
        },
        Refusal::BadName {
            name: name(),
            reason: NameFault::TooLong { limit, value },
        },
        Refusal::BadName {
            name: name(),
            reason: NameFault::Character,
        },
        Refusal::TooManyInFlight { limit },
        Refusal::Full {
            what: FullPart::State,
            limit,
        },
        Refusal::Full {
            what: FullPart::Sections,
            limit,
        },
        Refusal::Forgotten,
        Refusal::Cancelled,
        Refusal::BadRequest { reason: name() },
    ]
}

fn queries() -> Vec<Query> {
    let name = || "a".to_owned();
    vec![
        Query::LockStatus { lock: name() },
        Query::Locks {
            prefix: name(),
            after: Some(name()),
            limit: 1,
        },
        Query::Sessions {
            after: Some(SessionId(1)),
            limit: 2,
        },
        Query::Files {
            after: None,
            limit: 3,
        },
        Query::Stat { file: name() },
        Query::Read {
            file: name(),
            offset: 4,
            len: 5,
        },
        Query::CheckToken {
            lock: name(),
            token: Token(6),
        },
        Query::Session { id: SessionId(7) },
    ]
}

fn answers() -> Vec<Answer> {
    let name = || "a".to_owned();
    let file = || FileFact {
        id: FileId(1, 2),
        name: name(),
        length: 3,
        crc32: 4,
        guard: name(),
    };
    vec![
        Answer::Files(Page {
            items: vec![file()],
            more: true,
        }),
        Answer::File(file()),
        Answer::ReadPlan {
            id: FileId(1, 2),
            name: name(),
            offset: 3,
            len: 4,
            file_len: 5,
        },
        Answer::Data {
            offset: 1,
            file_len: 2,
            data: (&b"\xff"[..]).into(),
        },
        Answer::Token { current: true },
        Answer::Refused(Refusal::Forgotten),
    ]
}

/// Which refusals return which code to the coursework's calls.
#[test]
fn return_codes() {
    for refusal in refusals() {
        let rc = match refusal.code() {
            "no_such_file" => 1,
            "not_held" | "session_expired" => 2,
            "busy" | "wait_timed_out" => 3,
            _ => 4,
        };
        assert_eq!(refusal.rc(), rc, "{}", refusal.code());
        assert_eq!(Outcome::Refused(refusal).rc(), rc);
    }
    assert_eq!(Outcome::Closed.rc(), 0);
}

/// A limit that was exceeded is named, with its value.
#[test]
fn messages_name_limit_and_value() {
    for refusal in refusals() {
        let told = refusal.to_string();
        assert!(!told.ends_with('.') && told.len() > 10, "{told}");
        if format!("{refusal:?}").contains("limit: 1") {
            assert!(told.contains('1'), "{told}");
        }
        if format!("{refusal:?}").contains("value: 2") {
            assert!(told.contains('2'), "{told}");
        }
    }
}
