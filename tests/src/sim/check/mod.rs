//! What must hold after every step. The names are those of the verification design, section 1.

pub mod beliefs;
pub mod history;
pub mod sections;
pub mod votes;

/// A check that failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// The check's name: `G2`, `S4`.
    pub check: &'static str,
    /// What was found.
    pub detail: String,
}

/// What a check says.
pub type Verdict = Result<(), Violation>;

/// A violation of `check` unless `holds`.
pub fn ensure(holds: bool, check: &'static str, detail: impl FnOnce() -> String) -> Verdict {
    if holds {
        Ok(())
    } else {
        Err(Violation {
            check,
            detail: detail(),
        })
    }
}
