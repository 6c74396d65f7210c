//! What entries, commands and times say, in words and in fields.

use std::time::{Duration, UNIX_EPOCH};

use bytes::Bytes;
use paxos::{Ballot, Entry, EntryKind};
use serde_json::{Value, json};
use statemachine::{Command, Op, Settings};
use wal::RecordKind;

/// After the year 9999 a time is printed as a number.
const WALL_MS_MAX: u64 = 253_402_300_799_999;

/// Something decoded, for people and for programs.
#[derive(Clone, Debug)]
pub(crate) struct Told {
    pub(crate) words: String,
    pub(crate) fields: Value,
}

impl Told {
    fn new(words: impl Into<String>, fields: Value) -> Told {
        Told {
            words: words.into(),
            fields,
        }
    }
}

/// What the payload of a record says.
pub(crate) fn payload(kind: RecordKind, slot: u64, bytes: &Bytes) -> Told {
    match kind {
        RecordKind::Promise => Told::new("", Value::Null),
        RecordKind::SnapshotMark => snapshot_mark(bytes),
        RecordKind::Accept | RecordKind::Chosen | RecordKind::Repair => {
            match Entry::decode(bytes.clone()) {
                Ok(entry) => self::entry(slot, &entry),
                Err(error) => unreadable("entry", &error),
            }
        }
    }
}

/// What an entry says.
pub(crate) fn entry(slot: u64, entry: &Entry) -> Told {
    let told = match entry.kind() {
        EntryKind::App => match Command::decode(&entry.payload()) {
            Ok(command) => self::command(slot, &command),
            Err(error) => unreadable("command", &error),
        },
        EntryKind::LeaderStart => {
            let grace = paxos::LeaderStart::decode(entry).grace_ms;
            let words = format!(
                "node {} begins to lead, grace {}",
                entry.birth().node(),
                span(grace)
            );
            Told::new(words, json!({"command": "leader_start", "grace_ms": grace}))
        }
        EntryKind::Settings => match Settings::decode(&entry.payload()) {
            Ok(settings) => self::settings(&settings),
            Err(error) => unreadable("settings", &error),
        },
        EntryKind::Config => Told::new("members change", json!({"command": "config"})),
        EntryKind::Time => Told::new("time moves", json!({"command": "time"})),
        EntryKind::Noop => Told::new("nothing", json!({"command": "noop"})),
    };
    let mut fields = json!({
        "birth": entry.birth().to_string(),
        "time_ms": entry.stamp_ms(),
        "wall": wall_ms(entry.wall_ms()),
    });
    if let (Value::Object(all), Value::Object(own)) = (&mut fields, told.fields) {
        all.extend(own);
    }
    Told::new(told.words, fields)
}

fn snapshot_mark(bytes: &Bytes) -> Told {
    let words: Vec<u64> = bytes
        .as_chunks()
        .0
        .iter()
        .map(|b| u64::from_le_bytes(*b))
        .collect();
    match words[..] {
        [slot, length, digest] => Told::new(
            format!("snapshot of slot {slot}, {length} bytes, digest {digest:016x}"),
            json!({"slot": slot, "length": length, "digest": format!("{digest:016x}")}),
        ),
        _ => Told::new("snapshot", Value::Null),
    }
}

fn unreadable(what: &str, error: &dyn std::error::Error) -> Told {
    Told::new(
        format!("unreadable {what}: {error}"),
        json!({"unreadable": error.to_string()}),
    )
}

fn settings(settings: &Settings) -> Told {
    let Settings {
        files,
        default_lease_ms,
        default_ttl_ms,
        rules,
        ..
    } = settings;
    let words = format!(
        "settings: {files} files, lease {}, session {}, rules {rules}",
        span(*default_lease_ms),
        span(*default_ttl_ms)
    );
    let fields = json!({
        "command": "settings",
        "files": files,
        "default_lease_ms": default_lease_ms,
        "default_ttl_ms": default_ttl_ms,
        "rules": rules,
    });
    Told::new(words, fields)
}

/// What a command says; `slot` is where it stands.
pub(crate) fn command(slot: u64, command: &Command) -> Told {
    match command {
        Command::Open { ttl_ms, name, .. } => {
            let ttl = if *ttl_ms == 0 {
                "the default".to_owned()
            } else {
                span(*ttl_ms)
            };
            Told::new(
                format!("open session {slot} for {}, ttl {ttl}", name_of(name)),
                json!({"command": "open", "session": slot, "name": name, "ttl_ms": ttl_ms}),
            )
        }
        Command::KeepAlive { beats } => {
            let told = |beat: &statemachine::Beat| {
                let held = beat.tokens.iter();
                let held: Vec<String> = held
                    .map(|(lock, token)| format!("{} token {token}", name_of(lock)))
                    .collect();
                if held.is_empty() {
                    beat.session.to_string()
                } else {
                    format!("{} ({})", beat.session, held.join(", "))
                }
            };
            let words: Vec<String> = beats.iter().map(told).collect();
            let sessions: Vec<u64> = beats.iter().map(|beat| beat.session.0).collect();
            let tokens: Vec<Value> = beats
                .iter()
                .flat_map(|beat| &beat.tokens)
                .map(|(lock, token)| json!({"lock": lock, "token": token.0}))
                .collect();
            Told::new(
                format!("keep alive {}", words.join(", ")),
                json!({"command": "keep_alive", "sessions": sessions, "tokens": tokens}),
            )
        }
        Command::Session {
            session, seq, op, ..
        } => {
            let mut fields = json!({
                "command": op.name(), "session": session.0, "seq": seq.0,
            });
            if let (Value::Object(all), Value::Object(own)) = (&mut fields, op_fields(op)) {
                all.extend(own);
            }
            let words = format!("{} by session {session} seq {seq}", op_words(op));
            Told::new(words, fields)
        }
        Command::Settle { lock, token } => Told::new(
            format!("settle {} token {token}", name_of(lock)),
            json!({"command": "settle", "lock": lock, "token": token.0}),
        ),
    }
}

