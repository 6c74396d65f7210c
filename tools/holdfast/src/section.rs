//! How an `append` joins the section of the `lock … -- CMD` around it, lest it wait for itself.
//!
//! `lock` listens at a socket in a folder that only its user can enter, and tells CMD where by `HOLDFAST_SECTION`: the
//! sockets of all locks around, the innermost first, with colons between. A joiner asks each which lock it is of.
//!
//! ```text
//! lock    {"v":1,"lock":"default","token":117}
//! append  {"v":1,"file":"file_3","bytes":5}    then 5 bytes
//! lock    {"v":1,"ok":true}                    or "ok":false, code, message
//! ```
//!
//! Data is appended only once it is there in full, so that a joiner killed half way leaves nothing in the section.

mod join;
mod socket;

pub(crate) use join::{join, token_around};
pub(crate) use socket::{Appender, SectionSocket, append_in_pieces, remove_left_behind};

use serde::{Deserialize, Serialize};

/// Where CMD finds the sockets.
pub(crate) const VARIABLE: &str = "HOLDFAST_SECTION";

/// What a section may hold; more need not even be read. Source: `docs/semantics.md`, limits.
pub(crate) const SECTION_BYTES_MAX: usize = 64 << 20;

/// What one append may hold; more is sent as several.
pub(crate) const APPEND_BYTES_MAX: usize = 1 << 20;

/// The longest line of the exchange above: a file's name and some words.
const LINE_BYTES_MAX: u64 = 8 << 10;

#[derive(Serialize, Deserialize)]
struct Greeting {
    v: u8,
    lock: String,
    #[serde(default)]
    token: u64,
}

#[derive(Serialize, Deserialize)]
struct Join {
    v: u8,
    file: String,
    bytes: u64,
}

#[derive(Serialize, Deserialize)]
struct Joined {
    v: u8,
    ok: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    code: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    message: Option<String>,
}

#[cfg(test)]
mod tests;
