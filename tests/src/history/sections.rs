//! Sections from outside: what the files must hold, given what clients were told.
//!
//! Every append of such a test is one line that no other append repeats, so a file read back says
//! which section each line is of. Then: lines nobody wrote, lines twice, a section that is not
//! contiguous, in its order and whole, an acknowledged one that is missing and a refused one that is
//! there, and two sections in another order than their tokens (so in every file the same) are each
//! one violation. Source of the idea: unique values in append-only lists, Kingsbury and Alvaro,
//! *Elle* (VLDB 2020).

use std::collections::{BTreeMap, BTreeSet};

use super::record::{Answer, Call, Event};

/// Files by name with their bytes.
pub type Files = BTreeMap<String, Vec<u8>>;

/// All that cannot be, one line each; empty if the files are what the clients were told.
pub fn violations(events: &[Event], files: &Files) -> Vec<String> {
    let sections = gather(events);
    let owners = owners(&sections);
    let mut found = Vec::new();
    let mut seen: BTreeSet<(Key<'_>, &str)> = BTreeSet::new();
    for (name, bytes) in files {
        let read = Reading {
            name,
            sections: &sections,
            owners: &owners,
        };
        read.check(bytes, &mut seen, &mut found);
    }
    for (key, section) in &sections {
        section.check_fate(*key, &seen, &mut found);
    }
    found
}

/// How many sections were acknowledged.
pub fn acknowledged(events: &[Event]) -> usize {
    events
        .iter()
        .filter(|event| event.call == Call::Release && event.answer == Answer::Done)
        .count()
}

/// A section is known by its lock and token.
type Key<'a> = (&'a str, u64);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    /// Its release was acknowledged.
    Applied,
    /// Its release was asked for, and perhaps done.
    Perhaps,
    /// Never released, or refused.
    Discarded,
}

/// What one holder appended: to each file its lines in order, and which of them were acknowledged.
#[derive(Debug)]
struct Section<'a> {
    files: BTreeMap<&'a str, Vec<(&'a [u8], bool)>>,
    fate: Fate,
}

fn gather(events: &[Event]) -> BTreeMap<Key<'_>, Section<'_>> {
    let mut sections = BTreeMap::new();
    for event in events {
        let Some(token) = event.token else { continue };
        let section = sections
            .entry((event.lock.as_str(), token))
            .or_insert_with(|| Section {
                files: BTreeMap::new(),
                fate: Fate::Discarded,
            });
        match (&event.call, &event.answer) {
            (Call::Append { .. }, Answer::Refused(_)) => {}
            (Call::Append { file, data }, answer) => {
                let lines = section.files.entry(file.as_str()).or_default();
                lines.push((data.as_slice(), *answer == Answer::Done));
            }
            (Call::Release, Answer::Done) => section.fate = Fate::Applied,
            (Call::Release, Answer::Unknown) if section.fate != Fate::Applied => {
                section.fate = Fate::Perhaps;
            }
            _ => {}
        }
    }
    sections
}

/// Which section wrote a line to a file.
fn owners<'a>(sections: &BTreeMap<Key<'a>, Section<'a>>) -> BTreeMap<(&'a str, &'a [u8]), Key<'a>> {
    let mut owners = BTreeMap::new();
    for (key, section) in sections {
        for (file, lines) in &section.files {
            for (line, _) in lines {
                let before = owners.insert((*file, *line), *key);
                assert!(
                    before.is_none(),
                    "a test of sections writes no line twice: {line:?}"
                );
            }
        }
    }
    owners
}

struct Reading<'a, 'b> {
    name: &'a str,
    sections: &'b BTreeMap<Key<'a>, Section<'a>>,
    owners: &'b BTreeMap<(&'a str, &'a [u8]), Key<'a>>,
}

