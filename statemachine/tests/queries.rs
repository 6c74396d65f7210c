//! Questions: pages that follow one another, prefixes, and reads that stay within the file.

use statemachine::{
    Answer, Applied, At, ClusterTime, Command, Done, LockMode, Machine, Op, Query, Refusal, Seq,
    SessionId, Settings, Slot, Token,
};

/// One session, number 2, that holds locks `a`, `b`, `b/1`, `b/2` and `c`, and has released five
/// bytes into `file_0`; a second one, number 3, that waits for `b`.
fn machine() -> Machine {
    let mut machine = Machine::new();
    let mut slot = 0;
    let mut apply = |what| {
        slot += 1;
        machine.apply(
            At {
                slot: Slot(slot),
                time: ClusterTime(7),
                wall_ms: 9,
            },
            what,
        );
    };
    apply(Applied::Settings(Settings {
        files: 12,
        ..Settings::default()
    }));
    for (nonce, name) in [(1, "holder"), (2, "waiter")] {
        apply(Applied::Command(Command::Open {
            nonce,
            ttl_ms: 0,
            name: name.to_owned(),
        }));
    }
    let numbered = |session, seq, op| {
        let (session, seq) = (SessionId(session), Seq(seq));
        Applied::Command(Command::Session {
            session,
            seq,
            done: Done::default(),
            op,
        })
    };
    let acquire = |lock: &str| {
        let (lock, mode) = (lock.to_owned(), LockMode::Exclusive);
        Op::Acquire {
            lock,
            lease_ms: Some(5_000),
            wait_ms: None,
            mode,
        }
    };
    let (lock, token) = (|| "default".to_owned(), Token(1));
    let (file, data) = ("file_0".to_owned(), b"12345"[..].into());
    apply(numbered(2, 1, acquire("default")));
    apply(numbered(
        2,
        2,
        Op::Append {
            lock: lock(),
            token,
            place: 1,
            file,
            data,
        },
    ));
    apply(numbered(
        2,
        3,
        Op::Release {
            lock: lock(),
            token,
            count: 1,
        },
    ));
    for (seq, lock) in (4..).zip(["c", "b/2", "b", "a", "b/1"]) {
        apply(numbered(2, seq, acquire(lock)));
    }
    apply(numbered(3, 1, acquire("b")));
    machine
}

#[track_caller]
fn check_locks(prefix: &str, after: Option<&str>, limit: u32, expected: &[&str], more: bool) {
    let (prefix, after) = (prefix.to_owned(), after.map(str::to_owned));
    let answer = machine().query(&Query::Locks {
        prefix,
        after,
        limit,
    });
    let Answer::Locks(page) = answer else {
        panic!("{answer:?}")
    };
    let names: Vec<&str> = page.items.iter().map(|line| &*line.lock).collect();
    assert_eq!((&*names, page.more), (expected, more));
}

#[test]
fn locks_by_prefix_and_page() {
    check_locks("", None, 100, &["a", "b", "b/1", "b/2", "c"], false);
    check_locks("", None, 2, &["a", "b"], true);
    check_locks("", Some("b"), 2, &["b/1", "b/2"], true);
    check_locks("", Some("b/2"), 2, &["c"], false);
    check_locks("", Some("c"), 2, &[], false);
    check_locks("b", None, 100, &["b", "b/1", "b/2"], false);
    check_locks("b/", None, 1, &["b/1"], true);
    check_locks("b/", Some("b/1"), 1, &["b/2"], false);
    // A page that begins before the prefix, or after a lock that is gone, loses nothing.
    check_locks("b", Some("a"), 100, &["b", "b/1", "b/2"], false);
    check_locks("", Some("aa"), 1, &["b"], true);
    check_locks("x", None, 100, &[], false);
    check_locks("", None, 0, &[], true);
}

