//! L2 and S7: what became of the sections, read from nothing but the files and what clients were told.
//!
//! Each append is a record that names its client, section and place. So the files alone show whether
//! a section is there once, whole, contiguous and in order.

use std::collections::BTreeMap;

use statemachine::Token;

use super::{Verdict, Violation, ensure};

/// What a client knows of the end of its section.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// The release was answered with success.
    Applied,
    /// It was refused, aborted, lost or never released.
    Discarded,
    /// The release was never answered, and nothing was settled.
    Unknown,
}

/// One section, as its client saw it.
#[derive(Clone, Debug)]
pub struct Section {
    /// `client.number`, as its records say.
    pub name: String,
    /// The grant that it was made under.
    pub token: Token,
    /// What was appended and acknowledged: file and place, in order.
    pub appends: Vec<(String, u32)>,
    /// How it ended.
    pub fate: Fate,
}

impl Section {
    /// The bytes of the append at `place`, counted from 1. `filler` makes it longer.
    pub fn record(&self, place: u32, filler: usize) -> String {
        format!("[{}.{place}{}]", self.name, "~".repeat(filler))
    }
}

/// Compares the final files with what all clients know. Files in `volatile` may have been removed.
pub fn check(
    sections: &[Section],
    files: &BTreeMap<String, Vec<u8>>,
    is_volatile: impl Fn(&str) -> bool,
) -> Verdict {
    let found = read_all(files)?;
    let by_name: BTreeMap<&str, &Section> = sections
        .iter()
        .map(|section| (section.name.as_str(), section))
        .collect();
    for (name, runs) in &found {
        let section = by_name.get(name.as_str()).ok_or_else(|| Violation {
            check: "S7",
            detail: format!("section {name} is in the files and no client made it"),
        })?;
        ensure(section.fate != Fate::Discarded, "L2", || {
            format!("section {name} was discarded and is in the files: {runs:?}")
        })?;
    }
    for section in sections {
        let expected = expected_runs(section, &is_volatile);
        let empty = BTreeMap::new();
        let runs = found.get(&section.name).unwrap_or(&empty);
        let seen: BTreeMap<String, Vec<u32>> = runs
            .iter()
            .filter(|(file, _)| !is_volatile(file))
            .map(|(file, places)| (file.clone(), places.clone()))
            .collect();
        match section.fate {
            Fate::Applied => ensure(seen == expected, "L2", || {
                format!(
                    "section {}: {seen:?} in the files, {expected:?} was applied",
                    section.name
                )
            })?,
            Fate::Unknown => ensure(seen.is_empty() || seen == expected, "S7", || {
                format!(
                    "section {}: {seen:?} in the files, all or nothing of {expected:?}",
                    section.name
                )
            })?,
            Fate::Discarded => {}
        }
    }
    Ok(())
}

fn expected_runs(
    section: &Section,
    is_volatile: impl Fn(&str) -> bool,
) -> BTreeMap<String, Vec<u32>> {
    let mut expected: BTreeMap<String, Vec<u32>> = BTreeMap::new();
    for (file, place) in section
        .appends
        .iter()
        .filter(|(file, _)| !is_volatile(file))
    {
        expected.entry(file.clone()).or_default().push(*place);
    }
    expected
}

/// The places of each section in each file. A section that stands in two parts of a file is a
/// violation, and so is anything that is no record.
fn read_all(
    files: &BTreeMap<String, Vec<u8>>,
) -> Result<BTreeMap<String, BTreeMap<String, Vec<u32>>>, Violation> {
    let mut found: BTreeMap<String, BTreeMap<String, Vec<u32>>> = BTreeMap::new();
    for (file, content) in files {
        let text = std::str::from_utf8(content).map_err(|_| Violation {
            check: "S7",
            detail: format!("file {file} holds what nobody wrote"),
        })?;
        let mut last = String::new();
        for record in text.split_terminator(']') {
            let (name, place) = parse(record).ok_or_else(|| Violation {
                check: "S7",
                detail: format!("file {file} holds `{record}`, which nobody wrote"),
            })?;
            let places = found
                .entry(name.clone())
                .or_default()
                .entry(file.clone())
                .or_default();
            ensure(name == last || places.is_empty(), "S7", || {
                format!("file {file}: section {name} stands in two parts")
            })?;
            places.push(place);
            last = name;
        }
    }
    Ok(found)
}

fn parse(record: &str) -> Option<(String, u32)> {
    let body = record.strip_prefix('[')?.trim_end_matches('~');
    let (name, place) = body.rsplit_once('.')?;
    Some((name.to_owned(), place.parse().ok()?))
}