fn op_words(op: &Op) -> String {
    match op {
        Op::Close => "close".to_owned(),
        Op::Acquire {
            lock,
            lease_ms,
            wait_ms,
            ..
        } => {
            let lease = lease_ms.map_or("default lease".to_owned(), |ms| {
                format!("lease {}", span(ms))
            });
            let wait = match wait_ms {
                None => "",
                Some(0) => ", without waiting",
                Some(ms) => &format!(", waiting {} at most", span(*ms)),
            };
            format!("acquire {} {lease}{wait}", name_of(lock))
        }
        Op::Cancel { seq } => format!("cancel seq {seq}"),
        Op::Renew { lock, token } => format!("renew {} token {token}", name_of(lock)),
        Op::Append {
            lock,
            token,
            place,
            file,
            data,
        } => format!(
            "append {} bytes to {} under {} token {token}, place {place},",
            data.len(),
            name_of(file),
            name_of(lock)
        ),
        Op::Release { lock, token, count } => {
            format!(
                "release {} token {token} with {count} appends",
                name_of(lock)
            )
        }
        Op::Abort { lock, token } => format!("abort {} token {token}", name_of(lock)),
        Op::CreateFile { file, guard } => match guard {
            Some(guard) => format!(
                "create file {} guarded by {}",
                name_of(file),
                name_of(guard)
            ),
            None => format!("create file {}", name_of(file)),
        },
        Op::RemoveFile { file } => format!("remove file {}", name_of(file)),
        Op::ForceRelease {
            lock,
            token,
            reason,
        } => format!(
            "force release of {} token {token} ({reason:?})",
            name_of(lock)
        ),
    }
}

fn op_fields(op: &Op) -> Value {
    match op {
        Op::Close => json!({}),
        Op::Acquire {
            lock,
            lease_ms,
            wait_ms,
            ..
        } => json!({"lock": lock, "lease_ms": lease_ms, "wait_ms": wait_ms}),
        Op::Cancel { seq } => json!({"of": seq.0}),
        Op::Renew { lock, token } | Op::Abort { lock, token } => {
            json!({"lock": lock, "token": token.0})
        }
        Op::Append {
            lock,
            token,
            place,
            file,
            data,
        } => json!({
            "lock": lock, "token": token.0, "place": place, "file": file, "bytes": data.len(),
        }),
        Op::Release { lock, token, count } => {
            json!({"lock": lock, "token": token.0, "count": count})
        }
        Op::CreateFile { file, guard } => json!({"file": file, "guard": guard}),
        Op::RemoveFile { file } => json!({"file": file}),
        Op::ForceRelease {
            lock,
            token,
            reason,
        } => json!({"lock": lock, "token": token.0, "reason": reason}),
    }
}

/// A name as people may read it: quoted if it could be mistaken, or do something to a terminal.
pub(crate) fn name_of(name: &str) -> String {
    let plain = |c: char| c.is_alphanumeric() || "-_./:@+".contains(c);
    if !name.is_empty() && name.chars().all(plain) {
        name.to_owned()
    } else {
        format!("{name:?}")
    }
}

/// A number of bytes for people.
pub(crate) fn size(bytes: u64) -> String {
    const UNITS: [&str; 4] = ["KiB", "MiB", "GiB", "TiB"];
    let mut value = bytes as f64;
    let mut unit = "B";
    for next in UNITS {
        if value < 1024.0 {
            break;
        }
        value /= 1024.0;
        unit = next;
    }
    match unit {
        "B" => format!("{bytes} B"),
        // One digit after the point where two before it are not reached.
        _ if value < 10.0 => format!("{value:.1} {unit}"),
        _ => format!("{value:.0} {unit}"),
    }
}

/// A length of time.
pub(crate) fn span(ms: u64) -> String {
    humantime::format_duration(Duration::from_millis(ms)).to_string()
}

/// A wall clock's time; `null` if it was not noted.
pub(crate) fn wall_ms(ms: u64) -> Value {
    match ms {
        0 => Value::Null,
        ms if ms > WALL_MS_MAX => json!(format!("{ms} ms after 1970")),
        ms => {
            let time = UNIX_EPOCH + Duration::from_millis(ms);
            json!(humantime::format_rfc3339_millis(time).to_string())
        }
    }
}

/// The same of nanoseconds.
pub(crate) fn wall_ns(ns: u64) -> Value {
    wall_ms(ns / 1_000_000)
}

/// A ballot; `null` for none.
pub(crate) fn ballot(raw: u64) -> Value {
    match raw {
        0 => Value::Null,
        raw => json!(Ballot::from_raw(raw).to_string()),
    }
}

/// A JSON string as a word, `-` for nothing.
pub(crate) fn word(value: &Value) -> &str {
    value.as_str().unwrap_or("-")
}
