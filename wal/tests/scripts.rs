//! Runs the stories in `testscripts/`: commands, then `---`, then what they print.
//!
//! A block is comments, commands and the recorded output; blank lines separate blocks. `UPDATE=1 cargo test -p wal
//! --test scripts` writes the output again; read the difference like code.
//!
//! | command | does |
//! |---|---|
//! | `open` | opens the log and prints outcome, findings, what is held |
//! | `append 1 2 3 [ballot=1.1] [bytes=20]` | one batch with a record for each slot |
//! | `chosen 4`, `promise 7.2`, `marker`, `hint`, `close`, `kill` | as the writer's methods; `kill` drops it |
//! | `torn 5 SEED` | the power fails during an append of slot 5 |
//! | `crash SEED` | the power fails |
//! | `damage slot=3 header\|directory\|payload`, `zero slot=3 [to-end]`, `stale slot=3 from=1` | at the batch of a slot |
//! | `damage FILE OFFSET`, `cut FILE LENGTH`, `delete FILE`, `touch FILE` | on a file, segments by number |
//! | `snapshot 10`, `mark 10`, `remove 10 needed=11` | saves and names; appends the mark; cuts the log |
//! | `read 1 2 3`, `files`, `explain` | prints values, names and sizes, the whole report |

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;

use wal::storage::{Disk, MemDisk};
use wal::{
    Environment, Folder, Options, Record, RecordKind, SnapshotHeader, Writer, scan, snapshot,
};

const SEGMENT: u64 = 32 * 1024;

#[test]
fn stories() {
    let dir = concat!(env!("CARGO_MANIFEST_DIR"), "/testscripts");
    let mut names: Vec<_> = std::fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    names.sort();
    assert!(!names.is_empty(), "no stories in {dir}");
    let mut wrong = Vec::new();
    for path in names {
        let script = std::fs::read_to_string(&path).unwrap();
        let told = tell(&script);
        if std::env::var_os("UPDATE").is_some() {
            std::fs::write(&path, &told).unwrap();
        } else if told != script {
            wrong.push(format!(
                "{}:\n{}",
                path.display(),
                difference(&script, &told)
            ));
        }
    }
    assert!(
        wrong.is_empty(),
        "UPDATE=1 records the new output\n{}",
        wrong.join("\n")
    );
}

/// The script with its output as it is now.
fn tell(script: &str) -> String {
    let mut story = Story::default();
    let mut told = String::new();
    for block in script
        .split("\n\n")
        .filter(|block| !block.trim().is_empty())
    {
        let commands = block
            .split("\n---")
            .next()
            .unwrap_or_default()
            .trim_matches('\n');
        let mut output = String::new();
        for line in commands.lines().filter(|line| !line.starts_with('#')) {
            output.push_str(&story.run(line));
        }
        if !told.is_empty() {
            told.push('\n');
        }
        let _ = writeln!(told, "{commands}");
        if commands.lines().any(|line| !line.starts_with('#')) {
            let _ = write!(told, "---\n{output}");
        }
    }
    told
}

fn difference(old: &str, new: &str) -> String {
    let (old, new): (Vec<&str>, Vec<&str>) = (old.lines().collect(), new.lines().collect());
    let at = old
        .iter()
        .zip(&new)
        .position(|(a, b)| a != b)
        .unwrap_or(old.len().min(new.len()));
    let from = at.saturating_sub(3);
    let part =
        |lines: &[&str]| lines[from.min(lines.len())..(at + 6).min(lines.len())].join("\n  ");
    format!(
        "line {}\n  {}\nis now\n  {}",
        at + 1,
        part(&old),
        part(&new)
    )
}

#[derive(Default)]
struct Story {
    disk: MemDisk,
    log: Option<Writer>,
    lives: u64,
    values: BTreeMap<(u64, u64), Vec<u8>>,
}

impl Story {
    fn run(&mut self, line: &str) -> String {
        let words = Words::new(line);
        match words.verb {
            "open" => self.open(),
            "append" => self.append(&words),
            "chosen" | "promise" | "mark" => self.append_one(&words),
            "marker" => said(self.log().idle_marker()),
            "hint" => said(self.log().durable_hint()),
            "close" => said(self.log.take().expect("an open log").close()),
            "kill" => {
                self.log = None;
                self.disk.kill();
                String::new()
            }
            "crash" => self.crash(words.number(0)),
            "torn" => self.torn(&words),
            "damage" | "zero" | "stale" | "cut" | "delete" | "touch" => self.harm(&words),
            "snapshot" => self.snapshot(words.number(0)),
            "remove" => self.remove(&words),
            "read" => words
                .plain
                .iter()
                .map(|slot| self.read(slot.parse().unwrap()))
                .collect(),
            "files" => self.files(),
            "explain" => {
                format!(
                    "{}\n",
                    scan::decide(&scan::survey(&self.disk).unwrap()).report
                )
            }
            verb => panic!("no command {verb:?}"),
        }
    }

