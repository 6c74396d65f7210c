//! Results on standard output, errors on standard error: tables for people, one JSON object a line for programs.
//!
//! This is the one way to both. What other clients have named or written reaches a screen only with all that could
//! speak to a terminal or forge a line escaped; the bytes of `cat` alone go out as they are ([`write_out`]).
//!
//! Every object begins with `"v":1`. A reader that went away (`holdfast cat f | head`) is no error: the verb just ends.

use std::fmt;
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

    /// Headings of columns that a screen too narrow for all goes without, the first ones first.
    const SPARE: &'static [&'static str] = &[];

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
        write_out(format!("{}\n", table(rows, screen_width())).as_bytes())
    }

    /// Shows one result: `text` to people, `body` to programs.
    pub(crate) fn one<T: Serialize>(self, body: T, text: &str) -> Result<(), Failure> {
        if self.is_json() {
            self.object(body)
        } else {
            write_out(format!("{}\n", printable_lines(text)).as_bytes())
        }
    }

    /// Prints one object as a line, whatever the format.
    pub(crate) fn object<T: Serialize>(self, body: T) -> Result<(), Failure> {
        write_out(json_line(body)?.as_bytes())
    }

    /// Tells on standard error of something that happens on the way.
    pub(crate) fn notice(self, event: &str, message: &str) {
        self.notice_with(event, message, serde_json::Map::new());
    }

    /// The same, with fields for programs.
    pub(crate) fn notice_with(
        self,
        event: &str,
        message: &str,
        fields: serde_json::Map<String, serde_json::Value>,
    ) {
        if self.is_json() {
            let object = NoticeObject {
                event,
                message,
                fields,
            };
            write_err(&json_line(object).unwrap_or_default());
        } else {
            tell(message);
        }
    }

    /// Tells of a failure on standard error.
    pub(crate) fn failure(self, failure: &Failure) {
        if self.is_json() {
            let object = ErrorObject {
                ok: false,
                code: &failure.code,
                message: &failure.message,
            };
            write_err(&json_line(object).unwrap_or_default());
        } else {
            tell(&failure.message);
        }
    }
}

/// Tells people something on standard error, in a line of its own.
pub(crate) fn tell(message: impl fmt::Display) {
    write_err(&format!("holdfast: {}\n", Printable(&message.to_string())));
}

/// As [`tell`], but overwrites the last line of a terminal, and stays there until [`end_line`].
pub(crate) fn tell_again(message: &str) {
    // To the line's start, and clear it: ECMA-48, CR and EL.
    write_err(&format!("\r\x1b[Kholdfast: {}", Printable(message)));
}

/// What follows [`tell_again`] starts on a line of its own.
pub(crate) fn end_line() {
    write_err("\n");
}

/// Advice below a message of the parser.
pub(crate) fn advise(advice: &str) {
    write_err(&format!("\n{}\n", Printable(advice)));
}

fn write_err(text: &str) {
    // Nobody is left to tell if standard error is closed.
    _ = standard_error().write_all(text.as_bytes());
}

/// Whether somebody watches standard error as it is written.
pub(crate) fn error_is_watched() -> bool {
    standard_error().is_terminal()
}

#[expect(
    clippy::disallowed_methods,
    reason = "this module is the way to standard output"
)]
pub(crate) fn standard_output() -> io::Stdout {
    io::stdout()
}

#[expect(
    clippy::disallowed_methods,
    reason = "this module is the way to standard error"
)]
fn standard_error() -> io::Stderr {
    io::stderr()
}

/// Text of several lines, each without anything that speaks to a terminal.
pub(crate) fn printable_lines(text: &str) -> String {
    let lines: Vec<_> = text
        .split('\n')
        .map(|line| Printable(line).to_string())
        .collect();
    lines.join("\n")
}

/// The same JSON, with all that could mislead a reader of the raw text escaped. JSON itself asks for less: `U+009B`
/// begins a command to a terminal and may stand in a string as it is.
pub(crate) fn printable_json(json: &str) -> String {
    let mut text = String::with_capacity(json.len());
    for c in json.chars() {
        if Printable::is_misleading(c) {
            // All of these are below U+10000, so that one escape says each.
            text += &format!("\\u{:04x}", u32::from(c));
        } else {
            text.push(c);
        }
    }
    text
}

