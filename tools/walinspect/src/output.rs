//! What is printed: tables and lines for people, one JSON object a line for programs.
//!
//! A table is made of the same objects that a program gets, a column for each field, so the two never differ.

use std::cell::RefCell;
use std::io::{self, BufWriter, Stdout, Write};

use comfy_table::{Table, presets};
use serde_json::{Map, Value, json};
use statemachine::Printable;

use crate::failure::Failure;

/// The version of the objects.
const VERSION: u64 = 1;

/// One thing told, its fields in the order in which they are printed.
pub(crate) type Fields = Value;

/// Where the output goes.
#[derive(Debug)]
pub(crate) struct Output {
    json: bool,
    quiet: bool,
    out: RefCell<BufWriter<Stdout>>,
}

impl Output {
    pub(crate) fn new(json: bool, quiet: bool) -> Output {
        let out = RefCell::new(BufWriter::new(io::stdout()));
        Output { json, quiet, out }
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
            table.add_row(row.values().map(cell));
        }
        self.write(&table.trim_fmt())
    }

    /// One thing with many fields: an object for programs, a field a line for people.
    pub(crate) fn sheet(&self, kind: &str, fields: &Fields) -> Result<(), Failure> {
        if self.json {
            return self.object(kind, fields);
        }
        let fields = fields.as_object().into_iter().flatten();
        for (key, value) in fields {
            self.write(&format!("{:<18} {}", key.replace('_', " "), cell(value)))?;
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
    fn cells_are_one_plain_line() {
        assert_eq!(cell(&json!("alice")), "alice");
        assert_eq!(cell(&json!("a\n\u{1b}[2J")), r#""a\n\u{1b}[2J""#);
        assert_eq!(cell(&json!({"min": 1, "max": null})), "min 1 max -");
        assert_eq!(cell(&json!([1, "b"])), "1, b");
    }
}
