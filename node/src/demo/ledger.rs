//! What the clients were told: which sections are certainly in the files, and which perhaps.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// Lines that a section writes to each of its files.
pub(super) const LINES: usize = 3;

/// One section: who wrote it, and its number among that client's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Section {
    pub(super) client: u32,
    pub(super) number: u32,
}

impl fmt::Display for Section {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "client {} section {}", self.client, self.number)
    }
}

impl Section {
    /// Its line number `index`, of [`LINES`].
    pub(super) fn line(self, index: usize) -> String {
        format!("{self} line {}\n", index + 1)
    }
}

/// By file, what must and what may be there.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    certain: BTreeMap<String, BTreeSet<Section>>,
    perhaps: BTreeMap<String, BTreeSet<Section>>,
}

impl Ledger {
    /// The release of this section was answered with success.
    pub(super) fn acknowledged(&mut self, section: Section, files: &[String]) {
        for file in files {
            self.certain
                .entry(file.clone())
                .or_default()
                .insert(section);
        }
    }

    /// The release got no answer.
    pub(super) fn unknown(&mut self, section: Section, files: &[String]) {
        for file in files {
            self.perhaps
                .entry(file.clone())
                .or_default()
                .insert(section);
        }
    }

    /// Every file that a section names.
    pub(super) fn files(&self) -> BTreeSet<String> {
        self.certain
            .keys()
            .chain(self.perhaps.keys())
            .cloned()
            .collect()
    }

    /// Compares a file's content with what was told, and returns how many sections it holds.
    ///
    /// # Errors
    ///
    /// The first thing that is wrong, in words.
    pub(super) fn check(&self, file: &str, content: &str) -> Result<usize, String> {
        let none = BTreeSet::new();
        let certain = self.certain.get(file).unwrap_or(&none);
        let perhaps = self.perhaps.get(file).unwrap_or(&none);
        let mut seen = BTreeSet::new();
        let lines: Vec<&str> = content.split_inclusive('\n').collect();
        for block in lines.chunks(LINES) {
            let section = certain
                .iter()
                .chain(perhaps)
                .find(|section| section.line(0) == block[0]);
            let section = *section.ok_or_else(|| format!("{file}: nobody wrote {:?}", block[0]))?;
            let whole =
                (0..LINES).all(|index| block.get(index) == Some(&section.line(index).as_str()));
            if !whole {
                return Err(format!("{file}: {section} is not in one piece"));
            }
            if !seen.insert(section) {
                return Err(format!("{file}: {section} is there twice"));
            }
        }
        match certain.difference(&seen).next() {
            Some(lost) => Err(format!("{file}: {lost} was acknowledged and is not there")),
            None => Ok(seen.len()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: Section = Section {
        client: 1,
        number: 1,
    };
    const B: Section = Section {
        client: 2,
        number: 1,
    };

    fn block(section: Section) -> String {
        (0..LINES).map(|index| section.line(index)).collect()
    }

    #[track_caller]
    fn check(content: &str, expected: Result<usize, &str>) {
        let mut ledger = Ledger::default();
        ledger.acknowledged(A, &["f".into()]);
        ledger.unknown(B, &["f".into()]);
        let found = ledger.check("f", content);
        assert_eq!(
            found.as_ref().map_err(String::as_str),
            expected.as_ref().map_err(|text| *text)
        );
    }

    #[test]
    fn each_way_to_be_wrong_is_seen() {
        check(&block(A), Ok(1));
        check(&(block(B) + &block(A)), Ok(2));
        check(
            "",
            Err("f: client 1 section 1 was acknowledged and is not there"),
        );
        check(
            &(block(A) + &block(A)),
            Err("f: client 1 section 1 is there twice"),
        );
        check("x\n", Err("f: nobody wrote \"x\\n\""));
        let torn = A.line(0) + &block(B) + &A.line(1);
        check(&torn, Err("f: client 1 section 1 is not in one piece"));
        check(
            &block(A)[..block(A).len() - 1],
            Err("f: client 1 section 1 is not in one piece"),
        );
    }
}
