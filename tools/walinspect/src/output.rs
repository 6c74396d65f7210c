//! What is printed: tables and lines for people, one JSON object a line for programs.
//!
//! A table is made of the same objects that a program gets, a column for each field, so the two never differ.

use std::cell::RefCell;
use std::io::{self, BufWriter, Stdout, Write};

use comfy_table::{Table, presets};
use serde_json::{Map, Value, json};
use statemachine::Printable;

use crate::failure::Failure;
use crate::wording::size;

/// The version of the objects.
const VERSION: u64 = 1;

/// Columns for the name of a field where each has a line.
const FIELD_COLUMNS: usize = 18;
/// Fields that count bytes, beside those whose names end in `_bytes`.
const IN_BYTES: [&str; 3] = ["bytes", "used", "void"];

/// One thing told, its fields in the order in which they are printed.
pub(crate) type Fields = Value;

/// Where the output goes.
#[derive(Debug)]
pub(crate) struct Output {
    json: bool,
    quiet: bool,
    /// Columns of the screen; `None` for a pipe or file, where a row is a line.
    width: Option<usize>,
    out: RefCell<BufWriter<Stdout>>,
}

impl Output {
    pub(crate) fn new(json: bool, quiet: bool) -> Output {
        let out = RefCell::new(BufWriter::new(io::stdout()));
        let width = screen_columns();
        Output {
            json,
            quiet,
            width,
            out,
        }
    }

    pub(crate) fn is_quiet(&self) -> bool {
        self.quiet
    }

    /// One thing: an object for programs, a line for people.
    pub(crate) fn tell(
        &self,
        kind: &str,
        fields: impl FnOnce() -> Fields,
        line: impl FnOnce() -> String,
    ) -> Result<(), Failure> {
        if self.json {
            self.object(kind, &fields())
        } else {
            self.write(&Printable(&line()).to_string())
        }
    }

    /// One thing: an object for programs, some lines for people.
    pub(crate) fn tell_lines(
        &self,
        kind: &str,
        fields: impl FnOnce() -> Fields,
        lines: impl FnOnce() -> Vec<String>,
    ) -> Result<(), Failure> {
        if self.json {
            return self.object(kind, &fields());
        }
        let mut lines = lines().into_iter();
        lines.try_for_each(|line| self.write(&Printable(&line).to_string()))
    }

    /// A sentence for people only.
    pub(crate) fn line(&self, line: &str) -> Result<(), Failure> {
        if self.json { Ok(()) } else { self.write(line) }
    }

    /// Things of one kind: objects for programs, a table for people.
    pub(crate) fn list(&self, kind: &str, title: &str, rows: &[Fields]) -> Result<(), Failure> {
        if self.json {
            return rows.iter().try_for_each(|row| self.object(kind, row));
        }
        let Some(Value::Object(first)) = rows.first() else {
            return Ok(());
        };
        if !title.is_empty() && !self.quiet {
            self.write(title)?;
        }
        let mut table = Table::new();
        table.load_preset(presets::NOTHING);
        table.set_header(first.keys().map(|key| key.replace('_', " ")));
        for row in rows.iter().filter_map(Value::as_object) {
            table.add_row(row.iter().map(|(key, value)| field(key, value)));
        }
        let lines = table.trim_fmt();
        match self.width {
            Some(width) if lines.lines().any(|line| line.chars().count() > width) => {
                rows.iter().try_for_each(|row| self.fold(row))
            }
            _ => self.write(&lines),
        }
    }

    /// A row that is wider than the terminal: a field a line, and an empty line after the last.
    fn fold(&self, row: &Fields) -> Result<(), Failure> {
        self.fields(row)?;
        self.write("")
    }

    /// One thing with many fields: an object for programs, a field a line for people.
    pub(crate) fn sheet(&self, kind: &str, fields: &Fields) -> Result<(), Failure> {
        if self.json {
            return self.object(kind, fields);
        }
        self.fields(fields)
    }

    fn fields(&self, fields: &Fields) -> Result<(), Failure> {
        let fields = fields.as_object().into_iter().flatten();
        for (key, value) in fields {
            let told = field(key, value);
            let indent = " ".repeat(FIELD_COLUMNS);
            for (at, line) in wrapped(&told, self.width).iter().enumerate() {
                let head = if at == 0 {
                    format!("{:<FIELD_COLUMNS$}", key.replace('_', " "))
                } else {
                    indent.clone()
                };
                self.write(format!("{head} {line}").trim_end())?;
            }
        }
        Ok(())
    }

