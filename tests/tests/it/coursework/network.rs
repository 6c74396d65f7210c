//! Case 1: the network loses, delays and doubles.

use std::time::Duration;

use tests::harness::Cluster;
use tests::harness::shell::ANSWER_LIMIT;
use tests::harness::words::{append, beside, release};
use tests::proxy::Direction::{ToClient, ToServer};
use tests::proxy::{Fault, Kind};

use super::{LEASE, patient};

/// C1, C2 acquire; C1's append `A` is late: its lease ends, C2 is granted, then it arrives.
#[test]
fn case_1a() {
    let cluster = Cluster::start(3);
    let (c1, c2) = (cluster.client("C1"), cluster.client("C2"));
    c1.acquire_for(LEASE);
    let late = c1.rules().every(ToServer, Kind::Append, Fault::Hold);
    let granted = c2.acquire_beside();
    let appended = c1.send(beside(append("file_0", "A")));
    late.wait_hits(1, ANSWER_LIMIT);
    c2.wait(&granted)
        .done("C2's acquire, once C1's lease ended");
    assert!(!c1.is_answered(&appended), "nobody has seen the append yet");
    assert!(late.release() > 0, "the late append arrives");
    // LOCK_EXPIRED is rc 2, which `refused` asserts.
    c1.wait(&appended).refused("C1's late append", "not_held");
    c2.release();
    cluster.assert_file("file_0", "");
    cluster.check_order();
}

/// C1's acquire is lost; C2 `B`, releases; C1's retry is granted, `A`.
#[test]
fn case_1b_i() {
    let cluster = Cluster::start(3);
    let (c1, c2) = (cluster.client("C1"), cluster.client("C2"));
    let lost = c1.rules().every(ToServer, Kind::Acquire, Fault::Lose);
    let granted = c1.acquire_beside();
    lost.wait_hits(1, ANSWER_LIMIT);
    c2.section(&[("file_0", "B")]);
    lost.end();
    c1.wait(&granted).done("C1's retry");
    c1.append("file_0", "A");
    c1.release();
    cluster.assert_file("file_0", "BA");
    cluster.check_order();
}

/// C1's grant is lost, C2 waits; C1 asks again, `A`, releases; C2 `B`.
#[test]
fn case_1b_ii() {
    let cluster = Cluster::start(3);
    let (c1, c2) = (cluster.client("C1"), cluster.client("C2"));
    let lost = c1.rules().every(ToClient, Kind::Acquire, Fault::Lose);
    let first = c1.acquire_beside();
    lost.wait_hits(1, ANSWER_LIMIT);
    let second = c2.acquire_beside();
    // C2 alone: whoever asks again does not queue behind itself.
    c2.wait_for_queue(1);
    lost.end();
    c1.wait(&first).done("C1's second question finds its grant");
    c1.append("file_0", "A");
    assert!(!c2.is_answered(&second), "C1 holds the lock");
    c1.release();
    c2.wait(&second).done("C2's acquire");
    c2.append("file_0", "B");
    c2.release();
    cluster.assert_file("file_0", "AB");
    cluster.check_order();
}

/// C1 `A`; its release is late and repeated; C2 is granted, then the late one arrives; C2 `B`; C1
/// queues; C2 `B`; C1 `A`.
#[test]
fn case_1c() {
    let cluster = Cluster::start(3);
    let (c1, c2) = (cluster.client("C1"), cluster.client("C2"));
    c1.acquire();
    c1.append("file_0", "A");
    let granted = c2.acquire_beside();
    c2.wait_for_queue(1);
    let late = c1.rules().first(1, ToServer, Kind::Release, Fault::Hold);
    let answers = c1.rules().every(ToClient, Kind::Release, Fault::Watch);
    c1.done(patient(release()));
    assert_eq!(
        late.hits(),
        1,
        "the first copy is on its way still; a repeat was answered"
    );
    c2.wait(&granted).done("C2's acquire");
    let before = answers.hits();
    assert_eq!(late.release(), 1, "the late release arrives");
    answers.wait_hits(before + 1, ANSWER_LIMIT);
    c2.append("file_0", "B");
    let queued = c1.acquire_beside();
    c1.wait_for_queue(1);
    c2.append("file_0", "B");
    assert!(!c1.is_answered(&queued), "C2 still holds the lock");
    c2.release();
    c1.wait(&queued).done("C1's acquire");
    c1.append("file_0", "A");
    c1.release();
    cluster.assert_file("file_0", "ABBA");
    cluster.check_order();
}

/// C1 `1`; `A`: request lost, the retry's reply lost; C1 releases; C2 `B`.
#[test]
fn case_1d() {
    let cluster = Cluster::start(3);
    let (c1, c2) = (cluster.client("C1"), cluster.client("C2"));
    c1.acquire();
    c1.append("file_0", "1");
    let request = c1.rules().first(1, ToServer, Kind::Append, Fault::Lose);
    let reply = c1.rules().first(1, ToClient, Kind::Append, Fault::Lose);
    c1.done(patient(append("file_0", "A")));
    request.wait_hits(1, Duration::ZERO);
    reply.wait_hits(1, Duration::ZERO);
    c1.release();
    c2.section(&[("file_0", "B")]);
    cluster.assert_file("file_0", "1AB");
    cluster.check_order();
}
