//! One line of a program that speaks to the shell: a JSON object, its fields checked, its operation typed.
//!
//! ```text
//! {"id":1,"op":"acquire","lock":"default","lease_ms":2000,"bg":true}
//!  ^ any op may have: id, bg, timeout_ms, session, endpoint, stale, v      the rest belongs to the op
//! ```
//!
//! A field that the operation does not know is refused, because a typing error in `lease_ms` would otherwise hold a
//! lock for another time than was asked for. Every field and code stands in `docs/shell.md`.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// The most that one `cat` answers.
pub(crate) const READ_BYTES_MAX: u64 = 8 << 20;

/// The lock of the coursework, meant where none is named.
const DEFAULT_LOCK: &str = "default";

/// What a program calls its command, so that it knows the answer: a number, a text, or nothing.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(untagged)]
pub(crate) enum Id {
    Number(u64),
    Text(String),
    None(()),
}

impl Id {
    pub(crate) const NONE: Id = Id::None(());
}

/// A command that made sense.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Request {
    pub(crate) id: Id,
    /// Runs beside the commands after it.
    pub(crate) background: bool,
    /// How long to wait for an answer, if not as long as `--timeout` says.
    pub(crate) timeout: Option<Duration>,
    /// A session other than the shell's first.
    pub(crate) session: Option<String>,
    /// Ask this replica alone: an id of `--endpoints 1=…`, or an address.
    pub(crate) endpoint: Option<String>,
    /// With `endpoint`: what that replica has, though it may be old.
    pub(crate) stale: bool,
    pub(crate) op: Op,
}

/// What to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Op {
    Open {
        ttl: Option<Duration>,
        name: Option<String>,
    },
    Acquire {
        lock: String,
        lease_ms: Option<u64>,
        wait_ms: Option<u64>,
        renew: bool,
    },
    Append {
        file: String,
        data: Vec<u8>,
        lock: String,
        token: Option<u64>,
    },
    Renew {
        lock: String,
        token: Option<u64>,
    },
    Release {
        lock: String,
        token: Option<u64>,
    },
    Abort {
        lock: String,
        token: Option<u64>,
    },
    Cancel {
        of: Id,
    },
    Settle {
        of: Id,
    },
    Cat {
        file: String,
        offset: u64,
        length: u64,
        base64: bool,
    },
    LockStatus {
        lock: String,
    },
    Files,
    Status,
    KeepAlive {
        auto: Option<bool>,
    },
    Sleep {
        time: Duration,
    },
    Close,
}

