//! Case 2: a client stops for a while, as in a long collection of garbage.

use rustix::process::Signal;
use serde_json::json;
use tests::harness::Cluster;
use tests::harness::words::{DEFAULT_LOCK, append};

use super::LEASE;

/// C1 pauses past its lease, before its `A`; C2, waiting, `B`; C1 wakes, `A` refused; C2 `B`; C1
/// anew `A`, `A`.
#[test]
fn case_2a() {
    check(false);
}

/// The same, but C1 pauses after its `A`, which stays an orphan.
#[test]
fn case_2b() {
    check(true);
}

fn check(appends_before: bool) {
    let cluster = Cluster::start(3);
    let (mut c1, c2) = (cluster.client("C1"), cluster.client("C2"));
    // Kept alive by the shell, for as long as the shell lives.
    let lease_ms = u64::try_from(LEASE.as_millis()).expect("short");
    c1.done(json!({"op": "acquire", "lock": DEFAULT_LOCK, "lease_ms": lease_ms}));
    if appends_before {
        c1.append("file_0", "A");
    }
    let granted = c2.acquire_beside();
    c2.wait_for_queue(1);
    c1.signal(Signal::STOP);
    c2.wait(&granted)
        .done("C2's acquire, once C1's lease ended");
    c2.append("file_0", "B");
    c1.signal(Signal::CONT);
    c1.refused(append("file_0", "A"), "not_held");
    c2.append("file_0", "B");
    c2.release();
    c1.section(&[("file_0", "A"), ("file_0", "A")]);
    cluster.assert_file("file_0", "BBAA");
    cluster.check_order();
}
