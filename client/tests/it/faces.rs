//! The library as its users see it, against the real state machine.

use std::time::Duration;

use client::{Client, blocking, coursework};
use statemachine::{Outcome, Token};

use crate::scripted::SOON;
use crate::service::Service;

async fn connect(service: &Service) -> Client {
    Client::connect([&service.address]).await.expect("connects")
}

async fn content(client: &Client, file: &str) -> Vec<u8> {
    client
        .reader()
        .read_all(file)
        .await
        .expect("read")
        .value
        .to_vec()
}

#[tokio::test]
async fn a_section_is_applied_at_its_release() {
    let service = Service::start();
    let client = connect(&service).await;
    let guard = client
        .lock("default")
        .lease(SOON)
        .acquire()
        .await
        .expect("granted");
    assert!(guard.is_valid() && guard.left() <= SOON);
    assert_eq!(
        guard
            .append("file_0", b"one line\n")
            .await
            .expect("appended"),
        9
    );
    guard
        .append("file_1", b"two\0\xff\n")
        .await
        .expect("appended");
    assert_eq!(content(&client, "file_0").await, b"");
    let receipt = guard.release().await.expect("released");
    let lengths: Vec<_> = receipt
        .lengths
        .iter()
        .map(|(name, length)| (&name[..], *length))
        .collect();
    assert_eq!(lengths, [("file_0", 9), ("file_1", 6)]);
    assert_eq!(content(&client, "file_0").await, b"one line\n");
    assert_eq!(
        client
            .reader()
            .stat("file_1")
            .await
            .expect("there")
            .value
            .length,
        6
    );
    client.close().await.expect("closed");
}

#[tokio::test]
async fn aborted_and_dropped_sections_are_discarded() {
    let service = Service::start();
    let client = connect(&service).await;
    let guard = client.lock("default").acquire().await.expect("granted");
    guard.append("file_0", "x").await.expect("appended");
    guard.abort().await.expect("aborted");
    let guard = client.lock("default").acquire().await.expect("granted");
    guard.append("file_0", "y").await.expect("appended");
    drop(guard);
    let guard = client.lock("default").acquire().await.expect("granted");
    guard.append("file_0", "z").await.expect("appended");
    guard.release().await.expect("released");
    assert_eq!(content(&client, "file_0").await, b"z");
}

#[tokio::test]
async fn two_clients_take_turns_and_positions_count_down() {
    let service = Service::start();
    let (first, second) = (connect(&service).await, connect(&service).await);
    let guard = first.lock("default").acquire().await.expect("granted");
    assert_eq!(
        second
            .lock("default")
            .try_acquire()
            .await
            .expect_err("held")
            .code(),
        "busy"
    );
    let within = second
        .lock("default")
        .acquire_within(Duration::from_millis(50))
        .await;
    assert_eq!(within.expect_err("held").code(), "wait_timed_out");
    let mut waiting = second.lock("default").acquire();
    while waiting.queue_position() != Some(1) {
        let step = Duration::from_millis(1);
        assert!(
            tokio::time::timeout(step, &mut waiting).await.is_err(),
            "granted too early"
        );
    }
    let status = first
        .reader()
        .lock_status("default")
        .await
        .expect("read")
        .value;
    assert_eq!(status.queue_len, 1);
    assert_eq!(status.holder.expect("held").token, guard.token());
    let old = guard.token();
    guard.release().await.expect("released");
    let guard = waiting.await.expect("granted");
    assert!(guard.token() > old);
    assert!(
        !first
            .reader()
            .check_token("default", old)
            .await
            .expect("read")
            .value
    );
    assert!(
        first
            .reader()
            .check_token("default", guard.token())
            .await
            .expect("read")
            .value
    );
}

