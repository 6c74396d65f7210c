//! What may stand on the command line, and the help that goes with it.
//!
//! Flags beat their environment variable, which beats the default. Parsing fails with a message only; which exit
//! code that is depends on the verb, see [`crate::exit`].

use std::ffi::OsString;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};
use rustix::process::Signal;

use crate::signals;

/// Where `node dev` puts its three replicas.
pub(crate) const DEV_ENDPOINTS: &str = "127.0.0.1:7401,127.0.0.1:7402,127.0.0.1:7403";

#[derive(Debug, Parser)]
#[command(
    name = "holdfast",
    version,
    about = "Locks and the files they guard, held by a cluster of replicas",
    max_term_width = 80,
    after_help = "Exit codes: 0 done, 1 refused, 2 usage, 3 no such thing or not held, 4 no answer in time (perhaps done), \
                  5 unavailable (not done), 6 denied. `lock` has its own: see `holdfast lock --help`."
)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) verb: Verb,
}

impl Cli {
    /// Whether `lock` was given `--` and nothing behind it, as by a script whose `"$@"` is empty. Without `--` no command is
    /// wanted.
    pub(crate) fn lacks_command(&self, arguments: &[OsString]) -> bool {
        let Verb::Lock(lock) = &self.verb else {
            return false;
        };
        lock.command.is_empty() && arguments.iter().any(|word| word == "--")
    }
}

/// Under this heading the help of a verb keeps these flags apart from its own.
const EVERYWHERE: &str = "Options of every verb";

/// The flags that every verb knows.
#[derive(Debug, Clone, Args)]
pub(crate) struct Global {
    /// Replicas to ask: `host:port,host:port`, or `1=host:port,2=host:port` so that redirects go by id within this list
    #[arg(long, global = true, help_heading = EVERYWHERE, env = "HOLDFAST_ENDPOINTS", default_value = DEV_ENDPOINTS, value_name = "LIST")]
    pub(crate) endpoints: String,
    /// Ask the first endpoint only and follow no redirect
    #[arg(long, global = true, help_heading = EVERYWHERE)]
    pub(crate) pin: bool,
    /// Tables for people, or one JSON object a line
    #[arg(short, long, global = true, help_heading = EVERYWHERE, value_enum, default_value_t = Format::Table, value_name = "FORMAT")]
    pub(crate) output: Format,
    /// How long to wait for an answer; time in a queue is extra
    #[arg(long, global = true, help_heading = EVERYWHERE, default_value = "5s", value_parser = positive_duration, value_name = "TIME")]
    pub(crate) timeout: Duration,
    /// Who is asking, as `sessions` and `lock-status` show it (default: `user@host:pid`)
    #[arg(long, global = true, help_heading = EVERYWHERE, value_name = "NAME")]
    pub(crate) name: Option<String>,
}

/// How results are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// Aligned columns.
    Table,
    /// One object a line, with `"v":1`.
    Json,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Hold a lock while a command runs, or until a signal
    #[command(
        after_help = "Exit codes: CMD's own or 128 + its signal; 121 CMD ended with 0, but whether its section was applied is unknown; \
                            122 the lock was lost before CMD ended; 123 usage or another refusal; 124 (or -E CODE) busy or the wait is \
                            over; 125 no leader in time, so CMD never ran; 126, 127 CMD cannot run, is not there.\n\
                            When the lock is about to be lost, CMD and all that it started get --warn-signal, and SIGKILL --kill-after \
                            later, before the lock can be another's; also if holdfast was stopped or killed meanwhile.\n\
                            CMD gets HOLDFAST_LOCK, HOLDFAST_TOKEN and HOLDFAST_ENDPOINTS; what it appends with `holdfast append` to a file of \
                            this lock is applied if it exits 0, else discarded."
    )]
    Lock(LockArgs),
    /// Append to a file in a section of its own, or in that of the `lock` around it
    Append(AppendArgs),
    /// Print what a file holds
    Cat(CatArgs),
    /// List, create, remove or describe files
    #[command(subcommand)]
    File(FileVerb),
    /// List the locks that are held or waited for
    Locks {
        /// Only names that begin with this
        prefix: Option<String>,
    },
    /// Show one lock, free ones too: holder, token, lease left, queue
    LockStatus {
        /// The lock's name
        #[arg(value_name = "NAME")]
        lock: String,
    },
    /// List the sessions
    Sessions,
    /// Take a lock from its holder; kept in the log with the reason
    ForceRelease {
        /// The lock's name
        #[arg(value_name = "NAME")]
        lock: String,
        /// The token of the grant to end
        #[arg(long)]
        token: u64,
        /// Why, for those who read the log later
        #[arg(long, value_parser = clap::builder::NonEmptyStringValueParser::new())]
        reason: String,
    },
    /// Say whether a token is still the current one of a lock: exit 0 if so, else 3
    CheckToken {
        /// The lock's name
        #[arg(value_name = "NAME")]
        lock: String,
        /// The token
        token: u64,
    },
    /// Show the replicas
    Status {
        /// Wait this long until all replicas stand at one slot with one state; exit 4 if they do not
        #[arg(long, value_parser = positive_duration, value_name = "TIME")]
        until_equal: Option<Duration>,
    },
    /// Make a real commit and say how long it took
    Health,
    /// Use a session by hand or from a program; see docs/shell.md
    Shell(ShellArgs),
    /// Print a completion script
    Completion {
        /// The shell that shall read it
        shell: clap_complete::Shell,
    },
}

