//! The same without a runtime.
//!
//! `cargo run -p client --example blocking -- 127.0.0.1:7401`

use client::Error;
use client::blocking::Client;

fn main() -> Result<(), Error> {
    let client = Client::connect(endpoints())?;
    let guard = client.lock("default").acquire()?;
    guard.append("file_0", "from a program without a runtime\n")?;
    let receipt = guard.release()?;
    println!("applied in slot {}", receipt.slot);
    client.close()
}

fn endpoints() -> Vec<String> {
    let given: Vec<_> = std::env::args().skip(1).collect();
    if given.is_empty() {
        vec!["127.0.0.1:7401".to_owned()]
    } else {
        given
    }
}
