//! The current link of each peer, and what comes in on it.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::mpsc;

use crate::connection::{Closed, FrameReceiver, FrameSender, Greeted};
use crate::frame::Sealed;
use crate::hello::{HelloRole, PeerHello};
use crate::mesh::PeerEvent;

#[derive(Debug)]
pub(super) struct Links {
    current: Mutex<BTreeMap<u16, Current>>,
    /// One connection of a peer at a time reports its events.
    turns: Mutex<BTreeMap<u16, Arc<tokio::sync::Mutex<()>>>>,
    last: AtomicU64,
    events: mpsc::Sender<PeerEvent>,
}

#[derive(Debug)]
struct Current {
    link: u64,
    sender: FrameSender,
}

impl Links {
    pub(super) fn new(events: mpsc::Sender<PeerEvent>) -> Links {
        Links {
            current: Mutex::default(),
            turns: Mutex::default(),
            last: AtomicU64::new(0),
            events,
        }
    }

    /// Carries one connection from its handshake to its end, in place of an older one.
    pub(super) async fn carry(&self, peer: u16, greeted: Greeted) {
        let Greeted {
            hello,
            sender,
            mut receiver,
            ..
        } = greeted;
        let HelloRole::Peer(said) = hello.role else {
            unreachable!("callers check the role");
        };
        let link = self.last.fetch_add(1, Ordering::Relaxed) + 1;
        if let Some(old) = self.lock().insert(
            peer,
            Current {
                link,
                sender: sender.clone(),
            },
        ) {
            old.sender.abort();
        }
        // The older connection's events end first; it ends soon, being aborted.
        let turn = self.turn(peer);
        let _turn = turn.lock().await;
        let reset = self
            .report(peer, link, hello.cluster, said, &mut receiver)
            .await;
        self.forget(peer, link);
        sender.close();
        let _ = self
            .events
            .send(PeerEvent::Down { peer, link, reset })
            .await;
    }

    /// Returns whether the link ended without a goodbye.
    async fn report(
        &self,
        peer: u16,
        link: u64,
        cluster: u128,
        hello: PeerHello,
        receiver: &mut FrameReceiver,
    ) -> bool {
        let mut next = PeerEvent::Up {
            peer,
            link,
            cluster,
            hello,
        };
        loop {
            if self.events.send(next).await.is_err() {
                return false;
            }
            match receiver.next().await {
                Ok(body) => next = PeerEvent::Message { peer, link, body },
                Err(closed) => return ended(peer, link, &closed),
            }
        }
    }

    pub(super) fn send(&self, peer: u16, frame: &Sealed) -> bool {
        self.lock()
            .get(&peer)
            .is_some_and(|current| current.sender.send(frame).is_ok())
    }

    pub(super) fn flush(&self) {
        for current in self.lock().values() {
            current.sender.flush();
        }
    }

    pub(super) fn close(&self, peer: u16) {
        if let Some(current) = self.lock().get(&peer) {
            current.sender.close();
        }
    }

    pub(super) fn close_all(&self) {
        for current in self.lock().values() {
            current.sender.close();
        }
    }

    pub(super) async fn refused(&self, peer: Option<u16>, reason: String) {
        let _ = self.events.send(PeerEvent::Refused { peer, reason }).await;
    }

    fn forget(&self, peer: u16, link: u64) {
        let mut current = self.lock();
        if current.get(&peer).is_some_and(|it| it.link == link) {
            current.remove(&peer);
        }
    }

    fn turn(&self, peer: u16) -> Arc<tokio::sync::Mutex<()>> {
        let mut turns = self.turns.lock().unwrap_or_else(PoisonError::into_inner);
        turns.entry(peer).or_default().clone()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<u16, Current>> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn ended(peer: u16, link: u64, closed: &Closed) -> bool {
    match closed {
        Closed::Fault(fault) => tracing::warn!(peer, link, %fault, "peer connection ended"),
        other => tracing::info!(peer, link, reason = %other, "peer connection ended"),
    }
    closed.is_reset()
}