#[test]
fn files_and_sessions_by_page() {
    let machine = machine();
    let mut names = Vec::new();
    let mut after = None;
    loop {
        let answer = machine.query(&Query::Files {
            after: after.take(),
            limit: 5,
        });
        let Answer::Files(page) = answer else {
            panic!("{answer:?}")
        };
        names.extend(page.items.into_iter().map(|file| file.name));
        if !page.more {
            break;
        }
        after = names.last().cloned();
    }
    let mut expected: Vec<String> = (0..12).map(|n| format!("file_{n}")).collect();
    expected.sort();
    assert_eq!(names, expected);
    let sessions = |after, limit| {
        let answer = machine.query(&Query::Sessions { after, limit });
        let Answer::Sessions(page) = answer else {
            panic!("{answer:?}")
        };
        page.items
            .iter()
            .map(|fact| (fact.session.0, fact.held, fact.waiting))
            .collect::<Vec<_>>()
    };
    assert_eq!(sessions(None, 10), [(2, 5, 0), (3, 0, 1)]);
    assert_eq!(sessions(None, 1), [(2, 5, 0)]);
    assert_eq!(sessions(Some(SessionId(2)), 10), [(3, 0, 1)]);
    assert_eq!(sessions(Some(SessionId(u64::MAX)), 10), []);
}

#[test]
fn who_holds_and_who_waits() {
    let answer = machine().query(&Query::LockStatus {
        lock: "b".to_owned(),
    });
    let Answer::Lock(status) = answer else {
        panic!("{answer:?}")
    };
    let holder = status.holder.expect("it is held");
    assert_eq!(
        (holder.session, &*holder.name, holder.token),
        (SessionId(2), "holder", Token(4))
    );
    assert_eq!(
        (holder.since, holder.since_wall_ms, holder.left_ms),
        (ClusterTime(7), 9, 5_000)
    );
    assert_eq!(status.queue_len, 1);
    assert_eq!(
        (status.queue[0].position, &*status.queue[0].name),
        (1, "waiter")
    );
}

#[track_caller]
fn check_read(file: &str, offset: u64, len: u32, expected: Result<u32, Refusal>) {
    let answer = machine().query(&Query::Read {
        file: file.to_owned(),
        offset,
        len,
    });
    let found = match answer {
        Answer::ReadPlan {
            len, file_len: 5, ..
        } => Ok(len),
        Answer::Refused(refusal) => Err(refusal),
        other => panic!("{other:?}"),
    };
    assert_eq!(found, expected);
}

#[test]
fn reads_stay_within_the_file() {
    check_read("file_0", 0, 5, Ok(5));
    check_read("file_0", 0, u32::MAX, Ok(5));
    check_read("file_0", 3, 1, Ok(1));
    check_read("file_0", 3, 9, Ok(2));
    check_read("file_0", 5, 9, Ok(0));
    check_read("file_0", u64::MAX, 9, Ok(0));
    check_read(
        "none",
        0,
        9,
        Err(Refusal::NoSuchFile {
            file: "none".to_owned(),
        }),
    );
}

/// Whoever asks for what is gone is told so.
#[test]
fn what_is_not_there() {
    let machine = machine();
    let answer = machine.query(&Query::Session { id: SessionId(99) });
    assert_eq!(answer, Answer::Refused(Refusal::SessionExpired));
    let check = |lock: &str, token| {
        machine.query(&Query::CheckToken {
            lock: lock.to_owned(),
            token: Token(token),
        })
    };
    assert_eq!(check("default", 1), Answer::Token { current: false });
    assert_eq!(check("b", 4), Answer::Token { current: true });
    assert_eq!(check("b", 5), Answer::Token { current: false });
}

/// A clone stands still, may go to another thread, and is written there while the first one works.
#[test]
fn a_clone_on_another_thread() {
    fn goes_anywhere<T: Send + Sync + 'static>(_: &T) {}
    let mut machine = machine();
    goes_anywhere(&machine);
    let frozen = machine.clone();
    let mut before = Vec::new();
    machine
        .encode_snapshot(&mut before)
        .expect("memory takes everything");
    let slot = Slot(machine.applied().0 + 1);
    machine.apply(
        At {
            slot,
            time: ClusterTime(1_000_000),
            wall_ms: 0,
        },
        Applied::Time,
    );
    assert_eq!(machine.next_deadline(), None, "all has expired");
    let mut after = Vec::new();
    frozen
        .encode_snapshot(&mut after)
        .expect("memory takes everything");
    assert!(before == after, "the clone has moved");
}
