//! Try once, wait for a while, wait and watch the queue; leave it by dropping the future.
//!
//! `cargo run -p client --example waiting -- 127.0.0.1:7401`

use std::time::Duration;

use client::{Client, Error};

#[tokio::main]
async fn main() -> Result<(), Error> {
    let (first, second) = (
        Client::connect(endpoints()).await?,
        Client::connect(endpoints()).await?,
    );
    let guard = first.lock("jobs").acquire().await?;

    if let Err(error) = second.lock("jobs").try_acquire().await {
        println!("tried once: {} ({error})", error.code());
    }
    let within = second
        .lock("jobs")
        .acquire_within(Duration::from_millis(200))
        .await;
    if let Err(error) = within {
        println!("waited for 200 ms: {} ({error})", error.code());
    }

    let mut waiting = second.lock("jobs").acquire();
    let a_while = Duration::from_millis(200);
    if tokio::time::timeout(a_while, &mut waiting).await.is_err() {
        println!("waiting at position {:?}", waiting.queue_position());
    }
    // Out of the queue; nobody waits behind us for nothing.
    drop(waiting);

    guard.abort().await?;
    let guard = second.lock("jobs").acquire().await?;
    println!("free at last, token {}", guard.token());
    guard.abort().await
}

fn endpoints() -> Vec<String> {
    let given: Vec<_> = std::env::args().skip(1).collect();
    if given.is_empty() {
        vec!["127.0.0.1:7401".to_owned()]
    } else {
        given
    }
}