#[derive(Serialize)]
struct NoticeObject<'a> {
    event: &'a str,
    message: &'a str,
    #[serde(flatten)]
    fields: serde_json::Map<String, serde_json::Value>,
}

fn json_line<T: Serialize>(body: T) -> Result<String, Failure> {
    let line = serde_json::to_string(&Versioned { v: VERSION, body })
        .map_err(|error| Failure::new("io", error))?;
    let mut line = printable_json(&line);
    line.push('\n');
    Ok(line)
}

/// Columns of the screen. Only a screen has a width; what reads a pipe wants a row a line.
pub(crate) fn screen_width() -> Option<u16> {
    let width = match standard_output().is_terminal() {
        true => tcgetwinsize(standard_output()).map(|size| size.ws_col).ok(),
        false => None,
    };
    width.filter(|&width| width > 0)
}

/// Blanks between two columns.
const GAP: u16 = 2;

/// Rows under headings. On a narrower screen spare columns are left out, and what is still too wide is folded within its
/// cells.
pub(crate) fn table<R: Row>(rows: &[R], width: Option<u16>) -> String {
    // Names come from clients: none may forge a row or speak to the terminal.
    let printable = |cell: String| Printable(&cell).to_string();
    let cells = |row: &R| -> Vec<String> { row.cells().into_iter().map(printable).collect() };
    let headings: Vec<String> = R::HEADINGS.iter().map(|&it| it.to_owned()).collect();
    let mut lines: Vec<Vec<String>> = std::iter::once(headings)
        .chain(rows.iter().map(cells))
        .collect();
    let mut spare = R::SPARE.iter();
    while width.is_some_and(|width| columns(&lines) > usize::from(width))
        && let Some(name) = spare.next()
    {
        let at = lines[0].iter().position(|heading| heading == name);
        if let Some(at) = at {
            lines.iter_mut().for_each(|line| drop(line.remove(at)));
        }
    }
    let mut table = Table::new();
    table.load_preset(presets::NOTHING);
    match width {
        Some(width) => table
            .set_content_arrangement(ContentArrangement::Dynamic)
            // The blanks behind the last column are not printed.
            .set_width(width.saturating_add(GAP)),
        None => table.set_content_arrangement(ContentArrangement::Disabled),
    };
    let mut lines = lines.into_iter();
    table.set_header(lines.next().unwrap_or_default());
    table.add_rows(lines);
    for column in table.column_iter_mut() {
        column.set_padding((0, GAP));
    }
    // Lines are padded to equal length; nobody wants that when they copy a line.
    table
        .lines()
        .map(|line| line.trim_end().to_owned())
        .collect::<Vec<_>>()
        .join("\n")
}

/// Columns of a screen that these lines of cells take.
fn columns(lines: &[Vec<String>]) -> usize {
    let count = lines.iter().map(Vec::len).max().unwrap_or_default();
    let widest = |at: usize| {
        let cells = lines.iter().filter_map(|line| line.get(at));
        cells.map(|cell| cell.chars().count()).max()
    };
    let cells: usize = (0..count).filter_map(widest).sum();
    cells + count.saturating_sub(1) * usize::from(GAP)
}

/// Writes bytes as they are, and flushes; a closed pipe ends the program quietly, as it would end `cat`.
pub(crate) fn write_out(bytes: &[u8]) -> Result<(), Failure> {
    let mut out = standard_output().lock();
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
    fn a_table_as_wide_as_the_screen_is_not_folded() {
        let rows = [Fruit {
            name: "watermelon",
            weight_g: 9000,
        }];
        let whole = "NAME        WEIGHT\nwatermelon  9000";
        assert_eq!(table(&rows, Some(18)), whole);
        assert!(table(&rows, Some(17)).lines().count() > 2);
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
    fn json_says_the_same_without_speaking_to_a_terminal() {
        let name = "a\u{9b}31m\u{202e}\u{7f}\u{1b}\n\u{e9}";
        let line = json_line(serde_json::json!({ "name": name })).unwrap();
        assert!(
            !line
                .trim_end()
                .contains(|c: char| Printable::is_misleading(c)),
            "{line:?}"
        );
        let read: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert_eq!(read["name"], name);
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
