//! Lines of words, for people: `acquire default lease=2s`, `append file_3 "two words"`, `cat file_3`.
//!
//! A line of words is turned into the fields of the JSON command that says the same, so there is one meaning for both.
//!
//! ```text
//! append  token=7   file_3   "two words"   &
//! ^ op    ^ option  ^ what the op is about  ^ beside the rest ("bg":true)
//! ```

use serde_json::{Map, Value};

/// What `help` prints.
pub(crate) const HELP: &str = "\
open [ttl=20s] [name=TEXT]                 a session (the first is opened by itself)
acquire [LOCK] [lease=20s] [wait=10s|try]  take a lock; renew=no: only appends and renew extend it
append FILE TEXT [lock=LOCK] [token=N]     add to the section
release [LOCK]   abort [LOCK]              apply the section, or discard it
renew [LOCK]     keep-alive [auto=no]
cancel N         settle N                  N: the number of a command
cat FILE [offset=N] [length=N]   files   lock-status [LOCK]   status
sleep 2s   close   help   exit
Any: session=NAME  endpoint=ID  stale=yes  timeout=2s  and & at the end to run beside the rest.
LOCK is default where none is named. Quote with \"…\" or '…'. A line that begins with { is JSON, see docs/shell.md.";

/// What a line of words asks for.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Line {
    /// A command, as the fields of its JSON form without the id.
    Command(Map<String, Value>),
    Help,
    Exit,
    /// Blank, or a comment.
    Nothing,
}

/// What kind of value an option has.
#[derive(Clone, Copy)]
enum Kind {
    Text,
    Number,
    /// `2s`; with a unit, since a bare number would be a guess.
    Time,
    Switch,
}

const OPTIONS: [(&str, &str, Kind); 16] = [
    ("lock", "lock", Kind::Text),
    ("file", "file", Kind::Text),
    ("data", "data", Kind::Text),
    ("name", "name", Kind::Text),
    ("session", "session", Kind::Text),
    ("endpoint", "endpoint", Kind::Text),
    ("token", "token", Kind::Number),
    ("offset", "offset", Kind::Number),
    ("length", "length", Kind::Number),
    ("lease", "lease_ms", Kind::Time),
    ("wait", "wait_ms", Kind::Time),
    ("ttl", "ttl_ms", Kind::Time),
    ("timeout", "timeout_ms", Kind::Time),
    ("renew", "renew", Kind::Switch),
    ("auto", "auto", Kind::Switch),
    ("stale", "stale", Kind::Switch),
];

/// For each op its fields that need no name, in order.
const POSITIONS: [(&str, &[(&str, Kind)]); 15] = [
    ("open", &[]),
    ("acquire", &[("lock", Kind::Text)]),
    ("append", &[("file", Kind::Text), ("data", Kind::Text)]),
    ("renew", &[("lock", Kind::Text)]),
    ("release", &[("lock", Kind::Text)]),
    ("abort", &[("lock", Kind::Text)]),
    ("cancel", &[("of", Kind::Number)]),
    ("settle", &[("of", Kind::Number)]),
    ("cat", &[("file", Kind::Text)]),
    ("lock_status", &[("lock", Kind::Text)]),
    ("files", &[]),
    ("status", &[]),
    ("keep_alive", &[]),
    ("sleep", &[("ms", Kind::Time)]),
    ("close", &[]),
];

/// Reads one line of words.
///
/// # Errors
///
/// Says what is wrong with it.
pub(crate) fn parse(line: &str) -> Result<Line, String> {
    let mut words = split(line)?.into_iter();
    let Some(first) = words.next() else {
        return Ok(Line::Nothing);
    };
    match first.text.as_str() {
        "help" | "?" => return Ok(Line::Help),
        "exit" | "quit" => return Ok(Line::Exit),
        comment if comment.starts_with('#') => return Ok(Line::Nothing),
        _ => {}
    }
    let op = first.text.replace('-', "_");
    let Some((_, positions)) = POSITIONS.iter().find(|(name, _)| *name == op) else {
        return Err(format!("there is no command {:?}; try help", first.text));
    };
    command(&op, positions, words).map(Line::Command)
}

fn command(
    op: &str,
    positions: &[(&str, Kind)],
    words: impl Iterator<Item = Word>,
) -> Result<Map<String, Value>, String> {
    let mut fields = Map::new();
    fields.insert("op".to_owned(), op.into());
    let mut positions = positions.iter();
    for word in words {
        if !word.quoted && word.text == "&" {
            fields.insert("bg".to_owned(), true.into());
        } else if !word.quoted && word.text == "try" && op == "acquire" {
            fields.insert("wait_ms".to_owned(), 0.into());
        } else if let Some((field, kind, text)) = word.option() {
            fields.insert(
                field.to_owned(),
                value(kind, text).map_err(|error| format!("{field}: {error}"))?,
            );
        } else if let Some((field, kind)) = positions.next() {
            fields.insert(
                (*field).to_owned(),
                value(*kind, &word.text).map_err(|error| format!("{field}: {error}"))?,
            );
        } else {
            return Err(format!(
                "{op} does not know what to do with {:?}",
                word.text
            ));
        }
    }
    Ok(fields)
}

fn value(kind: Kind, text: &str) -> Result<Value, String> {
    Ok(match kind {
        Kind::Text => text.into(),
        Kind::Number => text
            .parse::<u64>()
            .map_err(|_| format!("{text:?} is not a number"))?
            .into(),
        Kind::Time => {
            let time = humantime::parse_duration(text)
                .map_err(|_| format!("{text:?} is not a time like 500ms or 2s"))?;
            u64::try_from(time.as_millis())
                .map_err(|_| format!("{text:?} is too long"))?
                .into()
        }
        Kind::Switch => match text {
            "yes" | "true" | "on" => true.into(),
            "no" | "false" | "off" => false.into(),
            _ => return Err(format!("{text:?} is neither yes nor no")),
        },
    })
}