/// A line that made none. What can be told of its `id` is kept for the answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct BadRequest {
    pub(crate) id: Id,
    pub(crate) message: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct OpenFields {
    ttl_ms: Option<u64>,
    name: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct AcquireFields {
    lock: Option<String>,
    lease_ms: Option<u64>,
    wait_ms: Option<u64>,
    renew: Option<bool>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct AppendFields {
    file: String,
    data: Option<String>,
    data_b64: Option<String>,
    lock: Option<String>,
    token: Option<u64>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct HeldFields {
    lock: Option<String>,
    token: Option<u64>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct OfFields {
    of: Id,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct CatFields {
    file: String,
    offset: Option<u64>,
    length: Option<u64>,
    b64: Option<bool>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct LockFields {
    lock: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct KeepAliveFields {
    auto: Option<bool>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SleepFields {
    ms: u64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NoFields {}

impl Request {
    /// Reads one line.
    ///
    /// # Errors
    ///
    /// Says what is wrong with it, with the id if there is one.
    pub(crate) fn parse(line: &[u8]) -> Result<Request, BadRequest> {
        match serde_json::from_slice::<Value>(line) {
            Ok(Value::Object(fields)) => Request::from_fields(fields),
            Ok(_) => Err(BadRequest {
                id: Id::NONE,
                message: "a command is a JSON object".to_owned(),
            }),
            Err(error) => Err(BadRequest {
                id: Id::NONE,
                message: format!("not JSON: {error}"),
            }),
        }
    }

    /// Reads the fields of one command, wherever they come from.
    ///
    /// # Errors
    ///
    /// As [`Request::parse`].
    pub(crate) fn from_fields(mut fields: Map<String, Value>) -> Result<Request, BadRequest> {
        let id = match take::<Id>(&mut fields, "id") {
            Ok(id) => id.unwrap_or(Id::NONE),
            Err(_) => {
                return Err(BadRequest {
                    id: Id::NONE,
                    message: "field id: a number or a text".to_owned(),
                });
            }
        };
        Request::typed(id.clone(), fields).map_err(|message| BadRequest { id, message })
    }

    fn typed(id: Id, mut fields: Map<String, Value>) -> Result<Request, String> {
        check_kinds(&fields)?;
        if take::<u64>(&mut fields, "v")?.is_some_and(|version| version != 1) {
            return Err("field v: only version 1 is spoken here".to_owned());
        }
        let name: String = take(&mut fields, "op")?.ok_or("field op is missing")?;
        let request = Request {
            id,
            background: take(&mut fields, "bg")?.unwrap_or(false),
            timeout: take(&mut fields, "timeout_ms")?.map(Duration::from_millis),
            session: take(&mut fields, "session")?,
            endpoint: endpoint(&mut fields)?,
            stale: take(&mut fields, "stale")?.unwrap_or(false),
            op: Op::typed(&name, fields)?,
        };
        request.checked()
    }

    /// What no single field can tell.
    fn checked(self) -> Result<Request, String> {
        if self.stale && !self.op.reads() {
            return Err("field stale: only reads can be stale".to_owned());
        }
        if self.endpoint.is_some() && !self.op.takes_endpoint() {
            return Err("field endpoint: this op asks no single replica".to_owned());
        }
        Ok(self)
    }
}

impl Op {
    fn typed(name: &str, fields: Map<String, Value>) -> Result<Op, String> {
        Ok(match name {
            "open" => {
                let OpenFields { ttl_ms, name } = rest(fields)?;
                Op::Open {
                    ttl: ttl_ms.map(Duration::from_millis),
                    name,
                }
            }
            "acquire" => {
                let AcquireFields {
                    lock,
                    lease_ms,
                    wait_ms,
                    renew,
                } = rest(fields)?;
                Op::Acquire {
                    lock: lock_or_default(lock),
                    lease_ms,
                    wait_ms,
                    renew: renew.unwrap_or(true),
                }
            }
            "append" => {
                let AppendFields {
                    file,
                    data,
                    data_b64,
                    lock,
                    token,
                } = rest(fields)?;
                Op::Append {
                    file,
                    data: bytes(data, data_b64)?,
                    lock: lock_or_default(lock),
                    token,
                }
            }
            "renew" => held(fields, |lock, token| Op::Renew { lock, token })?,
            "release" => held(fields, |lock, token| Op::Release { lock, token })?,
            "abort" => held(fields, |lock, token| Op::Abort { lock, token })?,
            "cancel" => Op::Cancel {
                of: rest::<OfFields>(fields)?.of,
            },
            "settle" => Op::Settle {
                of: rest::<OfFields>(fields)?.of,
            },
            "cat" => {
                let CatFields {
                    file,
                    offset,
                    length,
                    b64,
                } = rest(fields)?;
                let length = length.unwrap_or(READ_BYTES_MAX);
                if length > READ_BYTES_MAX {
                    return Err(format!(
                        "field length: {length} is more than {READ_BYTES_MAX} bytes"
                    ));
                }
                Op::Cat {
                    file,
                    offset: offset.unwrap_or(0),
                    length,
                    base64: b64.unwrap_or(false),
                }
            }
            "lock_status" => Op::LockStatus {
                lock: lock_or_default(rest::<LockFields>(fields)?.lock),
            },
            "files" => rest::<NoFields>(fields).map(|_| Op::Files)?,
            "status" => rest::<NoFields>(fields).map(|_| Op::Status)?,
            "keep_alive" => Op::KeepAlive {
                auto: rest::<KeepAliveFields>(fields)?.auto,
            },
            "sleep" => Op::Sleep {
                time: Duration::from_millis(rest::<SleepFields>(fields)?.ms),
            },
            "close" => rest::<NoFields>(fields).map(|_| Op::Close)?,
            other => return Err(format!("field op: there is no {other:?}")),
        })
    }

    fn reads(&self) -> bool {
        matches!(
            self,
            Op::Cat { .. } | Op::LockStatus { .. } | Op::Files | Op::Status
        )
    }

    fn takes_endpoint(&self) -> bool {
        !matches!(
            self,
            Op::Sleep { .. }
                | Op::Settle { .. }
                | Op::KeepAlive { .. }
                | Op::Open { .. }
                | Op::Close
        )
    }
}

/// Fields by the kind of their value, which is the same in every op.
const NUMBERS: [&str; 9] = [
    "v",
    "timeout_ms",
    "ttl_ms",
    "lease_ms",
    "wait_ms",
    "token",
    "offset",
    "length",
    "ms",
];
const TEXTS: [&str; 7] = ["op", "session", "name", "lock", "file", "data", "data_b64"];
const SWITCHES: [&str; 5] = ["bg", "stale", "renew", "b64", "auto"];

/// Says which field has a value of another kind than it should have, and of which.
fn check_kinds(fields: &Map<String, Value>) -> Result<(), String> {
    for (name, value) in fields.iter().filter(|(_, value)| !value.is_null()) {
        let name = name.as_str();
        let (right, kind) = if NUMBERS.contains(&name) {
            (value.is_u64(), "a whole number from 0 on")
        } else if TEXTS.contains(&name) {
            (value.is_string(), "a text")
        } else if SWITCHES.contains(&name) {
            (value.is_boolean(), "true or false")
        } else if name == "endpoint" {
            (value.is_u64() || value.is_string(), "an id or an address")
        } else if name == "of" {
            (value.is_u64() || value.is_string(), "the id of a command")
        } else {
            continue;
        };
        if !right {
            return Err(format!("field {name}: {value} is not {kind}"));
        }
    }
    Ok(())
}

/// Takes one field out; JSON's `null` is the same as no field.
fn take<T: DeserializeOwned>(
    fields: &mut Map<String, Value>,
    name: &str,
) -> Result<Option<T>, String> {
    match fields.remove(name) {
        None | Some(Value::Null) => Ok(None),
        Some(value) => serde_json::from_value(value)
            .map(Some)
            .map_err(|error| format!("field {name}: {error}")),
    }
}

/// An address, or an id: as text, or as the number that `leader` in an answer is.
fn endpoint(fields: &mut Map<String, Value>) -> Result<Option<String>, String> {
    match fields.get("endpoint").and_then(Value::as_u64) {
        Some(id) => {
            fields.remove("endpoint");
            Ok(Some(id.to_string()))
        }
        None => take(fields, "endpoint"),
    }
}

/// What is left belongs to the operation.
fn rest<T: DeserializeOwned>(fields: Map<String, Value>) -> Result<T, String> {
    serde_json::from_value(Value::Object(fields)).map_err(|error| {
        let told = error.to_string();
        match told.strip_prefix("missing field ") {
            Some(name) => format!("field {} is missing", name.replace('`', "")),
            None => told,
        }
    })
}

fn held(
    fields: Map<String, Value>,
    op: impl FnOnce(String, Option<u64>) -> Op,
) -> Result<Op, String> {
    let HeldFields { lock, token } = rest(fields)?;
    Ok(op(lock_or_default(lock), token))
}

fn lock_or_default(lock: Option<String>) -> String {
    lock.unwrap_or_else(|| DEFAULT_LOCK.to_owned())
}

fn bytes(data: Option<String>, data_b64: Option<String>) -> Result<Vec<u8>, String> {
    match (data, data_b64) {
        (Some(text), None) => Ok(text.into_bytes()),
        (None, Some(text)) => BASE64
            .decode(text)
            .map_err(|error| format!("field data_b64: {error}")),
        (None, None) => Err("field data or data_b64 is missing".to_owned()),
        (Some(_), Some(_)) => Err("fields data and data_b64: one of them, not both".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(line: &str) -> Request {
        Request::parse(line.as_bytes()).unwrap_or_else(|bad| panic!("{line}: {}", bad.message))
    }

    #[track_caller]
    fn op(line: &str) -> Op {
        request(line).op
    }

    #[track_caller]
    fn check_bad(line: &str, id: Id, part: &str) {
        let bad = Request::parse(line.as_bytes()).expect_err(line);
        assert_eq!(bad.id, id, "{line}");
        assert!(bad.message.contains(part), "{line}: {}", bad.message);
    }

    #[test]
    fn the_example_of_the_contract() {
        let line = r#"{"id":1,"op":"acquire","lock":"default","lease_ms":2000,"wait_ms":null,"renew":false,"bg":true}"#;
        let request = Request::parse(line.as_bytes()).unwrap();
        assert_eq!(request.id, Id::Number(1));
        assert!(request.background && !request.stale);
        assert_eq!(
            request.op,
            Op::Acquire {
                lock: "default".into(),
                lease_ms: Some(2000),
                wait_ms: None,
                renew: false
            }
        );
    }

    #[test]
    fn every_op_parses() {
        assert_eq!(
            op(r#"{"op":"open","session":"b","ttl_ms":500,"name":"x"}"#),
            Op::Open {
                ttl: Some(Duration::from_millis(500)),
                name: Some("x".into())
            }
        );
        assert_eq!(
            op(r#"{"op":"acquire","wait_ms":0}"#),
            Op::Acquire {
                lock: "default".into(),
                lease_ms: None,
                wait_ms: Some(0),
                renew: true
            }
        );
        assert_eq!(
            op(r#"{"op":"append","file":"file_3","data":"A","lock":"l","token":7}"#),
            Op::Append {
                file: "file_3".into(),
                data: b"A".to_vec(),
                lock: "l".into(),
                token: Some(7)
            }
        );
        assert_eq!(
            op(r#"{"op":"append","file":"f","data_b64":"AP8="}"#),
            Op::Append {
                file: "f".into(),
                data: vec![0, 255],
                lock: "default".into(),
                token: None
            }
        );
        assert_eq!(
            op(r#"{"op":"renew"}"#),
            Op::Renew {
                lock: "default".into(),
                token: None
            }
        );
        assert_eq!(
            op(r#"{"op":"release","token":1}"#),
            Op::Release {
                lock: "default".into(),
                token: Some(1)
            }
        );
        assert_eq!(
            op(r#"{"op":"abort","lock":"x"}"#),
            Op::Abort {
                lock: "x".into(),
                token: None
            }
        );
        assert_eq!(
            op(r#"{"op":"cancel","of":1}"#),
            Op::Cancel { of: Id::Number(1) }
        );
        assert_eq!(
            op(r#"{"op":"settle","of":"a"}"#),
            Op::Settle {
                of: Id::Text("a".into())
            }
        );
        assert_eq!(
            op(r#"{"op":"cat","file":"f","offset":2,"b64":true}"#),
            Op::Cat {
                file: "f".into(),
                offset: 2,
                length: READ_BYTES_MAX,
                base64: true
            }
        );
        assert_eq!(
            op(r#"{"op":"lock_status"}"#),
            Op::LockStatus {
                lock: "default".into()
            }
        );
        assert_eq!(
            op(r#"{"op":"files","endpoint":"2","stale":true}"#),
            Op::Files
        );
        assert_eq!(
            request(r#"{"op":"files","endpoint":3}"#)
                .endpoint
                .as_deref(),
            Some("3")
        );
        assert_eq!(op(r#"{"op":"status"}"#), Op::Status);
        assert_eq!(
            op(r#"{"op":"keep_alive","auto":false}"#),
            Op::KeepAlive { auto: Some(false) }
        );
        assert_eq!(
            op(r#"{"op":"sleep","ms":5}"#),
            Op::Sleep {
                time: Duration::from_millis(5)
            }
        );
        assert_eq!(op(r#"{"op":"close","v":1}"#), Op::Close);
    }

    #[test]
    fn bad_lines_say_what_is_wrong() {
        check_bad("", Id::NONE, "not JSON");
        check_bad("[1]", Id::NONE, "JSON object");
        check_bad(r#"{"id":1}"#, Id::Number(1), "op is missing");
        check_bad(r#"{"id":[],"op":"files"}"#, Id::NONE, "field id");
        check_bad(
            r#"{"id":"x","op":"fly"}"#,
            Id::Text("x".into()),
            "no \"fly\"",
        );
        check_bad(
            r#"{"id":1,"op":"acquire","lease":5}"#,
            Id::Number(1),
            "unknown field `lease`",
        );
        check_bad(
            r#"{"id":1,"op":"acquire","lease_ms":-5}"#,
            Id::Number(1),
            "field lease_ms: -5 is not a whole number from 0 on",
        );
        for (fields, told) in [
            (
                r#""op":"sleep","ms":1.5"#,
                "field ms: 1.5 is not a whole number",
            ),
            (r#""op":"sleep""#, "field ms is missing"),
            (r#""op":"cat","file":7"#, "field file: 7 is not a text"),
            (r#""op":"cat","b64":1"#, "field b64: 1 is not true or false"),
            (r#""op":7"#, "field op: 7 is not a text"),
            (
                r#""op":"files","bg":"x""#,
                "field bg: \"x\" is not true or false",
            ),
            (
                r#""op":"files","endpoint":[]"#,
                "field endpoint: [] is not an id",
            ),
            (
                r#""op":"cancel","of":-1"#,
                "field of: -1 is not the id of a command",
            ),
        ] {
            let line = format!(r#"{{"id":1,{fields}}}"#);
            check_bad(&line, Id::Number(1), told);
        }
        check_bad(
            r#"{"id":1,"op":"append","file":"f"}"#,
            Id::Number(1),
            "data or data_b64",
        );
        check_bad(
            r#"{"id":1,"op":"append","file":"f","data":"a","data_b64":"YQ=="}"#,
            Id::Number(1),
            "not both",
        );
        check_bad(
            r#"{"id":1,"op":"append","file":"f","data_b64":"%"}"#,
            Id::Number(1),
            "data_b64",
        );
        check_bad(
            r#"{"id":1,"op":"cat","file":"f","length":8388609}"#,
            Id::Number(1),
            "8388608",
        );
        check_bad(
            r#"{"id":1,"op":"acquire","stale":true}"#,
            Id::Number(1),
            "stale",
        );
        check_bad(
            r#"{"id":1,"op":"sleep","ms":1,"endpoint":"1"}"#,
            Id::Number(1),
            "endpoint",
        );
        check_bad(r#"{"id":1,"op":"files","v":2}"#, Id::Number(1), "version 1");
    }
}