impl<'a> Reading<'a, '_> {
    fn check(
        &self,
        bytes: &[u8],
        seen: &mut BTreeSet<(Key<'a>, &'a str)>,
        found: &mut Vec<String>,
    ) {
        let mut rest = bytes;
        let mut last: BTreeMap<&str, u64> = BTreeMap::new();
        while !rest.is_empty() {
            let end = rest
                .iter()
                .position(|&byte| byte == b'\n')
                .map_or(rest.len(), |at| at + 1);
            let Some(&key) = self.owners.get(&(self.name, &rest[..end])) else {
                let line = String::from_utf8_lossy(&rest[..end]);
                found.push(format!("{}: a line that nobody wrote: {line:?}", self.name));
                rest = &rest[end..];
                continue;
            };
            if last
                .insert(key.0, key.1)
                .is_some_and(|before| before >= key.1)
            {
                found.push(format!(
                    "{}: section {key:?} is out of order, or there twice",
                    self.name
                ));
            }
            seen.insert((key, self.file_key(key)));
            let taken = self.take_section(key, rest);
            if taken == 0 {
                found.push(format!(
                    "{}: section {key:?} does not begin with its first line",
                    self.name
                ));
                rest = &rest[end..];
            } else {
                rest = &rest[taken..];
            }
        }
    }

    /// The name of this file as the section holds it.
    fn file_key(&self, key: Key<'a>) -> &'a str {
        let files = &self.sections[&key].files;
        files
            .get_key_value(self.name)
            .map_or(self.name, |(name, _)| name)
    }

    /// Bytes at the start of `rest` that are this section's lines in order, all acknowledged ones
    /// among them; 0 if they are not there like that.
    fn take_section(&self, key: Key<'a>, rest: &[u8]) -> usize {
        let mut at = 0;
        for (line, sure) in &self.sections[&key].files[self.name] {
            if rest[at..].starts_with(line) {
                at += line.len();
            } else if *sure {
                return 0;
            }
        }
        at
    }
}

impl Section<'_> {
    fn check_fate(&self, key: Key<'_>, seen: &BTreeSet<(Key<'_>, &str)>, found: &mut Vec<String>) {
        let there = |file: &str| seen.contains(&(key, file));
        let mut whole = self
            .files
            .iter()
            .filter(|(_, lines)| lines.iter().any(|(_, sure)| *sure));
        match self.fate {
            Fate::Applied => {
                for (file, _) in whole.filter(|(file, _)| !there(file)) {
                    found.push(format!(
                        "{file}: the acknowledged section {key:?} is missing"
                    ));
                }
            }
            Fate::Discarded => {
                for file in self.files.keys().filter(|file| there(file)) {
                    found.push(format!(
                        "{file}: section {key:?} was never released, but is there"
                    ));
                }
            }
            Fate::Perhaps => {
                let some = self.files.keys().any(|file| there(file));
                if some && !whole.all(|(file, _)| there(file)) {
                    found.push(format!("section {key:?} is in some of its files only"));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn event(token: u64, call: Call, answer: Answer) -> Event {
        Event {
            client: "c".into(),
            lock: "l".into(),
            token: Some(token),
            call,
            asked: Duration::ZERO,
            answered: None,
            answer,
        }
    }

    fn append(token: u64, file: &str, line: &str) -> Event {
        let call = Call::Append {
            file: file.into(),
            data: format!("{line}\n").into(),
        };
        event(token, call, Answer::Done)
    }

    /// Two sections, `a b` and `c d`, each in files `f` and `g`; the second ends as `second` says.
    fn check(second: Answer, f: &str, g: &str, expected: usize) {
        let events = [
            append(1, "f", "a"),
            append(1, "f", "b"),
            append(1, "g", "a"),
            event(1, Call::Release, Answer::Done),
            append(2, "f", "c"),
            append(2, "g", "c"),
            append(2, "g", "d"),
            event(2, Call::Release, second),
        ];
        let lines = |text: &str| {
            text.chars()
                .flat_map(|c| [c as u8, b'\n'])
                .collect::<Vec<u8>>()
        };
        let files = Files::from([("f".into(), lines(f)), ("g".into(), lines(g))]);
        let found = violations(&events, &files);
        assert_eq!(found.len(), expected, "{found:#?}");
    }

    #[test]
    fn what_was_told_is_there() {
        check(Answer::Done, "abc", "acd", 0);
    }

    #[test]
    fn the_unknown_may_be_there_or_not_but_not_in_half() {
        check(Answer::Unknown, "abc", "acd", 0);
        check(Answer::Unknown, "ab", "a", 0);
        check(Answer::Unknown, "abc", "a", 1);
    }

    #[test]
    fn an_acknowledged_section_is_missed() {
        check(Answer::Done, "ab", "a", 2);
    }

    #[test]
    fn a_refused_section_is_found() {
        check(Answer::Refused("not_held".into()), "abc", "a", 1);
    }

    #[test]
    fn doubled_torn_foreign_and_reordered_lines_are_found() {
        check(Answer::Done, "ababc", "acd", 1);
        check(Answer::Done, "cab", "acd", 1);
        check(Answer::Done, "abcx", "acd", 1);
        assert!(std::panic::catch_unwind(|| check(Answer::Done, "acb", "acd", 0)).is_err());
        assert!(std::panic::catch_unwind(|| check(Answer::Done, "abc", "adc", 0)).is_err());
    }
}
