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