/// One word; in quotes it is never an option.
struct Word {
    text: String,
    quoted: bool,
}

impl Word {
    fn option(&self) -> Option<(&'static str, Kind, &str)> {
        let (key, text) = if self.quoted {
            None
        } else {
            self.text.split_once('=')
        }?;
        OPTIONS
            .iter()
            .find(|(name, ..)| *name == key)
            .map(|(_, field, kind)| (*field, *kind, text))
    }
}

/// Splits at blanks, quotes aside.
fn split(line: &str) -> Result<Vec<Word>, String> {
    let mut words = Vec::new();
    let mut chars = line.chars().peekable();
    while let Some(&next) = chars.peek() {
        if next.is_whitespace() {
            chars.next();
            continue;
        }
        let mut word = Word {
            text: String::new(),
            quoted: false,
        };
        while let Some(c) = chars.next_if(|c| !c.is_whitespace()) {
            if c == '"' || c == '\'' {
                word.quoted = word.text.is_empty() || word.quoted;
                quoted(&mut chars, c, &mut word.text)?;
            } else {
                word.text.push(c);
            }
        }
        words.push(word);
    }
    Ok(words)
}

fn quoted(
    chars: &mut impl Iterator<Item = char>,
    quote: char,
    text: &mut String,
) -> Result<(), String> {
    loop {
        match chars
            .next()
            .ok_or_else(|| format!("the quote {quote} is not closed"))?
        {
            c if c == quote => return Ok(()),
            '\\' if quote == '"' => match chars.next().ok_or("the line ends in \\")? {
                'n' => text.push('\n'),
                't' => text.push('\t'),
                other => text.push(other),
            },
            c => text.push(c),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shell::request::{Op, Request};

    #[track_caller]
    fn check(line: &str, json: &str) {
        let Line::Command(fields) = parse(line).unwrap() else {
            panic!("{line} is no command")
        };
        assert_eq!(
            Value::Object(fields.clone()),
            serde_json::from_str::<Value>(json).unwrap(),
            "{line}"
        );
        Request::from_fields(fields).unwrap();
    }

    #[test]
    fn words_say_what_json_says() {
        check(
            "open ttl=500ms name=x",
            r#"{"op":"open","ttl_ms":500,"name":"x"}"#,
        );
        check("acquire", r#"{"op":"acquire"}"#);
        check(
            "acquire default lease=2s try &",
            r#"{"op":"acquire","lock":"default","lease_ms":2000,"wait_ms":0,"bg":true}"#,
        );
        check(
            "acquire wait=1500ms renew=no",
            r#"{"op":"acquire","wait_ms":1500,"renew":false}"#,
        );
        check(
            r#"append file_3 "two \"words\"\n" token=7"#,
            r#"{"op":"append","file":"file_3","data":"two \"words\"\n","token":7}"#,
        );
        check(
            "append file_3 'lock=x'",
            r#"{"op":"append","file":"file_3","data":"lock=x"}"#,
        );
        check(
            "append file_3 a=b",
            r#"{"op":"append","file":"file_3","data":"a=b"}"#,
        );
        check(
            "append file_3 ''",
            r#"{"op":"append","file":"file_3","data":""}"#,
        );
        check("cancel 3", r#"{"op":"cancel","of":3}"#);
        check(
            "cat file_3 offset=1 endpoint=2 stale=yes",
            r#"{"op":"cat","file":"file_3","offset":1,"endpoint":"2","stale":true}"#,
        );
        check("lock-status", r#"{"op":"lock_status"}"#);
        check(
            "keep-alive auto=no session=b",
            r#"{"op":"keep_alive","auto":false,"session":"b"}"#,
        );
        check("sleep 2s", r#"{"op":"sleep","ms":2000}"#);
    }

    #[test]
    fn other_lines() {
        assert_eq!(parse("  ").unwrap(), Line::Nothing);
        assert_eq!(parse("# why").unwrap(), Line::Nothing);
        assert_eq!(parse("exit").unwrap(), Line::Exit);
        assert_eq!(parse("help").unwrap(), Line::Help);
    }

    #[test]
    fn wrong_words_are_named() {
        for (line, part) in [
            ("fly", "fly"),
            ("cat a b", "\"b\""),
            ("sleep long", "long"),
            ("acquire wait=1", "1"),
            ("cancel x", "x"),
            ("append f \"a", "not closed"),
            ("keep-alive auto=maybe", "maybe"),
        ] {
            let message = parse(line).expect_err(line);
            assert!(message.contains(part), "{line}: {message}");
        }
    }

    /// The table above and the ops of the JSON form are two lists of one thing.
    #[test]
    fn every_op_can_be_said_in_words() {
        for (op, _) in POSITIONS {
            let fields =
                [("op", op), ("file", "f"), ("data", "x")].map(|(k, v)| (k.to_owned(), v.into()));
            match Request::from_fields(fields.into_iter().collect()) {
                Ok(Request {
                    op: Op::Append { .. },
                    ..
                }) => {}
                Ok(other) => panic!("{op} took a file and data: {other:?}"),
                Err(bad) => assert!(
                    !bad.message.contains("there is no"),
                    "{op}: {}",
                    bad.message
                ),
            }
        }
    }
}
