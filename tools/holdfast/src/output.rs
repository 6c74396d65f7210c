//! Results on standard output, errors on standard error: tables for people, one JSON object a line for programs.
//!
//! Every object begins with `"v":1`. A reader that went away (`holdfast cat f | head`) is no error: the verb just ends.

use std::io::{self, IsTerminal, Write};

use comfy_table::{ContentArrangement, Table, presets};
use rustix::termios::tcgetwinsize;
use serde::Serialize;
use statemachine::Printable;

use crate::args::Format;
use crate::failure::Failure;

/// The version of every JSON object printed.
const VERSION: u8 = 1;

/// A thing that can be shown as a row under headings, or as a JSON object by its fields.
pub(crate) trait Row: Serialize {
    /// What stands above the columns.
    const HEADINGS: &'static [&'static str];

    /// One cell for each heading.
    fn cells(&self) -> Vec<String>;
}

/// Where results go, and in what form.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Output {
    format: Format,
}

#[derive(Serialize)]
struct Versioned<T> {
    v: u8,
    #[serde(flatten)]
    body: T,
}

#[derive(Serialize)]
struct ErrorObject<'a> {
    ok: bool,
    code: &'a str,
    message: &'a str,
}

impl Output {
    pub(crate) fn new(format: Format) -> Self {
        Output { format }
    }

    pub(crate) fn is_json(self) -> bool {
        self.format == Format::Json
    }

    /// Shows a list: a table with headings, or an object for each row.
    pub(crate) fn rows<R: Row>(self, rows: &[R]) -> Result<(), Failure> {
        if self.is_json() {
            return rows.iter().try_for_each(|row| self.object(row));
        }
        // Only a screen has a width; what reads a pipe wants a row a line.
        let width = match io::stdout().is_terminal() {
            true => tcgetwinsize(io::stdout()).map(|size| size.ws_col).ok(),
            false => None,
        };
        let width = width.filter(|&width| width > 0);
        write_out(format!("{}\n", table(rows, width)).as_bytes())
    }

    /// Shows one result: `text` to people, `body` to programs.
    pub(crate) fn one<T: Serialize>(self, body: T, text: &str) -> Result<(), Failure> {
        if self.is_json() {
            self.object(body)
        } else {
            write_out(format!("{text}\n").as_bytes())
        }
    }

    /// Prints one object as a line, whatever the format.
    pub(crate) fn object<T: Serialize>(self, body: T) -> Result<(), Failure> {
        write_out(json_line(body)?.as_bytes())
    }

    /// Tells on standard error of something that happens on the way.
    pub(crate) fn notice(self, event: &str, message: &str) {
        let line = if self.is_json() {
            json_line(NoticeObject { event, message }).unwrap_or_default()
        } else {
            format!("holdfast: {message}\n")
        };
        // Nobody is left to tell if standard error is closed.
        _ = io::stderr().write_all(line.as_bytes());
    }

    /// Tells of a failure on standard error.
    pub(crate) fn failure(self, failure: &Failure) {
        let line = if self.is_json() {
            json_line(ErrorObject {
                ok: false,
                code: &failure.code,
                message: &failure.message,
            })
            .unwrap_or_default()
        } else {
            format!("holdfast: {}\n", failure.message)
        };
        // Nobody is left to tell if standard error is closed.
        _ = io::stderr().write_all(line.as_bytes());
    }
}

#[derive(Serialize)]
struct NoticeObject<'a> {
    event: &'a str,
    message: &'a str,
}

fn json_line<T: Serialize>(body: T) -> Result<String, Failure> {
    let mut line = serde_json::to_string(&Versioned { v: VERSION, body })
        .map_err(|error| Failure::new("io", error))?;
    line.push('\n');
    Ok(line)
}

/// Rows under headings, folded within their cells where a screen is narrower.
fn table<R: Row>(rows: &[R], width: Option<u16>) -> String {
    let mut table = Table::new();
    table.load_preset(presets::NOTHING).set_header(R::HEADINGS);
    match width {
        Some(width) => table
            .set_content_arrangement(ContentArrangement::Dynamic)
            .set_width(width),
        None => table.set_content_arrangement(ContentArrangement::Disabled),
    };
    for row in rows {
        // Names come from clients: none may forge a row or speak to the terminal.
        let cells = row.cells().into_iter();
        table.add_row(cells.map(|cell| Printable(&cell).to_string()));
    }
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    // Lines are padded to equal length; nobody wants that when they copy a line.
    table
        .lines()
        .map(|line| line.trim_end().to_owned())
        .collect::<Vec<_>>()
        .join("\n")
}

/// Writes and flushes; a closed pipe ends the program quietly, as it would end `cat`.
pub(crate) fn write_out(bytes: &[u8]) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    match out.write_all(bytes).and_then(|()| out.flush()) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {
            Err(Failure::new(READER_GONE, "nobody reads standard output"))
        }
        Err(error) => Err(Failure::local("standard output", &error)),
    }
}

/// The code of the failure that is none: whoever read standard output has enough.
pub(crate) const READER_GONE: &str = "reader_gone";

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Serialize)]
    struct Fruit {
        name: &'static str,
        weight_g: u64,
    }

    impl Row for Fruit {
        const HEADINGS: &'static [&'static str] = &["NAME", "WEIGHT"];

        fn cells(&self) -> Vec<String> {
            vec![self.name.to_owned(), self.weight_g.to_string()]
        }
    }

    #[test]
    fn a_table_has_aligned_columns_and_no_trailing_blanks() {
        let rows = [
            Fruit {
                name: "fig",
                weight_g: 40,
            },
            Fruit {
                name: "watermelon",
                weight_g: 9000,
            },
        ];
        assert_eq!(
            table(&rows, None),
            "NAME        WEIGHT\nfig         40\nwatermelon  9000"
        );
    }

    #[test]
    fn a_narrow_screen_folds_cells() {
        let rows = [Fruit {
            name: "watermelon watermelon watermelon",
            weight_g: 9000,
        }];
        let text = table(&rows, Some(24));
        assert!(
            text.lines().all(|line| line.chars().count() <= 24),
            "{text}"
        );
        assert!(text.lines().count() > 2, "{text}");
    }

    #[test]
    fn a_name_forges_no_row() {
        let rows = [Fruit {
            name: "fig\nplum  1\u{1b}[1A",
            weight_g: 40,
        }];
        assert_eq!(
            table(&rows, None),
            "NAME                   WEIGHT\nfig\\nplum  1\\u{1b}[1A  40"
        );
    }

    #[test]
    fn an_object_begins_with_its_version() {
        let line = json_line(Fruit {
            name: "fig",
            weight_g: 40,
        })
        .unwrap();
        assert_eq!(line, "{\"v\":1,\"name\":\"fig\",\"weight_g\":40}\n");
    }
}
