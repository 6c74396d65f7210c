//! One replica with the real state machine behind it and nothing else: no log, no agreement.

use std::collections::BTreeMap;
use std::net::TcpListener as StdListener;
use std::time::{Duration, Instant};

use net::connection::accept;
use net::{
    FrameSender, Hello, HelloRole, MemberInfo, Request, RequestBody, Response, ResponseBody, Status,
};
use statemachine::{
    Answer, Applied, At, ClusterTime, Command, Effects, FileId, FileOp, Machine, Query, ReplyTo,
    Settings, Slot,
};
use tokio::net::TcpListener;
use tokio::sync::mpsc;

/// How often time moves on by itself.
const TICK: Duration = Duration::from_millis(10);

/// A service on a thread of its own, for as long as it is kept.
pub(crate) struct Service {
    pub(crate) address: String,
    stop: mpsc::Sender<()>,
    thread: Option<std::thread::JoinHandle<()>>,
}

struct Inbound {
    sender: FrameSender,
    request: Request,
}

struct State {
    address: String,
    started: Instant,
    machine: Machine,
    slot: u64,
    files: BTreeMap<FileId, Vec<u8>>,
    /// Whom a later answer goes to: the last attempt of each command.
    waiting: BTreeMap<ReplyTo, (FrameSender, u64)>,
}

impl Service {
    pub(crate) fn start() -> Service {
        let listener = StdListener::bind("127.0.0.1:0").expect("binds");
        listener.set_nonblocking(true).expect("sets");
        let address = listener.local_addr().expect("bound").to_string();
        let (stop, stopped) = mpsc::channel(1);
        let at = address.clone();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build();
            runtime.expect("built").block_on(run(listener, at, stopped));
        });
        Service {
            address,
            stop,
            thread: Some(thread),
        }
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        let _ = self.stop.try_send(());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

async fn run(listener: StdListener, address: String, mut stopped: mpsc::Receiver<()>) {
    let listener = TcpListener::from_std(listener).expect("listens");
    let (inbox, mut requests) = mpsc::channel(1024);
    tokio::spawn(serve(listener, inbox));
    let mut state = State {
        address,
        started: Instant::now(),
        machine: Machine::new(),
        slot: 0,
        files: BTreeMap::new(),
        waiting: BTreeMap::new(),
    };
    state.apply(Applied::Settings(Settings::default()));
    let mut tick = tokio::time::interval(TICK);
    loop {
        tokio::select! {
            Some(Inbound { sender, request }) = requests.recv() => state.on(sender, request),
            _ = tick.tick() => state.on_tick(),
            _ = stopped.recv() => return,
        }
    }
}

async fn serve(listener: TcpListener, inbox: mpsc::Sender<Inbound>) {
    loop {
        let (stream, _) = listener.accept().await.expect("accepts");
        let inbox = inbox.clone();
        tokio::spawn(async move {
            let role = HelloRole::Server {
                node: 1,
                label: "test".into(),
            };
            let options = net::connection::Options::default();
            let Ok(mut greeted) = accept(stream, &options, |_| Ok(Hello::new(99, role))).await
            else {
                return;
            };
            while let Ok(body) = greeted.receiver.next().await {
                let request = Request::decode(body).expect("sound");
                let _ = inbox
                    .send(Inbound {
                        sender: greeted.sender.clone(),
                        request,
                    })
                    .await;
            }
        });
    }
}

impl State {
    fn now(&self) -> u64 {
        1000 + self.started.elapsed().as_millis() as u64
    }

    fn on_tick(&mut self) {
        if self
            .machine
            .next_deadline()
            .is_some_and(|due| due.0 <= self.now())
        {
            self.apply(Applied::Time);
        }
    }

    fn apply(&mut self, what: Applied<'_>) {
        self.slot += 1;
        let stamp = self.now();
        let at = At {
            slot: Slot(self.slot),
            time: ClusterTime(stamp),
            wall_ms: 0,
        };
        let Effects { replies, files, .. } = self.machine.apply(at, what);
        files.into_iter().for_each(|op| self.write(op));
        for reply in replies {
            let Some((sender, id)) = self.waiting.remove(&reply.to) else {
                continue;
            };
            let stamp_ms = reply.counts_for_time.then_some(stamp);
            let bytes = reply.outcome.encode().into();
            answer(
                &sender,
                id,
                ResponseBody::Outcome {
                    slot: self.slot,
                    stamp_ms,
                    bytes,
                },
            );
        }
    }

    fn write(&mut self, op: FileOp) {
        match op {
            FileOp::Create { id, .. } => drop(self.files.insert(id, Vec::new())),
            FileOp::Write {
                id, data, offset, ..
            } => {
                let content = self.files.get_mut(&id).expect("created");
                assert_eq!(content.len() as u64, offset);
                content.extend_from_slice(&data);
            }
            FileOp::Remove { id, .. } => drop(self.files.remove(&id)),
        }
    }

    fn on(&mut self, sender: FrameSender, request: Request) {
        let id = request.id;
        let body = match request.body {
            RequestBody::Command(bytes) => return self.command(sender, id, &bytes),
            RequestBody::Query { bytes, .. } => self.query(&Query::decode(&bytes).expect("sound")),
            RequestBody::Status => ResponseBody::Status(Box::new(Status {
                id: 1,
                role: "leader".into(),
                ballot: "1.1".into(),
                client: self.address.clone(),
                ..Status::default()
            })),
            RequestBody::Members => {
                let client = self.address.clone();
                ResponseBody::Members(vec![MemberInfo {
                    id: 1,
                    client,
                    ..MemberInfo::default()
                }])
            }
            RequestBody::Health => ResponseBody::Health { commit_us: 1 },
            RequestBody::Transfer { .. } | RequestBody::Room { .. } => ResponseBody::Done,
        };
        answer(&sender, id, body);
    }

    fn command(&mut self, sender: FrameSender, id: u64, bytes: &[u8]) {
        let command = Command::decode(bytes).expect("sound");
        let to = match &command {
            Command::Open { nonce, .. } => ReplyTo::Nonce(*nonce),
            Command::KeepAlive { .. } => ReplyTo::Beats,
            Command::Session { session, seq, .. } => ReplyTo::Command(*session, *seq),
            Command::Settle { token, .. } => ReplyTo::Settle(*token),
        };
        self.waiting.insert(to, (sender.clone(), id));
        self.apply(Applied::Command(command));
        if let ReplyTo::Command(session, seq) = to
            && let Some(position) = self.machine.waiting_position(session, seq)
        {
            answer(&sender, id, ResponseBody::Waiting { position });
        }
    }

    fn query(&self, query: &Query) -> ResponseBody {
        let answer = match self.machine.query(query) {
            Answer::ReadPlan {
                id,
                offset,
                len,
                file_len,
                ..
            } => {
                let content = &self.files[&id][offset as usize..][..len as usize];
                Answer::Data {
                    offset,
                    file_len,
                    data: content.to_vec().into(),
                }
            }
            answer => answer,
        };
        ResponseBody::Answer {
            slot: self.slot,
            bytes: answer.encode().into(),
        }
    }
}

fn answer(sender: &FrameSender, id: u64, body: ResponseBody) {
    // Whoever has gone needs no answer.
    let _ = sender.send_body(Response { id, body }.encode());
}
