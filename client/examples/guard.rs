//! Hold a lock, append under it, release; and stop at once when the lock is lost.
//!
//! `cargo run -p client --example guard -- 127.0.0.1:7401`

use std::time::Duration;

use client::{Client, Error};

#[tokio::main]
async fn main() -> Result<(), Error> {
    let client = Client::connect(endpoints()).await?;
    let guard = client
        .lock("default")
        .lease(Duration::from_secs(10))
        .acquire()
        .await?;
    println!("held under token {}", guard.token());

    // Whatever is done under a lock races with losing it: let the loss win.
    tokio::select! {
        why = guard.lost() => {
            println!("lost: {why}; nothing was applied");
            return Ok(());
        }
        appended = guard.append("file_0", b"one line\n") => {
            println!("{} bytes pending", appended?);
        }
    }

    let receipt = guard.release().await?;
    println!("applied in slot {}", receipt.slot);
    client.close().await
}

fn endpoints() -> Vec<String> {
    let given: Vec<_> = std::env::args().skip(1).collect();
    if given.is_empty() {
        vec!["127.0.0.1:7401".to_owned()]
    } else {
        given
    }
}
