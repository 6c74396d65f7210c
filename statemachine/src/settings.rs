//! What a cluster has agreed on: the number of files, the leases, the limits.
//!
//! The first leader makes one of its flags and has it chosen before anything else; every replica
//! follows that one, whatever its own flags say.

use serde::{Deserialize, Serialize};

use crate::{DecodeError, codec};

const KIB: u64 = 1024;
const MIB: u64 = 1024 * KIB;
const GIB: u64 = 1024 * MIB;
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
        }
    }
}

impl Settings {
    /// Files that a cluster may start with.
    pub const FILES_MAX: u32 = 100_000;

    /// The bytes of the settings, the payload of their log entry.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        codec::encode(self)
    }

    /// Reads settings back and checks them.
    ///
    /// # Errors
    ///
    /// Fails on an unknown version, on bytes that are no settings, on bytes left over, and on
    /// settings that [`Settings::check`] refuses.
    pub fn decode(bytes: &[u8]) -> Result<Settings, DecodeError> {
        let settings: Settings = codec::decode(bytes)?;
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
        if self.in_flight_max == 0 || self.sessions_max == 0 {
            return Err("a limit of 0 sessions or commands leaves nothing to do".to_owned());
        }
        Ok(())
    }
}