#[tokio::test]
async fn a_dropped_wait_holds_nobody_up() {
    let service = Service::start();
    let (first, second) = (connect(&service).await, connect(&service).await);
    let guard = first.lock("default").acquire().await.expect("granted");
    let waiting = tokio::spawn(second.lock("default").acquire());
    while first
        .reader()
        .lock_status("default")
        .await
        .expect("read")
        .value
        .queue_len
        == 0
    {
        tokio::task::yield_now().await;
    }
    waiting.abort();
    while first
        .reader()
        .lock_status("default")
        .await
        .expect("read")
        .value
        .queue_len
        > 0
    {
        tokio::task::yield_now().await;
    }
    guard.release().await.expect("released");
    first.lock("default").try_acquire().await.expect("free");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn many_appends_under_way_keep_their_order() {
    let service = Service::start();
    let client = connect(&service).await;
    let guard = client.lock("default").acquire().await.expect("granted");
    let mut appends = Vec::new();
    for i in 0..1500_u32 {
        // Every seventh is refused, in the midst of the others.
        let file = if i % 7 == 3 { "none" } else { "file_0" };
        appends.push((i, guard.append(file, i.to_le_bytes())));
    }
    let mut expected = Vec::new();
    for (i, append) in appends {
        match append.await {
            Ok(_) => expected.extend(i.to_le_bytes()),
            Err(error) => assert_eq!((i % 7, error.code()), (3, "no_such_file")),
        }
    }
    guard.release().await.expect("released");
    assert_eq!(content(&client, "file_0").await, expected);
    assert_eq!(
        expected.len(),
        4 * (1500 - 1500 / 7 - usize::from(1500 % 7 > 3))
    );
}

#[tokio::test]
async fn a_lease_is_kept_alive_for_several_terms() {
    let service = Service::start();
    let client = connect(&service).await;
    let lease = Duration::from_millis(500);
    let guard = client
        .lock("default")
        .lease(lease)
        .acquire()
        .await
        .expect("granted");
    let kept = tokio::time::timeout(lease * 3, guard.lost()).await;
    assert!(kept.is_err(), "lost while kept alive: {kept:?}");
    guard.append("file_0", "x").await.expect("still held");
    guard.release().await.expect("released");
}

#[tokio::test]
async fn a_forced_release_is_noticed() {
    let service = Service::start();
    let (first, second) = (connect(&service).await, connect(&service).await);
    let lease = Duration::from_millis(600);
    let guard = first
        .lock("default")
        .lease(lease)
        .acquire()
        .await
        .expect("granted");
    second
        .force_release("default", guard.token(), "test")
        .await
        .expect("forced");
    tokio::time::timeout(SOON, guard.lost())
        .await
        .expect("noticed");
    assert_eq!(guard.release().await.expect_err("lost").code(), "not_held");
    assert_eq!(
        second
            .force_release("default", Token(1), "x")
            .await
            .expect_err("stale")
            .rc(),
        2
    );
}

#[tokio::test]
async fn files_sessions_and_locks_are_listed() {
    let service = Service::start();
    let client = connect(&service).await;
    client.create("notes", None).await.expect("created");
    assert_eq!(
        client
            .create("notes", None)
            .await
            .expect_err("twice")
            .code(),
        "exists"
    );
    let files = client.reader().files().await.expect("listed").value;
    assert_eq!(files.len(), 101);
    assert_eq!(
        client
            .reader()
            .stat("notes")
            .await
            .expect("there")
            .value
            .guard,
        "notes"
    );
    client.remove("notes").await.expect("removed");
    assert_eq!(
        client.reader().stat("notes").await.expect_err("gone").rc(),
        1
    );
    let _a = client.lock("jobs/a").acquire().await.expect("granted");
    let _b = client.lock("jobs/b").acquire().await.expect("granted");
    let locks = client
        .reader()
        .stale()
        .locks("jobs/")
        .await
        .expect("listed")
        .value;
    assert_eq!(
        locks.iter().map(|it| &it.lock[..]).collect::<Vec<_>>(),
        ["jobs/a", "jobs/b"]
    );
    assert_eq!(
        client
            .reader()
            .sessions()
            .await
            .expect("listed")
            .value
            .len(),
        1
    );
    assert_eq!(client.status().await.len(), 1);
    client.health().await.expect("healthy");
    client.transfer(1).await.expect("asked");
}

#[tokio::test]
async fn calls_of_a_session_run_side_by_side() {
    let service = Service::start();
    let client = connect(&service).await;
    let session = client.session().await.expect("open");
    let calls: Vec<_> = (0..200)
        .map(|i| session.acquire(&format!("l{i}"), None, None))
        .collect();
    for call in &calls {
        let reply = call.wait(SOON).await.expect("granted");
        assert!(matches!(reply.outcome, Outcome::Granted { .. }));
    }
    assert_eq!(session.holds().len(), 200);
    session.close(SOON).await.expect("closed");
    assert!(!session.is_open() && session.holds().is_empty());
}

#[test]
fn blocking_calls_need_no_runtime() {
    let service = Service::start();
    let client = blocking::Client::connect([&service.address]).expect("connects");
    let guard = client
        .lock("default")
        .lease(SOON)
        .acquire()
        .expect("granted");
    assert!(guard.is_valid());
    guard.append("file_0", "blocking").expect("appended");
    guard.renew().expect("renewed");
    guard.release().expect("released");
    assert_eq!(
        client.reader().read("file_0", 0, 5).expect("read").value,
        "block"
    );
    let guard = client.lock("default").try_acquire().expect("free");
    drop(guard);
    client
        .lock("default")
        .acquire_within(SOON)
        .expect("given back");
    client.close().expect("closed");
}

#[test]
fn the_five_calls_of_the_coursework() {
    let service = Service::start();
    let (mut rpc, greeting) = coursework::rpc_init([&service.address]).expect("connects");
    assert_eq!(greeting, "Connected!");
    assert_eq!(
        rpc.rpc_append_file("file_0", b"A"),
        coursework::LOCK_EXPIRED
    );
    assert_eq!(rpc.rpc_lock_acquire(), coursework::OK);
    assert_eq!(rpc.rpc_append_file("file_0", b"A"), coursework::OK);
    assert_eq!(
        rpc.rpc_append_file("file_100", b"A"),
        coursework::NO_SUCH_FILE
    );
    assert_eq!(rpc.rpc_lock_release(), coursework::OK);
    assert_eq!(rpc.rpc_lock_release(), coursework::LOCK_EXPIRED);
    assert_eq!(rpc.rpc_close(), Ok("Disconnected!"));
    let client = blocking::Client::connect([&service.address]).expect("connects");
    assert_eq!(
        client.reader().read("file_0", 0, 10).expect("read").value,
        "A"
    );
}

/// Old: the second one was refused, as already held or already waiting.
#[tokio::test]
async fn tasks_of_one_client_take_turns_in_the_order_they_asked() {
    let service = Service::start();
    let client = connect(&service).await;
    let first = client.lock("default").acquire().await.expect("granted");
    let busy = client.lock("default").try_acquire().await;
    assert_eq!(busy.expect_err("held").code(), "busy");
    let brief = client
        .lock("default")
        .acquire_within(Duration::from_millis(20));
    assert_eq!(brief.await.expect_err("held").code(), "wait_timed_out");
    let mut tasks = Vec::new();
    for i in 0..20_u8 {
        let mut acquire = client.lock("default").acquire();
        assert!(futures::poll!(&mut acquire).is_pending());
        tasks.push(tokio::spawn(async move {
            let guard = acquire.await.expect("granted");
            guard.append("file_0", [i]).await.expect("appended");
            guard.release().await.expect("released");
        }));
    }
    first.release().await.expect("released");
    for task in tasks {
        task.await.expect("runs");
    }
    assert_eq!(
        content(&client, "file_0").await,
        (0..20).collect::<Vec<_>>()
    );
}

/// Whoever keeps a lost guard does not keep the others from the lock.
#[tokio::test]
async fn a_lost_guard_holds_nobody_up() {
    let service = Service::start();
    let (client, other) = (connect(&service).await, connect(&service).await);
    let lost = client.lock("default").acquire().await.expect("granted");
    let forced = other.force_release("default", lost.token(), "test").await;
    forced.expect("forced");
    assert_eq!(lost.renew().await.expect_err("lost").code(), "not_held");
    let next = tokio::time::timeout(SOON, client.lock("default").acquire()).await;
    let next = next.expect("soon").expect("granted");
    assert!(next.token() > lost.token());
}

/// More than one session may have in flight: 1,100 waits, and more appends than that.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_limit_of_a_session_is_met_by_many_tasks() {
    let service = Service::start();
    let (holder, client) = (connect(&service).await, connect(&service).await);
    let names: Vec<_> = (0..1_100).map(|n| format!("l{n}")).collect();
    let held = names.iter().map(|name| holder.lock(name).acquire());
    let held = futures::future::try_join_all(held).await.expect("granted");
    let mut waiting: Vec<_> = names
        .iter()
        .map(|name| tokio::spawn(client.lock(name).acquire()))
        .collect();
    let free = client.lock("free").acquire().await.expect("granted");
    free.release().await.expect("released");
    drop(held);
    for task in waiting.drain(..) {
        task.await.expect("runs").expect("granted");
    }
    let files = ["a", "b", "c", "d"];
    let mut guards = Vec::new();
    for file in files {
        client.create(file, None).await.expect("created");
        guards.push(client.lock(file).acquire().await.expect("granted"));
    }
    let appends = guards
        .iter()
        .zip(files)
        .flat_map(|(guard, file)| (0..400).map(move |_| guard.append(file, "x")));
    let appends: Vec<_> = appends.collect();
    for append in appends {
        append.await.expect("appended");
    }
    for guard in guards {
        guard.release().await.expect("released");
    }
}
