//! Standard input, line by line, with a bound on what one line may be.
//!
//! A thread reads, because reading from a terminal or a pipe blocks; at most one line waits to be taken. A line over
//! the bound is skipped to its end and reported, so that the lines after it still count.

use std::io::{self, BufRead};

use tokio::sync::mpsc;

/// The longest line that is read: an append of 1 MiB in base64 and an answer of 8 MiB fit with room to spare.
pub(crate) const LINE_BYTES_MAX: usize = 24 << 20;

/// What was read.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Line {
    /// A line without its newline.
    Whole(Vec<u8>),
    /// A line of more than [`LINE_BYTES_MAX`] bytes.
    TooLong,
}

/// Reads standard input on a thread of its own until it ends or nobody wants more.
pub(crate) fn from_stdin() -> mpsc::Receiver<Line> {
    let (sender, receiver) = mpsc::channel(1);
    std::thread::spawn(move || {
        let mut input = io::stdin().lock();
        // An input that fails has ended: there is nobody else to tell.
        while let Ok(Some(line)) = next(&mut input, LINE_BYTES_MAX) {
            if sender.blocking_send(line).is_err() {
                return;
            }
        }
    });
    receiver
}

fn next(input: &mut impl BufRead, bytes_max: usize) -> io::Result<Option<Line>> {
    let mut line = Vec::new();
    let mut too_long = false;
    loop {
        let available = match input.fill_buf() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            other => other?,
        };
        let at_end = available.is_empty();
        let (part, newline) = match available.iter().position(|&byte| byte == b'\n') {
            Some(newline) => (&available[..newline], true),
            None => (available, false),
        };
        too_long |= line.len() + part.len() > bytes_max;
        if !too_long {
            line.extend_from_slice(part);
        }
        let used = part.len() + usize::from(newline);
        input.consume(used);
        if newline || at_end {
            let nothing = at_end && line.is_empty() && !too_long;
            let line = if too_long {
                Line::TooLong
            } else {
                Line::Whole(line)
            };
            return Ok((!nothing).then_some(line));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(input: &str, expected: &[Option<&str>]) {
        for capacity in 1..8 {
            let mut reader = io::BufReader::with_capacity(capacity, input.as_bytes());
            let lines: Vec<_> = std::iter::from_fn(|| next(&mut reader, 4).unwrap()).collect();
            let expected: Vec<_> = expected
                .iter()
                .map(|line| {
                    line.map_or(Line::TooLong, |text| Line::Whole(text.as_bytes().to_vec()))
                })
                .collect();
            assert_eq!(lines, expected, "{input:?} by {capacity}");
        }
    }

    #[test]
    fn lines_end_at_newlines_and_at_the_end() {
        check("", &[]);
        check("a\nbc\n", &[Some("a"), Some("bc")]);
        check("a\n\nb", &[Some("a"), Some(""), Some("b")]);
    }

    #[test]
    fn a_line_over_the_bound_is_skipped_and_the_next_one_read() {
        check("abcd\nabcde\nx\n", &[Some("abcd"), None, Some("x")]);
        check("abcdefghijkl", &[None]);
    }
}
