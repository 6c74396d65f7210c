//! The locks around this process: a command under a lock must not wait for that very lock.

use statemachine::{Answer, Query, Token};

use crate::context::Context;
use crate::failure::Failure;
use crate::section;

/// Fails if `lock` is held by a `holdfast lock` around this process, which would wait for itself.
///
/// # Errors
///
/// `already_held`. What cannot be told is no failure: the queue is always a safe place.
pub(super) async fn refuse_own(context: &Context, lock: &str) -> Result<(), Failure> {
    let sockets = std::env::var(section::VARIABLE).unwrap_or_default();
    let Some(token) = section::token_around(&sockets, lock).await else {
        return Ok(());
    };
    // Another cluster may have a lock of the same name, and what is around may have been lost.
    let query = Query::LockStatus {
        lock: lock.to_owned(),
    };
    let Ok((_, Answer::Lock(status))) = context.query(&query).await else {
        return Ok(());
    };
    match status.holder {
        Some(holder) if holder.token == Token(token) => Err(Failure::new(
            "already_held",
            format!(
                "lock {lock} is held by the `holdfast lock` around this command, which would wait for itself; \
                 leave the inner one out"
            ),
        )),
        _ => Ok(()),
    }
}
