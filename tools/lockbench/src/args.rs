//! What may stand on the command line.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};

#[derive(Debug, Parser)]
#[command(
    name = "lockbench",
    version,
    max_term_width = 80,
    about = "Puts load on a Holdfast cluster, one that it starts itself or a running one, and says what it bore",
    after_help = "Each run ends with a table, or with one line of JSON (-o json). Exit codes: 0 done, 1 something failed, 2 usage, 3 two clients held one lock at a time."
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
    /// Kill the leader with -9 and wait for the next success, again and again
    Failover(Failover),
    /// Keep a crowd of sessions with locks alive beside busy clients, kill the leader, let all expire at once
    Scale(Scale),
}

impl Work {
    /// The name in results.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Work::Cycle(_) => "cycle",
            Work::Append(_) => "append",
            Work::Failover(_) => "failover",
            Work::Scale(_) => "scale",
        }
    }

    pub(crate) fn load(&self) -> &Load {
        match self {
            Work::Cycle(load) | Work::Append(load) => load,
            Work::Failover(failover) => &failover.load,
            Work::Scale(scale) => &scale.load,
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
    /// Use these replicas instead: `host:port,…` or `1=host:port,…`; not for failover
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

#[derive(Debug, Clone, Args)]
pub(crate) struct Failover {
    /// How often
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) kills: u32,
    /// Stop the leader for this long (SIGSTOP, SIGCONT) instead of killing it
    #[arg(long, value_parser = humantime::parse_duration, value_name = "TIME")]
    pub(crate) pause: Option<Duration>,
    /// Clients that hold a lock each all the while; counts the locks that they lose
    #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(u32).range(0..=1_000))]
    pub(crate) holders: u32,
    /// Lease of the holders' locks, and time to live of their sessions
    #[arg(long, default_value = "2s", value_parser = humantime::parse_duration, value_name = "TIME")]
    pub(crate) lease: Duration,
    #[command(flatten)]
    pub(crate) load: Load,
}

#[derive(Debug, Clone, Args)]
pub(crate) struct Scale {
    /// Sessions of the crowd; `--clients` come on top: one bystander, the others busy
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    pub(crate) sessions: u64,
    /// Locks that the crowd holds, an equal share each
    #[arg(long = "held", default_value_t = 10_000, value_parser = clap::value_parser!(u64).range(1..=10_000_000), value_name = "LOCKS")]
    pub(crate) held: u64,
    /// Time to live of the crowd's sessions, and their leases; a third of it lies between two signs of life
    #[arg(long, default_value = "5s", value_parser = humantime::parse_duration, value_name = "TIME")]
    pub(crate) ttl: Duration,
    /// Sessions whose signs of life share a request, to spare the driver
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u64).range(1..=1_000))]
    pub(crate) batch: u64,
    /// How often the leader is killed with -9
    #[arg(long, default_value_t = 3)]
    pub(crate) kills: u32,
    #[command(flatten)]
    pub(crate) load: Load,
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
        if let Some(list) = &self.endpoints {
            let parsed = list.parse::<client::Endpoints>();
            parsed.map_err(|error| format!("--endpoints: {error}"))?;
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
    fn help_fits_eighty_columns() {
        use clap::CommandFactory;
        let mut command = Cli::command();
        command.build();
        for command in command.get_subcommands_mut() {
            let help = command.render_long_help().to_string();
            let widest = help.lines().map(|line| line.chars().count()).max();
            assert!(widest.is_some_and(|widest| widest <= 80), "{help}");
        }
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
        let line = "failover --kills 300 --holders 20 --lease 2s --pause 3s";
        let Work::Failover(failover) = parse(line).unwrap() else {
            panic!("another work")
        };
        assert_eq!((failover.kills, failover.holders), (300, 20));
        assert_eq!(failover.pause, Some(Duration::from_secs(3)));
        let line =
            "scale --sessions 100000 --held 1000000 --ttl 60s --batch 200 --kills 5 --clients 51";
        let Work::Scale(scale) = parse(line).unwrap() else {
            panic!("another work")
        };
        assert_eq!(
            (scale.sessions, scale.held, scale.kills),
            (100_000, 1_000_000, 5)
        );
        assert_eq!(
            (scale.ttl, scale.load.clients),
            (Duration::from_secs(60), 51)
        );
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
