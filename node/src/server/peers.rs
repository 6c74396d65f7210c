//! The other replicas: what is said to each at the start of a connection, and what came of it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use net::mesh::{Greeting, Mesh, MeshOptions, PeerEvent};
use net::{Hello, HelloRole, PeerHello, Sealed};
use paxos::birth::{Announcement, Birth, BirthAction, BirthRecord};
use paxos::memory::{decode_testimonies, encode_testimonies};
use paxos::{DiskId, Envelope, Life, Message, NodeId, Testimony};
use tokio::net::TcpListener;
use tokio::sync::mpsc;

use crate::config::ServeConfig;
use crate::metrics::{Metrics, Traffic};
use replica::causes::with_causes;
use replica::engine::Input;

/// Messages received from peers and not handled; beyond that the links are not read.
const RECEIVED_MAX: usize = 256;
/// Between two lines of the log against the same peer.
const BETWEEN_QUARRELS: Duration = Duration::from_secs(5);

/// What this replica says of itself. It changes at its birth and then no more.
#[derive(Clone, Debug)]
pub(crate) struct Speaker {
    /// 0 until born.
    pub(crate) cluster: u128,
    /// Its id.
    pub(crate) node: u16,
    /// Its disk.
    pub(crate) disk: u64,
    /// Its start on that disk.
    pub(crate) incarnation: u64,
    /// The random number of that start.
    pub(crate) start: u64,
    /// What it remembers of all disks, as of the start.
    pub(crate) witness: Bytes,
    /// The ids that it was started with.
    pub(crate) members: Vec<u16>,
    /// The cluster's name that it was started with.
    pub(crate) name: String,
    /// Its birth record, empty until born.
    pub(crate) birth: Bytes,
    /// Where clients reach it.
    pub(crate) client: String,
    /// Where its pages are.
    pub(crate) http: String,
}

impl Speaker {
    /// The greeting, with what this replica remembers of all disks by now.
    pub(crate) fn greeting(&self, witness: Bytes) -> Hello {
        let said = PeerHello {
            node: self.node,
            disk: self.disk,
            incarnation: self.incarnation,
            start: self.start,
            witness,
            members: self.members.clone(),
            name: self.name.clone(),
            birth: self.birth.clone(),
            client: self.client.clone(),
            http: self.http.clone(),
        };
        Hello::new(self.cluster, HelloRole::Peer(said))
    }
}

/// The birth record that a peer told of, if it is born and says so readably.
pub(crate) fn record_of(said: &PeerHello) -> Option<BirthRecord> {
    if said.birth.is_empty() {
        return None;
    }
    BirthRecord::decode(said.birth.clone()).ok()
}

/// Where a peer is found, as it said itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Known {
    /// Its client address.
    pub(crate) client: String,
    /// Its HTTP address.
    pub(crate) http: String,
}

/// The links, and what is known of those at their ends.
#[derive(Debug)]
pub(crate) struct Peers {
    mesh: Mesh,
    events: mpsc::Receiver<PeerEvent>,
    birth: Birth,
    /// What this replica remembers of all disks, for greetings.
    witness: Arc<Mutex<Bytes>>,
    known: BTreeMap<u16, Known>,
    /// The present link of each peer that takes part.
    links: BTreeMap<u16, u64>,
    /// When something was last said against each peer; it dials again and again.
    quarrels: BTreeMap<u16, Instant>,
    /// By peer, looked up once: a label costs more than a count.
    traffic: BTreeMap<u16, Traffic>,
    metrics: Arc<Metrics>,
    sent: bool,
}

impl Peers {
    /// Starts to dial and to accept.
    pub(crate) fn start(
        config: &ServeConfig,
        listener: TcpListener,
        speaker: &Speaker,
        record: BirthRecord,
        metrics: Arc<Metrics>,
    ) -> Peers {
        let others = config.peers.iter().filter(|peer| peer.id != config.id);
        let others = others.map(|peer| (peer.id, peer.address.clone())).collect();
        let (sender, events) = mpsc::channel(RECEIVED_MAX);
        let witness = Arc::new(Mutex::new(speaker.witness.clone()));
        let birth = Birth::resume(NodeId(speaker.node), DiskId(speaker.disk), record);
        let greeting = greeting(speaker.clone(), witness.clone());
        let mesh = Mesh::start(
            MeshOptions::new(config.id, others),
            listener,
            greeting,
            sender,
        );
        Peers {
            mesh,
            events,
            birth,
            witness,
            known: BTreeMap::new(),
            links: BTreeMap::new(),
            quarrels: BTreeMap::new(),
            traffic: BTreeMap::new(),
            metrics,
            sent: false,
        }
    }

    /// Waits for the next event of a link and puts it, with all others that are there, into
    /// `events`. Cancelling loses nothing.
    pub(crate) async fn receive(&mut self, events: &mut Vec<PeerEvent>) {
        self.events.recv_many(events, RECEIVED_MAX).await;
    }

    /// The events that are there, without waiting.
    pub(crate) fn receive_ready(&mut self, events: &mut Vec<PeerEvent>) {
        while let Ok(event) = self.events.try_recv() {
            events.push(event);
        }
    }

