//! A TCP proxy on loopback that sees frames, and loses, delays, doubles or cuts where a test says.
//!
//! ```text
//! client --- Proxy (1) --- replica 1        all proxies of one client share its Rules:
//!        \-- Proxy (2) --- replica 2        "the first append is lost" holds whichever
//!         \- Proxy (3) --- replica 3        replica it is sent to
//! ```
//!
//! Between replicas, where no frame is picked, the same proxy cuts links: [`Proxy::sever`].
//!
//! [`sight`] tells what a frame says, [`rules`] what is done to it, `pump` moves the bytes.

mod pump;
pub mod rules;
pub mod sight;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

pub use rules::{Fault, Injection, Noise, Rules};
pub use sight::{Direction, Kind, Sight};

/// How long a connection to the target may take. A paused process still accepts, by its backlog.
const CONNECT_LIMIT: Duration = Duration::from_secs(2);

/// One listening address that stands for one target. Closes all its connections when dropped.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    shared: Arc<Shared>,
}

#[derive(Debug)]
pub(crate) struct Shared {
    target: SocketAddr,
    rules: Arc<Rules>,
    severed: AtomicBool,
    stopped: AtomicBool,
    /// Both ends of every connection that is open, by number.
    links: Mutex<BTreeMap<u64, (TcpStream, Option<TcpStream>)>>,
}

impl Proxy {
    /// Listens on a free port of loopback, for connections to `target`.
    ///
    /// # Panics
    ///
    /// If loopback has no free port.
    pub fn start(target: SocketAddr, rules: Arc<Rules>) -> Proxy {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("loopback has a port");
        let address = listener
            .local_addr()
            .expect("a bound socket has an address");
        let shared = Arc::new(Shared {
            target,
            rules,
            severed: AtomicBool::new(false),
            stopped: AtomicBool::new(false),
            links: Mutex::new(BTreeMap::new()),
        });
        let acceptor = Arc::clone(&shared);
        std::thread::spawn(move || acceptor.accept(&listener));
        Proxy { address, shared }
    }

    /// Where to connect to.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Ends every connection that is open now; new ones are welcome.
    pub fn cut(&self) {
        for (near, far) in self.shared.links().values() {
            // An end that is gone already is as good as cut.
            let _ = near.shutdown(Shutdown::Both);
            let _ = far.as_ref().map(|far| far.shutdown(Shutdown::Both));
        }
    }

    /// A black hole from now on: open connections stay open and silent, new ones are accepted and
    /// lead nowhere, as if the cable were cut.
    pub fn sever(&self) {
        self.shared.severed.store(true, Ordering::SeqCst);
    }

    /// Ends the black hole. What fell into it is lost, so its connections end.
    pub fn heal(&self) {
        self.shared.severed.store(false, Ordering::SeqCst);
        self.cut();
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.shared.stopped.store(true, Ordering::SeqCst);
        self.cut();
        // Wakes the acceptor, which then sees that it is to stop.
        let _ = TcpStream::connect_timeout(&self.address, CONNECT_LIMIT);
    }
}

impl Shared {
    fn accept(self: &Arc<Self>, listener: &TcpListener) {
        for number in 0.. {
            let near = listener.accept();
            if self.stopped.load(Ordering::SeqCst) {
                return;
            }
            let Ok((near, _)) = near else { continue };
            let shared = Arc::clone(self);
            std::thread::spawn(move || shared.serve(number, near));
        }
    }

    /// One connection from its first byte to its last.
    fn serve(self: Arc<Self>, number: u64, near: TcpStream) {
        let Ok(kept) = near.try_clone() else { return };
        self.links().insert(number, (kept, None));
        if self.severed.load(Ordering::SeqCst) {
            pump::swallow(&near);
        } else if let Ok(far) = TcpStream::connect_timeout(&self.target, CONNECT_LIMIT)
            && let Ok(kept) = far.try_clone()
        {
            if let Some(link) = self.links().get_mut(&number) {
                link.1 = Some(kept);
            }
            pump::both_ways(&self, &near, &far);
        }
        if let Some((near, far)) = self.links().remove(&number) {
            let _ = near.shutdown(Shutdown::Both);
            let _ = far.map(|far| far.shutdown(Shutdown::Both));
        }
    }

    fn links(&self) -> MutexGuard<'_, BTreeMap<u64, (TcpStream, Option<TcpStream>)>> {
        self.links.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn is_severed(&self) -> bool {
        self.severed.load(Ordering::SeqCst)
    }

    pub(crate) fn rules(&self) -> &Rules {
        &self.rules
    }
}
