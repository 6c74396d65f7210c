//! Waiting for a condition. Nothing in a test sleeps and hopes: it asks again until a deadline.

use std::time::{Duration, Instant};

/// How long to rest between two questions.
const PAUSE: Duration = Duration::from_millis(10);

/// Asks until there is an answer.
///
/// # Panics
///
/// If `limit` passes without one; the message names `what` was waited for.
pub fn until<T>(what: &str, limit: Duration, mut ask: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + limit;
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(
            Instant::now() < deadline,
            "waited {limit:?} in vain for: {what}"
        );
        std::thread::sleep(PAUSE);
    }
}

/// Asks until `holds`; see [`until`].
///
/// # Panics
///
/// If `limit` passes first.
pub fn wait_for(what: &str, limit: Duration, mut holds: impl FnMut() -> bool) {
    until(what, limit, || holds().then_some(()));
}
