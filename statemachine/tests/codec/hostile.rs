//! Bytes that nobody of ours wrote: none may panic, be taken for something they are not, or have
//! more memory reserved for them than they could fill.

use proptest::prelude::*;
use statemachine::{
    Answer, Applied, At, ClusterTime, Command, DecodeError, Done, ENCODED_BYTES_MAX, LockMode,
    Machine, Op, Outcome, Query, Seq, SessionId, Settings, Slot, Token, VERSION,
};

/// Reads `bytes` as everything there is; what is read must be written the same.
fn read_all(bytes: &[u8]) {
    if let Ok(value) = Command::decode(bytes) {
        assert_eq!(value.encode(), bytes);
    }
    if let Ok(value) = Outcome::decode(bytes) {
        assert_eq!(value.encode(), bytes);
    }
    if let Ok(value) = Query::decode(bytes) {
        assert_eq!(value.encode(), bytes);
    }
    if let Ok(value) = Answer::decode(bytes) {
        assert_eq!(value.encode(), bytes);
    }
    if let Ok(value) = Settings::decode(bytes) {
        assert_eq!(value.encode(), bytes);
    }
    if let Ok(machine) = Machine::decode_snapshot(bytes) {
        let mut again = Vec::new();
        machine
            .encode_snapshot(&mut again)
            .expect("memory takes everything");
        let differs = again.iter().zip(bytes).position(|(a, b)| a != b);
        assert!(
            again == bytes,
            "a snapshot was read as another one, from byte {differs:?} on"
        );
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_bytes(mut bytes in prop::collection::vec(any::<u8>(), 0..200), ours in any::<bool>()) {
        if let (Some(version), true) = (bytes.first_mut(), ours) {
            *version = VERSION;
        }
        read_all(&bytes);
    }

    /// Small numbers where variants and lengths lie get further in than noise does.
    #[test]
    fn small_words(words in prop::collection::vec(0_u32..20, 0..60)) {
        let body = words.iter().flat_map(|word| word.to_le_bytes());
        read_all(&std::iter::once(VERSION).chain(body).collect::<Vec<u8>>());
    }

    /// A damaged snapshot is refused, or is another sound state with which one can go on.
    #[test]
    fn damaged_snapshots(at in any::<prop::sample::Index>(), byte in any::<u8>(), cut in any::<bool>()) {
        let mut bytes = snapshot();
        let at = at.index(bytes.len());
        if cut { bytes.truncate(at) } else { bytes[at] = byte }
        read_all(&bytes);
        if let Ok(mut machine) = Machine::decode_snapshot(&bytes) {
            let slot = Slot(machine.applied().0.saturating_add(1));
            if slot > machine.applied() {
                let time = machine.next_deadline().unwrap_or_default();
                machine.apply(At { slot, time, wall_ms: 0 }, Applied::Time);
            }
        }
    }
}

/// A state with something of everything in it.
pub(crate) fn snapshot() -> Vec<u8> {
    snapshot_under(&Settings::default())
}

/// The same under the rules of `rules`.
pub(crate) fn snapshot_under(rules: &Settings) -> Vec<u8> {
    let mut machine = Machine::new();
    let settings = Settings {
        files: 2,
        ..Settings::default()
    };
    let settings = settings.under_rules_of(rules);
    let at = |slot| At {
        slot: Slot(slot),
        time: ClusterTime(slot * 10),
        wall_ms: slot,
    };
    machine.apply(at(1), Applied::Settings(settings));
    for nonce in [0, 1] {
        let open = Command::Open {
            nonce,
            ttl_ms: 0,
            name: format!("client {nonce}"),
        };
        machine.apply(
            at(2 + u64::try_from(nonce).expect("small")),
            Applied::Command(open),
        );
    }
    let lock = || "default".to_owned();
    let (lease_ms, mode) = (Some(1000), LockMode::Exclusive);
    let append = |place| {
        let (lock, file, data) = (lock(), "file_1".to_owned(), (&b"data"[..]).into());
        Op::Append {
            lock,
            token: Token(1),
            place,
            file,
            data,
        }
    };
    let ops = [
        (
            2,
            1,
            Op::Acquire {
                lock: lock(),
                lease_ms,
                wait_ms: None,
                mode,
            },
        ),
        (2, 2, append(1)),
        (2, 4, append(2)),
        (
            3,
            1,
            Op::Acquire {
                lock: lock(),
                lease_ms,
                wait_ms: Some(500),
                mode,
            },
        ),
        (
            3,
            2,
            Op::Acquire {
                lock: "b".to_owned(),
                lease_ms,
                wait_ms: None,
                mode,
            },
        ),
        (
            3,
            3,
            Op::Abort {
                lock: "b".to_owned(),
                token: Token(2),
            },
        ),
    ];
    for (slot, (session, seq, op)) in (4..).zip(ops) {
        let (session, seq) = (SessionId(session), Seq(seq));
        let command = Command::Session {
            session,
            seq,
            done: Done::default(),
            op,
        };
        machine.apply(at(slot), Applied::Command(command));
    }
    let mut bytes = Vec::new();
    machine
        .encode_snapshot(&mut bytes)
        .expect("memory takes everything");
    bytes
}

/// Every cut and every changed byte of a small state: refused, or read as exactly what it says.
#[test]
fn every_cut_and_every_byte_of_a_snapshot() {
    let bytes = snapshot();
    Machine::decode_snapshot(&bytes).expect("it is sound");
    for len in 0..bytes.len() {
        assert!(
            Machine::decode_snapshot(&bytes[..len]).is_err(),
            "cut at {len}"
        );
    }
    for at in 0..bytes.len() {
        for flip in [1, 0x80, 0xff] {
            let mut bytes = bytes.clone();
            bytes[at] ^= flip;
            read_all(&bytes);
        }
    }
}

#[test]
fn faults_have_names() {
    let command = Command::KeepAlive { beats: Vec::new() }.encode();
    assert_eq!(Command::decode(&[]), Err(DecodeError::Empty));
    assert_eq!(Machine::decode_snapshot(&[]), Err(DecodeError::Empty));
    let mut newer = command.clone();
    newer[0] = 2;
    assert_eq!(
        Command::decode(&newer),
        Err(DecodeError::Version {
            found: 2,
            newest: 1
        })
    );
    newer[0] = 3;
    let told = DecodeError::Version {
        found: 3,
        newest: 2,
    };
    assert_eq!(Machine::decode_snapshot(&newer), Err(told.clone()));
    assert_eq!(Settings::decode(&newer), Err(told.clone()));
    assert_eq!(
        told.to_string(),
        "unknown format version 3, the newest that this program knows is 2"
    );
    let mut longer = command.clone();
    longer.push(0);
    assert_eq!(
        Command::decode(&longer),
        Err(DecodeError::LeftOver { bytes: 1 })
    );
    let long = vec![VERSION; ENCODED_BYTES_MAX + 1];
    assert!(matches!(
        Command::decode(&long),
        Err(DecodeError::TooLong { .. })
    ));
}

/// The only lock mode there is has number 0; another one is refused, not taken for it.
#[test]
fn unknown_lock_mode() {
    let lock = "a".to_owned();
    let op = Op::Acquire {
        lock,
        lease_ms: None,
        wait_ms: None,
        mode: LockMode::Exclusive,
    };
    let command = Command::Session {
        session: SessionId(1),
        seq: Seq(1),
        done: Done::default(),
        op,
    };
    let mut bytes = command.encode();
    let mode = bytes.len() - 4;
    bytes[mode] = 1;
    assert!(matches!(
        Command::decode(&bytes),
        Err(DecodeError::Malformed(_))
    ));
}

/// An entry that cannot be read changes the time and nothing else, on every replica alike.
#[test]
fn an_unreadable_entry() {
    let mut machine = Machine::new();
    let at = At {
        slot: Slot(1),
        time: ClusterTime(5),
        wall_ms: 0,
    };
    let effects = machine.apply(at, Applied::Encoded(&[9, 9]));
    assert!(effects.replies.is_empty() && effects.files.is_empty());
    assert_eq!(effects.events.len(), 1);
    assert_eq!(
        (machine.applied(), machine.time()),
        (Slot(1), ClusterTime(5))
    );
}

/// A length that the bytes cannot hold is refused before memory is taken for it: the limit that a
/// length is believed up to follows the length of the input.
#[test]
fn lengths_that_lie() {
    for claimed in [64_u64, 1 << 20, 1 << 31, 1 << 40, u64::MAX] {
        // An `open` whose name claims to be so long.
        let mut bytes = vec![VERSION, 0, 0, 0, 0];
        bytes.extend([0; 24]);
        bytes.extend(claimed.to_le_bytes());
        bytes.extend(b"short");
        assert!(
            matches!(Command::decode(&bytes), Err(DecodeError::Malformed(_))),
            "{claimed}"
        );
        // A `keep_alive` of so many beats.
        let mut bytes = vec![VERSION, 1, 0, 0, 0];
        bytes.extend(claimed.to_le_bytes());
        assert!(
            matches!(Command::decode(&bytes), Err(DecodeError::Malformed(_))),
            "{claimed}"
        );
    }
}

/// A name may arrive at any length that a command can have, and refusals are remembered: a
/// session must not be able to have the service remember megabytes.
#[test]
fn long_names_are_not_remembered() {
    let mut machine = Machine::decode_snapshot(&snapshot()).expect("it is sound");
    let long = || "€".repeat(1_000_000);
    let (token, mode) = (Token(1), LockMode::Exclusive);
    let (file, data) = (long(), (&b"x"[..]).into());
    let ops = [
        Op::Renew {
            lock: long(),
            token,
        },
        Op::Acquire {
            lock: long(),
            lease_ms: None,
            wait_ms: None,
            mode,
        },
        Op::Append {
            lock: "default".to_owned(),
            token,
            place: 3,
            file,
            data,
        },
        Op::Release {
            lock: long(),
            token,
            count: 0,
        },
        Op::CreateFile {
            file: long(),
            guard: None,
        },
        Op::CreateFile {
            file: "f".to_owned(),
            guard: Some(long()),
        },
        Op::RemoveFile { file: long() },
        Op::ForceRelease {
            lock: long(),
            token,
            reason: String::new(),
        },
        Op::ForceRelease {
            lock: "default".to_owned(),
            token,
            reason: long(),
        },
    ];
    for (seq, op) in (10..).zip(ops) {
        let (session, seq) = (SessionId(2), Seq(seq));
        let command = Command::Session {
            session,
            seq,
            done: Done::default(),
            op,
        };
        let slot = Slot(machine.applied().0 + 1);
        let at = At {
            slot,
            time: machine.time(),
            wall_ms: 0,
        };
        let effects = machine.apply(at, Applied::Command(command));
        let outcome = &effects.replies[0].outcome;
        assert!(outcome.refusal().is_some(), "{seq}: {outcome:?}");
        let bytes = outcome.encode().len();
        assert!(
            bytes < 350,
            "{seq}: {} remembers {bytes} bytes",
            outcome.refusal().unwrap().code()
        );
    }
}
