//! The five calls of the coursework.
//!
//! `cargo run -p client --example coursework -- 127.0.0.1:7401`

use std::process::ExitCode;

use client::coursework::{OK, rpc_init};

fn main() -> ExitCode {
    let (mut rpc, greeting) = match rpc_init(endpoints()) {
        Ok(connected) => connected,
        Err(code) => return ExitCode::from(code),
    };
    println!("RPC_init: {greeting}");
    println!("RPC_lock_acquire: {}", rpc.rpc_lock_acquire());
    println!("RPC_append_file: {}", rpc.rpc_append_file("file_0", b"A"));
    println!(
        "RPC_append_file, no such file: {}",
        rpc.rpc_append_file("file_100", b"A")
    );
    println!("RPC_lock_release: {}", rpc.rpc_lock_release());
    match rpc.rpc_close() {
        Ok(farewell) => {
            println!("RPC_close: {farewell}");
            ExitCode::from(OK)
        }
        Err(code) => ExitCode::from(code),
    }
}

fn endpoints() -> Vec<String> {
    let given: Vec<_> = std::env::args().skip(1).collect();
    if given.is_empty() {
        vec!["127.0.0.1:7401".to_owned()]
    } else {
        given
    }
}
