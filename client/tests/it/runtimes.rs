//! A lock does not depend on the runtime that happened to ask for it.

use std::time::Duration;

use client::{Client, blocking};
use tokio::runtime::Builder;

use crate::service::Service;

const LEASE: Duration = Duration::from_millis(600);

fn runtime() -> tokio::runtime::Runtime {
    Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("built")
}

async fn held(service: &Service) -> (Client, client::Guard) {
    let client = Client::connect([&service.address]).await.expect("connects");
    let guard = client.lock("default").lease(LEASE).acquire().await;
    (client, guard.expect("granted"))
}

/// As a static client under `#[tokio::test]`, where each test has a runtime of its own.
#[test]
fn a_client_outlives_the_runtime_that_made_it() {
    let service = Service::start();
    let first = runtime();
    let (client, guard) = first.block_on(held(&service));
    drop(first);
    std::thread::sleep(2 * LEASE);
    assert!(guard.is_valid(), "nobody kept it alive");
    runtime().block_on(async {
        guard.append("file_0", "x").await.expect("appended");
        guard.release().await.expect("released");
        let again = client.lock("default").try_acquire().await.expect("free");
        again.abort().await.expect("aborted");
    });
    runtime().block_on(client.close()).expect("closed");
}

#[test]
fn a_lock_survives_blocking_work() {
    let service = Service::start();
    runtime().block_on(async {
        let (_client, guard) = held(&service).await;
        std::thread::sleep(3 * LEASE);
        assert!(guard.is_valid(), "nobody kept it alive");
        guard.append("file_0", "x").await.expect("appended");
        guard.release().await.expect("released");
    });
}

#[test]
fn a_blocking_client_may_be_dropped_in_async_code() {
    let service = Service::start();
    let client = blocking::Client::connect([&service.address]).expect("connects");
    let guard = client.lock("default").acquire().expect("granted");
    let other = blocking::Client::connect([&service.address]).expect("connects");
    runtime().block_on(async move {
        drop(guard);
        drop(client);
    });
    other.lock("default").acquire().expect("given back");
}
