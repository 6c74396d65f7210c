//! What may stand on the command line.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};

#[derive(Debug, Parser)]
#[command(
    name = "lockbench",
    version,
    about = "Puts load on a Holdfast cluster, one that it starts itself or a running one, and says what it bore",
    after_help = "Each run ends with one line. Exit codes: 0 done, 1 something failed, 2 usage, 3 two clients held one lock at a time."
)]
pub(crate) struct Cli {
    /// What to do over and over
    #[command(subcommand)]
    pub(crate) work: Work,
}

#[derive(Debug, Clone, Subcommand)]
pub(crate) enum Work {
    /// Acquire, append, release
    Cycle(Load),
    /// Append under a lock that stays held
    Append(Load),
    /// Kill the leader with -9 and wait for the next success, ten times
    Failover(Load),
}

impl Work {
    /// The name in results.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Work::Cycle(_) => "cycle",
            Work::Append(_) => "append",
            Work::Failover(_) => "failover",
        }
    }

    pub(crate) fn load(&self) -> &Load {
        match self {
            Work::Cycle(load) | Work::Append(load) | Work::Failover(load) => load,
        }
    }
}

#[derive(Debug, Clone, Args)]
pub(crate) struct Load {
    /// Sessions that work at the same time
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub(crate) clients: u32,
    /// Replicas of a cluster of its own, in a temporary folder, gone afterwards
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..=9), conflicts_with = "endpoints")]
    pub(crate) replicas: u16,
    /// Kill this many followers first
    #[arg(long, default_value_t = 0, conflicts_with = "endpoints")]
    pub(crate) down: u16,
    /// Use these replicas instead: `host:port,…` or `1=host:port,…`
    #[arg(long, value_name = "LIST")]
    pub(crate) endpoints: Option<String>,
    /// One lock for all clients, or one for each
    #[arg(long, value_enum, default_value_t = Locks::PerClient)]
    pub(crate) locks: Locks,
    /// How long to measure, after a second that does not count
    #[arg(long, default_value = "10s", value_parser = humantime::parse_duration, conflicts_with = "cycles", value_name = "TIME")]
    pub(crate) duration: Duration,
    /// How many cycles (or appends) to measure, all clients together, instead of a time
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) cycles: Option<u64>,
    /// Bytes of each append
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=1_048_576), value_name = "BYTES")]
    pub(crate) payload: u32,
    /// Appends in flight at a time, of each client
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=512))]
    pub(crate) depth: u32,
    /// The replica's program [default: `node` beside this one]
    #[arg(long, value_name = "PATH")]
    pub(crate) node_bin: Option<PathBuf>,
    /// Where to put the data of a cluster of its own, and the raw loop's file [default: the temporary folder]
    #[arg(long, value_name = "DIR")]
    pub(crate) data: Option<PathBuf>,
    /// A table for people, or one JSON object a run
    #[arg(short, long, value_enum, default_value_t = Format::Table)]
    pub(crate) output: Format,
}

impl Load {
    /// What no single flag can tell.
    ///
    /// # Errors
    ///
    /// Says which flags do not go together.
    pub(crate) fn check(&self) -> Result<(), String> {
        if self.endpoints.is_none() && 2 * self.down >= self.replicas {
            return Err(format!(
                "--down {} of --replicas {} leaves no majority",
                self.down, self.replicas
            ));
        }
        Ok(())
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Locks {
    #[value(name = "1")]
    One,
    #[value(name = "per-client")]
    PerClient,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    Table,
    Json,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Work, String> {
        let words = std::iter::once("lockbench").chain(line.split_whitespace());
        let work = Cli::try_parse_from(words)
            .map_err(|error| error.to_string())?
            .work;
        work.load().check().map(|()| work)
    }

    #[test]
    fn the_definition_is_consistent() {
        use clap::CommandFactory;
        Cli::command().debug_assert();
    }

    #[test]
    fn every_flag_of_the_contract() {
        let work = parse("cycle --clients 50 --replicas 5 --down 2 --locks 1 --duration 3s --payload 7 --depth 32 -o json").unwrap();
        let load = work.load();
        assert_eq!(
            (work.name(), load.clients, load.replicas, load.down),
            ("cycle", 50, 5, 2)
        );
        assert_eq!(
            (load.locks, load.duration),
            (Locks::One, Duration::from_secs(3))
        );
        assert_eq!(
            (load.payload, load.depth, load.output),
            (7, 32, Format::Json)
        );
        let work = parse("append --endpoints a:1,b:2 --cycles 10 --locks per-client").unwrap();
        assert_eq!(
            (work.load().cycles, work.load().locks),
            (Some(10), Locks::PerClient)
        );
        assert_eq!(parse("failover").unwrap().name(), "failover");
    }

    #[test]
    fn wrong_lines_are_refused() {
        for line in [
            "",
            "run",
            "cycle --clients 0",
            "cycle --down 2",
            "cycle --endpoints a:1 --replicas 3",
            "cycle --cycles 5 --duration 1s",
            "cycle --locks 2",
            "append --payload 1048577",
        ] {
            assert!(parse(line).is_err(), "{line:?} parsed");
        }
    }
}
