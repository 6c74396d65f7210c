//! A replica serves the folder of the first build of 0.1.0; what is in it: [`PACKED`].

use tests::harness::old_folder::{PACKED, unpack};
use tests::harness::{Cluster, Plan};

/// What `file_N` held when the folder was packed.
fn expected(file: u64) -> String {
    let lines = (1..=130).filter(|line| line % 3 == file);
    let mut text: String = lines.map(|line| format!("line {line};")).collect();
    if file == 1 {
        text.push_str("after the snapshot;");
    }
    text
}

#[test]
fn a_replica_serves_a_folder_of_the_first_build() {
    let mut cluster: Cluster = Plan::new(1).cluster_name("holdfast").prepare();
    unpack(PACKED, cluster.data(1));
    cluster.start_all();
    cluster.leader();
    let client = cluster.client("C1");
    for file in 0..3 {
        client.assert_cat(&format!("file_{file}"), &expected(file));
    }
    let locks = cluster.holdfast().arg("locks").output();
    let locks = String::from_utf8(locks.expect("holdfast runs").stdout).expect("text");
    assert!(locks.contains("held"), "the lock is still held:\n{locks}");
    client.section(&[("file_2", "by this build;")]);
    client.assert_cat("file_2", &format!("{}by this build;", expected(2)));
}
