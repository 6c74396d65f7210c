use super::*;
use crate::connection::{Greeted, dial};
use crate::hello::HelloRole;
use tokio::time::timeout;

const SOON: Duration = Duration::from_secs(10);

fn greeting(me: u16, cluster: u128) -> Greeting {
    Arc::new(move |_| {
        let said = PeerHello {
            node: me,
            disk: u64::from(me) * 100,
            ..PeerHello::default()
        };
        Hello::new(cluster, HelloRole::Peer(said))
    })
}

struct Node {
    mesh: Mesh,
    events: mpsc::Receiver<PeerEvent>,
}

impl Node {
    async fn next(&mut self) -> PeerEvent {
        timeout(SOON, self.events.recv())
            .await
            .expect("soon")
            .expect("the mesh lives")
    }

    async fn up(&mut self) -> u64 {
        loop {
            match self.next().await {
                PeerEvent::Up {
                    link, hello, peer, ..
                } => {
                    assert_eq!(hello.disk, u64::from(peer) * 100);
                    return link;
                }
                PeerEvent::Down { .. } => {}
                other => panic!("expected up, got {other:?}"),
            }
        }
    }

    async fn down(&mut self) -> (u64, bool) {
        match self.next().await {
            PeerEvent::Down { link, reset, .. } => (link, reset),
            other => panic!("expected down, got {other:?}"),
        }
    }

    async fn message(&mut self) -> (u64, Bytes) {
        match self.next().await {
            PeerEvent::Message { link, body, .. } => (link, body),
            other => panic!("expected a message, got {other:?}"),
        }
    }
}

async fn listen() -> (TcpListener, String) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("binds");
    let address = listener.local_addr().expect("bound").to_string();
    (listener, address)
}

fn start(me: u16, cluster: u128, listener: TcpListener, peers: &[(u16, &str)]) -> Node {
    let peers = peers
        .iter()
        .map(|&(id, address)| (id, address.to_owned()))
        .collect();
    let mut options = MeshOptions::new(me, peers);
    options.redial_ceiling = Duration::from_millis(40);
    let (sender, events) = mpsc::channel(16);
    Node {
        mesh: Mesh::start(options, listener, greeting(me, cluster), sender),
        events,
    }
}

fn frame(text: &'static str) -> Sealed {
    Sealed::new(Bytes::from_static(text.as_bytes())).expect("fits")
}

async fn two() -> (Node, Node, String) {
    let (first, first_at) = listen().await;
    let (second, second_at) = listen().await;
    let one = start(1, 9, first, &[(2, &second_at)]);
    let two = start(2, 9, second, &[(1, &first_at)]);
    (one, two, first_at)
}

#[tokio::test]
async fn one_connection_carries_both_directions() {
    let (mut one, mut two, _) = two().await;
    let (link_one, link_two) = (one.up().await, two.up().await);
    assert!(one.mesh.send(&[2], &frame("to two")));
    assert!(two.mesh.send(&[1], &frame("to one")));
    two.mesh.flush();
    assert_eq!(one.message().await, (link_one, Bytes::from("to one")));
    assert_eq!(two.message().await, (link_two, Bytes::from("to two")));
}

#[tokio::test]
async fn a_goodbye_is_no_reset() {
    let (mut one, mut two, _) = two().await;
    one.up().await;
    let link = two.up().await;
    one.mesh.close();
    assert_eq!(two.down().await, (link, false));
    assert!(!two.mesh.send(&[1], &frame("lost")));
}

#[tokio::test]
async fn renewing_a_link_repeats_the_handshake_under_a_new_number() {
    let (mut one, mut two, _) = two().await;
    one.up().await;
    let before = two.up().await;
    one.mesh.renew(2);
    assert_eq!(two.down().await, (before, false));
    assert!(two.up().await > before);
    assert!(one.up().await > 1);
}

