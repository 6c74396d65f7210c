//! A replica that answers what the test says.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use client::raw::{Link, Session};
use client::{Client, Endpoints, Options};
use net::connection::accept;
use net::{
    FrameReceiver, FrameSender, Hello, HelloRole, MemberInfo, Request, RequestBody, Response,
    ResponseBody, Status,
};
use statemachine::{
    BeatAnswer, BeatState, ClusterTime, Command, LockBeat, Op, Outcome, Refusal, Seq, SessionId,
    Token,
};
use tokio::net::TcpListener;
use tokio::sync::mpsc;

/// How long anything may take that should happen at once.
pub(crate) const SOON: Duration = Duration::from_secs(10);
pub(crate) const SESSION: SessionId = SessionId(7);
const TTL_MS: u64 = 20_000;
/// Cluster time as the replica starts.
const EPOCH_MS: u64 = 50_000;

/// One replica. Opens, beats, status and members are answered by itself unless told otherwise; all
/// else waits for the test.
pub(crate) struct Replica {
    pub(crate) id: u16,
    pub(crate) address: String,
    asks: mpsc::UnboundedReceiver<Ask>,
    shared: Arc<Shared>,
    accepting: tokio::task::JoinHandle<()>,
}

struct Shared {
    started: Instant,
    slot: AtomicU64,
    ttl_ms: AtomicU64,
    /// What a beat gives a lock; 0 for the session's time.
    lease_ms: AtomicU64,
    silent: AtomicBool,
    leads: AtomicBool,
    opens: AtomicBool,
    beats: AtomicBool,
    members: Mutex<Vec<MemberInfo>>,
    senders: Mutex<Vec<FrameSender>>,
}

/// One request as it arrived.
pub(crate) struct Ask {
    pub(crate) request: Request,
    sender: FrameSender,
    shared: Arc<Shared>,
}

impl Replica {
    pub(crate) async fn start(id: u16) -> Replica {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("binds");
        let address = listener.local_addr().expect("bound").to_string();
        let (inbox, asks) = mpsc::unbounded_channel();
        let shared = Arc::new(Shared {
            started: Instant::now(),
            slot: AtomicU64::new(10),
            ttl_ms: AtomicU64::new(TTL_MS),
            lease_ms: AtomicU64::new(0),
            silent: AtomicBool::new(false),
            leads: AtomicBool::new(true),
            opens: AtomicBool::new(true),
            beats: AtomicBool::new(true),
            members: Mutex::default(),
            senders: Mutex::default(),
        });
        let accepting = tokio::spawn(serve(id, listener, shared.clone(), inbox));
        Replica {
            id,
            address,
            asks,
            shared,
            accepting,
        }
    }

    /// The next request that the replica does not answer by itself.
    pub(crate) async fn ask(&mut self) -> Ask {
        tokio::time::timeout(SOON, self.asks.recv())
            .await
            .expect("soon")
            .expect("runs")
    }

    /// Nothing is asked for this long.
    pub(crate) async fn quiet(&mut self, span: Duration) {
        if let Ok(Some(ask)) = tokio::time::timeout(span, self.asks.recv()).await {
            panic!("not expected: {:?}", ask.request);
        }
    }

    pub(crate) fn set_leads(&self, leads: bool) {
        self.shared.leads.store(leads, Ordering::Relaxed);
    }

    /// Whether opens are answered by the replica itself.
    pub(crate) fn set_opens(&self, opens: bool) {
        self.shared.opens.store(opens, Ordering::Relaxed);
    }

    /// Whether beats are answered by the replica itself.
    pub(crate) fn set_beats(&self, beats: bool) {
        self.shared.beats.store(beats, Ordering::Relaxed);
    }

    pub(crate) fn set_ttl(&self, ttl: Duration) {
        self.shared
            .ttl_ms
            .store(ttl.as_millis() as u64, Ordering::Relaxed);
    }

    /// What beats give to each lock from now on.
    pub(crate) fn set_lease(&self, lease: Duration) {
        self.shared
            .lease_ms
            .store(lease.as_millis() as u64, Ordering::Relaxed);
    }

    /// As a stopped process: connections stay, and nothing is answered any more.
    pub(crate) fn set_silent(&self) {
        self.shared.silent.store(true, Ordering::Relaxed);
    }

