//! The command line of `node`: `serve`, `dev`, `demo`.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};

use crate::config::setting::SETTINGS;
use crate::config::{Layers, ServeConfig, Shown, UsageError};
use crate::failure::{Exit, Failure};
use crate::local::lifeline;
use crate::{demo, dev, logging, server};

/// The variable that names the configuration file.
const CONFIG_VARIABLE: &str = "HOLDFAST_CONFIG";

/// Runs the program with these arguments, the first being its own name.
pub fn run(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let matches = match command().try_get_matches_from(arguments) {
        Ok(matches) => matches,
        Err(error) => {
            // `--help` and `--version` come here too and are no failure.
            let code = if error.use_stderr() {
                ExitCode::from(Exit::Usage)
            } else {
                ExitCode::SUCCESS
            };
            let _ = error.print();
            return code;
        }
    };
    let ended = match matches.subcommand() {
        Some(("serve", matches)) => serve(matches),
        Some(("dev", matches)) => dev::run(&dev_options(matches)),
        Some(("demo", _)) => demo::run(),
        _ => unreachable!("clap requires one of the subcommands"),
    };
    match ended {
        Ok(code) => code,
        Err(failure) => {
            let _ = writeln!(std::io::stderr(), "node: {failure}");
            failure.exit.into()
        }
    }
}

/// The command line as clap understands it.
pub fn command() -> Command {
    Command::new("node")
        .about("A replica of the Holdfast lock service, a local cluster, and a demonstration")
        .version(env!("CARGO_PKG_VERSION"))
        .max_term_width(80)
        .subcommand_required(true)
        .arg_required_else_help(true)
        .subcommand(serve_command())
        .subcommand(dev_command())
        .subcommand(
            Command::new("demo")
                .about("Shows the main job with real processes, in under 30 seconds"),
        )
}

fn serve_command() -> Command {
    let settings = SETTINGS.iter().map(|setting| {
        Arg::new(setting.name)
            .long(setting.name)
            .value_name(setting.value_name)
            .help(format!("{} [env: {}]", setting.help, setting.variable()))
            .allow_hyphen_values(true)
    });
    Command::new("serve")
        .about("Runs one replica; without flags it is a whole cluster of one")
        .args(settings)
        .arg(
            Arg::new("config")
                .long("config")
                .value_name("FILE.toml")
                .value_parser(value_parser!(PathBuf))
                .help(format!("A file with any of these settings as `name = value` [env: {CONFIG_VARIABLE}]")),
        )
        .arg(
            Arg::new("print-config")
                .long("print-config")
                .action(ArgAction::SetTrue)
                .help("Prints every setting with its value and where that came from, and exits"),
        )
        .after_help("A flag wins over the environment, that over the configuration file, that over the default.")
}

fn dev_command() -> Command {
    Command::new("dev")
        .about("Runs a cluster on this machine; with a command, for as long as that runs")
        .arg(
            Arg::new("replicas")
                .long("replicas")
                .value_name("N")
                .default_value("3")
                .value_parser(value_parser!(u16).range(1..=7))
                .help("How many replicas"),
        )
        .arg(
            Arg::new("data")
                .long("data")
                .value_name("DIR")
                .value_parser(value_parser!(PathBuf))
                .help("Keeps the data in DIR/ID [default: a temporary folder, removed at the end]"),
        )
        .arg(
            Arg::new("base-port")
                .long("base-port")
                .value_name("PORT")
                .default_value("7400")
                .value_parser(value_parser!(u16).range(0..=65_000))
                .help("Replica ID uses PORT+ID for clients, PORT+10+ID for peers, PORT+20+ID for HTTP; 0 takes free ports"),
        )
        .arg(
            Arg::new("command")
                .value_name("CMD")
                .num_args(0..)
                .last(true)
                .value_parser(value_parser!(OsString))
                .help("Run with HOLDFAST_ENDPOINTS set; its exit code becomes that of `dev`"),
        )
}

