//! Four layers of configuration, the upper ones hiding the lower: flag, environment, file, default.
//!
//! A layer is a map from a setting's name to the text that somebody wrote. Only [`super::serve`]
//! gives the texts a meaning, so a bad value reads alike wherever it came from.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use super::UsageError;
use super::setting::{SETTINGS, Setting};

/// A configuration file longer than this is not one of ours.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// Where a value came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// The command line.
    Flag,
    /// The environment.
    Environment,
    /// The configuration file at this path.
    File(PathBuf),
    /// Nobody said anything.
    Default,
}

impl Origin {
    /// The origin in words that name the place to change, for example `environment HOLDFAST_FILES`.
    pub fn describe(&self, setting: &Setting) -> String {
        match self {
            Origin::Flag => format!("flag --{}", setting.name),
            Origin::Environment => format!("environment {}", setting.variable()),
            Origin::File(path) => format!("file {}", path.display()),
            Origin::Default => "default".to_owned(),
        }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Origin::Flag => "flag",
            Origin::Environment => "environment",
            Origin::File(_) => "file",
            Origin::Default => "default",
        })
    }
}

/// What was written in each layer above the defaults.
#[derive(Debug, Default)]
pub struct Layers {
    flags: BTreeMap<&'static str, String>,
    environment: BTreeMap<&'static str, String>,
    file: BTreeMap<&'static str, String>,
    file_path: PathBuf,
}

impl Layers {
    /// Takes the flags as given and looks up each setting's variable with `variable`; an empty
    /// variable counts as absent, as most shells leave one behind.
    pub fn new(
        flags: BTreeMap<&'static str, String>,
        variable: impl Fn(&str) -> Option<String>,
    ) -> Layers {
        let environment = SETTINGS
            .iter()
            .filter_map(|setting| Some((setting.name, variable(&setting.variable())?)))
            .filter(|(_, value)| !value.is_empty())
            .collect();
        Layers {
            flags,
            environment,
            ..Layers::default()
        }
    }

    /// Reads the configuration file at `path` into its layer.
    ///
    /// # Errors
    ///
    /// Refuses a file that cannot be read, is not TOML, or holds a key that is no setting.
    pub fn read_file(&mut self, path: &Path) -> Result<(), UsageError> {
        let complain =
            |what: String| UsageError(format!("configuration file {}: {what}", path.display()));
        let length = std::fs::metadata(path)
            .map_err(|e| complain(e.to_string()))?
            .len();
        if length > FILE_BYTES_MAX {
            return Err(complain(format!(
                "{length} bytes, more than {FILE_BYTES_MAX}"
            )));
        }
        let text = std::fs::read_to_string(path).map_err(|e| complain(e.to_string()))?;
        self.file = parse_file(&text).map_err(complain)?;
        self.file_path = path.to_owned();
        Ok(())
    }

    /// The uppermost text written for `name`, if any, and where it stands.
    pub fn get(&self, name: &str) -> Option<(&str, Origin)> {
        if let Some(value) = self.flags.get(name) {
            return Some((value, Origin::Flag));
        }
        if let Some(value) = self.environment.get(name) {
            return Some((value, Origin::Environment));
        }
        let value = self.file.get(name)?;
        Some((value, Origin::File(self.file_path.clone())))
    }
}

fn parse_file(text: &str) -> Result<BTreeMap<&'static str, String>, String> {
    let table: toml::Table = text.parse().map_err(|e: toml::de::Error| e.to_string())?;
    let mut found = BTreeMap::new();
    for (key, value) in table {
        let Some(setting) = SETTINGS.iter().find(|setting| setting.name == key) else {
            return Err(format!("`{key}` is not a setting"));
        };
        let value = match value {
            toml::Value::String(text) => text,
            toml::Value::Integer(number) => number.to_string(),
            other => {
                return Err(format!(
                    "`{key}` is a {}, expected a string or a number",
                    other.type_str()
                ));
            }
        };
        found.insert(setting.name, value);
    }
    Ok(found)
}
