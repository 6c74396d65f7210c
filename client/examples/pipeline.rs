//! Many appends under way at once: they keep their order, and a refused one spoils no other. What
//! came of a call that was not answered in time is asked again.
//!
//! `cargo run -p client --example pipeline -- 127.0.0.1:7401`

use std::time::Duration;

use client::{Client, Error};

#[tokio::main]
async fn main() -> Result<(), Error> {
    let client = Client::connect(endpoints()).await?;
    let guard = client.lock("default").acquire().await?;

    let appends: Vec<_> = (0..1000)
        .map(|i| guard.append(&format!("file_{}", i % 10), format!("line {i}\n")))
        .collect();
    for append in appends {
        append.await?;
    }

    match guard.release().await {
        Ok(receipt) => println!("applied in slot {}: {:?}", receipt.slot, receipt.lengths),
        // Perhaps done. Asking again, under the call's own number, finds out, and does it at most
        // once.
        Err(Error::Unknown(call)) => {
            let reply = call.settle(Duration::from_secs(10)).await?;
            println!("applied after all: {:?}", reply.outcome);
        }
        Err(error) => return Err(error),
    }
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