    /// A remark beside the output, on standard error.
    pub(crate) fn note(&self, note: &str) {
        if !self.quiet {
            eprintln!("walinspect: {note}");
        }
    }

    pub(crate) fn flush(&self) -> Result<(), Failure> {
        self.out.borrow_mut().flush().map_err(closed)
    }

    fn object(&self, kind: &str, fields: &Fields) -> Result<(), Failure> {
        let mut object = Map::new();
        object.insert("v".to_owned(), json!(VERSION));
        object.insert("kind".to_owned(), json!(kind));
        if let Value::Object(fields) = fields {
            object.extend(fields.clone());
        }
        self.write(&Value::Object(object).to_string())
    }

    fn write(&self, line: &str) -> Result<(), Failure> {
        writeln!(self.out.borrow_mut(), "{line}").map_err(closed)
    }
}

/// As `COLUMNS` says, else as the terminal does.
fn screen_columns() -> Option<usize> {
    let told = std::env::var("COLUMNS").ok();
    let told = told.and_then(|columns| columns.parse().ok());
    let own = || Table::new().width().map(usize::from);
    told.or_else(own).filter(|columns| *columns > 0)
}

/// The text in lines that fit beside the name of a field; a word that does not fit stays whole.
fn wrapped(text: &str, width: Option<usize>) -> Vec<String> {
    let Some(columns) = width.map(|width| width.saturating_sub(FIELD_COLUMNS + 1).max(20)) else {
        return vec![text.to_owned()];
    };
    let mut lines = vec![String::new()];
    for word in text.split(' ') {
        let line = lines.last_mut().expect("there is one");
        if !line.is_empty() && line.chars().count() + 1 + word.chars().count() > columns {
            lines.push(word.to_owned());
        } else {
            if !line.is_empty() {
                line.push(' ');
            }
            line.push_str(word);
        }
    }
    lines
}

/// A field for people: numbers of bytes in units, everything else as it is.
fn field(key: &str, value: &Value) -> String {
    let is_bytes = IN_BYTES.contains(&key) || key.ends_with("_bytes");
    match value.as_u64().filter(|_| is_bytes) {
        Some(bytes) => size(bytes),
        None => cell(value),
    }
}

fn closed(error: io::Error) -> Failure {
    match error.kind() {
        io::ErrorKind::BrokenPipe => Failure::OutputClosed,
        _ => Failure::Io {
            what: "write the output".to_owned(),
            source: error,
        },
    }
}

fn cell(value: &Value) -> String {
    match value {
        Value::Null => "-".to_owned(),
        // Names come from clients: none may break the table or speak to the terminal.
        Value::String(text) if Printable(text).to_string() != *text => format!("{text:?}"),
        Value::String(text) => text.clone(),
        Value::Array(items) => items.iter().map(cell).collect::<Vec<_>>().join(", "),
        Value::Object(fields) => {
            let told = fields
                .iter()
                .map(|(key, value)| format!("{key} {}", cell(value)));
            told.collect::<Vec<_>>().join(" ")
        }
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_told_in_units_and_long_texts_in_lines() {
        assert_eq!(field("bytes", &json!(512)), "512 B");
        assert_eq!(field("padding_bytes", &json!(6_291_456)), "6.0 MiB");
        assert_eq!(field("used", &json!(300_000_000_u64)), "286 MiB");
        assert_eq!(field("slot", &json!(6_291_456)), "6291456");
        let text = "word ".repeat(40);
        let lines = wrapped(text.trim_end(), Some(80));
        assert!(lines.iter().all(|line| line.len() <= 61), "{lines:?}");
        assert_eq!(lines.join(" "), text.trim_end());
        assert_eq!(wrapped(&text, None), std::slice::from_ref(&text));
    }

    #[test]
    fn cells_are_one_plain_line() {
        assert_eq!(cell(&json!("alice")), "alice");
        assert_eq!(cell(&json!("a\n\u{1b}[2J")), r#""a\n\u{1b}[2J""#);
        assert_eq!(cell(&json!({"min": 1, "max": null})), "min 1 max -");
        assert_eq!(cell(&json!([1, "b"])), "1, b");
    }
}
