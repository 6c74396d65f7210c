//! Protect something outside of the service: it asks whether a writer's token is still current.
//!
//! `cargo run -p client --example fencing -- 127.0.0.1:7401`

use client::{Client, Error, Reader, Token};

/// Something outside that several writers share. It remembers the highest token it has seen, and so
/// refuses an older one without asking; a token that it has not seen it has checked.
struct Printer {
    reader: Reader,
    highest: Token,
}

impl Printer {
    async fn print(&mut self, token: Token, line: &str) -> Result<bool, Error> {
        let current = token >= self.highest
            && (token == self.highest || self.reader.check_token("printer", token).await?.value);
        if current {
            self.highest = token;
            println!("printed under token {token}: {line}");
        } else {
            println!("refused, token {token} is stale: {line}");
        }
        Ok(current)
    }
}

#[tokio::main]
async fn main() -> Result<(), Error> {
    let client = Client::connect(endpoints()).await?;
    let mut printer = Printer {
        reader: client.reader(),
        highest: Token(0),
    };

    let first = client.lock("printer").acquire().await?;
    let old = first.token();
    printer.print(old, "hello").await?;
    first.abort().await?;

    let second = client.lock("printer").acquire().await?;
    printer
        .print(second.token(), "hello from the next holder")
        .await?;
    // The first holder wakes from a long pause and believes that it still holds the lock.
    printer.print(old, "late").await?;
    second.abort().await
}

fn endpoints() -> Vec<String> {
    let given: Vec<_> = std::env::args().skip(1).collect();
    if given.is_empty() {
        vec!["127.0.0.1:7401".to_owned()]
    } else {
        given
    }
}
