//! `find`: the commands about a lock, a session, a client, a file, or with a text in them.

use std::collections::{BTreeMap, BTreeSet};

use paxos::{Entry, EntryKind};
use statemachine::{Answer, Command, Op, PAGE_MAX, Query};
use wal::scan::RecordView;

use super::dump;
use crate::args::{Find, Payload};
use crate::failure::Failure;
use crate::ledger::bytes_of;
use crate::output::Output;
use crate::selection::Selection;
use crate::source::{Source, standing};
use crate::{replay, wording};

pub(super) fn run(
    source: &Source,
    find: &Find,
    part: Selection,
    out: &Output,
) -> Result<(), Failure> {
    let asked = [&find.lock, &find.client, &find.file, &find.text];
    if asked.iter().all(|asked| asked.is_none()) && find.session.is_none() {
        return Err(Failure::Usage(
            "say what to find: --lock, --session, --client, --file or --text".to_owned(),
        ));
    }
    let sessions = match &find.client {
        Some(client) => Some(sessions_of(source, client)?),
        None => None,
    };
    for view in source
        .believed()
        .filter(|view| view.record.header.kind.is_entry())
    {
        if part.holds(standing(&view)) && matches(source, &view, find, sessions.as_ref())? {
            dump::record(source, &view, Payload::Decoded, out)?;
        }
    }
    Ok(())
}

/// Whether a record is all that was asked for.
fn matches(
    source: &Source,
    view: &RecordView<'_>,
    find: &Find,
    of_client: Option<&BTreeSet<u64>>,
) -> Result<bool, Failure> {
    let slot = view.record.header.slot;
    let Some(entry) = read(source, view)? else {
        return Ok(false);
    };
    let payload = entry.payload();
    let command = match entry.kind() {
        EntryKind::App => Command::decode(&payload).ok(),
        _ => None,
    };
    let names = command
        .as_ref()
        .map(|command| Names::of(slot, command))
        .unwrap_or_default();
    let told = || wording::entry(slot, &entry).words;
    let is_in = |found: &BTreeSet<String>, asked: &Option<String>| {
        asked.as_ref().is_none_or(|asked| found.contains(asked))
    };
    Ok(is_in(&names.locks, &find.lock)
        && is_in(&names.files, &find.file)
        && find
            .session
            .is_none_or(|session| names.sessions.contains(&session))
        && of_client.is_none_or(|sessions| !names.sessions.is_disjoint(sessions))
        && find.text.as_ref().is_none_or(|text| {
            contains(&payload, text.as_bytes()) || told().contains(text.as_str())
        }))
}

fn read(source: &Source, view: &RecordView<'_>) -> Result<Option<Entry>, Failure> {
    let bytes = bytes_of(source, view)?;
    Ok(bytes.and_then(|bytes| Entry::decode(bytes).ok()))
}

fn contains(bytes: &[u8], text: &[u8]) -> bool {
    text.is_empty() || bytes.windows(text.len()).any(|window| window == text)
}

/// The sessions that gave themselves a name: by the log, and by the snapshots for those opened before it.
fn sessions_of(source: &Source, client: &str) -> Result<BTreeSet<u64>, Failure> {
    let mut names: BTreeMap<u64, String> = BTreeMap::new();
    for snapshot in &source.view().snapshots {
        let Ok((machine, _)) = replay::load(&*source.disk, snapshot) else {
            continue;
        };
        let mut after = None;
        while let Answer::Sessions(page) = machine.query(&Query::Sessions {
            after,
            limit: PAGE_MAX,
        }) {
            after = page.items.last().map(|fact| fact.session);
            names.extend(
                page.items
                    .into_iter()
                    .map(|fact| (fact.session.0, fact.name)),
            );
            if !page.more {
                break;
            }
        }
    }
    for view in source
        .believed()
        .filter(|view| view.record.header.kind.is_entry())
    {
        if let Some(entry) = read(source, &view)?
            && entry.kind() == EntryKind::App
            && let Ok(Command::Open { name, .. }) = Command::decode(&entry.payload())
        {
            names.insert(view.record.header.slot, name);
        }
    }
    names.retain(|_, name| name == client);
    Ok(names.into_keys().collect())
}

/// What a command names.
#[derive(Debug, Default)]
struct Names {
    locks: BTreeSet<String>,
    files: BTreeSet<String>,
    sessions: BTreeSet<u64>,
}

impl Names {
    fn of(slot: u64, command: &Command) -> Names {
        let mut names = Names::default();
        match command {
            Command::Open { .. } => {
                names.sessions.insert(slot);
            }
            Command::KeepAlive { beats } => {
                for beat in beats {
                    names.sessions.insert(beat.session.0);
                    names
                        .locks
                        .extend(beat.tokens.iter().map(|(lock, _)| lock.clone()));
                }
            }
            Command::Session { session, op, .. } => {
                names.sessions.insert(session.0);
                names.add_op(op);
            }
            Command::Settle { lock, .. } => {
                names.locks.insert(lock.clone());
            }
        }
        names
    }

    fn add_op(&mut self, op: &Op) {
        let (lock, file) = match op {
            Op::Close | Op::Cancel { .. } => (None, None),
            Op::Acquire { lock, .. }
            | Op::Renew { lock, .. }
            | Op::Release { lock, .. }
            | Op::Abort { lock, .. }
            | Op::ForceRelease { lock, .. } => (Some(lock), None),
            Op::Append { lock, file, .. } => (Some(lock), Some(file)),
            Op::CreateFile { file, guard } => (guard.as_ref(), Some(file)),
            Op::RemoveFile { file } => (None, Some(file)),
        };
        self.locks.extend(lock.cloned());
        self.files.extend(file.cloned());
    }
}
