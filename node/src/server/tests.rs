//! One replica in this process: started, used, molested, stopped, started again.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::sync_channel;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use client::blocking::Client;

use super::inbox::{Event, Inbox};
use super::listeners::Addresses;
use super::run_local;
use super::start::Replica;
use crate::config::{Layers, ServeConfig};
use crate::failure::{Exit, Failure};
use crate::local::Folder;

/// Everything here happens at once or never.
const SOON: Duration = Duration::from_secs(10);

struct Running {
    at: Addresses,
    inbox: Arc<Inbox>,
    thread: JoinHandle<Result<(), Failure>>,
}

fn config(data: &Path, more: &[(&'static str, &str)]) -> ServeConfig {
    let mut flags: std::collections::BTreeMap<&'static str, String> =
        ["listen-client", "listen-peer", "listen-http"]
            .map(|name| (name, "127.0.0.1:0".to_owned()))
            .into();
    flags.insert("data", data.display().to_string());
    flags.insert("segment-size", "4MiB".into());
    flags.extend(
        more.iter()
            .map(|(name, value)| (*name, (*value).to_owned())),
    );
    ServeConfig::resolve(&Layers::new(flags, |_| None))
        .expect("a configuration")
        .0
}

fn start(config: ServeConfig) -> Result<Running, Failure> {
    let inbox = Arc::new(Inbox::default());
    let (said, heard) = sync_channel(1);
    let theirs = inbox.clone();
    let thread = std::thread::spawn(move || {
        run_local(async move {
            let replica = Replica::start(config, theirs).await?;
            said.send(replica.addresses.clone())
                .expect("somebody listens");
            replica.run().await
        })
    });
    match heard.recv() {
        Ok(at) => Ok(Running { at, inbox, thread }),
        Err(_) => Err(thread
            .join()
            .expect("no panic")
            .expect_err("it ended before it was ready")),
    }
}

impl Running {
    fn stop(self) {
        self.inbox.push(Event::Stop);
        self.thread.join().expect("no panic").expect("a good end");
    }

    fn client(&self) -> Client {
        Client::connect([self.at.client.to_string()]).expect("a client")
    }

    /// Status code and body.
    fn get(&self, path: &str) -> (u16, String) {
        let mut stream = connect(self.at.http);
        write!(
            stream,
            "GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n"
        )
        .expect("a request");
        let mut text = String::new();
        stream.read_to_string(&mut text).expect("an answer");
        let (head, body) = text.split_once("\r\n\r\n").expect("a head and a body");
        let code = head
            .split(' ')
            .nth(1)
            .expect("a code")
            .parse()
            .expect("a number");
        (code, body.to_owned())
    }

    fn until(&self, path: &str, wanted: impl Fn(u16, &str) -> bool) {
        let end = Instant::now() + SOON;
        loop {
            let (code, body) = self.get(path);
            if wanted(code, &body) {
                return;
            }
            assert!(Instant::now() < end, "{path} stays {code} {body}");
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

fn connect(at: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(at).expect("a connection");
    stream.set_read_timeout(Some(SOON)).expect("a timeout");
    stream
}

fn section(client: &Client, data: &str) {
    let guard = client.lock("default").acquire().expect("the lock");
    guard.append("file_0", data).expect("an append");
    guard.release().expect("a release");
}

fn file_0(folder: &Folder) -> PathBuf {
    folder.path().join("files/file_0")
}

#[test]
fn a_section_survives_stop_and_start() {
    let folder = Folder::temporary().expect("a folder");
    let replica = start(config(folder.path(), &[])).expect("a start");
    section(&replica.client(), "one ");
    assert_eq!(
        std::fs::read_to_string(file_0(&folder)).expect("the file"),
        "one "
    );
    replica.stop();
    let replica = start(config(folder.path(), &[])).expect("another start");
    section(&replica.client(), "two");
    assert_eq!(
        std::fs::read_to_string(file_0(&folder)).expect("the file"),
        "one two"
    );
    replica.stop();
}

#[test]
fn pages_tell_how_it_stands() {
    let folder = Folder::temporary().expect("a folder");
    let replica = start(config(folder.path(), &[("cluster", "pages")])).expect("a start");
    replica.until("/readyz", |code, body| code == 200 && body == "ready\n");
    assert_eq!(replica.get("/livez"), (200, "ok\n".into()));
    assert!(replica.get("/").1.contains("href=/metrics"));
    assert_eq!(replica.get("/nothing").0, 404);
    section(&replica.client(), "x");
    let (code, body) = replica.get("/status");
    let status: serde_json::Value = serde_json::from_str(&body).expect("JSON");
    assert_eq!(code, 200);
    assert_eq!(
        (&status["role"], &status["cluster_name"]),
        (&"leader".into(), &"pages".into())
    );
    assert_eq!(status["applied"], status["chosen"]);
    replica.until("/metrics", |_, body| {
        body.contains("holdfast_lock_grants_total 1\n")
    });
    let (_, figures) = replica.get("/metrics");
    for line in [
        "holdfast_server_is_leader 1",
        "holdfast_lock_ended_total{why=\"released\"} 1",
        "holdfast_lock_appended_bytes_total 1",
    ] {
        assert!(
            figures.lines().any(|found| found == line),
            "{line} is missing in\n{figures}"
        );
    }
    replica.stop();
}

#[test]
fn garbage_ends_its_own_connection_only() {
    let folder = Folder::temporary().expect("a folder");
    let replica = start(config(folder.path(), &[])).expect("a start");
    let client = replica.client();
    for at in [replica.at.client, replica.at.peer, replica.at.http] {
        let mut stream = connect(at);
        stream.write_all(&[0xff; 64]).expect("garbage is taken");
        let mut answer = Vec::new();
        // Ended by the replica, with or without a word.
        let _ = stream.read_to_end(&mut answer);
    }
    section(&client, "still there");
    replica.stop();
}

#[test]
fn connections_beyond_the_limit_are_closed() {
    let folder = Folder::temporary().expect("a folder");
    let replica = start(config(folder.path(), &[("max-clients", "2")])).expect("a start");
    let _first = connect(replica.at.client);
    let second = connect(replica.at.client);
    let mut third = connect(replica.at.client);
    assert_eq!(
        third.read(&mut [0]).unwrap_or(0),
        0,
        "the third one is closed"
    );
    drop(second);
    // Once one is gone there is room again.
    section(&replica.client(), "x");
    replica.stop();
}

/// A client that greeted and went silent is let go with a goodbye; the library comes back by itself.
#[test]
fn a_silent_client_is_let_go() {
    let folder = Folder::temporary().expect("a folder");
    let replica = start(config(folder.path(), &[("client-idle-timeout", "1s")])).expect("a start");
    let at = replica.at.client;
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let ended = runtime.block_on(async {
        let role = net::HelloRole::Client { name: "t".into() };
        let hello = net::Hello::new(0, role);
        let options = net::connection::Options::default();
        let mut greeted = net::connection::dial(at, &hello, &options)
            .await
            .expect("greeted");
        tokio::time::timeout(SOON, greeted.receiver.next())
            .await
            .expect("soon")
    });
    assert!(matches!(ended, Err(net::Closed::Goodbye)), "{ended:?}");
    let client = replica.client();
    section(&client, "one");
    std::thread::sleep(Duration::from_millis(1_500));
    section(&client, "two");
    replica.stop();
}

/// However many look for the leader at once, each is answered.
#[test]
fn thousands_who_ask_at_once_how_it_stands_are_all_answered() {
    const ASKED: u64 = 5_000;
    let folder = Folder::temporary().expect("a folder");
    let replica = start(config(folder.path(), &[])).expect("a start");
    let at = replica.at.client;
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let answered = runtime.block_on(async {
        let role = net::HelloRole::Client { name: "t".into() };
        let hello = net::Hello::new(0, role);
        let options = net::connection::Options::default();
        let mut greeted = net::connection::dial(at, &hello, &options)
            .await
            .expect("greeted");
        for id in 1..=ASKED {
            let body = net::RequestBody::Status;
            let request = net::Request { id, body };
            greeted.sender.send_body(request.encode()).expect("queued");
        }
        let mut answered = std::collections::BTreeSet::new();
        while answered.len() < ASKED as usize {
            let next = tokio::time::timeout(SOON, greeted.receiver.next());
            let Ok(Ok(body)) = next.await else { break };
            answered.insert(net::Response::decode(body).expect("an answer").id);
        }
        answered.len()
    });
    assert_eq!(answered, ASKED as usize);
    replica.stop();
}

/// Browsers can be led here under a foreign name, and would hand over what they are shown.
#[test]
fn pages_are_given_out_under_own_names_only() {
    let folder = Folder::temporary().expect("a folder");
    let flags = [("http-hosts", "pages.example, other.example")];
    let replica = start(config(folder.path(), &flags)).expect("a start");
    let code = |head: &str| {
        let mut stream = connect(replica.at.http);
        write!(stream, "GET /status {head}\r\nconnection: close\r\n\r\n").expect("a request");
        let mut text = String::new();
        stream.read_to_string(&mut text).expect("an answer");
        text.split(' ').nth(1).map(str::to_owned)
    };
    let at = replica.at.http;
    for own in [
        format!("{at}"),
        "localhost".into(),
        "pages.example:80".into(),
    ] {
        assert_eq!(
            code(&format!("HTTP/1.1\r\nhost: {own}")).as_deref(),
            Some("200"),
            "{own}"
        );
    }
    assert_eq!(
        code("HTTP/1.0").as_deref(),
        Some("200"),
        "no browser leaves the name out"
    );
    assert_eq!(
        code("HTTP/1.1\r\nhost: attacker.example").as_deref(),
        Some("421")
    );
    replica.stop();
}

/// Idle sockets take no place that somebody with a question needs.
#[test]
fn idle_sockets_do_not_keep_a_page_back() {
    let folder = Folder::temporary().expect("a folder");
    let replica = start(config(folder.path(), &[])).expect("a start");
    let idle: Vec<TcpStream> = (0..100).map(|_| connect(replica.at.http)).collect();
    assert_eq!(replica.get("/livez").0, 200);
    drop(idle);
    replica.stop();
}

#[test]
fn a_second_one_on_the_folder_is_refused() {
    let folder = Folder::temporary().expect("a folder");
    let replica = start(config(folder.path(), &[])).expect("a start");
    let Err(failure) = start(config(folder.path(), &[])) else {
        panic!("two on one folder")
    };
    assert_eq!(failure.exit, Exit::DataRefused);
    let address = replica.at.client.to_string();
    let Err(failure) = start(config(
        &folder.path().join("other"),
        &[("listen-client", &address)],
    )) else {
        panic!("two on one address")
    };
    assert_eq!(failure.exit, Exit::AddressInUse);
    assert!(
        !folder.path().join("other").exists(),
        "nothing is written before all addresses are bound"
    );
    replica.stop();
}

/// Addresses that are free now, one for each replica.
fn peer_list(replicas: u16) -> String {
    let listeners: Vec<_> = (0..replicas)
        .map(|_| std::net::TcpListener::bind("127.0.0.1:0").expect("a port"))
        .collect();
    let address = |listener: &std::net::TcpListener| listener.local_addr().expect("an address");
    let peers = (1..)
        .zip(&listeners)
        .map(|(id, listener): (u16, _)| format!("{id}={}", address(listener)));
    peers.collect::<Vec<_>>().join(",")
}

fn member(folder: &Folder, id: &'static str, peers: &str) -> ServeConfig {
    let flags = [
        ("id", id),
        ("peers", peers),
        ("election-timeout", "100ms"),
        ("heartbeat", "20ms"),
    ];
    let mut config = config(&folder.path().join(id), &flags);
    config.listen_peer = config
        .peers
        .iter()
        .find(|peer| peer.id == config.id)
        .expect("listed")
        .address
        .clone();
    config
}

#[test]
fn three_found_a_cluster_and_a_wiped_disk_is_refused() {
    let folder = Folder::temporary().expect("a folder");
    let peers = peer_list(3);
    let starts = ["1", "2", "3"].map(|id| {
        let config = member(&folder, id, &peers);
        std::thread::spawn(move || start(config))
    });
    let [first, second, third] =
        starts.map(|start| start.join().expect("no panic").expect("a start"));
    let all = [&first, &second, &third].map(|replica| replica.at.client.to_string());
    let client = Client::connect(all).expect("a client");
    section(&client, "by three ");

    second.stop();
    section(&client, "by two ");
    std::fs::remove_dir_all(folder.path().join("2")).expect("wiped");
    let Err(failure) = start(member(&folder, "2", &peers)) else {
        panic!("a forgetful voter was let in")
    };
    assert_eq!(failure.exit, Exit::DataRefused);
    assert!(failure.message.contains("wiped"), "{failure}");

    section(&client, "still by two");
    for replica in [&first, &third] {
        replica.until("/status", |_, body| {
            let status: serde_json::Value = serde_json::from_str(body).expect("JSON");
            status["lag"] == 0 && status["applied"] == status["last"]
        });
    }
    first.stop();
    third.stop();
    for id in ["1", "3"] {
        let text = std::fs::read_to_string(folder.path().join(id).join("files/file_0"));
        assert_eq!(
            text.expect("the file"),
            "by three by two still by two",
            "replica {id}"
        );
    }
}

/// Asks for `count` MiB and reads nothing; the connection lives as long as what is returned.
fn glutton(at: SocketAddr, count: u64) -> (tokio::runtime::Runtime, net::connection::Greeted) {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .expect("a runtime");
    let hello = net::Hello::new(
        0,
        net::HelloRole::Client {
            name: "glutton".into(),
        },
    );
    let options = net::connection::Options::default();
    let dial = async { net::connection::dial(at, &hello, &options).await };
    let greeted = runtime.block_on(dial).expect("a connection");
    let query = statemachine::Query::Read {
        file: "file_0".into(),
        offset: 0,
        len: 1 << 20,
    };
    for id in 1..=count {
        let bytes = query.encode().into();
        let body = net::RequestBody::Query { stale: true, bytes };
        greeted
            .sender
            .send_body(net::Request { id, body }.encode())
            .expect("sent");
    }
    (runtime, greeted)
}

#[test]
fn one_that_does_not_read_is_cut_off_and_holds_up_nobody() {
    let folder = Folder::temporary().expect("a folder");
    let replica = start(config(folder.path(), &[("segment-size", "8MiB")])).expect("a start");
    let client = replica.client();
    section(&client, &"x".repeat(1 << 20));
    let glutton = glutton(replica.at.client, 100);
    section(&client, "served");
    let cut_off = "holdfast_server_client_connections_ended_total{reason=\"does_not_read\"} 1\n";
    replica.until("/metrics", |_, body| body.contains(cut_off));
    section(&client, "and served");
    drop(glutton);
    replica.stop();
}