    /// What an event means to the engine, if anything.
    pub(crate) fn translate(&mut self, event: PeerEvent) -> Option<Input> {
        match event {
            PeerEvent::Message { peer, link, body } => self.message(peer, link, body),
            PeerEvent::Up {
                peer, link, hello, ..
            } => self.up(peer, link, hello),
            PeerEvent::Down { peer, link, reset } => {
                let took_part = self.links.get(&peer) == Some(&link);
                if !took_part {
                    return None;
                }
                self.links.remove(&peer);
                tracing::info!(peer, link, reset, "peer disconnected");
                Some(Input::PeerDown {
                    peer: NodeId(peer),
                    link,
                    reset,
                })
            }
            PeerEvent::Refused { peer, reason } => {
                self.quarrel(peer.unwrap_or(0), reason);
                None
            }
        }
    }

    fn message(&mut self, peer: u16, link: u64, body: Bytes) -> Option<Input> {
        if self.links.get(&peer) != Some(&link) {
            return None;
        }
        self.traffic(peer).received.inc_by(body.len() as u64);
        match Message::decode(body) {
            Ok(message) => Some(Input::Peer {
                from: NodeId(peer),
                link,
                message,
            }),
            Err(error) => {
                self.quarrel(
                    peer,
                    format!("a message does not decode: {}", with_causes(&error)),
                );
                self.mesh.renew(peer);
                None
            }
        }
    }

    fn up(&mut self, peer: u16, link: u64, said: PeerHello) -> Option<Input> {
        let mut list: Vec<NodeId> = said.members.iter().copied().map(NodeId).collect();
        list.sort_unstable();
        let born = record_of(&said);
        let fresh = born.is_none();
        let announcement = Announcement {
            list,
            disk: DiskId(said.disk),
            born,
        };
        // This replica is born: no random number is asked for.
        for action in self.birth.on_heard(NodeId(peer), announcement, 1) {
            if let BirthAction::RefusePeer { reason, .. } = action {
                self.quarrel(peer, reason);
                self.mesh.renew(peer);
                return None;
            }
        }
        if fresh {
            // The handshake has given it our birth record; it comes back as a member.
            self.mesh.renew(peer);
            return None;
        }
        let witness = match decode_testimonies(said.witness) {
            Ok(witness) => witness,
            Err(error) => {
                let error = with_causes(&error);
                self.quarrel(peer, format!("its greeting does not decode: {error}"));
                self.mesh.renew(peer);
                return None;
            }
        };
        self.quarrels.remove(&peer);
        self.known.insert(
            peer,
            Known {
                client: said.client,
                http: said.http,
            },
        );
        self.links.insert(peer, link);
        tracing::info!(peer, link, incarnation = said.incarnation, "peer connected");
        let hello = paxos::PeerHello {
            node: NodeId(peer),
            disk: DiskId(said.disk),
            life: Life {
                incarnation: said.incarnation,
                start: said.start,
            },
            witness,
        };
        Some(Input::PeerUp {
            peer: NodeId(peer),
            link,
            hello,
        })
    }

    fn quarrel(&mut self, peer: u16, reason: String) {
        let now = Instant::now();
        let recent = self
            .quarrels
            .get(&peer)
            .is_some_and(|last| now < *last + BETWEEN_QUARRELS);
        if !recent {
            tracing::warn!(peer, reason, "peer refused");
            self.quarrels.insert(peer, now);
        }
    }

    /// Queues a message, encoded once, for all its receivers.
    pub(crate) fn send(&mut self, envelope: &Envelope) {
        let frame = match Sealed::new(envelope.message.encode()) {
            Ok(frame) => frame,
            Err(error) => {
                tracing::error!(
                    error = with_causes(&error),
                    "a message is too long for a frame and was dropped"
                );
                return;
            }
        };
        let bytes = frame.body().len() as u64;
        for peer in &envelope.to {
            // Lost if the peer is down or its queue is full: it asks again.
            self.mesh.send(&[peer.0], &frame);
            self.traffic(peer.0).sent.inc_by(bytes);
        }
        self.sent = true;
    }

    fn traffic(&mut self, peer: u16) -> &Traffic {
        self.traffic
            .entry(peer)
            .or_insert_with(|| self.metrics.traffic(peer))
    }

    /// Writes what was queued since the last time, one call for each peer.
    pub(crate) fn flush(&mut self) {
        if std::mem::take(&mut self.sent) {
            self.mesh.flush();
        }
    }

    /// Where a peer is found, as far as it said.
    pub(crate) fn known(&self, peer: u16) -> Known {
        self.known.get(&peer).cloned().unwrap_or_default()
    }

    /// Takes what this replica remembers of all disks, for the next greeting.
    pub(crate) fn note_witness(&self, witness: &[Testimony]) {
        *self.witness.lock().unwrap_or_else(PoisonError::into_inner) = encode_testimonies(witness);
    }

    /// Says goodbye to all.
    pub(crate) fn close(self) {
        self.mesh.close();
    }
}

fn greeting(speaker: Speaker, witness: Arc<Mutex<Bytes>>) -> Greeting {
    Arc::new(move |_| {
        let witness = witness.lock().unwrap_or_else(PoisonError::into_inner);
        speaker.greeting(witness.clone())
    })
}
