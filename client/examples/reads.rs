//! Who holds what, who waits, what is in a file: linearizable, or from any replica and older.
//!
//! `cargo run -p client --example reads -- 127.0.0.1:7401`

use client::{Client, Error};

#[tokio::main]
async fn main() -> Result<(), Error> {
    let client = Client::connect(endpoints()).await?;
    let reader = client.reader();

    let status = reader.lock_status("default").await?;
    match status.value.holder {
        Some(holder) => println!("default is held by {} under {}", holder.name, holder.token),
        None => println!("default is free"),
    }
    for session in reader.sessions().await?.value {
        println!(
            "session {} of {}, {} ms left",
            session.session, session.name, session.left_ms
        );
    }
    let content = reader.read("file_0", 0, 100).await?;
    println!(
        "file_0 begins with {:?} as of slot {}",
        content.value, content.slot
    );

    let files = client.reader().stale().files().await?;
    println!(
        "{} files as of slot {}, which may be old",
        files.value.len(),
        files.slot
    );
    for (endpoint, status) in client.status().await {
        match status {
            Ok(status) => println!("{endpoint}: {}, applied {}", status.role, status.applied),
            Err(error) => println!("{endpoint}: {error}"),
        }
    }
    Ok(())
}

fn endpoints() -> Vec<String> {
    let given: Vec<_> = std::env::args().skip(1).collect();
    if given.is_empty() {
        vec!["127.0.0.1:7401".to_owned()]
    } else {
        given
    }
}