    pub(crate) fn set_members(&self, members: &[&Replica]) {
        let info = |it: &&Replica| MemberInfo {
            id: it.id,
            client: it.address.clone(),
            ..MemberInfo::default()
        };
        *self.shared.members.lock().expect("sound") = members.iter().map(info).collect();
    }

    /// Ends all connections as a crash would.
    pub(crate) fn cut(&self) {
        for sender in self.shared.senders.lock().expect("sound").drain(..) {
            sender.abort();
        }
    }

    /// As `kill -9`: nobody listens any more.
    pub(crate) fn kill(&self) {
        self.accepting.abort();
        self.cut();
    }

    /// Tells all connections, unasked, what the session has lost.
    pub(crate) fn tell_lost(&self, refusal: Refusal) {
        let bytes = Outcome::Refused(refusal).encode();
        let response = Response {
            id: Response::UNASKED,
            body: ResponseBody::Lost {
                session: SESSION.0,
                slot: 9,
                bytes: bytes.into(),
            },
        };
        for sender in self.shared.senders.lock().expect("sound").iter() {
            let _ = sender.send_body(response.encode());
        }
    }

    pub(crate) fn now(&self) -> ClusterTime {
        self.shared.now()
    }
}

impl Drop for Replica {
    fn drop(&mut self) {
        self.kill();
    }
}

impl Shared {
    fn now(&self) -> ClusterTime {
        ClusterTime(EPOCH_MS + self.started.elapsed().as_millis() as u64)
    }

    /// What the replica answers by itself.
    fn by_itself(&self, id: u16, request: &Request) -> Option<ResponseBody> {
        match &request.body {
            RequestBody::Status => Some(self.status(id)),
            RequestBody::Members => Some(ResponseBody::Members(
                self.members.lock().expect("sound").clone(),
            )),
            RequestBody::Command(bytes) => match Command::decode(bytes).expect("sound") {
                Command::Open { .. } if self.opens.load(Ordering::Relaxed) => {
                    let ttl_ms = self.ttl_ms.load(Ordering::Relaxed);
                    let deadline = self.now().after(ttl_ms);
                    Some(self.outcome(Outcome::Opened {
                        session: SESSION,
                        ttl_ms,
                        deadline,
                    }))
                }
                Command::KeepAlive { beats } if self.beats.load(Ordering::Relaxed) => {
                    let beat = &beats[0];
                    Some(self.outcome(self.alive(beat, |_| true)))
                }
                _ => None,
            },
            _ => None,
        }
    }

    fn alive(&self, beat: &statemachine::Beat, held: impl Fn(Token) -> bool) -> Outcome {
        let deadline = self.now().after(self.ttl_ms.load(Ordering::Relaxed));
        let lease = match self.lease_ms.load(Ordering::Relaxed) {
            0 => deadline,
            lease_ms => self.now().after(lease_ms),
        };
        let lock = |(lock, token): &(String, Token)| LockBeat {
            lock: lock.clone(),
            token: *token,
            deadline: held(*token).then_some(lease),
        };
        let locks = beat.tokens.iter().map(lock).collect();
        let result = Ok(BeatState { deadline, locks });
        Outcome::Alive {
            beats: vec![BeatAnswer {
                session: beat.session,
                result,
            }],
        }
    }

    fn outcome(&self, outcome: Outcome) -> ResponseBody {
        ResponseBody::Outcome {
            slot: self.slot.fetch_add(1, Ordering::Relaxed),
            stamp_ms: Some(self.now().0),
            bytes: outcome.encode().into(),
        }
    }

    fn status(&self, id: u16) -> ResponseBody {
        let leads = self.leads.load(Ordering::Relaxed);
        let role = if leads { "leader" } else { "follower" };
        let status = Status {
            id,
            role: role.into(),
            ballot: "3.1".into(),
            ..Status::default()
        };
        ResponseBody::Status(Box::new(status))
    }
}

async fn serve(
    id: u16,
    listener: TcpListener,
    shared: Arc<Shared>,
    inbox: mpsc::UnboundedSender<Ask>,
) {
    loop {
        let (stream, _) = listener.accept().await.expect("accepts");
        let (shared, inbox) = (shared.clone(), inbox.clone());
        tokio::spawn(async move {
            let role = HelloRole::Server {
                node: id,
                label: "test".into(),
            };
            let options = net::connection::Options::default();
            let Ok(greeted) = accept(stream, &options, |_| Ok(Hello::new(99, role))).await else {
                return;
            };
            shared
                .senders
                .lock()
                .expect("sound")
                .push(greeted.sender.clone());
            read(id, greeted.sender, greeted.receiver, shared, inbox).await;
        });
    }
}

