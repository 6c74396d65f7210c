//! Durations and sizes as people write them: `500ms`, `20s`, `64MiB`.

use std::ops::RangeInclusive;
use std::time::Duration;

const UNITS: [(&str, u64); 7] = [
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
    ("K", 1 << 10),
    ("M", 1 << 20),
    ("G", 1 << 30),
    ("B", 1),
];

/// Reads a duration within `range`.
///
/// # Errors
///
/// Says what is wrong with the text, or which range it misses.
pub fn parse_duration(text: &str, range: RangeInclusive<Duration>) -> Result<Duration, String> {
    let value = humantime::parse_duration(text)
        .map_err(|e| format!("`{text}` is not a duration like 500ms or 20s: {e}"))?;
    if range.contains(&value) {
        return Ok(value);
    }
    let (low, high) = (show_duration(*range.start()), show_duration(*range.end()));
    Err(format!("{text} is out of range, {low} to {high}"))
}

/// The shortest text that [`parse_duration`] reads as this duration.
pub fn show_duration(value: Duration) -> String {
    humantime::format_duration(value).to_string()
}

/// Reads a number of bytes within `range`.
///
/// # Errors
///
/// Says what is wrong with the text, or which range it misses.
pub fn parse_size(text: &str, range: RangeInclusive<u64>) -> Result<u64, String> {
    let (digits, unit) = UNITS
        .iter()
        .find_map(|(suffix, unit)| Some((text.strip_suffix(suffix)?, *unit)))
        .unwrap_or((text, 1));
    let value = digits
        .trim()
        .parse::<u64>()
        .ok()
        .and_then(|number| number.checked_mul(unit));
    let value = value.ok_or_else(|| format!("`{text}` is not a size like 64MiB"))?;
    if range.contains(&value) {
        return Ok(value);
    }
    Err(format!(
        "{text} is out of range, {} to {}",
        show_size(*range.start()),
        show_size(*range.end())
    ))
}

/// The shortest text that [`parse_size`] reads as this number of bytes.
pub fn show_size(value: u64) -> String {
    let whole = UNITS[..3]
        .iter()
        .rev()
        .find(|(_, unit)| value >= *unit && value.is_multiple_of(*unit));
    match whole {
        Some((suffix, unit)) => format!("{}{suffix}", value / unit),
        None => format!("{value}B"),
    }
}

/// Reads a whole number within `range`.
///
/// # Errors
///
/// Says what is wrong with the text, or which range it misses.
pub fn parse_count(text: &str, range: RangeInclusive<u32>) -> Result<u32, String> {
    let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if !is_number {
        return Err(format!("`{text}` is not a whole number"));
    }
    // A number with too many digits is out of range, too.
    if let Ok(value) = text.parse::<u32>()
        && range.contains(&value)
    {
        return Ok(value);
    }
    Err(format!(
        "{text} is out of range, {} to {}",
        range.start(),
        range.end()
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_as_they_are_shown() {
        for (text, bytes) in [
            ("0B", 0),
            ("1KiB", 1024),
            ("1500B", 1500),
            ("64MiB", 64 << 20),
            ("4GiB", 4 << 30),
        ] {
            assert_eq!(parse_size(text, 0..=u64::MAX), Ok(bytes));
            assert_eq!(show_size(bytes), text);
        }
        assert_eq!(parse_size("12", 0..=99), Ok(12));
        assert_eq!(parse_size("2K", 0..=9999), Ok(2048));
    }

    #[test]
    fn what_is_out_of_range_is_told_the_range() {
        assert_eq!(
            parse_size("1MiB", 0..=1024).unwrap_err(),
            "1MiB is out of range, 0B to 1KiB"
        );
        assert_eq!(
            parse_size("99999999999GiB", 0..=u64::MAX).unwrap_err(),
            "`99999999999GiB` is not a size like 64MiB"
        );
        assert_eq!(
            parse_count("-1", 0..=9).unwrap_err(),
            "`-1` is not a whole number"
        );
        assert_eq!(
            parse_count("99999999999", 0..=9).unwrap_err(),
            "99999999999 is out of range, 0 to 9"
        );
        let range = Duration::from_millis(500)..=Duration::from_secs(86_400);
        assert_eq!(
            parse_duration("1ms", range.clone()).unwrap_err(),
            "1ms is out of range, 500ms to 1day"
        );
        assert!(
            parse_duration("20", range)
                .unwrap_err()
                .starts_with("`20` is not a duration")
        );
    }
}
