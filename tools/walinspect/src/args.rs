//! What can be asked.

use std::path::{Path, PathBuf};

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::failure::Failure;
use crate::selection::Bound;

/// Reads Holdfast logs and snapshots: live, cold and damaged ones. Takes no lock, changes nothing, needs no node.
#[derive(Debug, Parser)]
#[command(version, max_term_width = 80, after_help = CODES, after_long_help = CODES)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) verb: Verb,
}

const CODES: &str = "\
PATH is a data folder, a log folder, one segment or one snapshot.

Exit codes, the same for every verb:
  0  intact (a torn tail is normal after a crash, and reported)
  1  a file could not be read
  2  usage
  3  corruption, and which slots it touches is known
  4  durable data is missing, or metadata is lost
  6  refused: a fork, another identity, a newer format, or no log at all
  7  torn tail, under --strict";

/// What every verb takes.
#[derive(Debug, Args)]
pub(crate) struct Global {
    /// The same as PATH.
    #[arg(long, global = true, value_name = "PATH")]
    pub(crate) dir: Option<PathBuf>,
    /// A table or lines for people, or one JSON object a line.
    #[arg(
        short,
        long,
        global = true,
        value_name = "FORMAT",
        default_value = "table"
    )]
    output: Format,
    /// The same as `--output json`.
    #[arg(long, global = true)]
    json: bool,
    /// Only from here on: SLOT, lsn:LSN, segment:SEQ or time:2026-11-20T10:00:00Z.
    #[arg(long, global = true, value_name = "PLACE")]
    pub(crate) from: Option<Bound>,
    /// Only up to here, inclusive; the same forms.
    #[arg(long, global = true, value_name = "PLACE")]
    pub(crate) to: Option<Bound>,
    /// A torn tail is an error (7).
    #[arg(long, global = true)]
    pub(crate) strict: bool,
    /// No remarks, no titles, no progress bar.
    #[arg(short, long, global = true)]
    pub(crate) quiet: bool,
}

impl Global {
    pub(crate) fn is_json(&self) -> bool {
        self.json || self.output == Format::Json
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    Table,
    Json,
}

/// What was given to look at.
#[derive(Debug, Args)]
pub(crate) struct Target {
    /// A data folder, a log folder, a segment or a snapshot.
    path: Option<PathBuf>,
}

impl Target {
    pub(crate) fn path<'a>(&'a self, global: &'a Global) -> Result<&'a Path, Failure> {
        match (&self.path, &global.dir) {
            (Some(_), Some(_)) => Err(Failure::Usage("give PATH or --dir, not both".to_owned())),
            (Some(path), None) | (None, Some(path)) => Ok(path),
            (None, None) => Err(Failure::Usage(
                "say what to look at: PATH or --dir PATH".to_owned(),
            )),
        }
    }
}

#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Lists segments and snapshots: state, slots, ballots, times, sizes.
    Ls {
        #[command(flatten)]
        target: Target,
    },
    /// Prints records, or batches.
    Dump(Dump),
    /// Checks every checksum, the chain, the order, snapshots and superblocks; lists the damage.
    Verify {
        #[command(flatten)]
        target: Target,
    },
    /// Says what recovery would decide, and why.
    Explain {
        #[command(flatten)]
        target: Target,
    },
    /// Counts records and bytes by type, sizes of batches, padding, time.
    Stats {
        #[command(flatten)]
        target: Target,
    },
    /// Prints the last records; with -f, new ones as they become durable.
    Tail(Tail),
    /// Searches commands by lock, session, client, file or text.
    Find(Find),
    /// All records of one slot, by ballot, and which of them is chosen.
    Slot {
        /// The slot.
        slot: u64,
        #[command(flatten)]
        target: Target,
    },
    /// What happened to the log: starts, boots, promises, leaders, snapshots, torn tails.
    Timeline {
        #[command(flatten)]
        target: Target,
    },
    /// The state as of a slot: locks, queues, sessions, files.
    Replay(Replay),
    /// Who held a lock when, and why each lost it.
    History {
        /// The lock.
        lock: String,
        #[command(flatten)]
        target: Target,
    },
    /// Prints both copies of the superblock.
    Super {
        #[command(flatten)]
        target: Target,
    },
    /// Looks at snapshots.
    Snap {
        #[command(subcommand)]
        verb: Snap,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum Snap {
    /// Lists them.
    Ls {
        #[command(flatten)]
        target: Target,
    },
    /// Checks every byte of them, and that the state in them can be read.
    Verify {
        #[command(flatten)]
        target: Target,
    },
}

#[derive(Debug, Args)]
pub(crate) struct Dump {
    /// Batches instead of records.
    #[arg(long)]
    pub(crate) batches: bool,
    /// Only records of these types.
    #[arg(long = "type", value_name = "TYPE", value_delimiter = ',')]
    pub(crate) types: Vec<RecordType>,
    /// Only this slot.
    #[arg(long)]
    pub(crate) slot: Option<u64>,
    /// Only this ballot, such as 7.2.
    #[arg(long, value_parser = crate::selection::ballot)]
    pub(crate) ballot: Option<u64>,
    /// How to show what a record holds.
    #[arg(long, default_value = "decoded")]
    pub(crate) payload: Payload,
    #[command(flatten)]
    pub(crate) target: Target,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum RecordType {
    Accept,
    Promise,
    Chosen,
    SnapshotMark,
    Repair,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Payload {
    Hex,
    Decoded,
    None,
}

#[derive(Debug, Args)]
pub(crate) struct Tail {
    /// Goes on until it is interrupted.
    #[arg(short, long)]
    pub(crate) follow: bool,
    /// How many records to begin with.
    #[arg(short = 'n', long, default_value_t = 10)]
    pub(crate) lines: usize,
    #[command(flatten)]
    pub(crate) target: Target,
}

#[derive(Debug, Args)]
pub(crate) struct Find {
    /// Commands about this lock.
    #[arg(long)]
    pub(crate) lock: Option<String>,
    /// Commands of this session, and its opening.
    #[arg(long)]
    pub(crate) session: Option<u64>,
    /// Commands of sessions that gave themselves this name.
    #[arg(long, value_name = "NAME")]
    pub(crate) client: Option<String>,
    /// Commands about this file.
    #[arg(long)]
    pub(crate) file: Option<String>,
    /// Entries that contain this text, in their bytes or as told.
    #[arg(long)]
    pub(crate) text: Option<String>,
    #[command(flatten)]
    pub(crate) target: Target,
}

#[derive(Debug, Args)]
pub(crate) struct Replay {
    /// As of this slot; without it, as far as the folder knows what is chosen.
    #[arg(long, value_name = "SLOT")]
    pub(crate) at: Option<u64>,
    #[command(flatten)]
    pub(crate) target: Target,
}
