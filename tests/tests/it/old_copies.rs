//! An operator puts an old copy of a data folder back, or starts one beside the folder it was copied from.

use std::path::Path;
use std::time::Duration;

use serde_json::json;
use tests::harness::{Cluster, Plan, Process};

/// Damage: what the process says by its exit code when it must not go on with its folder.
const DAMAGED: i32 = 5;
const LIMIT: Duration = Duration::from_secs(20);

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).expect("a folder can be made");
    for entry in std::fs::read_dir(from).expect("a folder") {
        let entry = entry.expect("an entry");
        let target = to.join(entry.file_name());
        if entry.file_type().expect("a type").is_dir() {
            copy(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).expect("a copy");
        }
    }
}

/// The copy takes the place of a dead replica's folder, which is kept beside it.
fn put_back(cluster: &Cluster, id: u16, image: &Path) {
    let data = cluster.data(id);
    std::fs::rename(data, data.with_extension("last")).expect("a rename");
    copy(image, data);
}

fn start() -> Cluster {
    let cluster = Plan::new(3)
        .flag("--election-timeout", "200ms")
        .flag("--heartbeat", "20ms")
        .start();
    cluster.client("C0").section(&[("file_0", "before\n")]);
    cluster.wait_equal();
    cluster
}

/// A follower is stopped, copied and started again. Gives it with the leader, the third, and the copy.
fn copy_a_follower(cluster: &mut Cluster) -> (u16, u16, u16, std::path::PathBuf) {
    let leader = cluster.leader();
    // Replicas dial those with lower ids, so this one finds a peer from wherever it runs.
    let follower = if leader == 3 { 2 } else { 3 };
    let third = 6 - leader - follower;
    cluster.kill(follower);
    let image = cluster.folder().join("image");
    copy(cluster.data(follower), &image);
    (leader, follower, third, image)
}

fn says_why(process: &mut Process, words: &[&str]) {
    let code = process.exit_code(LIMIT);
    let said = process.stderr();
    assert_eq!(code, Some(DAMAGED), "{said}");
    for word in words {
        assert!(said.contains(word), "{word:?} is not in: {said}");
    }
}

/// The third replica voted with the start that the copy forgot: the copy is refused, and stays refused.
#[test]
fn an_old_copy_is_refused_where_a_peer_knows_better() {
    let mut cluster = start();
    let (leader, follower, third, image) = copy_a_follower(&mut cluster);
    cluster.start_replica(follower);
    cluster.kill(leader);
    cluster
        .client("C1")
        .section(&[("file_0", "acknowledged\n")]);
    cluster.kill(follower);
    put_back(&cluster, follower, &image);

    cluster.spawn(follower);
    says_why(
        cluster.process(follower),
        &["old copy", &format!("replica {third} remembers")],
    );
    cluster.kill(follower);
    // Nobody in reach knows better this time, but the folder itself does.
    cluster.kill(third);
    cluster.spawn(follower);
    says_why(cluster.process(follower), &["old copy"]);
    cluster.kill(follower);

    // The two folders that ran last have all that was acknowledged.
    cluster.start_replica(leader);
    cluster.start_replica(third);
    cluster.client("C2").section(&[("file_0", "after\n")]);
    let client = cluster.client("C3");
    let reply = client.wait(&client.send(json!({"op": "cat", "file": "file_0"})));
    assert_eq!(reply.0["data"], "before\nacknowledged\nafter\n");
}

/// Nobody in reach knows better: the third replica was away, and the copy of the follower and the third choose
/// other values than were acknowledged. When the leader comes back with the only copy of those, nobody goes on as
/// if nothing had happened: the copy learns from the leader that it is one, and the leader meets another history.
#[test]
fn histories_that_differ_are_found_when_they_meet() {
    let mut cluster = start();
    let (leader, follower, third, image) = copy_a_follower(&mut cluster);
    cluster.start_replica(follower);
    cluster.wait_equal();
    cluster.kill(third);
    let client = cluster.client("C1");
    client.section(&[("file_0", "acknowledged\n")]);
    client.section(&[("file_1", "so the leader's disk knows that it is chosen\n")]);
    cluster.kill(leader);
    cluster.kill(follower);
    put_back(&cluster, follower, &image);

    cluster.start_replica(follower);
    cluster.start_replica(third);
    cluster.client("C2").section(&[("file_0", "after\n")]);
    cluster.spawn(leader);
    says_why(
        cluster.process(follower),
        &["old copy", &format!("replica {leader} remembers")],
    );
    says_why(
        cluster.process(leader),
        &[
            "replicas differ",
            &format!("replica {third}"),
            "at slot",
            "Keep every data folder",
        ],
    );
    let kept = std::fs::read_to_string(cluster.data(leader).join("files/file_0")).expect("a file");
    assert!(
        kept.contains("acknowledged"),
        "the only copy is still there: {kept:?}"
    );
}

/// A copy is started beside the folder that it was taken from.
#[test]
fn a_copy_beside_its_original_is_refused() {
    let mut cluster = start();
    let (_, follower, _, image) = copy_a_follower(&mut cluster);
    cluster.start_replica(follower);
    cluster
        .client("C1")
        .section(&[("file_0", "acknowledged\n")]);
    cluster.wait_equal();
    let mut twin = cluster.command_on(follower, &image);
    let mut twin = Process::spawn("twin", &mut twin, cluster.folder());
    says_why(&mut twin, &["old copy"]);
    cluster.client("C2").section(&[("file_0", "after\n")]);
    cluster.wait_equal();
    cluster.assert_file("file_0", "before\nacknowledged\nafter\n");
}
