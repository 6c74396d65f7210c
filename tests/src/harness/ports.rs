//! Addresses for processes that die and come back.
//!
//! A port that the kernel picks (`bind` to 0) lies in the range it also takes the source ports of
//! outgoing connections from. While a replica is dead, any connection of any test could take its
//! port, and the replica could not come back. So ports are taken from below that range, each tried
//! by binding it once; a collision with a process outside this one shows as exit code 3 of the
//! replica, and the cluster then starts with others.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::atomic::{AtomicU32, Ordering};

/// Above the ports of `node`'s defaults, below the kernel's range for outgoing connections.
const FIRST: u32 = 10_000;
const COUNT: u32 = 20_000;

static NEXT: AtomicU32 = AtomicU32::new(0);

/// A loopback address that nobody listens on now and that this process hands out once.
///
/// # Panics
///
/// If all of the range is taken.
pub fn pick() -> SocketAddr {
    // Test programs that run at the same time begin at different places.
    let offset = std::process::id().wrapping_mul(7919) % COUNT;
    for _ in 0..COUNT {
        let step = NEXT.fetch_add(1, Ordering::Relaxed);
        let port =
            u16::try_from(FIRST + (offset + step) % COUNT).expect("the range ends at 29,999");
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        if TcpListener::bind(address).is_ok() {
            return address;
        }
    }
    panic!("no free port between {FIRST} and {}", FIRST + COUNT);
}
