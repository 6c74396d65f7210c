//! One file for each verb; here, which of them was asked for.

use wal::scan::Finding;

use crate::args::{Cli, Snap, Target, Verb};
use crate::failure::{Failure, exit, state_code};
use crate::files::Files;
use crate::output::Output;
use crate::place::Place;
use crate::selection::Selection;
use crate::source::Source;

mod blocks;
mod dump;
mod explain;
mod find;
mod history;
mod ls;
mod replay;
mod slot;
mod snap;
mod stats;
mod tail;
mod timeline;
mod verify;

/// Does what was asked. Returns the exit code, which tells the state of what was given.
pub(crate) fn run(cli: &Cli, out: &Output) -> Result<u8, Failure> {
    let global = &cli.global;
    let part = Selection {
        from: global.from,
        to: global.to,
    };
    let place = Place::of(target(&cli.verb).path(global)?)?;
    if let Verb::Tail(tail) = &cli.verb
        && tail.follow
    {
        return tail::follow(&place, tail, part, out).map(|()| exit::INTACT);
    }
    let source = Source::read(&place, global.quiet)?;
    let code = state_code(&source.decision, global.strict);
    match &cli.verb {
        Verb::Ls { .. } => ls::run(&source, part, out)?,
        Verb::Dump(dump) => dump::run(&source, dump, part, out)?,
        Verb::Verify { .. } => {
            let files = Files::check(&source, &place.scope)?;
            verify::run(&source, &files, files.code(code), out)?;
            return Ok(files.code(code));
        }
        Verb::Explain { .. } => {
            let files = Files::check(&source, &place.scope)?;
            explain::run(&source, &files, files.code(code), out)?;
            return Ok(files.code(code));
        }
        Verb::Stats { .. } => stats::run(&source, part, out)?,
        Verb::Tail(tail) => tail::last(&source, tail, part, out)?,
        Verb::Find(find) => find::run(&source, find, part, out)?,
        Verb::Slot { slot, .. } => slot::run(&source, *slot, out)?,
        Verb::Timeline { .. } => timeline::run(&source, part, out)?,
        Verb::Replay(replay) => replay::run(&source, replay.at, out)?,
        Verb::History { lock, .. } => history::run(&source, lock, part, out)?,
        Verb::Super { .. } => blocks::run(&source, out)?,
        Verb::Snap {
            verb: Snap::Ls { .. },
        } => snap::ls(&source, out)?,
        Verb::Snap {
            verb: Snap::Verify { .. },
        } => {
            let own = snap::verify(&source, out)?;
            let is_worse = matches!(code, exit::CORRUPT..=exit::REFUSED);
            return Ok(if own == exit::INTACT || is_worse {
                code
            } else {
                own
            });
        }
    }
    if source.facts.segments.is_empty() && reads_records(&cli.verb) {
        out.note("there is no segment here; a snapshot is looked at by `snap verify` and `replay`");
    }
    if code != exit::INTACT {
        out.note("not all is well with this log: `walinspect explain` says what and why");
    }
    Ok(code)
}

/// Whether the verb has nothing to tell where there are no segments.
fn reads_records(verb: &Verb) -> bool {
    matches!(
        verb,
        Verb::Dump(_) | Verb::Stats { .. } | Verb::Tail(_) | Verb::Find(_) | Verb::Timeline { .. }
    )
}

fn target(verb: &Verb) -> &Target {
    match verb {
        Verb::Ls { target }
        | Verb::Verify { target }
        | Verb::Explain { target }
        | Verb::Stats { target }
        | Verb::Slot { target, .. }
        | Verb::Timeline { target }
        | Verb::History { target, .. }
        | Verb::Super { target }
        | Verb::Snap {
            verb: Snap::Ls { target } | Snap::Verify { target },
        } => target,
        Verb::Dump(dump) => &dump.target,
        Verb::Tail(tail) => &tail.target,
        Verb::Find(find) => &find.target,
        Verb::Replay(replay) => &replay.target,
    }
}

/// A finding for programs.
fn finding_fields(finding: &Finding) -> serde_json::Value {
    let slots = finding.slots.as_ref().map(range_fields);
    serde_json::json!({
        "damage": finding.damage,
        "row": finding.row,
        "file": finding.file,
        "offset": finding.offset,
        "length": finding.length,
        "what": finding.what,
        "slots": slots,
    })
}

/// A range of slots as fields; `null` where nobody knows an end.
fn range_fields(range: &wal::SlotRange) -> serde_json::Value {
    let known = |number: u64| (number != u64::MAX).then_some(number);
    serde_json::json!({
        "first": range.first,
        "last": known(range.last),
        "ballot_max": known(range.ballot_max).map(crate::wording::ballot),
    })
}