    fn log(&mut self) -> &mut Writer {
        self.log.as_mut().expect("an open log")
    }

    fn open(&mut self) -> String {
        self.log = None;
        self.lives += 1;
        let environment = Environment::seeded(self.lives);
        let folder = match Folder::open(Arc::new(self.disk.clone()), 1, environment) {
            Ok(folder) => folder,
            Err(error) => return format!("{error}\n"),
        };
        let (log, recovery) = match folder.open_log(Options {
            segment_bytes: SEGMENT,
        }) {
            Ok(opened) => opened,
            Err(error) => return format!("{error}\n"),
        };
        let mut out = format!(
            "{}: slots {}..={} promised {}\n",
            recovery.outcome.name(),
            recovery.first_slot,
            recovery.last_slot,
            dotted(recovery.promised)
        );
        for finding in &recovery.report.findings {
            let _ = writeln!(
                out,
                "  {} {finding}",
                if finding.damage { "damage" } else { "note" }
            );
        }
        if let wal::Outcome::Faulty { ranges, .. } = &recovery.outcome {
            for range in ranges {
                let _ = writeln!(out, "  lost {range}");
            }
        }
        for snapshot in &recovery.snapshots {
            let _ = writeln!(out, "  snapshot {}", snapshot.slot);
        }
        self.log = Some(log);
        out
    }

    fn append(&mut self, words: &Words<'_>) -> String {
        let records = self.records(words);
        said(self.log().commit(&records, 0))
    }

    fn records(&mut self, words: &Words<'_>) -> Vec<Record> {
        let ballot = words.ballot("ballot");
        let bytes = words
            .option("bytes")
            .map_or(0, |bytes| bytes.parse().unwrap());
        let slots = words.plain.iter().map(|slot| slot.parse().unwrap());
        let record = |slot: u64| {
            let mut payload = format!("value {slot} of {}", dotted(ballot)).into_bytes();
            payload.resize(payload.len().max(bytes), b'.');
            Record {
                kind: RecordKind::Accept,
                slot,
                ballot,
                payload: payload.into(),
            }
        };
        let records: Vec<Record> = slots.map(record).collect();
        for record in &records {
            self.values
                .insert((record.slot, record.ballot), record.payload.to_vec());
        }
        records
    }

    fn append_one(&mut self, words: &Words<'_>) -> String {
        let (kind, slot, ballot) = match words.verb {
            "promise" => (RecordKind::Promise, 0, ballot_of(words.plain[0])),
            "chosen" => (RecordKind::Chosen, words.number(0), 0),
            _ => (RecordKind::SnapshotMark, words.number(0), 0),
        };
        let payload = if kind == RecordKind::Chosen {
            format!("chosen {slot}")
        } else {
            String::new()
        };
        self.values
            .insert((slot, ballot), payload.clone().into_bytes());
        said(self.log().commit(
            &[Record {
                kind,
                slot,
                ballot,
                payload: payload.into(),
            }],
            0,
        ))
    }

    fn crash(&mut self, seed: u64) -> String {
        self.disk.crash(seed);
        self.log = None;
        String::new()
    }

    fn torn(&mut self, words: &Words<'_>) -> String {
        let slot = Words {
            plain: vec![words.plain[0]],
            ..words.clone()
        };
        let records = self.records(&slot);
        self.disk.halt_at(self.disk.calls() + 1);
        let error = self.log().commit(&records, 0).unwrap_err();
        self.crash(words.number(1));
        format!("{error}\n")
    }

    fn harm(&mut self, words: &Words<'_>) -> String {
        if let Some(slot) = words.option("slot") {
            self.harm_slot(words, slot.parse().unwrap());
            return String::new();
        }
        let path = match words.plain[0].parse() {
            Ok(seq) => wal::layout::segment_path(seq),
            Err(_) => words.plain[0].to_owned(),
        };
        match words.verb {
            "damage" => self.disk.damage(&path, words.number(1), &[0xe7; 64]),
            "cut" => self.disk.truncate(&path, words.number(1)),
            "delete" => self.disk.delete(&path),
            _ => {
                self.disk.create(&path).unwrap();
            }
        }
        String::new()
    }

