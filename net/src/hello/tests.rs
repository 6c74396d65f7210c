use super::*;
use proptest::prelude::*;

fn hello(protocol: (u16, u16), cluster: u128) -> Hello {
    Hello {
        protocol,
        cluster,
        role: HelloRole::Client {
            name: "ada@host:1".into(),
        },
    }
}

#[test]
fn the_highest_common_version_is_used() {
    let check = |ours, theirs| hello(ours, 0).agree(&hello(theirs, 0)).ok();
    assert_eq!(check((1, 1), (1, 1)), Some(1));
    assert_eq!(check((1, 4), (2, 3)), Some(3));
    assert_eq!(check((3, 9), (1, 3)), Some(3));
    assert_eq!(check((1, 2), (3, 4)), None);
    assert_eq!(check((3, 4), (1, 2)), None);
}

#[test]
fn clusters_must_be_equal_once_both_are_known() {
    let check = |ours, theirs| {
        hello(PROTOCOL, ours)
            .agree(&hello(PROTOCOL, theirs))
            .is_ok()
    };
    assert!(check(5, 5) && check(0, 5) && check(5, 0) && check(0, 0));
    assert!(!check(5, 6));
}

#[test]
fn strangers_are_told_apart_from_damage() {
    let http = Bytes::from_static(b"GET / HTTP/1.1\r\n");
    assert!(matches!(Hello::decode(http), Err(DecodeError::Magic)));
    let sound = hello(PROTOCOL, 1).encode();
    for cut in 8..sound.len() {
        let fault = Hello::decode(sound.slice(..cut)).expect_err("cut");
        assert!(
            matches!(fault, DecodeError::Head { .. }),
            "cut at {cut}: {fault:?}"
        );
    }
    let mut more = sound.to_vec();
    more.push(0);
    let fault = Hello::decode(more.into()).expect_err("one byte more");
    assert!(matches!(fault, DecodeError::Trailing { bytes: 1, .. }));
}

fn role() -> impl Strategy<Value = HelloRole> {
    let peer = (
        any::<(u16, u64, u64, u64)>(),
        prop::collection::vec(any::<u16>(), 0..7),
        ".*",
    )
        .prop_map(|((node, disk, incarnation, start), members, name)| {
            let birth = Bytes::from(name.clone().into_bytes());
            let said = PeerHello {
                node,
                disk,
                incarnation,
                start,
                witness: Bytes::from(name.clone()),
                members,
                client: name.clone(),
                http: name.chars().rev().collect(),
                name,
                birth,
            };
            HelloRole::Peer(said)
        });
    prop_oneof![
        ".*".prop_map(|name| HelloRole::Client { name }),
        (any::<u16>(), ".*").prop_map(|(node, label)| HelloRole::Server { node, label }),
        peer,
    ]
}

proptest! {
    #[test]
    fn greetings_come_back(protocol: (u16, u16), cluster: u128, role in role()) {
        let hello = Hello { protocol, cluster, role };
        prop_assert_eq!(Hello::decode(hello.encode()).expect("sound"), hello);
    }

    #[test]
    fn any_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let mut body = MAGIC.to_vec();
        body.extend(&bytes);
        let _ = Hello::decode(body.into());
        let _ = Hello::decode(bytes.into());
    }
}
