//! One answer of the shell, and what a test expects of it.

use serde_json::Value;

/// One answer.
#[derive(Clone, Debug, PartialEq)]
pub struct Reply(pub Value);

impl Reply {
    /// Whether it is a success.
    pub fn is_done(&self) -> bool {
        self.0["ok"] == true
    }

    /// The code of a refusal; empty for a success.
    pub fn code(&self) -> &str {
        self.0["code"].as_str().unwrap_or_default()
    }

    /// The coursework's return code.
    pub fn rc(&self) -> u64 {
        self.0["rc"].as_u64().unwrap_or(u64::MAX)
    }

    /// The token of a grant.
    pub fn token(&self) -> u64 {
        self.number("token")
    }

    /// The slot of a release.
    pub fn slot(&self) -> u64 {
        self.number("slot")
    }

    /// What `cat` read.
    pub fn data(&self) -> &str {
        self.0["data"]
            .as_str()
            .unwrap_or_else(|| panic!("an answer with data: {}", self.0))
    }

    fn number(&self, field: &str) -> u64 {
        self.0[field]
            .as_u64()
            .unwrap_or_else(|| panic!("an answer with {field}: {}", self.0))
    }

    /// Asserts success of `command`.
    ///
    /// # Panics
    ///
    /// If it is none.
    #[track_caller]
    pub fn done(self, command: &str) -> Reply {
        assert!(
            self.is_done() && self.rc() == 0,
            "{command}\n  expected success, got {}",
            self.0
        );
        self
    }

    /// Asserts that `command` is refused with this code, and with the return code that belongs to
    /// it (`semantics.md`, section 5).
    ///
    /// # Panics
    ///
    /// If it is not.
    #[track_caller]
    pub fn refused(self, command: &str, code: &str) -> Reply {
        let rc = return_code(code);
        assert!(
            self.0["ok"] == false && self.code() == code && self.rc() == rc,
            "{command}\n  expected {code} (rc {rc}), got {}",
            self.0
        );
        assert!(
            self.0["message"].is_string(),
            "a refusal has a message: {}",
            self.0
        );
        self
    }
}

fn return_code(code: &str) -> u64 {
    match code {
        "no_such_file" => 1,
        "not_held" | "session_expired" => 2,
        "busy" | "wait_timed_out" => 3,
        "unavailable" | "not_leader" => 5,
        "unknown" => 6,
        _ => 4,
    }
}
