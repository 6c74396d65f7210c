//! What a cluster has agreed on: the number of files, the leases, the limits.
//!
//! The first leader makes one of its flags and has it chosen before anything else; every replica
//! follows that one, whatever its own flags say.

use serde::{Deserialize, Serialize};

use crate::{DecodeError, codec};

const KIB: u64 = 1024;
const MIB: u64 = 1024 * KIB;
const GIB: u64 = 1024 * MIB;
/// The newest version of the encoding.
const VERSION_NEWEST: u8 = 2;
const DAY_MS: u64 = 24 * 60 * 60 * 1000;

/// The agreed settings of a cluster. [`Settings::default`] has the documented values.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Settings {
    /// How many files exist from the first start, `file_0` and on, guarded by `default`.
    pub files: u32,
    /// The lease of an acquire that names none, in milliseconds.
    pub default_lease_ms: u64,
    /// The time to live of a session that names none, in milliseconds.
    pub default_ttl_ms: u64,
    /// The shortest lease, in milliseconds.
    pub lease_ms_min: u64,
    /// The longest lease, in milliseconds.
    pub lease_ms_max: u64,
    /// The shortest time to live of a session, in milliseconds.
    pub ttl_ms_min: u64,
    /// The longest time to live of a session, in milliseconds.
    pub ttl_ms_max: u64,
    /// Bytes of one append.
    pub append_bytes_max: u64,
    /// Bytes of one section.
    pub section_bytes_max: u64,
    /// Appends of one section.
    pub section_appends_max: u64,
    /// Files of one section.
    pub section_files_max: u64,
    /// Bytes of all sections together.
    pub all_sections_bytes_max: u64,
    /// Acquires that may wait for one lock.
    pub queue_max: u64,
    /// Sessions open at once.
    pub sessions_max: u64,
    /// Commands in flight or remembered, for each session.
    pub in_flight_max: u64,
    /// Bytes of the whole state, by the accounting of this crate.
    pub state_bytes_max: u64,
    /// The version of the state machine's rules, [`Settings::RULES`] in a new cluster.
    ///
    /// Entries that were chosen under older rules are replayed by those, so that replicas which
    /// restart from different snapshots agree. The rules change by an entry: settings with a higher
    /// version, which the first leader of a newer program proposes. Only this and the fields below
    /// follow such an entry; the cluster keeps its other settings.
    #[serde(skip, default = "first_rules")]
    pub rules: u32,
    /// Sessions, waits and leases that one slot clears away once they have ended. The rest follows in
    /// the next slots.
    #[serde(skip, default = "no_limit")]
    pub endings_max: u64,
    /// Grants of which the state remembers how they ended, for `settle`.
    #[serde(skip)]
    pub tokens_max: u64,
}

fn first_rules() -> u32 {
    1
}

fn no_limit() -> u64 {
    u64::MAX
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            files: 100,
            default_lease_ms: 20_000,
            default_ttl_ms: 20_000,
            lease_ms_min: 500,
            lease_ms_max: DAY_MS,
            ttl_ms_min: 500,
            ttl_ms_max: DAY_MS,
            append_bytes_max: MIB,
            section_bytes_max: 64 * MIB,
            section_appends_max: 100_000,
            section_files_max: 1_000,
            all_sections_bytes_max: GIB,
            queue_max: 100_000,
            sessions_max: 1_000_000,
            in_flight_max: 1_024,
            state_bytes_max: GIB,
            rules: Settings::RULES,
            endings_max: 4_096,
            tokens_max: 65_536,
        }
    }
}

impl Settings {
    /// Files that a cluster may start with.
    pub const FILES_MAX: u32 = 100_000;

    /// The newest version of the rules.
    pub const RULES: u32 = 2;

    /// The documented settings under the first version of the rules, those in force until a cluster
    /// has agreed on its own.
    #[must_use]
    pub fn of_first_rules() -> Settings {
        Settings {
            rules: first_rules(),
            endings_max: no_limit(),
            tokens_max: 0,
            ..Settings::default()
        }
    }

    /// These settings under the rules of `other`, with the limits that those rules added.
    #[must_use]
    pub fn under_rules_of(self, other: &Settings) -> Settings {
        Settings {
            rules: other.rules,
            endings_max: other.endings_max,
            tokens_max: other.tokens_max,
            ..self
        }
    }

