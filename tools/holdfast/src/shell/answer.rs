//! One line of the shell to a program: the command's id, whether it was done, and what came of it.
//!
//! ```text
//! {"id":1,"ok":true,"rc":0,"token":117,"lease_ms":2000}
//! {"id":2,"ok":false,"rc":2,"code":"not_held","message":"lock default: token 117 is stale, its lease ended"}
//! {"id":1,"event":"waiting","position":2}
//! ```

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};
use statemachine::Printable;

use super::request::Id;
use crate::facts::{FileRow, ReplicaRow};
use crate::failure::Failure;
use crate::output::{self, Row, printable_json};

/// The return codes of the coursework's calls that the state machine does not give itself.
const RC_REFUSED: u8 = 4;
const RC_UNAVAILABLE: u8 = 5;
const RC_UNKNOWN: u8 = 6;

/// What comes after `id`, `ok` and `rc` in a line that tells of success, in order.
pub(crate) type Fields = Map<String, Value>;

/// What a command came to.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Ending {
    Done(Fields),
    Failed(Trouble),
}

/// Why a command was not done, or may not have been.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Trouble {
    pub(crate) rc: u8,
    pub(crate) failure: Failure,
    /// What some codes have to add: `token` of `already_held`, `leader` of `not_leader`.
    pub(crate) more: Box<Fields>,
}

impl Trouble {
    pub(crate) fn new(rc: u8, failure: Failure) -> Self {
        Trouble {
            rc,
            failure,
            more: Box::default(),
        }
    }

    /// The line makes no sense, here and now.
    pub(crate) fn bad_request(message: impl Into<String>) -> Self {
        Trouble::new(RC_REFUSED, Failure::new("bad_request", message.into()))
    }

    /// Certainly not done.
    pub(crate) fn unavailable(message: impl Into<String>) -> Self {
        Trouble::new(RC_UNAVAILABLE, Failure::new("unavailable", message.into()))
    }

    /// Perhaps done.
    pub(crate) fn unknown(message: impl Into<String>) -> Self {
        Trouble::new(RC_UNKNOWN, Failure::new("unknown", message.into()))
    }
}

#[derive(Serialize)]
struct DoneLine<'a> {
    id: &'a Id,
    ok: bool,
    rc: u8,
    #[serde(flatten)]
    fields: &'a Fields,
}

#[derive(Serialize)]
struct FailedLine<'a> {
    id: &'a Id,
    ok: bool,
    rc: u8,
    code: &'a str,
    message: &'a str,
    #[serde(flatten)]
    more: &'a Fields,
}

#[derive(Serialize)]
struct EventLine<'a> {
    id: &'a Id,
    event: &'a str,
    #[serde(flatten)]
    fields: &'a Fields,
}

/// The line that answers command `id`, without its newline.
pub(crate) fn line(id: &Id, ending: &Ending) -> String {
    match ending {
        Ending::Done(fields) => encode(&DoneLine {
            id,
            ok: true,
            rc: 0,
            fields,
        }),
        Ending::Failed(Trouble { rc, failure, more }) => encode(&FailedLine {
            id,
            ok: false,
            rc: *rc,
            code: &failure.code,
            message: &failure.message,
            more,
        }),
    }
}

/// The same for people.
pub(crate) fn words(id: &Id, ending: &Ending) -> String {
    let number = match id {
        Id::Number(number) => format!("#{number} "),
        Id::Text(text) => format!("{text} "),
        Id::None(()) => String::new(),
    };
    let line = match ending {
        Ending::Done(fields) => fields
            .iter()
            .fold(format!("{number}ok"), |line, (name, value)| {
                format!("{line} {name}={value}")
            }),
        Ending::Failed(Trouble { failure, .. }) => {
            format!("{number}{}: {}", failure.code, failure.message)
        }
    };
    Printable(&line).to_string()
}

/// [`words`], with lists as tables below.
pub(crate) fn words_with_tables(id: &Id, ending: &Ending, width: Option<u16>) -> String {
    let Ending::Done(fields) = ending else {
        return words(id, ending);
    };
    let mut fields = fields.clone();
    let tables = [
        table_of::<ReplicaRow>(&mut fields, "replicas", width),
        table_of::<FileRow>(&mut fields, "files", width),
    ];
    let mut text = words(id, &Ending::Done(fields));
    for table in tables.into_iter().flatten() {
        text += "\n";
        text += &table;
    }
    text
}