#[derive(Debug, Args)]
pub(crate) struct LockArgs {
    /// The lock's name
    #[arg(value_name = "NAME")]
    pub(crate) lock: String,
    /// How long the lock outlives the last sign of its holder [default: the cluster's --default-lease]
    #[arg(long, value_parser = positive_duration, value_name = "TIME")]
    pub(crate) lease: Option<Duration>,
    #[command(flatten)]
    pub(crate) patience: Patience,
    /// Exit code when the lock is busy or the wait is over
    #[arg(short = 'E', long = "conflict-exit-code", default_value_t = crate::exit::LOCK_BUSY, value_name = "CODE")]
    pub(crate) conflict: u8,
    /// From the warning to SIGKILL when the lock is about to be lost; at most half the lease [default: a fifth of the
    /// lease, at most 3s]
    #[arg(long, value_parser = any_duration, value_name = "TIME")]
    pub(crate) kill_after: Option<Duration>,
    /// The warning: the signal that CMD gets before SIGKILL
    #[arg(long, default_value = "TERM", value_parser = signals::parse, value_name = "SIGNAL")]
    pub(crate) warn_signal: Signal,
    /// The command to run while the lock is held
    #[arg(last = true, value_name = "CMD")]
    pub(crate) command: Vec<OsString>,
}

/// How long to stand in a queue; for ever if nothing is said.
#[derive(Debug, Clone, Copy, Args)]
pub(crate) struct Patience {
    /// Leave the queue after this long
    #[arg(long, value_parser = any_duration, value_name = "TIME", conflicts_with = "once")]
    pub(crate) wait: Option<Duration>,
    /// Do not wait at all
    #[arg(id = "once", long = "try")]
    pub(crate) once: bool,
}

impl Patience {
    /// The time to wait: `None` for ever, zero to try once.
    pub(crate) fn limit(self) -> Option<Duration> {
        if self.once {
            Some(Duration::ZERO)
        } else {
            self.wait
        }
    }
}

#[derive(Debug, Args)]
pub(crate) struct AppendArgs {
    /// The file's name
    pub(crate) file: String,
    /// What to append, as it stands, no newline added; `-` or nothing: standard input. After `--` it may look like a flag
    #[arg(default_value = "-", allow_negative_numbers = true)]
    pub(crate) data: OsString,
    #[command(flatten)]
    pub(crate) patience: Patience,
}

#[derive(Debug, Args)]
pub(crate) struct CatArgs {
    /// The file's name
    pub(crate) file: String,
    /// Where to begin, in bytes
    #[arg(long, default_value_t = 0)]
    pub(crate) offset: u64,
    /// How many bytes at most
    #[arg(long)]
    pub(crate) length: Option<u64>,
    /// Go on as the file grows
    #[arg(short, long)]
    pub(crate) follow: bool,
    /// Ask any replica for what it has, which may be older
    #[arg(long)]
    pub(crate) stale: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum FileVerb {
    /// List all files
    List,
    /// Make an empty file
    Create {
        /// The file's name
        #[arg(value_name = "NAME")]
        file: String,
        /// The lock that guards it [default: the one that bears its name]
        #[arg(long, value_name = "LOCK")]
        guard: Option<String>,
    },
    /// Remove a file
    Remove {
        /// The file's name
        #[arg(value_name = "NAME")]
        file: String,
    },
    /// Describe one file
    Stat {
        /// The file's name
        #[arg(value_name = "NAME")]
        file: String,
    },
}

#[derive(Debug, Args)]
pub(crate) struct ShellArgs {
    /// How long a session outlives the last sign of this shell [default: the cluster's --default-ttl]
    #[arg(long, value_parser = positive_duration, value_name = "TIME")]
    pub(crate) session_ttl: Option<Duration>,
    /// Also tell of places in queues and of lost locks
    #[arg(long)]
    pub(crate) events: bool,
}

fn any_duration(text: &str) -> Result<Duration, String> {
    humantime::parse_duration(text)
        .map_err(|error| format!("{error}; a time is written like 500ms, 20s or 1m"))
}

fn positive_duration(text: &str) -> Result<Duration, String> {
    match any_duration(text)? {
        Duration::ZERO => Err("must be more than zero".to_owned()),
        time => Ok(time),
    }
}

/// What can be told from arguments that did not parse: enough to answer with the right code in the right form.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Glance {
    /// The verb is `lock`, whose exit codes differ.
    pub(crate) lock: bool,
    /// `-o json` was asked for.
    pub(crate) json: bool,
}

