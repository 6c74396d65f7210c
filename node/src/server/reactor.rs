//! The loop of a replica: take everything that happened, let the replica decide, do what it wants.
//!
//! ```text
//!        ┌────────────── wait: inbox, links, timer ──────────────┐
//!        ▼                                                       │
//!  take all ─► replica.handle each ─► replica.finish ─► act ─────┘
//!                                          ▲             │ 1 send to peers, one write each
//!                                          │             │ 2 hand records to the log
//!                                          └── durable ──┘ 3 answers in order, one write a client
//!                                                          4 jobs for other threads
//! ```
//!
//! What decides never waits, and what waits never decides: nothing in a batch blocks but, by
//! [`COMMIT_POLICY`](crate::server::wal_bridge::COMMIT_POLICY), the log's own write while nothing else is to be done.

use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use net::mesh::PeerEvent;
use paxos::{MonoTime, NodeId, Role};
use tokio::time::{Instant, Sleep};

use crate::clock::{Clock, micros};
use crate::failure::Failure;
use crate::metrics::Metrics;
use crate::server::clients::Clients;
use crate::server::commit_timer::CommitTimer;
use crate::server::desk::{Desk, Phase};
use crate::server::files::Files;
use crate::server::inbox::{Event, Inbox};
use crate::server::peers::Peers;
use crate::server::snapshots::Snapshots;
use crate::server::standing::{Asker, Standing};
use crate::server::wal_bridge::WalBridge;
use replica::engine::{Input, Now};
use replica::{Output, Replica, Space};

/// How often what may change unseen is looked at: the disk's space, what peers acknowledged.
const HOUSEKEEPING: Duration = Duration::from_millis(250);
/// How long the end may take before it happens anyway.
const END_PATIENCE: Duration = Duration::from_secs(3);
/// How long clients have to read the last answers.
const LAST_WORDS: Duration = Duration::from_millis(300);

/// Everything a replica consists of.
pub(crate) struct Reactor {
    pub(crate) replica: Replica,
    pub(crate) clock: Clock,
    pub(crate) inbox: Arc<Inbox>,
    pub(crate) desk: Desk,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) peers: Peers,
    pub(crate) clients: Rc<Clients>,
    pub(crate) wal: WalBridge,
    pub(crate) files: Files,
    pub(crate) snapshots: Snapshots,
    pub(crate) standing: Standing,
    pub(crate) commits: CommitTimer,
    pub(crate) pace: Pace,
    pub(crate) out: Output,
}

/// When the loop has to turn without being woken, and what it reuses from turn to turn.
pub(crate) struct Pace {
    sleep: Pin<Box<Sleep>>,
    armed: MonoTime,
    housekeeping: MonoTime,
    /// Set once the process is to end: when at the latest.
    end: Option<MonoTime>,
    /// Whether the replica was told that clients leave too many answers unread.
    pub(super) readers_slow: bool,
    /// The last leader known.
    pub(super) leader: Option<NodeId>,
    pub(super) role: Role,
    events: Vec<Event>,
    peer_events: Vec<PeerEvent>,
}

impl Pace {
    /// At rest.
    pub(crate) fn new() -> Pace {
        Pace {
            sleep: Box::pin(tokio::time::sleep(Duration::ZERO)),
            armed: MonoTime(0),
            housekeeping: MonoTime(0),
            end: None,
            readers_slow: false,
            leader: None,
            role: Role::Follower,
            events: Vec::new(),
            peer_events: Vec::new(),
        }
    }
}

impl Reactor {
    /// Runs until the process is to end.
    ///
    /// # Errors
    ///
    /// Whatever makes it impossible to go on; the log may then be left as after a crash.
    pub(crate) async fn run(mut self) -> Result<(), Failure> {
        loop {
            self.batch()?;
            let over = self.pace.end.is_some_and(|end| {
                let now = self.clock.mono();
                now >= end || (self.replica.is_drained(now) && self.wal.is_idle())
            });
            if over {
                return self.end().await;
            }
            self.wait().await;
        }
    }

    /// Returns once there may be something to do.
    async fn wait(&mut self) {
        let due = self.due();
        if !self.inbox.is_empty() || due <= self.clock.mono() {
            // Others get their turn too.
            return tokio::task::yield_now().await;
        }
        let pace = &mut self.pace;
        if pace.armed != due || pace.sleep.is_elapsed() {
            pace.armed = due;
            pace.sleep
                .as_mut()
                .reset(Instant::from_std(self.clock.instant(due)));
        }
        tokio::select! {
            biased;
            () = self.inbox.changed() => {}
            () = self.peers.receive(&mut pace.peer_events) => {}
            () = pace.sleep.as_mut() => {}
        }
    }

    fn due(&self) -> MonoTime {
        self.replica.next_wake().min(self.pace.housekeeping)
    }

    pub(super) fn now(&self) -> Now {
        Now {
            mono: self.clock.mono(),
            wall_ms: self.clock.wall_ms(),
        }
    }

