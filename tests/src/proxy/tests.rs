//! The proxy against a server of a few lines that answers `Done` to each request and counts them.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use net::{Request, RequestBody, Response, ResponseBody};
use statemachine::{Command, Done, Op, Seq, SessionId, Token};

use super::Direction::{ToClient, ToServer};
use super::*;

const LIMIT: Duration = Duration::from_secs(5);
/// Long enough for a frame that is on its way over loopback, in the tests that none comes.
const SILENCE: Duration = Duration::from_millis(100);

/// Serves any number of connections; what it has read since the start, in requests.
fn server() -> (SocketAddr, Arc<AtomicU64>) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
    let address = listener.local_addr().expect("an address");
    let served = Arc::new(AtomicU64::new(0));
    let count = Arc::clone(&served);
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let count = Arc::clone(&count);
            std::thread::spawn(move || serve(stream, &count));
        }
    });
    (address, served)
}

fn serve(mut stream: TcpStream, served: &AtomicU64) {
    let Some(hello) = read_frame(&mut stream) else {
        return;
    };
    send_frame(&mut stream, &hello);
    while let Some(body) = read_frame(&mut stream) {
        served.fetch_add(1, Ordering::SeqCst);
        let request = Request::decode(body).expect("the test sends requests");
        let response = Response {
            id: request.id,
            body: ResponseBody::Done,
        };
        send_frame(&mut stream, &response.encode());
    }
}

fn read_frame(stream: &mut TcpStream) -> Option<Bytes> {
    let mut header = [0; 8];
    stream.read_exact(&mut header).ok()?;
    let length = u32::from_le_bytes(*header.first_chunk().expect("eight bytes"));
    let mut body = vec![0; usize::try_from(length).expect("small") - 4];
    stream.read_exact(&mut body).ok()?;
    Some(body.into())
}

fn send_frame(stream: &mut TcpStream, body: &[u8]) {
    let sealed = net::Sealed::new(Bytes::copy_from_slice(body)).expect("a small body");
    stream
        .write_all(&[sealed.header(), body].concat())
        .expect("the proxy reads");
}

/// A client that has shaken hands.
struct Caller {
    stream: TcpStream,
    next: u64,
}

impl Caller {
    fn connect(proxy: &Proxy) -> Caller {
        let mut stream = TcpStream::connect(proxy.address()).expect("the proxy listens");
        stream.set_read_timeout(Some(LIMIT)).expect("a timeout");
        send_frame(&mut stream, b"hello");
        assert_eq!(read_frame(&mut stream).as_deref(), Some(&b"hello"[..]));
        Caller { stream, next: 0 }
    }

    fn send(&mut self, op: Op) -> u64 {
        self.next += 1;
        let done = Done {
            below: 0,
            also: Vec::new(),
        };
        let command = Command::Session {
            session: SessionId(1),
            seq: Seq(self.next),
            done,
            op,
        };
        let body = RequestBody::Command(command.encode().into());
        send_frame(
            &mut self.stream,
            &Request {
                id: self.next,
                body,
            }
            .encode(),
        );
        self.next
    }

    /// The id of the next answer; `None` if the connection ends or stays silent.
    fn answer(&mut self) -> Option<u64> {
        Some(
            Response::decode(read_frame(&mut self.stream)?)
                .expect("a response")
                .id,
        )
    }

    fn assert_silent(&mut self) {
        self.stream
            .set_read_timeout(Some(SILENCE))
            .expect("a timeout");
        assert_eq!(self.answer(), None);
        self.stream
            .set_read_timeout(Some(LIMIT))
            .expect("a timeout");
    }
}

fn renew() -> Op {
    Op::Renew {
        lock: "l".into(),
        token: Token(1),
    }
}

fn abort() -> Op {
    Op::Abort {
        lock: "l".into(),
        token: Token(1),
    }
}

fn start() -> (Proxy, Caller, Arc<AtomicU64>) {
    let (target, served) = server();
    let proxy = Proxy::start(target, Arc::default());
    let caller = Caller::connect(&proxy);
    (proxy, caller, served)
}

#[test]
fn frames_pass_both_ways() {
    let (_proxy, mut caller, _) = start();
    let ids = [caller.send(renew()), caller.send(abort())];
    assert_eq!(ids.map(|_| caller.answer()), ids.map(Some));
}