    /// Damages the batch of a slot: its newest copy.
    fn harm_slot(&self, words: &Words<'_>, slot: u64) {
        let (path, at, length) = self.place(slot);
        match (words.verb, words.plain.first().copied()) {
            ("damage", Some("header")) => self.disk.flip_bit(&path, at + 20, 1),
            ("damage", Some("directory")) => self.disk.flip_bit(&path, at + 128 + 9, 1),
            ("damage", _) => self.disk.flip_bit(&path, at + 128 + 32 + 2, 1),
            ("zero", Some("to-end")) => {
                self.disk
                    .damage(&path, at, &vec![0; (SEGMENT - 4096 - at) as usize]);
            }
            ("zero", _) => self.disk.damage(&path, at, &vec![0; length as usize]),
            ("stale", _) => {
                let from = words.option("from").unwrap().parse().unwrap();
                let (other, source, _) = self.place(from);
                let bytes = self.disk.peek(&other, source, 4096);
                self.disk.damage(&path, at, &bytes);
            }
            (verb, _) => panic!("cannot {verb} a slot"),
        }
    }

    fn place(&self, slot: u64) -> (String, u64, u64) {
        let facts = scan::survey(&self.disk).unwrap();
        let mut found = None;
        for segment in &facts.segments {
            let Some(header) = segment.header() else {
                continue;
            };
            for batch in segment
                .batches()
                .filter(|b| b.records.iter().any(|r| r.header.slot == slot))
            {
                let at = batch.header.lsn.0 - header.base.0;
                found = Some((segment.path.clone(), at, batch.header.padded()));
            }
        }
        found.expect("a batch with the slot")
    }

    fn snapshot(&mut self, slot: u64) -> String {
        let header = SnapshotHeader {
            cluster: 0,
            slot,
            membership: "".into(),
        };
        let disk = self.disk.clone();
        let saved = snapshot::save(&disk, &header, &mut format!("state at {slot}").as_bytes());
        said(saved.and_then(|saved| self.log().snapshot_saved(saved)))
    }

    fn remove(&mut self, words: &Words<'_>) -> String {
        let needed = words
            .option("needed")
            .map_or(u64::MAX, |slot| slot.parse().unwrap());
        let cap = words
            .option("cap")
            .map_or(u64::MAX, |bytes| bytes.parse().unwrap());
        let slot = words.number(0);
        let removed = self.log().remove_prefix(slot, needed, cap).unwrap();
        let mut out = format!(
            "{} segments gone, first slot {}",
            removed.segments, removed.first_slot
        );
        if removed.held_back {
            out += ", held back for a member";
        }
        if removed.left_behind {
            out += ", a member is left behind";
        }
        out + "\n"
    }

    fn read(&mut self, slot: u64) -> String {
        match self.log().read(slot) {
            Ok(Some(entry)) => {
                let value = self.values.get(&(slot, entry.ballot));
                assert_eq!(
                    value.map(Vec::as_slice),
                    Some(&entry.payload[..]),
                    "slot {slot}"
                );
                let text = String::from_utf8_lossy(&entry.payload)
                    .trim_end_matches('.')
                    .to_owned();
                format!("{slot} {} {text}\n", entry.kind)
            }
            Ok(None) => format!("{slot} nothing\n"),
            Err(error) => format!("{slot} {error}\n"),
        }
    }

    fn files(&self) -> String {
        let mut out = String::new();
        for dir in ["wal", "snapshots"] {
            for entry in self.disk.list(dir).unwrap() {
                let _ = writeln!(out, "{dir}/{} {}", entry.name, entry.len);
            }
        }
        out
    }
}

#[derive(Clone)]
struct Words<'a> {
    verb: &'a str,
    plain: Vec<&'a str>,
    options: BTreeMap<&'a str, &'a str>,
}

impl<'a> Words<'a> {
    fn new(line: &'a str) -> Words<'a> {
        let mut words = line.split_whitespace();
        let verb = words.next().expect("a command");
        let (mut plain, mut options) = (Vec::new(), BTreeMap::new());
        for word in words {
            match word.split_once('=') {
                Some((name, value)) => {
                    options.insert(name, value);
                }
                None => plain.push(word),
            }
        }
        Words {
            verb,
            plain,
            options,
        }
    }

    fn number(&self, at: usize) -> u64 {
        self.plain[at].parse().expect("a number")
    }

    fn option(&self, name: &str) -> Option<&'a str> {
        self.options.get(name).copied()
    }

    fn ballot(&self, name: &str) -> u64 {
        ballot_of(self.option(name).unwrap_or("1.1"))
    }
}

fn ballot_of(text: &str) -> u64 {
    let (round, node) = text.split_once('.').expect("a ballot like 7.2");
    round.parse::<u64>().unwrap() << 16 | node.parse::<u64>().unwrap()
}

fn dotted(ballot: u64) -> String {
    format!("{}.{}", ballot >> 16, ballot & 0xffff)
}

fn said(result: Result<(), wal::Error>) -> String {
    result
        .err()
        .map_or_else(String::new, |error| format!("{error}\n"))
}