/// Takes a list out of the fields, if it is there.
fn table_of<R: Row + DeserializeOwned>(
    fields: &mut Fields,
    name: &str,
    width: Option<u16>,
) -> Option<String> {
    let rows: Vec<R> = serde_json::from_value(fields.get(name)?.clone()).ok()?;
    fields.remove(name);
    Some(output::table(&rows, width))
}

/// The line that tells of something between command `id` and its end.
pub(crate) fn event(id: &Id, event: &str, fields: &Fields) -> String {
    encode(&EventLine { id, event, fields })
}

fn encode(line: &impl Serialize) -> String {
    // Maps with text keys and numbers always have a JSON form.
    printable_json(&serde_json::to_string(line).unwrap_or_default())
}

/// Any serialisable value as fields; what is no object has none.
pub(crate) fn fields(value: impl Serialize) -> Fields {
    match serde_json::to_value(value) {
        Ok(Value::Object(fields)) => fields,
        _ => Fields::new(),
    }
}

/// Bytes as the field `data` if they are text and nobody asked for base64, else as `data_b64`.
pub(crate) fn data_field(data: &[u8], base64: bool) -> (String, Value) {
    match std::str::from_utf8(data) {
        Ok(text) if !base64 => ("data".to_owned(), text.into()),
        _ => ("data_b64".to_owned(), BASE64.encode(data).into()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_lines_of_the_contract() {
        let granted = Ending::Done(fields(json!({"token": 117, "lease_ms": 2000})));
        let parsed: Value = serde_json::from_str(&line(&Id::Number(1), &granted)).unwrap();
        assert_eq!(
            parsed,
            json!({"id":1,"ok":true,"rc":0,"token":117,"lease_ms":2000})
        );

        let failure = Failure::new(
            "not_held",
            "lock default: token 117 is stale, its lease ended",
        );
        let refused = Ending::Failed(Trouble::new(2, failure));
        assert_eq!(
            line(&Id::Number(2), &refused),
            r#"{"id":2,"ok":false,"rc":2,"code":"not_held","message":"lock default: token 117 is stale, its lease ended"}"#
        );
        assert_eq!(
            event(&Id::Number(1), "waiting", &fields(json!({"position": 2}))),
            r#"{"id":1,"event":"waiting","position":2}"#
        );
        let bad = Ending::Failed(Trouble::bad_request("not JSON"));
        assert_eq!(
            line(&Id::NONE, &bad),
            r#"{"id":null,"ok":false,"rc":4,"code":"bad_request","message":"not JSON"}"#
        );
    }

    #[test]
    fn bytes_are_text_where_they_can_be() {
        assert_eq!(data_field(b"A\n", false), ("data".to_owned(), "A\n".into()));
        assert_eq!(
            data_field(b"A\n", true),
            ("data_b64".to_owned(), "QQo=".into())
        );
        assert_eq!(
            data_field(&[0xff], false),
            ("data_b64".to_owned(), "/w==".into())
        );
    }

    /// A person reads a table, not one line of JSON.
    #[test]
    fn lists_are_tables_in_words() {
        let row = ReplicaRow::silent(Some(2), "127.0.0.1:7402");
        let replicas = Ending::Done(fields(json!({"replicas": [row], "slot": 7})));
        let text = words_with_tables(&Id::Number(3), &replicas, Some(80));
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[0], "#3 ok slot=7");
        assert!(lines[1].starts_with("ID  CLIENT "), "{text}");
        assert!(lines[2].starts_with("2   127.0.0.1:7402  silent"), "{text}");
        let file = json!({"name": "a", "guard": "default", "length": 5, "crc32": "00000000"});
        let files = Ending::Done(fields(json!({"files": [file]})));
        let text = words_with_tables(&Id::Number(4), &files, None);
        assert!(text.starts_with("#4 ok\nNAME  GUARD"), "{text}");
        assert!(!text.contains('{'), "{text}");
    }
}