#[test]
fn a_lost_request_is_not_served_and_the_next_one_is() {
    let (proxy, mut caller, served) = start();
    let lost = proxy
        .shared
        .rules
        .first(1, ToServer, Kind::Renew, Fault::Lose);
    caller.send(renew());
    let second = caller.send(renew());
    assert_eq!(caller.answer(), Some(second));
    assert_eq!((lost.hits(), served.load(Ordering::SeqCst)), (1, 1));
}

#[test]
fn a_lost_reply_was_served_and_is_known_by_its_request() {
    let (proxy, mut caller, served) = start();
    let lost = proxy
        .shared
        .rules
        .nth(2, ToClient, Kind::Renew, Fault::Lose);
    let first = caller.send(renew());
    caller.send(renew());
    let other = caller.send(abort());
    assert_eq!(
        [caller.answer(), caller.answer()],
        [Some(first), Some(other)]
    );
    assert_eq!((lost.hits(), served.load(Ordering::SeqCst)), (1, 3));
}

#[test]
fn a_held_frame_is_overtaken_and_arrives_when_released() {
    let (proxy, mut caller, _) = start();
    let held = proxy.shared.rules.every(ToServer, Kind::Renew, Fault::Hold);
    let late = caller.send(renew());
    let other = caller.send(abort());
    assert_eq!(caller.answer(), Some(other));
    assert_eq!(held.release(), 1);
    assert_eq!(caller.answer(), Some(late));
    let after = caller.send(renew());
    assert_eq!(caller.answer(), Some(after), "the rule has ended");
}

#[test]
fn a_doubled_frame_is_served_twice() {
    let (proxy, mut caller, served) = start();
    let _doubled = proxy
        .shared
        .rules
        .first(1, ToServer, Kind::Renew, Fault::Double);
    let id = caller.send(renew());
    assert_eq!([caller.answer(), caller.answer()], [Some(id), Some(id)]);
    assert_eq!(served.load(Ordering::SeqCst), 2);
}

#[test]
fn a_cut_ends_the_connection_before_or_after_the_frame() {
    for (fault, expected) in [(Fault::CutBefore, 0), (Fault::CutAfter, 1)] {
        let (proxy, mut caller, served) = start();
        let _cut = proxy.shared.rules.first(1, ToServer, Kind::Renew, fault);
        caller.send(renew());
        assert_eq!(caller.answer(), None);
        crate::harness::patience::wait_for("the server to have read", LIMIT, || {
            served.load(Ordering::SeqCst) == expected
        });
        let mut again = Caller::connect(&proxy);
        let id = again.send(renew());
        assert_eq!(again.answer(), Some(id), "a new connection is welcome");
    }
}

#[test]
fn a_severed_link_is_silent_for_old_and_new_until_healed() {
    let (proxy, mut caller, served) = start();
    proxy.sever();
    caller.send(renew());
    caller.assert_silent();
    let mut new = TcpStream::connect(proxy.address()).expect("accepted");
    send_frame(&mut new, b"hello");
    new.set_read_timeout(Some(SILENCE)).expect("a timeout");
    assert_eq!(read_frame(&mut new), None);
    assert_eq!(served.load(Ordering::SeqCst), 0);
    proxy.heal();
    assert_eq!(caller.answer(), None, "what fell into the hole is lost");
    let mut again = Caller::connect(&proxy);
    let id = again.send(renew());
    assert_eq!(again.answer(), Some(id));
}

#[test]
fn noise_loses_and_doubles_about_as_often_as_it_says() {
    let (proxy, mut caller, served) = start();
    let noise = Noise {
        lose_per_mille: 300,
        double_per_mille: 0,
        seed: 7,
    };
    // What a rule is for, the noise spares.
    let _spared =
        [ToServer, ToClient].map(|way| proxy.shared.rules.every(way, Kind::Abort, Fault::Watch));
    proxy.shared.rules.set_noise(Some(noise));
    for _ in 0..400 {
        caller.send(renew());
    }
    let last = caller.send(abort());
    while caller.answer() != Some(last) {}
    let lost = 401 - served.load(Ordering::SeqCst);
    assert!((60..=180).contains(&lost), "lost {lost} of 400");
}