fn dev_options(matches: &ArgMatches) -> dev::Options {
    dev::Options {
        replicas: *matches.get_one("replicas").expect("it has a default"),
        data: matches.get_one::<PathBuf>("data").cloned(),
        base_port: *matches.get_one("base-port").expect("it has a default"),
        command: matches
            .get_many::<OsString>("command")
            .unwrap_or_default()
            .cloned()
            .collect(),
    }
}

fn serve(matches: &ArgMatches) -> Result<ExitCode, Failure> {
    let (config, shown) = configure(matches, |name| std::env::var(name).ok())?;
    if matches.get_flag("print-config") {
        return match print_config(&shown) {
            // Whoever reads has enough, as `head` does.
            Err(e) if e.kind() != std::io::ErrorKind::BrokenPipe => {
                Err(Failure::new(Exit::Other, format!("standard output: {e}")))
            }
            _ => Ok(ExitCode::SUCCESS),
        };
    }
    let _logging = logging::start(config.log_format, &config.log_level);
    if !lifeline::hold() {
        return Err(Failure::new(
            Exit::Other,
            "whoever started this replica is gone",
        ));
    }
    tracing::info!(
        version = env!("CARGO_PKG_VERSION"),
        id = config.id,
        cluster = config.cluster,
        data = %config.data.display(),
        "starting this replica"
    );
    server::serve(config).map(|()| ExitCode::SUCCESS)
}

fn configure(
    matches: &ArgMatches,
    variable: impl Fn(&str) -> Option<String>,
) -> Result<(ServeConfig, Vec<Shown>), UsageError> {
    let given = SETTINGS
        .iter()
        .filter_map(|s| Some((s.name, matches.get_one::<String>(s.name)?.clone())));
    let mut layers = Layers::new(given.collect::<BTreeMap<_, _>>(), &variable);
    let from_environment = variable(CONFIG_VARIABLE).filter(|path| !path.is_empty());
    let file = matches
        .get_one::<PathBuf>("config")
        .cloned()
        .or(from_environment.map(PathBuf::from));
    if let Some(file) = &file {
        layers.read_file(Path::new(file))?;
    }
    ServeConfig::resolve(&layers)
}

fn print_config(shown: &[Shown]) -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    for row in shown {
        writeln!(out, "{}", row.line())?;
    }
    out.flush()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        command().debug_assert();
    }

    #[test]
    fn help_fits_eighty_columns() {
        let mut command = command();
        command.build();
        for command in command.get_subcommands_mut() {
            let help = command.render_long_help().to_string();
            let widest = help.lines().map(|line| line.chars().count()).max();
            assert!(widest.is_some_and(|widest| widest <= 80), "{help}");
        }
    }

    #[track_caller]
    fn files(arguments: &[&str], variable: Option<&str>) -> Result<u32, String> {
        let matches = command()
            .try_get_matches_from(arguments)
            .map_err(|e| e.kind().to_string())?;
        let matches = matches.subcommand_matches("serve").expect("serve");
        let variable = |name: &str| {
            variable
                .filter(|_| name == "HOLDFAST_FILES")
                .map(str::to_owned)
        };
        configure(matches, variable)
            .map(|(config, _)| config.files)
            .map_err(|e| e.to_string())
    }

    #[test]
    fn flags_reach_the_configuration() {
        assert_eq!(files(&["node", "serve"], None), Ok(100));
        assert_eq!(files(&["node", "serve"], Some("7")), Ok(7));
        assert_eq!(files(&["node", "serve", "--files", "3"], Some("7")), Ok(3));
        assert_eq!(
            files(&["node", "serve", "--files=-3"], None),
            Err("--files: `-3` is not a whole number".into())
        );
    }

    #[test]
    fn unknown_flags_and_missing_values_are_refused() {
        assert!(files(&["node", "serve", "--fils", "3"], None).is_err());
        assert!(files(&["node", "serve", "--join", "127.0.0.1:1"], None).is_err());
        assert!(files(&["node", "serve", "--files"], None).is_err());
        assert!(files(&["node"], None).is_err());
    }
}