impl Glance {
    /// Looks at the arguments after the program's name.
    pub(crate) fn at(arguments: &[OsString]) -> Glance {
        let mut glance = Glance {
            lock: false,
            json: false,
        };
        let mut verb_seen = false;
        let mut words = arguments.iter().map(|word| word.to_string_lossy());
        while let Some(word) = words.next() {
            match word.as_ref() {
                "--" => break,
                "-o" | "--output" => {
                    glance.json = words.next().is_some_and(|format| format == "json")
                }
                "--output=json" | "-ojson" | "-o=json" => glance.json = true,
                "--endpoints" | "--timeout" | "--name" => _ = words.next(),
                flag if flag.starts_with('-') => {}
                verb if !verb_seen => (verb_seen, glance.lock) = (true, verb == "lock"),
                _ => {}
            }
        }
        glance
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Cli, clap::Error> {
        Cli::try_parse_from(std::iter::once("holdfast").chain(line.split_whitespace()))
    }

    #[test]
    fn the_definition_is_consistent() {
        use clap::CommandFactory;
        Cli::command().debug_assert();
    }

    #[test]
    fn help_fits_eighty_columns() {
        use clap::CommandFactory;
        fn check(command: &mut clap::Command) {
            let help = command.render_long_help().to_string();
            let widest = help.lines().map(|line| line.chars().count()).max();
            assert!(widest.is_some_and(|widest| widest <= 80), "{help}");
            command.get_subcommands_mut().for_each(check);
        }
        let mut command = Cli::command();
        command.build();
        check(&mut command);
    }

    #[test]
    fn lock_takes_a_command_after_two_dashes() {
        let cli = parse("lock reports --lease 3s --wait 1m -E 7 -- sh -c true -o json").unwrap();
        let Verb::Lock(lock) = cli.verb else {
            panic!("not lock")
        };
        assert_eq!(
            (lock.lock.as_str(), lock.lease, lock.conflict),
            ("reports", Some(Duration::from_secs(3)), 7)
        );
        assert_eq!(lock.patience.limit(), Some(Duration::from_secs(60)));
        assert_eq!(lock.command.len(), 5, "flags after -- belong to CMD");
        assert_eq!(cli.global.output, Format::Table);
    }

    #[test]
    fn global_flags_stand_before_or_after_the_verb() {
        for line in [
            "--name ann lock a",
            "lock a --name ann",
            "lock-status a --name ann",
            "file stat a --name ann",
        ] {
            assert_eq!(
                parse(line).unwrap().global.name.as_deref(),
                Some("ann"),
                "{line}"
            );
        }
        for line in ["-o json --timeout 2s status", "status -o json --timeout 2s"] {
            let cli = parse(line).unwrap();
            assert_eq!(
                (cli.global.output, cli.global.timeout),
                (Format::Json, Duration::from_secs(2)),
                "{line}"
            );
        }
    }

    #[test]
    fn waiting_is_for_ever_for_a_while_or_not_at_all() {
        let limit = |line| match parse(line).unwrap().verb {
            Verb::Append(append) => append.patience.limit(),
            _ => panic!("not append"),
        };
        assert_eq!(limit("append f x"), None);
        assert_eq!(limit("append f x --try"), Some(Duration::ZERO));
        assert_eq!(limit("append f x --wait 1s"), Some(Duration::from_secs(1)));
        assert!(parse("append f x --wait 1s --try").is_err());
    }

    #[test]
    fn data_may_be_a_dash_or_begin_with_one() {
        let data = |line| match parse(line).unwrap().verb {
            Verb::Append(append) => append.data,
            _ => panic!("not append"),
        };
        assert_eq!(data("append f"), "-");
        assert_eq!(data("append f -"), "-");
        assert_eq!(data("append f -1"), "-1");
        assert_eq!(data("append f -- --try"), "--try");
        assert!(
            parse("append f --tyr").is_err(),
            "a mistyped flag is no data"
        );
    }

    #[test]
    fn wrong_lines_are_refused() {
        for line in [
            "",
            "frobnicate",
            "lock",
            "lock a --lease 0s",
            "lock a --lease 20",
            "cat",
            "file",
            "check-token a x",
            "status --timeout never",
            "member list",
        ] {
            assert!(parse(line).is_err(), "{line:?} parsed");
        }
    }

    #[test]
    fn a_glance_tells_verb_and_format() {
        let glance = |line: &str| {
            Glance::at(
                &line
                    .split_whitespace()
                    .map(OsString::from)
                    .collect::<Vec<_>>(),
            )
        };
        assert_eq!(
            glance("--timeout lock -o json status"),
            Glance {
                lock: false,
                json: true
            }
        );
        assert_eq!(
            glance("--pin lock --lease"),
            Glance {
                lock: true,
                json: false
            }
        );
        assert_eq!(
            glance("lock a -- -o json"),
            Glance {
                lock: true,
                json: false
            }
        );
    }
}
