//! A client of the demonstration: acquire, append, release, over and over.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::{Duration, Instant};

use client::{Client, Error, Guard};

use super::ledger::{LINES, Ledger, Section};

/// The lock that guards the files.
pub(super) const LOCK: &str = "default";
/// Long enough for a change of leader, short enough for the demonstration.
pub(super) const LEASE: Duration = Duration::from_secs(5);
/// Files that sections go to, of the cluster's hundred.
const FILES: u32 = 8;
/// Before a client that was refused or met nobody tries again.
const PAUSE: Duration = Duration::from_millis(20);

/// What all clients share.
#[derive(Debug, Default)]
pub(super) struct Shared {
    pub(super) ledger: RefCell<Ledger>,
    pub(super) stop: Cell<bool>,
    /// When the last release was acknowledged to anybody.
    pub(super) last_success: Cell<Option<Instant>>,
    /// Acknowledged sections.
    pub(super) cycles: Cell<u64>,
    /// Sections that ended otherwise, with what was said.
    pub(super) setbacks: RefCell<Vec<String>>,
}

/// Writes sections until told to stop.
pub(super) async fn work(client: Client, number: u32, shared: Rc<Shared>) {
    for round in 1.. {
        if shared.stop.get() {
            return;
        }
        let section = Section {
            client: number,
            number: round,
        };
        let files = files_of(section);
        if let Err(error) = cycle(&client, section, &files, &shared).await {
            shared
                .setbacks
                .borrow_mut()
                .push(format!("{section}: {error}"));
            tokio::time::sleep(PAUSE).await;
        }
    }
}

/// Two of the files, another pair each time.
pub(super) fn files_of(section: Section) -> [String; 2] {
    let first = (section.client + section.number) % FILES;
    let second = (first + 1 + section.number % (FILES - 1)) % FILES;
    [first, second].map(|index| format!("file_{index}"))
}

async fn cycle(
    client: &Client,
    section: Section,
    files: &[String; 2],
    shared: &Shared,
) -> Result<(), Error> {
    let guard = client.lock(LOCK).lease(LEASE).acquire().await?;
    write(&guard, section, files, 0..LINES).await?;
    release(guard, section, files, shared).await
}

/// Appends these lines of the section to each of its files, all under way at once.
pub(super) async fn write(
    guard: &Guard,
    section: Section,
    files: &[String; 2],
    lines: std::ops::Range<usize>,
) -> Result<(), Error> {
    let mut appends = Vec::new();
    for index in lines {
        for file in files {
            appends.push(guard.append(file, section.line(index)));
        }
    }
    for append in appends {
        append.await?;
    }
    Ok(())
}

/// Releases, and enters into the ledger what came of it.
pub(super) async fn release(
    guard: Guard,
    section: Section,
    files: &[String; 2],
    shared: &Shared,
) -> Result<(), Error> {
    let answer = match guard.release().await {
        Err(Error::Unknown(call)) => call.settle(LEASE).await.map(drop),
        other => other.map(drop),
    };
    match &answer {
        Ok(()) => {
            shared.ledger.borrow_mut().acknowledged(section, files);
            shared.last_success.set(Some(Instant::now()));
            shared.cycles.set(shared.cycles.get() + 1);
        }
        Err(Error::Unknown(_)) => shared.ledger.borrow_mut().unknown(section, files),
        Err(_) => {}
    }
    answer
}
