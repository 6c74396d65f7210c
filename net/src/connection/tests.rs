use super::*;
use crate::frame::Sealed;
use crate::hello::{Hello, HelloRole};
use bytes::Bytes;
use std::net::SocketAddr;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

const SOON: Duration = Duration::from_secs(10);

fn client(cluster: u128) -> Hello {
    Hello::new(
        cluster,
        HelloRole::Client {
            name: "test".into(),
        },
    )
}

fn server(cluster: u128) -> Hello {
    Hello::new(
        cluster,
        HelloRole::Server {
            node: 1,
            label: "c".into(),
        },
    )
}

async fn listen() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("binds");
    let address = listener.local_addr().expect("bound");
    (listener, address)
}

async fn pair(options: &Options) -> (Greeted, Greeted) {
    let (listener, address) = listen().await;
    let accepting = async {
        let (stream, _) = listener.accept().await.expect("accepts");
        accept(stream, options, |_| Ok(server(7)))
            .await
            .expect("greets")
    };
    let hello = client(0);
    let (dialled, accepted) = tokio::join!(dial(address, &hello, options), accepting);
    (dialled.expect("greets"), accepted)
}

fn numbered(i: u32, length: usize) -> Sealed {
    let mut body = i.to_le_bytes().to_vec();
    body.resize(4 + length, i as u8);
    Sealed::new(body.into()).expect("fits")
}

#[tokio::test]
async fn both_sides_learn_who_the_other_is() {
    let (dialled, accepted) = pair(&Options::default()).await;
    assert_eq!(dialled.hello, server(7));
    assert_eq!(accepted.hello, client(0));
    assert_eq!(
        (dialled.version, accepted.version),
        (crate::hello::PROTOCOL.1, crate::hello::PROTOCOL.1)
    );
}

#[tokio::test]
async fn frames_arrive_in_order_and_then_the_goodbye() {
    let (mut dialled, accepted) = pair(&Options::default()).await;
    for i in 0..500_u32 {
        let length = if i % 50 == 0 { 100_000 } else { 10 };
        accepted.sender.send(&numbered(i, length)).expect("queued");
        if i % 7 == 0 {
            accepted.sender.flush();
        }
    }
    drop(accepted.sender);
    for i in 0..500_u32 {
        let body = timeout(SOON, dialled.receiver.next())
            .await
            .expect("soon")
            .expect("a frame");
        assert_eq!(body[..4], i.to_le_bytes());
    }
    let end = timeout(SOON, dialled.receiver.next()).await.expect("soon");
    assert!(matches!(end, Err(Closed::Goodbye)), "{end:?}");
}

#[tokio::test]
async fn a_broken_connection_is_told_apart_from_a_goodbye() {
    let (mut dialled, accepted) = pair(&Options::default()).await;
    accepted.sender.abort();
    let end = timeout(SOON, dialled.receiver.next()).await.expect("soon");
    assert!(matches!(&end, Err(closed) if closed.is_reset()), "{end:?}");
    assert!(matches!(
        accepted.sender.send(&numbered(0, 0)),
        Err(SendError::Closed)
    ));
}

#[tokio::test]
async fn who_does_not_read_fills_only_its_own_queue() {
    let options = Options {
        queue_bytes: 1 << 20,
        ..Options::default()
    };
    let (dialled, accepted) = pair(&options).await;
    let refused = (0..10_000).find(|&i| {
        let refused = accepted.sender.send(&numbered(i, 100_000)).is_err();
        accepted.sender.flush();
        refused
    });
    assert!(
        refused.is_some(),
        "1 GB was taken for a reader that never reads"
    );
    assert!(accepted.sender.queued_bytes() <= 1 << 20);
    assert!(
        accepted.sender.is_open(),
        "that the queue is full is for the caller to judge"
    );
    drop(dialled);
}

#[tokio::test]
async fn flush_needs_no_runtime_turn() {
    let (mut dialled, accepted) = pair(&Options::default()).await;
    accepted.sender.send(&numbered(1, 10)).expect("queued");
    accepted.sender.flush();
    assert_eq!(accepted.sender.queued_bytes(), 0);
    timeout(SOON, dialled.receiver.next())
        .await
        .expect("soon")
        .expect("a frame");
}

#[tokio::test]
async fn another_cluster_is_named_on_both_sides() {
    let (listener, address) = listen().await;
    let options = Options::default();
    let accepting = async {
        let (stream, _) = listener.accept().await.expect("accepts");
        accept(stream, &options, |_| Ok(server(7))).await
    };
    let hello = client(8);
    let (dialled, accepted) = tokio::join!(dial(address, &hello, &options), accepting);
    assert!(
        matches!(dialled, Err(ConnectError::Mismatch(_))),
        "{dialled:?}"
    );
    assert!(
        matches!(accepted, Err(ConnectError::Mismatch(_))),
        "{accepted:?}"
    );
}

/// Sends raw bytes to an accepting side and returns how that ended.
async fn accept_raw(bytes: &[u8], options: &Options) -> ConnectError {
    let (listener, address) = listen().await;
    let mut stream = TcpStream::connect(address).await.expect("connects");
    stream.write_all(bytes).await.expect("writes");
    let (accepted, _) = listener.accept().await.expect("accepts");
    let end = accept(accepted, options, |_| Ok(server(7)))
        .await
        .expect_err("no greeting");
    let mut rest = Vec::new();
    // The connection is over for the caller, too, whether by end of stream or reset.
    let _ = timeout(SOON, stream.read_to_end(&mut rest))
        .await
        .expect("ends soon");
    end
}

#[tokio::test]
async fn garbage_ends_the_connection_and_says_why() {
    let options = Options::default();
    let end = accept_raw(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", &options).await;
    assert!(
        matches!(end, ConnectError::Closed(Closed::Fault(_))),
        "{end:?}"
    );
    let stranger = Sealed::new(Bytes::from_static(b"something else")).expect("fits");
    let bytes = [stranger.header().as_slice(), stranger.body()].concat();
    let end = accept_raw(&bytes, &options).await;
    assert!(matches!(end, ConnectError::Decode(_)), "{end:?}");
}

/// The header of a long frame is enough to know that it is no greeting.
#[tokio::test]
async fn a_long_frame_before_the_greeting_is_not_waited_for() {
    let long = Sealed::new(Bytes::from(vec![0; 1 << 20])).expect("fits");
    let end = accept_raw(long.header(), &Options::default()).await;
    let ConnectError::Closed(Closed::Fault(fault)) = end else {
        panic!("{end:?}")
    };
    assert!(fault.to_string().contains("before the greeting"), "{fault}");
}

#[tokio::test]
async fn an_idle_handshake_is_closed() {
    let options = Options {
        handshake: Duration::from_millis(30),
        ..Options::default()
    };
    let end = accept_raw(b"", &options).await;
    assert!(matches!(end, ConnectError::Timeout(_)), "{end:?}");
}

/// The driver of a replica is one thread; nothing here may need a second one.
#[test]
fn works_on_a_local_set() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("built");
    let local = tokio::task::LocalSet::new();
    local.block_on(&runtime, async {
        let (mut dialled, accepted) = pair(&Options::default()).await;
        accepted.sender.send(&numbered(1, 10)).expect("queued");
        timeout(SOON, dialled.receiver.next())
            .await
            .expect("soon")
            .expect("a frame");
    });
}

fn assert_send<T: Send>(_: T) {}

#[test]
fn futures_can_move_between_threads() {
    let hello = client(0);
    let options = Options::default();
    assert_send(dial("127.0.0.1:1", &hello, &options));
}