async fn read(
    id: u16,
    sender: FrameSender,
    mut receiver: FrameReceiver,
    shared: Arc<Shared>,
    inbox: mpsc::UnboundedSender<Ask>,
) {
    while let Ok(body) = receiver.next().await {
        let request = Request::decode(body).expect("sound");
        if shared.silent.load(Ordering::Relaxed) {
            continue;
        }
        let body = shared.by_itself(id, &request);
        let ask = Ask {
            request,
            sender: sender.clone(),
            shared: shared.clone(),
        };
        match body {
            Some(body) => ask.reply(body),
            None => drop(inbox.send(ask)),
        }
    }
}

impl Ask {
    pub(crate) fn reply(&self, body: ResponseBody) {
        let response = Response {
            id: self.request.id,
            body,
        };
        // The connection may be gone by now, which is what the test wanted then.
        let _ = self.sender.send_body(response.encode());
    }

    /// An outcome, stamped now as the entry of this very attempt.
    pub(crate) fn outcome(&self, outcome: Outcome) {
        self.reply(self.shared.outcome(outcome));
    }

    /// An outcome without a stamp, as a push has it.
    pub(crate) fn push(&self, outcome: Outcome) {
        let bytes = outcome.encode().into();
        self.reply(ResponseBody::Outcome {
            slot: 5,
            stamp_ms: None,
            bytes,
        });
    }

    pub(crate) fn granted(&self, token: u64, lease: Duration) {
        let lease_ms = lease.as_millis() as u64;
        let deadline = self.shared.now().after(lease_ms);
        self.outcome(Outcome::Granted {
            token: Token(token),
            deadline,
            lease_ms,
        });
    }

    pub(crate) fn appended(&self) {
        let deadline = self.shared.now().after(TTL_MS);
        self.outcome(Outcome::Appended {
            pending_bytes: 1,
            deadline,
        });
    }

    pub(crate) fn released(&self) {
        self.outcome(Outcome::Released {
            slot: statemachine::Slot(77),
            lengths: vec![],
        });
    }

    pub(crate) fn refused(&self, refusal: Refusal) {
        self.outcome(Outcome::Refused(refusal));
    }

    /// Answers a beat; tokens for which `held` says no are lost.
    pub(crate) fn alive(&self, held: impl Fn(Token) -> bool) {
        let Command::KeepAlive { beats } = self.command() else {
            panic!("no beat")
        };
        self.outcome(self.shared.alive(&beats[0], held));
    }

    pub(crate) fn command(&self) -> Command {
        match &self.request.body {
            RequestBody::Command(bytes) => Command::decode(bytes).expect("sound"),
            other => panic!("no command: {other:?}"),
        }
    }

    pub(crate) fn numbered(&self) -> (Seq, statemachine::Done, Op) {
        match self.command() {
            Command::Session {
                seq,
                done,
                op,
                session,
            } => {
                assert_eq!(session, SESSION);
                (seq, done, op)
            }
            other => panic!("not numbered: {other:?}"),
        }
    }

    pub(crate) fn seq(&self) -> u64 {
        self.numbered().0.0
    }

    pub(crate) fn op(&self) -> Op {
        self.numbered().2
    }

    pub(crate) fn now(&self) -> ClusterTime {
        self.shared.now()
    }
}

pub(crate) fn options(timeout: Duration) -> Options {
    Options {
        name: "test".into(),
        timeout,
        ..Options::default()
    }
}

/// A client of these replicas, by address.
pub(crate) async fn connect(replicas: &[&Replica]) -> Client {
    connect_with(replicas, Duration::from_secs(5)).await
}

pub(crate) async fn connect_with(replicas: &[&Replica], timeout: Duration) -> Client {
    let addresses = replicas.iter().map(|it| it.address.as_str());
    let endpoints = Endpoints::parse(addresses).expect("sound");
    Client::connect_with(endpoints, options(timeout))
        .await
        .expect("connects")
}

/// A session on a link of its own.
pub(crate) async fn session(replicas: &[&Replica]) -> Session {
    let addresses = replicas.iter().map(|it| it.address.as_str());
    let link = Link::new(Endpoints::parse(addresses).expect("sound"), "test", false);
    Session::open(&link, None, "test", SOON)
        .await
        .expect("opens")
}
