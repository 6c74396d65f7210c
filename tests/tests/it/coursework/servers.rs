//! Case 3: all servers die and come back.

use tests::harness::Cluster;

use super::patient_acquire;

/// C1 `A`, `A`, releases; the servers die; C1's acquire is granted once they are back, `1`.
#[test]
fn case_3a() {
    let mut cluster = Cluster::start(3);
    let c1 = cluster.client("C1");
    c1.section(&[("file_0", "A"), ("file_0", "A")]);
    cluster.kill_all();
    let granted = c1.send(patient_acquire());
    cluster.start_all();
    c1.wait(&granted)
        .done("C1's acquire, once the servers are back");
    c1.append("file_0", "1");
    c1.release();
    cluster.assert_file("file_0", "AA1");
    cluster.check_order();
}

/// C1 `A`; C2 `B`; the servers die and return; C2, still holder, `B`; C1 queues; C2 releases; C1 `A`.
#[test]
fn case_3b() {
    let mut cluster = Cluster::start(3);
    let (c1, c2) = (cluster.client("C1"), cluster.client("C2"));
    c1.section(&[("file_0", "A")]);
    c2.acquire();
    c2.append("file_0", "B");
    cluster.kill_all();
    cluster.start_all();
    cluster.leader();
    c2.append("file_0", "B");
    let granted = c1.send(patient_acquire());
    c1.wait_for_queue(1);
    c2.release();
    c1.wait(&granted).done("C1's acquire");
    c1.append("file_0", "A");
    c1.release();
    cluster.assert_file("file_0", "ABBA");
    cluster.check_order();
}
