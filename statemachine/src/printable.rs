//! Names as they may stand in a table, a log line or on a terminal.

use std::fmt::{self, Write};

/// Shows text on one line and without commands to a terminal.
///
/// Names may be any UTF-8, line ends and escape sequences among it. Written as they are, they could forge
/// rows of a table or lines of a log, or change what a terminal shows. Control characters and those that
/// turn or break lines are written as Rust would escape them: `\n`, `\u{1b}`.
///
/// ```
/// use statemachine::Printable;
/// assert_eq!(Printable("a\nb\u{1b}[2J").to_string(), "a\\nb\\u{1b}[2J");
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Printable<'a>(pub &'a str);

impl fmt::Display for Printable<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for c in self.0.chars() {
            if Printable::is_misleading(c) {
                write!(f, "{}", c.escape_default())?;
            } else {
                f.write_char(c)?;
            }
        }
        Ok(())
    }
}

impl Printable<'_> {
    /// Whether a character is escaped: control characters, line and paragraph ends, marks that change the direction
    /// of writing. All of them are below U+10000.
    pub fn is_misleading(c: char) -> bool {
        c.is_control()
            || matches!(c, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_misleads_is_escaped_and_nothing_else() {
        for plain in ["file_1", "Grüße", "a b", "back\\slash", "日本"] {
            assert_eq!(Printable(plain).to_string(), plain);
        }
        let odd = "a\nb\r\t\u{7f}\u{9b}31m\u{202e}x\u{2028}";
        assert_eq!(
            Printable(odd).to_string(),
            "a\\nb\\r\\t\\u{7f}\\u{9b}31m\\u{202e}x\\u{2028}"
        );
    }
}