    /// Handles everything that has happened and carries out what comes of it.
    fn batch(&mut self) -> Result<(), Failure> {
        self.metrics.batches.inc();
        let now = self.now();
        self.take_peers(now);
        self.take_inbox(now)?;
        self.take_durable()?;
        if now.mono >= self.replica.next_wake() {
            self.give(now, Input::Tick);
        }
        self.settle(now)?;
        if now.mono >= self.pace.housekeeping {
            self.pace.housekeeping = MonoTime(now.mono.0 + micros(HOUSEKEEPING));
            self.keep_house(now)?;
        }
        self.clients.flush();
        Ok(())
    }

    fn take_peers(&mut self, now: Now) {
        let mut events = std::mem::take(&mut self.pace.peer_events);
        self.peers.receive_ready(&mut events);
        for event in events.drain(..) {
            if let PeerEvent::Down { .. } = &event {
                self.note_witness();
            }
            if let Some(input) = self.peers.translate(event) {
                self.give(now, input);
            }
        }
        self.pace.peer_events = events;
    }

    fn take_inbox(&mut self, now: Now) -> Result<(), Failure> {
        let mut events = std::mem::take(&mut self.pace.events);
        self.inbox.take(&mut events);
        for event in events.drain(..) {
            self.take(now, event)?;
        }
        self.pace.events = events;
        Ok(())
    }

    fn take(&mut self, now: Now, event: Event) -> Result<(), Failure> {
        match event {
            Event::Request { conn, request } => match request.body {
                net::RequestBody::Status => self.ask(Asker::Client(conn, request.id), true),
                net::RequestBody::Members => {
                    let members = self.standing.members(&self.peers);
                    let body = net::ResponseBody::Members(members);
                    self.clients.reply(
                        conn,
                        &net::Response {
                            id: request.id,
                            body,
                        },
                    );
                }
                _ => self.give(now, Input::Client { conn, request }),
            },
            Event::ConnectionEnded(conn) => self.give(now, Input::ClientGone { conn }),
            Event::Engine(input) => self.give(now, input),
            Event::Done(done) => {
                let input = replica::Input::Done(done);
                self.replica.handle(now, input, &mut self.out);
            }
            Event::Reclaimable(bytes) => {
                let input = replica::Input::Reclaimable(bytes);
                self.replica.handle(now, input, &mut self.out);
            }
            Event::Ask { hash, reply } => self.ask(Asker::Desk(reply), hash),
            Event::Failed(failure) => return Err(failure),
            Event::LogMoved => {}
            Event::Stop => self.begin_end(now),
        }
        Ok(())
    }

    fn ask(&mut self, asker: Asker, hash: bool) {
        let mut report = self.report();
        if hash {
            report.status.state_hash = self.replica.engine().machine().state_hash();
        }
        asker.answer(report, &self.clients);
    }

    fn report(&self) -> crate::server::desk::Report {
        self.standing
            .report(&self.replica, &self.wal, &self.clients)
    }

    pub(super) fn give(&mut self, now: Now, input: Input) {
        self.replica.handle(now, input.into(), &mut self.out);
    }

    fn note_witness(&mut self) {
        let witness = self.replica.engine().core().witness();
        self.peers.note_witness(&witness);
    }

    /// Lets the replica finish the batch and acts, until nothing more comes of it at once.
    fn settle(&mut self, now: Now) -> Result<(), Failure> {
        loop {
            self.replica.finish(now, &mut self.out);
            self.act(now)?;
            if !self.take_durable()? && self.out.is_empty() {
                return Ok(());
            }
        }
    }

    /// Tells the engine how far the log is durable, if that has changed.
    fn take_durable(&mut self) -> Result<bool, Failure> {
        let Some(seq) = self.wal.durable()? else {
            return Ok(false);
        };
        self.give(self.now(), Input::Durable { seq });
        Ok(true)
    }

    fn keep_house(&mut self, now: Now) -> Result<(), Failure> {
        let space = Space {
            low: self.wal.low_space(),
            free: self.snapshots.free_bytes(),
            log_bytes: self.wal.log_bytes(),
        };
        let space = replica::Input::Space(space);
        self.replica.handle(now, space, &mut self.out);
        self.note_witness();
        self.standing.forget_caught_up(self.replica.engine());
        self.settle(now)
    }

    fn begin_end(&mut self, now: Now) {
        self.desk.enter(Phase::Stopping);
        self.pace.end = Some(MonoTime(now.mono.0 + micros(END_PATIENCE)));
        self.give(now, Input::ShuttingDown);
    }

    /// Says goodbye to all and makes everything durable.
    async fn end(self) -> Result<(), Failure> {
        self.clients.close();
        self.peers.close();
        let patience = Instant::now() + LAST_WORDS;
        while self.clients.queued_bytes() > 0 && Instant::now() < patience {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        self.wal.close().await?;
        tracing::info!("ended");
        Ok(())
    }
}