    /// The bytes of the settings, the payload of their log entry.
    ///
    /// ```text
    /// | version = 1 | settings |
    /// | version = 2 | settings | rules u32 | endings_max u64 | tokens_max u64 |
    /// ```
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = vec![if self.rules == 1 { 1 } else { VERSION_NEWEST }];
        codec::encode_into(self, &mut out);
        if self.rules > 1 {
            codec::encode_into(&self.added(), &mut out);
        }
        out
    }

    /// What version 2 added: rules, `endings_max`, `tokens_max`.
    pub(crate) fn added(&self) -> (u32, u64, u64) {
        (self.rules, self.endings_max, self.tokens_max)
    }

    /// Fills in what [`Settings::added`] gave.
    pub(crate) fn with_added(self, (rules, endings_max, tokens_max): (u32, u64, u64)) -> Settings {
        Settings {
            rules,
            endings_max,
            tokens_max,
            ..self
        }
    }

    /// Reads settings back and checks them.
    ///
    /// # Errors
    ///
    /// Fails on an unknown version, on bytes that are no settings, on bytes left over, and on
    /// settings that [`Settings::check`] refuses.
    pub fn decode(bytes: &[u8]) -> Result<Settings, DecodeError> {
        let (&version, body) = bytes.split_first().ok_or(DecodeError::Empty)?;
        let settings: Settings = match version {
            1 => codec::decode_body(body)?,
            VERSION_NEWEST => {
                let (settings, added): (Settings, _) = codec::decode_body(body)?;
                settings.with_added(added)
            }
            found => {
                let newest = VERSION_NEWEST;
                return Err(DecodeError::Version { found, newest });
            }
        };
        if (version == 1) != (settings.rules == 1) {
            let fault = "settings of version 2 are for later rules than the first";
            return Err(DecodeError::Invalid(fault.to_owned()));
        }
        settings.check().map_err(DecodeError::Invalid)?;
        Ok(settings)
    }

    /// Whether a cluster can work with these settings.
    ///
    /// # Errors
    ///
    /// Names the setting that it cannot work with.
    pub fn check(&self) -> Result<(), String> {
        let range = |what: &str, value: u64, min: u64, max: u64| {
            if min >= 1 && min <= value && value <= max {
                Ok(())
            } else {
                Err(format!("{what} of {value} ms is outside {min} to {max} ms"))
            }
        };
        range(
            "the default lease",
            self.default_lease_ms,
            self.lease_ms_min,
            self.lease_ms_max,
        )?;
        range(
            "the default session ttl",
            self.default_ttl_ms,
            self.ttl_ms_min,
            self.ttl_ms_max,
        )?;
        if self.files > Settings::FILES_MAX {
            return Err(format!(
                "{} files are more than {}",
                self.files,
                Settings::FILES_MAX
            ));
        }
        // What is remembered or pending must fit into one encoded value, with room to spare.
        for (what, value, max) in [
            ("bytes of an append", self.append_bytes_max, 8 * MIB),
            ("appends of a section", self.section_appends_max, 10_000_000),
            ("files of a section", self.section_files_max, 10_000),
            ("commands in flight", self.in_flight_max, 100_000),
        ] {
            if value > max {
                return Err(format!("a limit of {value} {what} is more than {max}"));
            }
        }
        if self.rules == 0 || self.rules > Settings::RULES {
            return Err(format!(
                "rules of version {}, the newest that this program knows is {}",
                self.rules,
                Settings::RULES
            ));
        }
        if self.endings_max == 0 {
            return Err(
                "a limit of 0 endings in a slot would never clear anything away".to_owned(),
            );
        }
        if self.in_flight_max == 0 || self.sessions_max == 0 {
            return Err("a limit of 0 sessions or commands leaves nothing to do".to_owned());
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(change: impl FnOnce(&mut Settings), fault: Option<&str>) {
        let mut settings = Settings::default();
        change(&mut settings);
        let found = settings.check().err();
        assert_eq!(found.as_deref(), fault);
        assert_eq!(
            Settings::decode(&settings.encode()).is_ok(),
            fault.is_none()
        );
    }

    #[test]
    fn settings_that_cannot_work_are_refused() {
        check(|_| {}, None);
        check(|s| s.files = 0, None);
        check(
            |s| s.files = 100_001,
            Some("100001 files are more than 100000"),
        );
        let fault = "the default lease of 100 ms is outside 500 to 86400000 ms";
        check(|s| s.default_lease_ms = 100, Some(fault));
        let fault = "the default session ttl of 20000 ms is outside 30000 to 86400000 ms";
        check(|s| s.ttl_ms_min = 30_000, Some(fault));
        let fault = "the default lease of 20000 ms is outside 0 to 86400000 ms";
        check(|s| s.lease_ms_min = 0, Some(fault));
        let fault = "a limit of 8388609 bytes of an append is more than 8388608";
        check(|s| s.append_bytes_max = 8 * MIB + 1, Some(fault));
        let fault = "a limit of 0 sessions or commands leaves nothing to do";
        check(|s| s.sessions_max = 0, Some(fault));
    }
}
