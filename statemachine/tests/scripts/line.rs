//! A line of a script: words, and `key=value` pairs.

use std::collections::BTreeMap;

use statemachine::Settings;

/// The words of a line, and its `key=value` pairs.
pub(crate) struct Line<'a> {
    pub(crate) words: Vec<&'a str>,
    pub(crate) pairs: BTreeMap<&'a str, &'a str>,
}

impl<'a> Line<'a> {
    pub(crate) fn read(line: &'a str) -> Line<'a> {
        let (pairs, words): (Vec<&str>, Vec<&str>) =
            line.split_whitespace().partition(|word| word.contains('='));
        let pairs = pairs
            .into_iter()
            .filter_map(|pair| pair.split_once('='))
            .collect();
        Line { words, pairs }
    }

    pub(crate) fn word(&self, at: usize) -> &'a str {
        self.words
            .get(at)
            .unwrap_or_else(|| panic!("word {at} is missing in {:?}", self.words))
    }

    pub(crate) fn number(&self, key: &str) -> Option<u64> {
        self.pairs.get(key).map(|text| number(text))
    }
}

/// A number, or a time in milliseconds: `7`, `500ms`, `3s`, `1.5s`.
pub(crate) fn number(text: &str) -> u64 {
    let parsed = if let Some(ms) = text.strip_suffix("ms") {
        ms.parse().ok()
    } else if let Some(s) = text.strip_suffix('s') {
        let (whole, part) = s.split_once('.').unwrap_or((s, ""));
        let part: Option<u64> = format!("{part:0<3}").parse().ok();
        whole
            .parse::<u64>()
            .ok()
            .zip(part)
            .map(|(whole, part)| whole * 1000 + part)
    } else {
        text.parse().ok()
    };
    parsed.unwrap_or_else(|| panic!("{text:?} is no number and no time"))
}

/// A time for people: `1.500s`.
pub(crate) fn seconds(ms: u64) -> String {
    format!("{}.{:03}s", ms / 1000, ms % 1000)
}

/// The settings that a line changes from the documented ones.
pub(crate) fn settings(line: &Line<'_>) -> Settings {
    let mut settings = Settings {
        files: 2,
        ..Settings::default()
    };
    for (&key, value) in &line.pairs {
        let value = number(value);
        match key {
            "files" => settings.files = u32::try_from(value).expect("a small number"),
            "append_bytes" => settings.append_bytes_max = value,
            "section_bytes" => settings.section_bytes_max = value,
            "section_appends" => settings.section_appends_max = value,
            "section_files" => settings.section_files_max = value,
            "all_sections_bytes" => settings.all_sections_bytes_max = value,
            "queue" => settings.queue_max = value,
            "sessions" => settings.sessions_max = value,
            "in_flight" => settings.in_flight_max = value,
            "state_bytes" => settings.state_bytes_max = value,
            "endings" => settings.endings_max = value,
            "tokens" => settings.tokens_max = value,
            "rules" if value == 1 => {
                settings = settings.under_rules_of(&Settings::of_first_rules())
            }
            other => panic!("no setting {other}"),
        }
    }
    settings
}