/// A peer that was cut off unnoticed comes back by a second connection.
#[tokio::test]
async fn a_new_connection_replaces_the_old_one() {
    let (listener, address) = listen().await;
    let mut one = start(1, 9, listener, &[(2, "127.0.0.1:1")]);
    let options = Options::default();
    let hello = greeting(2, 9)(1);
    let first = dial(address.as_str(), &hello, &options)
        .await
        .expect("greets");
    let link = one.up().await;
    let Greeted {
        sender,
        mut receiver,
        ..
    } = dial(address.as_str(), &hello, &options)
        .await
        .expect("greets");
    assert_eq!(one.down().await, (link, true));
    assert!(one.up().await > link);
    assert!(one.mesh.send(&[2], &frame("to the new one")));
    assert_eq!(receiver.next().await.expect("a frame"), "to the new one");
    drop((first, sender));
}

#[tokio::test]
async fn a_crash_is_a_reset_and_the_peer_is_found_again() {
    let (listener, address) = listen().await;
    let mut one = start(1, 9, listener, &[(2, "127.0.0.1:1")]);
    let options = Options::default();
    let hello = greeting(2, 9)(1);
    let peer = dial(address.as_str(), &hello, &options)
        .await
        .expect("greets");
    let link = one.up().await;
    peer.sender.abort();
    assert_eq!(one.down().await, (link, true));
    let again = dial(address.as_str(), &hello, &options)
        .await
        .expect("greets");
    assert!(one.up().await > link);
    drop(again);
}

#[tokio::test]
async fn strangers_are_refused_with_a_reason() {
    let (listener, address) = listen().await;
    let mut one = start(1, 9, listener, &[(2, "127.0.0.1:1")]);
    let options = Options::default();
    for (hello, expected) in [
        (greeting(3, 9)(1), "node 3 is not in --peers"),
        (greeting(1, 9)(1), "another process claims to be node 1"),
        (greeting(2, 8)(1), "another cluster"),
        (
            Hello::new(0, HelloRole::Client { name: "c".into() }),
            "a client called the peer port",
        ),
    ] {
        let _ = dial(address.as_str(), &hello, &options).await;
        match one.next().await {
            PeerEvent::Refused { reason, .. } => assert!(reason.contains(expected), "{reason}"),
            other => panic!("expected a refusal, got {other:?}"),
        }
    }
}

/// A reader that stalls holds back its own peer only as far as the event queue reaches.
#[tokio::test]
async fn unread_events_hold_the_sender_back() {
    let (mut one, mut two, _) = two().await;
    one.up().await;
    two.up().await;
    let big = Sealed::new(Bytes::from(vec![1; 1 << 20])).expect("fits");
    let mut taken = 0;
    while one.mesh.send(&[2], &big) {
        taken += 1;
        assert!(taken < 1000, "nothing held the sender back");
        tokio::task::yield_now().await;
    }
    for _ in 0..taken {
        two.message().await;
    }
}

/// Callers who say nothing must not keep a peer out, however many they are.
#[tokio::test]
async fn idle_callers_do_not_keep_a_peer_out() {
    let (listener, address) = listen().await;
    let mut options = MeshOptions::new(1, BTreeMap::from([(2, "127.0.0.1:1".to_owned())]));
    // Longer than the test may take: only being cut off makes room.
    options.connection.handshake = 10 * SOON;
    let (sender, events) = mpsc::channel(16);
    let mut one = Node {
        mesh: Mesh::start(options, listener, greeting(1, 9), sender),
        events,
    };
    let mut idle = Vec::new();
    for _ in 0..400 {
        idle.push(
            tokio::net::TcpStream::connect(&address)
                .await
                .expect("connects"),
        );
    }
    let hello = greeting(2, 9)(1);
    let options = Options {
        handshake: SOON,
        ..Options::default()
    };
    let _peer = dial(&address, &hello, &options).await.expect("greeted");
    one.up().await;
}
