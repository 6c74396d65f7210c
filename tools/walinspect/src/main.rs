//! Lists, dumps, verifies, explains and replays Holdfast logs and snapshots: live, cold and damaged ones.
//!
//! ```text
//! PATH --place--> a disk that only reads --survey, decide (wal::scan)--> Source --verbs--> tables, lines, objects
//!                                          Source --ledger--> what is chosen --replay--> states, events
//! ```
//!
//! Nothing here judges a log: that is `wal::scan::decide`, the very decision that a replica starts by. `place` finds
//! out what a path is; `shelf` keeps every verb from writing; `source` reads what was given; `ledger` says what counts
//! for a slot; `replay` applies it; `wording` puts it in words; `output` prints; `verbs` has a file for each verb.

mod args;
mod failure;
mod files;
mod ledger;
mod output;
mod place;
mod progress;
mod replay;
mod selection;
mod shelf;
mod source;
mod verbs;
mod wording;

use std::process::ExitCode;

use clap::Parser;

use crate::args::Cli;
use crate::output::Output;

fn main() -> ExitCode {
    let cli = Cli::parse();
    let output = Output::new(cli.global.is_json(), cli.global.quiet);
    let done = verbs::run(&cli, &output).and_then(|code| output.flush().map(|()| code));
    let code = done.unwrap_or_else(|failure| {
        // What was printed so far is worth having; a second failure to print is not worth telling.
        let _ = output.flush();
        if failure.exit() != failure::exit::INTACT {
            eprintln!("walinspect: {failure}");
        }
        failure.exit()
    });
    ExitCode::from(code)
}
